"""`export`: rows, files, failures and signals."""

from __future__ import annotations

import csv
import json
import re
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from harness_async import Activity, Environment, Pipeline, PipelineExecution, Service, Workspace
from harness_async.serialization.model import Model, dict_names
from harness_async.testing import Delay, FakeHarness, run_in_thread
from tests.support.cli_runner import Terminal, export, json_lines, posix, row_keys, start

CREATED = 1_700_000_000_000


def list_requests(fake: FakeHarness) -> list[str]:
    """Return the project of each list request."""
    return [request.path.split("/")[6] for request in fake.requests if request.path.endswith("/executions")]


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


@pytest.mark.parametrize("checkpoint", [False, True], ids=["", "checkpoint"])
def test_no_rows(server: FakeHarness, tmp_path: Path, checkpoint: bool) -> None:
    """An export that is complete without rows replaces an old file; CSV has its header."""
    path = tmp_path / "rows.csv"
    path.write_text("old")
    more = ("--checkpoint", str(tmp_path / "run")) if checkpoint else ()
    assert export("--project", "retail/empty", "--output", str(path), *more).exit_code == 0
    assert path.read_text().startswith("account,org,project,")
    assert len(path.read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "projects"),
    [
        (["--org", "retail"], {"empty"}),
        (["--project", "default/network"], {"network"}),
        (["--org", "retail", "--project", "default/network"], {"network", "empty"}),
        (["--org", "default", "--org", "default", "--project", "default/network"], {"network", "payments"}),
        (["--org", "default", "--project", "Default/NETWORK"], {"NETWORK", "payments"}),
    ],
    ids=["org", "project", "both", "overlapping", "another case"],
)
def test_selection(server: FakeHarness, arguments: list[str], projects: set[str]) -> None:
    """--org and --project form a union: only these projects are requested, and each row is written once."""
    result = export(*arguments)
    assert result.exit_code == 0
    assert set(list_requests(server)) == projects
    names = {name.casefold() for name in projects}
    expected = [row for row in server.all_executions() if row["project"] in names]
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


MODELS: dict[str, type[Model]] = {
    "pipeline-executions": PipelineExecution,
    "workspaces": Workspace,
    "activities": Activity,
    "pipelines": Pipeline,
    "services": Service,
    "environments": Environment,
}


@pytest.fixture(scope="module")
def platform() -> Iterator[FakeHarness]:
    """A started server with rows of every kind."""
    with run_in_thread(FakeHarness.seeded(projects=3, executions=60, seed=3)) as fake:
        yield fake


@pytest.fixture
def _platform(platform: FakeHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_API_KEY", platform.api_key)
    monkeypatch.setenv("HARNESS_ACCOUNT_ID", platform.account_id)
    monkeypatch.setenv("HARNESS_BASE_URL", platform.url)


def all_rows(fake: FakeHarness, name: Any) -> list[dict[str, Any]]:
    """Return the rows of a list of all projects."""
    return [row for ref in fake.projects for row in fake.rows(name.replace("-", "_"), *ref)]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.usefixtures("_platform")
def test_resource(platform: FakeHarness, tmp_path: Path, name: str) -> None:
    """Rows of other lists are those of `to_dict`, in JSON Lines and, with nested values as JSON, in CSV."""
    result = export(name, "--quiet")
    assert (result.exit_code, result.stderr) == (0, "")
    rows = json_lines(result.stdout)
    assert len(rows) == len(all_rows(platform, name))
    assert {(row["org"], row["project"]) for row in rows} <= set(platform.projects)
    assert {tuple(row) for row in rows} == {dict_names(MODELS[name])}
    assert rows[0]["created_at"].endswith("+00:00")
    files = ("-o", str(tmp_path / "rows.csv"), "--checkpoint", str(tmp_path / "run"))
    assert export(name, "--raw-csv", *files).exit_code == 0
    with (tmp_path / "rows.csv").open(newline="", encoding="utf-8") as stream:
        header, *table = csv.reader(stream)
    assert tuple(header) == dict_names(MODELS[name])
    expected = [
        ["" if value is None else value if isinstance(value, str) else json.dumps(value) for value in row.values()]
        for row in rows
    ]
    assert sorted(table) == sorted(expected)


@pytest.mark.parametrize("name", MODELS)
def test_demo(name: str) -> None:
    """Every list has generated data."""
    result = export(name, "--demo", "-p", "infrastructure/observability")
    assert result.exit_code == 0
    assert {row["project"] for row in json_lines(result.stdout)} == {"observability"}


@pytest.mark.usefixtures("_platform")
def test_filters_of_resources(platform: FakeHarness) -> None:
    """The filters of a list reach the server in its own words."""
    for name, word in (("pipeline-executions", "Success"), ("activities", "success"), ("workspaces", "failed")):
        rows = json_lines(export(name, "-s", word).stdout)
        assert {row["status"] for row in rows} <= {word}
    workspace = all_rows(platform, "activities")[0]["workspace"]
    rows = json_lines(export("activities", "--workspace", workspace, "--since", "400d").stdout)
    assert {row["workspace"] for row in rows} == {workspace}


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


@posix
def test_ctrl_c(server: FakeHarness) -> None:
    """On SIGINT the exit code is 130. The rows written so far are whole, the progress is erased, the summary shown."""
    for name in ("payments", "empty"):  # one project is complete, however seldom the display is drawn
        server.faults.add(Delay(3600), path=f"*/{name}/*", times=None)
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
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_signals(server: FakeHarness, tmp_path: Path, name: str) -> None:
    """On SIGTERM and SIGHUP the output is completed, the summary is shown, and the exit code is that of the signal."""
    server.faults.add(Delay(3600), path="*/payments/*", times=None)
    path, number = tmp_path / "rows", getattr(signal, name)
    with start("export", "--output", str(path)) as process:
        while not path.exists():
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(number)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "Export interrupted" in stderr
    assert row_keys(json_lines(path.read_text())) == row_keys(server.executions("default", "network"))
    assert list(tmp_path.iterdir()) == [path]
