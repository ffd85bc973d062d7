"""Options: parsing, and what they set."""

from __future__ import annotations

import io
import logging
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from harness_async import HarnessClient, RateLimit, Timeouts
from harness_async.cli.logs import messages_on_stderr, set_verbosity
from harness_async.cli.options import RowFormat, parse_time
from harness_async.cli.writers import choose_format
from harness_async.testing import FakeHarness
from tests.support.cli_runner import invoke

NOW = datetime(2025, 3, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2025-01-31", "2025-01-31T00:00:00+00:00"),
        ("2025-01-31T18:00", "2025-01-31T18:00:00+00:00"),
        ("2025-01-31T18:00Z", "2025-01-31T18:00:00+00:00"),
        ("2025-01-31 18:00:00.5+01:00", "2025-01-31T17:00:00.500000+00:00"),
        (" 30m ", "2025-03-31T11:30:00+00:00"),
        ("12h", "2025-03-31T00:00:00+00:00"),
        ("7d", "2025-03-24T12:00:00+00:00"),
        ("2w", "2025-03-17T12:00:00+00:00"),
        ("0d", "2025-03-31T12:00:00+00:00"),
    ],
)
def test_time(text: str, expected: str) -> None:
    """A time is ISO 8601, in UTC if it has no zone, or an age."""
    assert parse_time(text, NOW).isoformat() == expected


@pytest.mark.parametrize(
    "text", ["", "7", "7x", "-7d", "7.5d", "d", "1700000000000", "99999999999d", "2025-13-01", "0001-01-01T00:00+01:00"]
)
def test_not_a_time(text: str) -> None:
    """Other text, milliseconds included, is rejected with the value and the accepted forms."""
    with pytest.raises(ValueError, match=r"^not a time: '.*' \(use ISO 8601 .* or an age such as 30m"):
        parse_time(text, NOW)


def test_row_format() -> None:
    """Without --format, the extension .csv in any case selects CSV, anything else JSON Lines."""
    assert choose_format(None, None) is RowFormat.JSONL
    assert choose_format(None, "rows.CSV") is RowFormat.CSV
    assert choose_format(RowFormat.JSONL, "rows.csv") is RowFormat.JSONL


@pytest.mark.parametrize("command", [["executions", "default/payments"], ["export", "--quiet"]], ids=" ".join)
def test_mistyped_status(server: FakeHarness, monkeypatch: pytest.MonkeyPatch, command: list[str]) -> None:
    """A status that is not known is sent, with a warning that names the nearest known word."""
    monkeypatch.setattr("harness_async.serialization.converters._warned_words", set())  # each word is named once
    result = invoke(*command, "-s", "failed")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.startswith("Warning: 'failed' is not a known status; did you mean 'failure'?")


@pytest.mark.parametrize("source", ["file", "-"])
def test_api_key_file(server: FakeHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    """The key is read from a file or stdin, without its line end, in place of the environment."""
    path = tmp_path / "key"
    path.write_text(f"{server.api_key}\n")
    monkeypatch.setenv("HARNESS_API_KEY", "another")
    monkeypatch.setattr("sys.stdin", io.StringIO(path.read_text()))
    assert invoke("projects", "--api-key-file", "-" if source == "-" else str(path)).exit_code == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "key: No such file or directory."),
        (b" \n", "key is empty."),
        (b"\xff\xfe", "key is not a text file."),
        (b"one\ntwo", "The API key (--api-key-file) has a line break"),
    ],
    ids=["missing", "empty", "binary", "two lines"],
)
def test_bad_key_file(server: FakeHarness, tmp_path: Path, content: bytes | None, message: str) -> None:
    """A file without a key is a usage error that names the file or the option, and never its content."""
    if content is not None:
        (tmp_path / "key").write_bytes(content)
    result = invoke("projects", "--api-key-file", str(tmp_path / "key"))
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert not server.requests


def test_options_of_the_client(server: FakeHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """--timeout and --requests-per-minute reach the client; without them its defaults hold."""
    found: list[dict[str, Any]] = []

    class Client(HarnessClient):
        def __init__(self, **options: Any) -> None:
            found.append(options)
            super().__init__(**options)

    monkeypatch.setattr("harness_async.cli.connection.HarnessClient", Client)
    invoke("projects", "--timeout", "7.5", "--requests-per-minute", "6000")
    invoke("projects")
    assert [options["timeouts"] for options in found] == [Timeouts(deadline=7.5), Timeouts()]
    assert [options["rate_limit"] for options in found] == [RateLimit(6000, 60.0), RateLimit(400, 60.0)]


@pytest.mark.parametrize(
    ("verbosity", "printed"),
    [(0, ["WARNING outage"]), (1, ["WARNING outage", "INFO wait"]), (3, ["WARNING outage", "INFO wait", "DEBUG sent"])],
)
def test_log(capsys: pytest.CaptureFixture[str], verbosity: int, printed: list[str]) -> None:
    """Warnings are logged always, waits with -v, requests with -vv: a line each, and only during the command."""
    logger = logging.getLogger("harness_async.http")
    with messages_on_stderr():
        set_verbosity(verbosity)
        logger.warning("outage")
        logger.info("wait")
        logger.debug("sent")
        logging.getLogger("asyncio").error("failed", exc_info=ValueError("of\nan observer"))
    lines = capsys.readouterr().err.splitlines()
    assert [re.sub(r"^\d\d:\d\d:\d\d ", "", line) for line in lines] == [
        *printed,
        "ERROR failed: ValueError: of\\nan observer",
    ]
    assert not logger.isEnabledFor(logging.INFO)


def test_log_of_requests(server: FakeHarness) -> None:
    """With -vv each request is a line on stderr."""
    result = invoke("api", "GET", "/v1/orgs", "-vv")
    assert re.fullmatch(r"\d\d:\d\d:\d\d DEBUG GET /v1/orgs: 200, \d\.\d+ s, attempt 1\n", result.stderr)
