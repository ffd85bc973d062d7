"""`export`: rows, files, failures and signals."""

from __future__ import annotations

import csv
import json
import re
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from harness_async import HarnessClient, RateLimit
from harness_async.testing import Delay, FakeHarness
from tests.support.cli_runner import Terminal, export, invoke, json_lines, row_keys, start

CREATED = 1_700_000_000_000

posix = pytest.mark.skipif(sys.platform == "win32", reason="signals and terminals of POSIX")


def list_requests(fake: FakeHarness) -> list[str]:
    """Return the project of each list request."""
    return [request.path.split("/")[6] for request in fake.requests if request.path.endswith("/executions")]


# -- rows and files ----------------------------------------------------------------------------------------------


def test_jsonl(server: FakeHarness) -> None:
    """By default all projects are written to stdout as JSON Lines: the members of the API, and `created_at`."""
    result = export()
    assert result.exit_code == 0
    rows = json_lines(result.stdout)
    assert row_keys(rows) == row_keys(server.all_executions())
    row = next(row for row in rows if row["project"] == "network")
    served = next(each for each in server.executions("default", "network") if row_keys([each]) == row_keys([row]))
    assert row == served | {"created_at": "2023-11-14T22:13:20.000Z"}
    assert "Export complete" in result.stderr
    assert re.search(r"rows +253", result.stderr)


def test_csv(server: FakeHarness, tmp_path: Path) -> None:
    """A file named .csv has a header and the same rows, quoted where needed."""
    server.add_execution("default", "network", pipeline='odd, "quoted"\nname', created=0)
    path = tmp_path / "rows.csv"
    result = export("--output", str(path), "--raw-csv")
    assert (result.exit_code, result.stdout) == (0, "")
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert row_keys(rows) == row_keys(server.all_executions())
    assert set(rows[0]) == {*server.all_executions()[0], "created_at"}
    odd = next(row for row in rows if row["created"] == "0")
    assert (odd["pipeline"], odd["created_at"]) == ('odd, "quoted"\nname', "")


@pytest.mark.parametrize(
    ("arguments", "projects"),
    [
        (["--org", "retail"], {"empty"}),
        (["--project", "default/network"], {"network"}),
        (["--org", "retail", "--project", "default/network"], {"network", "empty"}),
        (["--org", "default", "--org", "default", "--project", "default/network"], {"network", "payments"}),
    ],
    ids=["org", "project", "both", "overlapping"],
)
def test_selection(server: FakeHarness, arguments: list[str], projects: set[str]) -> None:
    """--org and --project form a union: only these projects are requested, and each row is written once."""
    result = export(*arguments)
    assert result.exit_code == 0
    assert set(list_requests(server)) == projects
    expected = [row for row in server.all_executions() if row["project"] in projects]
    assert row_keys(json_lines(result.stdout)) == row_keys(expected)


def test_filters(server: FakeHarness) -> None:
    """--status, --workspace, --since and --until select the rows; --quiet prints nothing else."""
    since = datetime.fromtimestamp(CREATED / 1000 - 1, UTC).isoformat()
    result = export(
        *("--status", "failure", "--status", "none", "--workspace", "dns_prod"),
        *("--since", since, "--until", "1m", "--quiet"),
    )
    assert (result.exit_code, result.stderr) == (0, "")
    assert row_keys(json_lines(result.stdout)) == row_keys(server.executions("default", "network"))
    assert export("--since", "1d").stdout == ""


def test_requests_per_minute(server: FakeHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """The option sets the rate limit of the client. The default is 400 per minute."""
    rate_limits: list[RateLimit | None] = []

    class Client(HarnessClient):
        def __init__(self, **options: Any) -> None:
            rate_limits.append(options["rate_limit"])
            super().__init__(**options)

    monkeypatch.setattr("harness_async.cli.connection.HarnessClient", Client)
    invoke("export", "--requests-per-minute", "6000")
    invoke("export")
    assert rate_limits == [RateLimit(6000, 60.0), RateLimit(400, 60.0)]


# -- failures ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quiet", [[], ["--quiet"]], ids=["", "quiet"])
def test_failed_projects(server: FakeHarness, quiet: list[str]) -> None:
    """The other rows are written, the summary lists the failures with hints even with --quiet; exit code 1."""
    server.deny("default", "payments")
    result = export("--project", "retail/nope", *quiet, "--org", "default", "--org", "typo")
    assert result.exit_code == 1
    assert row_keys(json_lines(result.stdout)) == row_keys(server.executions("default", "network"))
    for text in ("Export incomplete", "Denied (1)  The key may not read this.", "default/payments  403"):
        assert text in result.stderr
    for text in ("Not found (1)  Check the names.", "retail/nope  404", "Not listed (1)", "typo/*  404"):
        assert text in result.stderr


def test_output_folder_missing(server: FakeHarness, tmp_path: Path) -> None:
    """A file that cannot be created is exit code 2, before any request."""
    path = tmp_path / "missing" / "rows.jsonl"
    result = export("--output", str(path))
    assert result.exit_code == 2
    assert f"Cannot write {path}: No such file or directory" in result.stderr
    assert not server.requests
    assert not path.parent.exists()


def test_invalid_option_keeps_the_old_file(server: FakeHarness, tmp_path: Path) -> None:
    """An option that the library rejects is exit code 2, before the output file is emptied."""
    path = tmp_path / "rows.jsonl"
    path.write_text("old")
    result = export("--output", str(path), "--since", "1d", "--until", "2d")
    assert result.exit_code == 2
    assert "--since (" in result.stderr
    assert (path.read_text(), server.requests) == ("old", [])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_disk_full(server: FakeHarness) -> None:
    """A write error is exit code 1 with a summary, because some rows may have been written."""
    result = export("--output", "/dev/full")
    assert result.exit_code == 1
    assert "Export stopped" in result.stderr
    assert "Cannot write /dev/full: No space left on device" in result.stderr


# -- processes ---------------------------------------------------------------------------------------------------


@posix
def test_ctrl_c(server: FakeHarness) -> None:
    """On SIGINT the exit code is 130. The rows written so far are whole, the progress is erased, the summary shown."""
    server.faults.add(Delay(3600), path="*/payments/*", times=None)
    with Terminal() as terminal, start("export", stderr=terminal.stream) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        terminal.wait_for("1/3 projects")
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
    assert process.returncode == 130
    assert row_keys(json_lines(first + rest)) == row_keys(server.executions("default", "network"))
    _, title, summary = terminal.text.partition("Export interrupted")
    assert title
    assert "not finished" in summary
    assert not re.search("limited by|━|Traceback", summary)
    assert terminal.text.rindex("\x1b[?25h") > terminal.text.rindex("\x1b[?25l"), "the cursor is visible"
    assert "\x1b[2K" in terminal.text[terminal.text.rindex("limited by") :], "the progress is erased"


@posix
def test_sigterm(server: FakeHarness) -> None:
    """On SIGTERM the exit code is 143, and the summary is shown."""
    server.faults.add(Delay(3600), path="*/payments/*", times=None)
    with start("export") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.terminate()
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "Export interrupted" in stderr


def test_closed_pipe() -> None:
    """When the reader closes stdout, as `head -1` does, the export ends silently with 141."""
    with start("export", "--demo", "--quiet") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        json.loads(process.stdout.readline())
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(60) == 141
