"""Usage, help, and the commands that show lists and single executions."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys

import pytest
from rich.console import Console

from harness_async import __version__
from harness_async.cli.app import app
from harness_async.cli.connection import DEMO_PROJECT
from harness_async.testing import FakeHarness
from tests.support.cli_runner import export, invoke, json_lines, row_keys


@pytest.fixture
def _instant_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness_async.cli.connection._DEMO_LATENCY", 0.0)


def test_projects(server: FakeHarness) -> None:
    """`projects` shows a table or JSON lines, of all organizations or of those given."""
    assert invoke("projects", "--org", "retail").stdout.splitlines() == [
        "org     project  name   modules",
        "retail  empty    Empty  IACM",
    ]
    rows = json_lines(invoke("projects", "--format", "jsonl").stdout)
    assert [row["identifier"] for row in rows] == ["payments", "network", "empty"]
    assert invoke("projects", "--org", "typo").exit_code == 1


@pytest.mark.parametrize(
    ("command", "number"),
    [(["projects"], 3), (["executions", "default/network"], 3), (["get", "default/network", "run", "=stage"], 1)],
    ids=["projects", "executions", "get"],
)
def test_formats(server: FakeHarness, command: list[str], number: int) -> None:
    """The three data formats have the same rows; in CSV a cell that a spreadsheet would run has a prefix."""
    if command[0] == "get":
        server.add_execution("default", "network", pipeline_execution_id="run", pipeline_stage_id="=stage")
    lines, array, table = (invoke(*command, "--format", name).stdout for name in ("jsonl", "json", "csv"))
    rows = json_lines(lines)
    assert len(rows) == number
    assert json.loads(array) == (rows[0] if command[0] == "get" else rows)
    cells = list(csv.DictReader(table.splitlines()))
    for row, shown in zip(rows, cells, strict=True):
        assert list(shown) == list(row)
        texts = {name: value for name, value in row.items() if isinstance(value, str)}
        assert {name: shown[name].removeprefix("'") for name in texts} == texts
    assert ("'=stage" in table) == (command[0] == "get")


def test_executions(server: FakeHarness) -> None:
    """`executions` requests one page, sorts it newest first, and states how much of the list it is."""
    server.order = "oldest"
    result = invoke("executions", "default/payments", "--limit", "5", "--format", "jsonl")
    created = [row["created"] for row in json_lines(result.stdout)]
    assert created == sorted(created, reverse=True)
    assert (len(created), len(server.requests)) == (5, 1)
    table = invoke("executions", "default/payments", "--limit", "5")
    assert "5 of 250" in table.stderr
    assert len(table.stdout.splitlines()) == 6
    assert "All 3 executions." in invoke("executions", "default/network", "--status", "failure").stderr
    empty = invoke("executions", "default/network", "--workspace", "none")
    assert (empty.exit_code, empty.stdout, empty.stderr) == (0, "", "No executions match.\n")
    assert invoke("executions", "default/network", "--limit", "101").exit_code == 2


def test_executions_on_a_narrow_terminal(server: FakeHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table that is too wide becomes two lines per row, with the IDs unbroken on the second."""
    monkeypatch.setattr("harness_async.cli.console.stdout_console", lambda: Console(width=70))
    row = server.executions("default", "network")[0]
    lines = invoke("executions", "default/network").stdout.splitlines()
    assert len(lines) == 6
    assert f"  {row['pipeline_execution_id']}  {row['pipeline_stage_id']}" in lines


@pytest.mark.parametrize(
    "ids",
    [("run", "stage"), ("-run", "-stage"), ("--run", "_stage"), ("-", "--format-x")],
    ids=["plain", "dash", "two dashes", "like an option"],
)
@pytest.mark.parametrize("separator", [[], ["--"]], ids=["bare", "separated"])
def test_get(server: FakeHarness, ids: tuple[str, str], separator: list[str]) -> None:
    """`get` accepts IDs that start with a dash, with and without `--`."""
    run_id, stage = ids
    server.add_execution("default", "network", pipeline_execution_id=run_id, pipeline_stage_id=stage)
    result = invoke("get", "--format", "jsonl", *separator, "default/network", *ids)
    assert result.exit_code == 0, result.stderr
    (row,) = json_lines(result.stdout)
    assert (row["pipeline_execution_id"], row["pipeline_stage_id"]) == ids


def test_get_prints_fields(server: FakeHarness) -> None:
    """By default `get` prints one field per line; an execution that does not exist is exit code 1 with a hint."""
    row = server.executions("default", "network")[0]
    table = invoke("get", "default/network", row["pipeline_execution_id"], row["pipeline_stage_id"])
    fields = dict(line.split(maxsplit=1) for line in table.stdout.splitlines())
    assert fields == {name: str(row[name]) for name in row} | {"created_at": "2023-11-14T22:13:20.000Z"}
    missing = invoke("get", "default/network", "nope", "nope")
    assert (missing.exit_code, missing.stderr.startswith("Error: 404")) == (1, True)
    assert "Check the names" in missing.stderr


