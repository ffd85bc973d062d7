"""Command lines that cannot work are refused before the first request, in the words of the command."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from harness_async.testing import FakeHarness
from tests.support.cli_runner import invoke

ROW = '{"org": "o", "project": "p", "status": "success", "created": 1}\n'
EMPTY = "is empty. Is a shell variable not set?\n"

REFUSED = [
    ("export --demo --base-url https://app.harness.io", "remove --base-url."),
    ("export --demo --checkpoint run --output rows", "--checkpoint cannot be combined with --demo"),
    ("export --since 1d --until 2d", "Z) is later than --until (20"),
    ("executions default/payments --since 1d --until 2d", "Z) is later than --until (20"),
    ("export pipelines --status x", "--status cannot be used for pipelines."),
    ("export services --since 7d", "--since cannot be used for services."),
    ("export workspaces --until 7d", "--until cannot be used for workspaces."),
    ("export pipeline-executions --workspace x", "--workspace cannot be used for pipeline-executions."),
    ("export activities -s success -s failure", "--status can be used once for activities."),
    ("export -p a/b -p A/b", "--project a/b and --project A/b are the same project."),
    ("export nonsense", "'nonsense' is not one of 'executions', 'pipeline-executions'"),
    ("projects --base-url ftp://x", "--base-url or HARNESS_BASE_URL must begin with https://"),
    ("projects --base-url http://example.com", "would send the key unencrypted; use https\n"),
    ("projects --base-url https://app..harness.io", "--base-url or HARNESS_BASE_URL is not a URL"),
    ("projects --timeout 0", "--timeout must be a positive number of seconds, not 0.0"),
    ("projects --timeout nan", "--timeout must be a positive number of seconds, not nan"),
    ("projects --proxy socks5://proxy", "The proxy (--proxy) must be an http:// or https:// URL"),
    ("export --org ''", f"Error: --org {EMPTY}"),
    ("export -p ''", f"Error: -p {EMPTY}"),
    ("projects --api-key-file ''", f"Error: --api-key-file {EMPTY}"),
    ("sync --state= -o rows", f"Error: --state {EMPTY}"),
    ("sync --state s --output ''", f"Error: --output {EMPTY}"),
    ("summary", "No file."),
    ("summary input --demo", "--demo generates its own rows."),
    ("summary input --html ./input", "FILE and --html name the same file, ./input."),
    ("summary input --html link", "FILE and --html name the same file, link."),
    ("summary input --html - --format csv", "--html - and --format csv both write to stdout."),
    ("summary missing", "Cannot read missing: No such file or directory."),
    ("summary .", "Cannot read .: Is a directory."),
    ("summary input --html missing/page.html", "Cannot write missing/page.html: No such file or directory."),
    ("summary input --by month", "'month' is not one of 'project'"),
    ("summary input --top 0", "--top"),
    ("api GET ''", f"Error: An argument {EMPTY}"),
    ("api GET", "Missing argument 'PATH'"),
    ("api FETCH /v1/orgs", "FETCH"),
    ("api GET //host/v1", "must begin with one slash and no host"),
    ("api GET /v1/orgs -f limit", "--field: 'limit' has no name; write NAME=VALUE"),
    ("api GET /v1/orgs --format jsonl", "require --paginate"),
    ("api GET /other --paginate", "paging of '/other' is not known"),
    ("api GET /v1/orgs --paginate --dialect v3", "'v3' is not one of 'iacm'"),
    ("api POST /v1/orgs --input - --api-key-file -", "--input and --api-key-file both read stdin."),
    ("api POST /v1/orgs --input nope.json", "nope.json: No such file"),
    ("api GET /v1/orgs -H 'x-api-key: other'", "set by the client"),
    ("export --checkpoint c", "--checkpoint requires --output FILE"),
    ("export --checkpoint no/c --output o", "Cannot write no/c: No such file or directory"),
    ("sync --state - --output o", "--state - is not a regular file"),
    ("sync --state no/s --output o", "Cannot write no/s: No such file or directory"),
]

if sys.platform != "win32":
    REFUSED += [
        ("export --checkpoint c --output /dev/null", "--output /dev/null is not a regular file"),
        ("export --checkpoint /dev/null --output o", "--checkpoint /dev/null is not a regular file"),
        ("sync --state /dev/stdout --output o", "--state /dev/stdout is not a regular file"),
    ]


@pytest.mark.parametrize(("line", "message"), REFUSED)
def test_refused(server: FakeHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, message: str) -> None:
    """The exit code is 2, the message names the option or the value, and no file is created or changed."""
    monkeypatch.chdir(tmp_path)
    Path("input").write_text(ROW, encoding="utf-8")
    Path("link").symlink_to("input")
    result = invoke(*shlex.split(line))
    assert message in result.stderr
    assert (result.exit_code, result.stdout, server.requests) == (2, "", [])
    assert [path.read_text(encoding="utf-8") for path in tmp_path.iterdir()] == [ROW, ROW]


def test_missing_key() -> None:
    """Without a key the message names the variables that can set it."""
    result = invoke("export")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "No API key: set HARNESS_PLATFORM_API_KEY or HARNESS_API_KEY." in result.stderr