@pytest.mark.parametrize(
    "command", [["export"], ["export", "--org", "default"], ["projects"], ["executions", "default/payments"]]
)
def test_key_rejected(server: FakeHarness, command: list[str]) -> None:
    """A rejected key is exit code 3 with advice that names where the key comes from, and no rows."""
    server.api_key = "another"
    result = invoke(*command)
    assert (result.exit_code, result.stdout) == (3, "")
    assert "Error: 401" in result.stderr
    advice = f"Check that it is complete, not expired, and of account {server.account_id}."
    assert f"The key of HARNESS_API_KEY was rejected. {advice}" in result.stderr


@pytest.mark.usefixtures("_instant_demo")
def test_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command has --demo, with a project named in the help, and IDs that are the same in the next process."""
    listed = json_lines(invoke("projects", "--demo", "--format", "jsonl").stdout)
    assert DEMO_PROJECT in {f"{project['org']}/{project['identifier']}" for project in listed}
    rows = json_lines(invoke("executions", DEMO_PROJECT, "--demo", "--limit", "100", "--format", "jsonl").stdout)
    row = next(row for row in rows if row["pipeline_execution_id"].startswith("-"))
    ids = (row["pipeline_execution_id"], row["pipeline_stage_id"])
    (got,) = json_lines(invoke("get", DEMO_PROJECT, *ids, "--demo", "--format", "jsonl").stdout)
    assert row_keys([got]) == row_keys([row])
    monkeypatch.setenv("COLUMNS", "200")
    assert DEMO_PROJECT in invoke("get", "--help").stdout


@pytest.mark.usefixtures("_instant_demo")
def test_demo_export() -> None:
    """The demo exports all rows of its server once, without any setting."""
    result = export("--demo")
    assert result.exit_code == 0
    assert "Demo:" in result.stderr
    keys = row_keys(json_lines(result.stdout))
    assert (len(keys), len(set(keys))) == (4000, 4000)


@pytest.mark.parametrize(
    ("arguments", "message", "command"),
    [
        (["export", "--since", "yesterday"], "'--since': not a time: 'yesterday' (use ISO", "harness-async export"),
        (["export", "--project", "default"], "'default'", "harness-async export"),
        (["export", "--format", "xml"], "'--format'", "harness-async export"),
        (["export", "--nope"], "No such option", "harness-async export"),
        (["get", "default/network"], "Missing argument", "harness-async get"),
        (["nope"], "No such command 'nope'", "harness-async"),
    ],
    ids=["time", "project", "format", "option", "argument", "command"],
)
def test_usage_error(arguments: list[str], message: str, command: str) -> None:
    """A usage error names what is wrong on one line, and where to find help on another. The exit code is 2."""
    result = invoke(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    error, hint = result.stderr.splitlines()
    assert error.startswith("Error: ")
    assert message in error
    assert hint == f"       See {command} --help."


def test_no_arguments() -> None:
    """Without arguments the help is printed, and the exit code is 2."""
    result = invoke()
    assert (result.exit_code, result.stderr) == (2, "")
    assert result.stdout == invoke("--help").stdout
    assert "executions" in result.stdout


COMMANDS = [command.callback.__name__ for command in app.registered_commands if command.callback]

CONNECTION_OPTIONS = "--api-key-file --account --base-url --proxy --ca-bundle --timeout --requests-per-minute --demo"


@pytest.mark.parametrize("command", COMMANDS)
def test_common_options(command: str) -> None:
    """Every command has -h, --version and -v, and the options of the connection; none takes the key itself."""
    result = invoke(command, "-h")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == invoke(command, "--help").stdout
    options = set(re.findall(r"│[ *]+(--[\w-]+)", result.stdout))
    expected = {"--help", "--version", "--verbose"}
    expected |= set() if command == "summary" else set(CONNECTION_OPTIONS.split())
    assert expected <= options
    assert {option for option in options if "key" in option} <= {"--api-key-file"}
    assert invoke(command, "--version").stdout == invoke("--version").stdout == f"harness-async {__version__}\n"


def test_completion() -> None:
    """The shell completes commands and options once --install-completion has set it up."""
    assert "--install-completion" in invoke("--help").stdout
    environment = {**os.environ, "_HARNESS_ASYNC_COMPLETE": "complete_bash", "COMP_CWORD": "1"}
    environment["COMP_WORDS"] = "harness-async ex"
    command = [sys.executable, "-m", "harness_async"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)  # noqa: S603
    assert done.stdout.split() == ["export", "executions"]


@pytest.mark.parametrize("module", ["typer", "rich"])
def test_missing_extra(module: str) -> None:
    """Without the extra, the command prints how to install it, and exits with 2."""
    code = f"import sys; sys.modules[{module!r}] = None\nfrom harness_async.__main__ import main\nmain()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)  # noqa: S603
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "pip install 'harness-async[cli]'" in done.stderr
