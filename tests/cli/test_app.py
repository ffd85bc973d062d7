"""The command line: in process by typer's runner, and as real processes where signals and pipes matter."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, BinaryIO

import pytest
from attrs import evolve
from rich.console import Console
from typer.testing import CliRunner, Result

from harness_async import Execution, HarnessClient, PageRead, Progress, RateLimit, RetryPlanned
from harness_async.cli import run
from harness_async.cli.app import app
from harness_async.cli.connection import DEMO_PROJECT, RetryNotifier
from harness_async.cli.console import sanitize
from harness_async.cli.options import RowFormat, parse_time
from harness_async.cli.progress import ProgressDisplay, format_duration
from harness_async.cli.writers import RowWriter, choose_format, create_encoder, json_line
from harness_async.testing import Delay, FakeHarness, SignInPage, Status, run_in_thread

NAMES = [
    *("account", "org", "project", "pipeline", "pipeline_execution_id", "pipeline_stage_id"),
    *("workspace", "status", "created", "created_at"),
]
posix = pytest.mark.skipif(sys.platform == "win32", reason="pipes that can be watched, and terminals")

KEY = "pat.Ab1Cd2Ef3Gh4Ij5Kl6Mn7O.thekey.thesecret"
CREATED = 1_700_000_000_000


@pytest.fixture(scope="module", autouse=True)
def _no_stray_loop() -> None:
    """Keep looptime from making a loop for plain tests, which `asyncio.run` would then leave behind unclosed."""
    asyncio.set_event_loop(None)


@pytest.fixture
def fake() -> FakeHarness:
    """A server, not yet running, with three projects of 250, 3 and 0 rows."""
    fake = FakeHarness(api_key=KEY)
    fake.add_executions("default", "payments", 250, created=CREATED, status="success")
    fake.add_executions("default", "network", 3, created=CREATED, status="failure", workspace="dns_prod")
    fake.add_project("retail", "empty", modules=["IACM"])
    return fake


@pytest.fixture
def server(fake: FakeHarness, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHarness]:
    """The same, running, with the environment that leads to it."""
    with run_in_thread(fake):
        for name in ("HARNESS_PLATFORM_API_KEY", "HARNESS_ENDPOINT"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HARNESS_API_KEY", KEY)
        monkeypatch.setenv("HARNESS_ACCOUNT_ID", fake.account_id)
        monkeypatch.setenv("HARNESS_BASE_URL", fake.url)
        yield fake


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment without any setting of ours."""
    for name in ("PLATFORM_API_KEY", "API_KEY", "ACCOUNT_ID", "BASE_URL", "ENDPOINT"):
        monkeypatch.delenv(f"HARNESS_{name}", raising=False)


def invoke(*arguments: str) -> Result:
    """Run a command in this process; the key must never show."""
    if arguments[0] == "export" and "--demo" not in arguments and "--requests-per-minute" not in arguments:
        arguments += ("--requests-per-minute", "60000")
    result = CliRunner().invoke(app, arguments)
    assert KEY not in result.output
    assert "thesecret" not in result.output
    return result


def start(*arguments: str, stdout: int | IO[Any] = subprocess.PIPE) -> subprocess.Popen[str]:
    """Start the command as a process."""
    return subprocess.Popen(  # noqa: S603 - our own command
        [sys.executable, "-m", "harness_async", *arguments], stdout=stdout, stderr=subprocess.PIPE, text=True
    )


def json_lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def by_key(rows: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    return sorted(
        tuple(str(row[name]) for name in ("org", "project", "pipeline_execution_id", "pipeline_stage_id"))
        for row in rows
    )


def with_time(wire: dict[str, Any]) -> dict[str, Any]:
    time = datetime.fromtimestamp(wire["created"] // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return {**wire, "created_at": f"{time}.{wire['created'] % 1000:03}Z"}


# -- export ------------------------------------------------------------------------------------------------------


def test_export_writes_every_row_of_the_server_once(server: FakeHarness) -> None:
    """By default every project, as JSON with the wire's members in their order, and the table on stderr."""
    result = invoke("export")
    assert result.exit_code == 0
    rows = json_lines(result.stdout)
    assert list(rows[0]) == NAMES
    expected = [with_time(row) for row in server.all_executions()]
    assert sorted(rows, key=str) == sorted(({name: row[name] for name in NAMES} for row in expected), key=str)
    assert "Export complete" in result.stderr
    assert "253" in result.stderr


def test_export_as_csv_has_a_head_and_the_same_rows(server: FakeHarness, tmp_path: Path) -> None:
    """A file named .csv is CSV without asking, quoted where needed."""
    server.add_execution("default", "network", pipeline='odd, "quoted"\nname', created=0)
    path = tmp_path / "rows.csv"
    result = invoke("export", "--output", str(path))
    assert (result.exit_code, result.stdout) == (0, "")
    with path.open(newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        rows = list(reader)
    assert reader.fieldnames == NAMES
    assert by_key(rows) == by_key(server.all_executions())
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
def test_projects_and_orgs_are_a_union(server: FakeHarness, arguments: list[str], projects: set[str]) -> None:
    """Only what is named is asked for, each project once, and its rows come once."""
    result = invoke("export", *arguments)
    assert result.exit_code == 0
    asked = {request.path.split("/")[6] for request in server.requests if request.path.endswith("/executions")}
    assert asked == projects
    assert by_key(json_lines(result.stdout)) == by_key(
        [row for row in server.all_executions() if row["project"] in projects]
    )


def test_filters_reach_the_server(server: FakeHarness) -> None:
    """Status, workspace and times select the rows."""
    since = datetime.fromtimestamp(CREATED / 1000 - 1, UTC).isoformat()
    result = invoke(
        *("export", "--status", "failure", "--status", "none", "--workspace", "dns_prod"),
        *("--since", since, "--until", "1m", "--quiet"),
    )
    assert (result.exit_code, result.stderr) == (0, "")
    assert by_key(json_lines(result.stdout)) == by_key(server.executions("default", "network"))
    assert invoke("export", "--since", "1d").stdout == ""


def test_a_denied_project_is_in_the_table_and_the_rest_is_written(server: FakeHarness) -> None:
    """The exit code is 1; the table names the project, the reason and what to do, even when quiet."""
    server.deny("default", "payments")
    for quiet in ([], ["--quiet"]):
        result = invoke("export", "--project", "retail/nope", *quiet, "--org", "default", "--org", "typo")
        assert result.exit_code == 1
        assert len(json_lines(result.stdout)) == 3
        for text in ("Export incomplete", "Denied (1)", "ask for the permission", "default/payments  403"):
            assert text in result.stderr
        for text in ("Not found (1)", "retail/nope  404", "Not listed (1)", "typo/*  404", "harness-async projects"):
            assert text in result.stderr


def test_many_failures_are_counted_not_listed(server: FakeHarness) -> None:
    """The table names twenty of a kind."""
    server.faults.add(Status(501), path="*/nope*")
    names = [f"--project=default/nope{number}" for number in range(25)]
    result = invoke("export", *names)
    assert result.exit_code == 1
    assert result.stderr.count("\n  default/nope") == 20
    assert "and 5 more" in result.stderr


def test_a_refused_key_is_exit_code_three(server: FakeHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said in two lines with what to do, for export and for a single command."""
    server.api_key = "another"
    for arguments in (["export"], ["projects"], ["executions", "default/payments"]):
        result = invoke(*arguments)
        assert result.exit_code == 3
        assert result.stdout == ""
        assert "Error: 401" in result.stderr
        assert "The key was not accepted" in result.stderr


def test_an_unwritable_file_is_told_before_anything_is_sent(server: FakeHarness, tmp_path: Path) -> None:
    """A folder that is not there is not made."""
    path = tmp_path / "missing" / "rows.jsonl"
    result = invoke("export", "--output", str(path))
    assert result.exit_code == 2
    assert f"Cannot write {path}: No such file or directory" in result.stderr
    assert not server.requests
    assert not path.parent.exists()


def test_a_wrong_option_does_not_empty_the_old_file(server: FakeHarness, tmp_path: Path) -> None:
    """What can be seen to be wrong is refused before the file is opened."""
    path = tmp_path / "rows.jsonl"
    path.write_text("old")
    result = invoke("export", "--output", str(path), "--since", "1d", "--until", "2d")
    assert result.exit_code == 2
    assert "start_time must not be later than end_time" in result.stderr
    assert (path.read_text(), server.requests) == ("old", [])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_an_error_of_one_line(server: FakeHarness) -> None:
    """Exit code 1, for some rows may have been written."""
    result = invoke("export", "--output", "/dev/full")
    assert result.exit_code == 1
    assert "Cannot write /dev/full: No space left on device" in result.stderr


def test_requests_per_minute_sets_the_pace(server: FakeHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """The option becomes the rate limit of the client, and 400 is the default."""
    seen: list[RateLimit | None] = []

    class Client(HarnessClient):
        def __init__(self, **options: Any) -> None:
            seen.append(options["rate_limit"])
            super().__init__(**options)

    monkeypatch.setattr("harness_async.cli.connection.HarnessClient", Client)
    invoke("export", "--requests-per-minute", "6000")
    CliRunner().invoke(app, ["export"])
    assert seen == [RateLimit(6000, 60.0), RateLimit(400, 60.0)]


def test_ctrl_c_leaves_whole_lines_and_the_table(fake: FakeHarness, server: FakeHarness) -> None:
    """130 on SIGINT while one project never answers; what was written parses."""
    server.faults.add(Delay(3600), path="*/payments/*", times=None)
    with start("export") as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert process.stderr is not None
        rest, stderr = process.stdout.read(), process.stderr.read()
    assert by_key(json_lines(first + rest)) == by_key(server.executions("default", "network"))
    assert "Export interrupted" in stderr
    assert "not finished" in stderr
    assert "Traceback" not in stderr


def test_sigterm_ends_as_orderly(server: FakeHarness) -> None:
    """143 on SIGTERM, table included."""
    server.faults.add(Delay(3600), path="*/payments/*", times=None)
    with start("export") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.terminate()
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "Export interrupted" in stderr


def test_a_reader_that_goes_away_ends_the_export_quietly() -> None:
    """As `| head -1`: no traceback, and the code that shells have for a closed pipe."""
    with start("export", "--demo", "--quiet") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        json.loads(process.stdout.readline())
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(60) == 141


@pytest.fixture
def pipe() -> Iterator[tuple[int, BinaryIO]]:
    """A pipe: the descriptor to read, the stream to write."""
    reader, writer = os.pipe()
    with open(writer, "wb") as stream:  # noqa: PTH123 - a descriptor
        yield reader, stream
    os.close(reader)


ROWS = [f"{number:0299}\n".encode() for number in range(3000)]


async def read_pipe(reader: int, until: int) -> bytes:
    """Read so many bytes, giving the loop a turn between reads."""
    data = b""
    while len(data) < until:
        data += await asyncio.get_running_loop().run_in_executor(None, os.read, reader, 65536)
    return data


@posix
async def test_a_reader_that_pauses_holds_back_the_export_and_not_the_loop(pipe: tuple[int, BinaryIO]) -> None:
    """A full pipe makes `put` wait; nothing is lost when the reader goes on."""
    reader, stream = pipe
    writer = RowWriter(stream)
    writing = asyncio.create_task(writer.run())

    async def fill() -> None:
        for row in ROWS:
            await writer.put(row)
        writer.finish()

    filling = asyncio.create_task(fill())
    while select.select([], [stream], [], 0)[1]:
        await asyncio.sleep(0)  # the loop turns although nobody reads
    for _ in range(100):
        await asyncio.sleep(0)
    assert not filling.done()
    assert await read_pipe(reader, 300 * len(ROWS)) == b"".join(ROWS)
    await asyncio.gather(filling, writing)
    assert writer.rows == len(ROWS)


@posix
async def test_a_cancelled_writer_leaves_whole_rows(pipe: tuple[int, BinaryIO]) -> None:
    """What a full pipe cannot take at once is left out, in whole rows."""
    reader, stream = pipe
    writer = RowWriter(stream)
    writing = asyncio.create_task(writer.run())
    for row in ROWS[:900]:
        await writer.put(row)
    while select.select([], [stream], [], 0)[1]:
        await asyncio.sleep(0)
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    assert 0 < writer.rows < 900
    assert await read_pipe(reader, 300 * writer.rows) == b"".join(ROWS[: writer.rows])
    assert not select.select([reader], [], [], 0)[0]


async def test_a_cancelled_writer_of_a_file_leaves_nothing_out() -> None:
    """A file takes everything at once."""
    stream = io.BytesIO()
    writer = RowWriter(stream)
    writing = asyncio.create_task(writer.run())
    await asyncio.sleep(0)
    for row in ROWS[:500]:
        await writer.put(row)
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    assert stream.getvalue() == b"".join(ROWS[:500])


@posix
@pytest.mark.parametrize("quiet", [False, True], ids=["progress", "quiet"])
def test_on_a_terminal_there_is_progress_and_nothing_of_it_is_left(tmp_path: Path, *, quiet: bool) -> None:
    """The lines are drawn anew, erased at the end, and the closing table stands alone; --quiet has neither."""
    import pty

    terminal, stderr = pty.openpty()
    path = tmp_path / "rows.jsonl"
    arguments = ["export", "--demo", "--output", str(path), *(["--quiet"] if quiet else [])]
    environ = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "NO_COLOR": "1"}
    with subprocess.Popen(  # noqa: S603 - our own command
        [sys.executable, "-m", "harness_async", *arguments], stdout=stderr, stderr=stderr, env=environ
    ) as process:
        os.close(stderr)
        shown = b""
        with suppress(OSError):  # how a terminal ends
            while data := os.read(terminal, 65536):
                shown += data
    os.close(terminal)
    assert process.returncode == 0
    assert len(path.read_text(encoding="utf-8").splitlines()) == 4000
    if quiet:
        assert shown == b""
        return
    drawn, _, closing = shown.decode().partition("Export complete")
    assert "/40 projects" in drawn
    assert "limited by" in drawn
    assert "\x1b[3" not in shown.decode()  # no colours
    closing = re.sub("\x1b\\[[0-9;]*m", "", closing)
    assert "rows      4,000  in" in closing
    assert "\x1b[?25h" in drawn  # the cursor is back


# -- the demo ----------------------------------------------------------------------------------------------------


def test_the_demo_exports_every_row_of_its_server_once(bare: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any environment, against a server of its own."""
    servers: list[FakeHarness] = []
    seeded = FakeHarness.seeded.__func__  # type: ignore[attr-defined]

    def keep(cls: type[FakeHarness], *arguments: Any) -> FakeHarness:
        servers.append(seeded(cls, *arguments))
        return servers[-1]

    monkeypatch.setattr(FakeHarness, "seeded", classmethod(keep))
    monkeypatch.setattr("harness_async.cli.connection._DEMO_LATENCY", 0.0)
    result = invoke("export", "--demo", "--format", "csv")
    assert result.exit_code == 0
    assert "Demo:" in result.stderr
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert len(rows) == 4000
    assert by_key(rows) == by_key(servers[0].all_executions())


def test_every_command_has_the_demo(bare: None) -> None:
    """The project that the help names exists; its ids are the same in the next process, dashes included."""
    listed = json_lines(invoke("projects", "--demo", "--format", "jsonl").stdout)
    assert DEMO_PROJECT in {f"{project['org']}/{project['identifier']}" for project in listed}
    rows = json_lines(invoke("executions", DEMO_PROJECT, "--demo", "--limit", "100", "--format", "jsonl").stdout)
    row = next(row for row in rows if row["pipeline_execution_id"].startswith("-"))
    ids = (row["pipeline_execution_id"], row["pipeline_stage_id"])
    got = json_lines(invoke("get", DEMO_PROJECT, *ids, "--demo", "--format", "jsonl").stdout)
    assert [by_key(got), got[0]["pipeline"]] == [by_key([row]), row["pipeline"]]
    assert DEMO_PROJECT in invoke("get", "--help").stdout.replace("\n", "").replace("│", "").replace(" ", "")


def test_the_demo_takes_no_other_server(bare: None) -> None:
    """Options that it could not obey are refused."""
    result = invoke("export", "--demo", "--base-url", "https://app.harness.io")
    assert result.exit_code == 2
    assert "leave out --account and --base-url" in result.stderr


# -- the small commands ------------------------------------------------------------------------------------------


def test_projects_are_a_table_or_lines(server: FakeHarness) -> None:
    """Everything, or the organizations named."""
    assert invoke("projects", "--org", "retail").stdout.splitlines() == [
        "org     project  name   modules",
        "retail  empty    Empty  IACM",
    ]
    rows = json_lines(invoke("projects", "--format", "jsonl").stdout)
    assert [row["identifier"] for row in rows] == ["payments", "network", "empty"]
    assert invoke("projects", "--org", "typo").exit_code == 1


def test_executions_shows_one_page_newest_first(server: FakeHarness) -> None:
    """One request; what is shown is sorted, and the note says what it is."""
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


@pytest.mark.parametrize(
    "ids",
    [("run", "stage"), ("-run", "-stage"), ("--run", "_stage"), ("-", "--format-x")],
    ids=["plain", "dash", "two dashes", "odd"],
)
@pytest.mark.parametrize("separator", [[], ["--"]], ids=["bare", "separated"])
def test_get_takes_ids_that_begin_with_a_dash(server: FakeHarness, ids: tuple[str, str], separator: list[str]) -> None:
    """With and without `--`, options before them."""
    run_id, stage = ids
    server.add_execution("default", "network", pipeline_execution_id=run_id, pipeline_stage_id=stage)
    result = invoke("get", "--format", "jsonl", *separator, "default/network", *ids)
    assert result.exit_code == 0, result.output
    row = json_lines(result.stdout)[0]
    assert (row["pipeline_execution_id"], row["pipeline_stage_id"]) == ids
    assert list(row) == NAMES


def test_get_shows_names_and_values(server: FakeHarness) -> None:
    """One member a line; what is not there is exit code 1 with a hint."""
    row = server.executions("default", "network")[0]
    table = invoke("get", "default/network", row["pipeline_execution_id"], row["pipeline_stage_id"])
    assert [line.split()[0] for line in table.stdout.splitlines()] == NAMES
    assert "created_at             2023-11-14T22:13:20.000Z" in table.stdout
    missing = invoke("get", "default/network", "nope", "nope")
    assert missing.exit_code == 1
    assert missing.stderr.startswith("Error: 404")
    assert "Check the names" in missing.stderr


@pytest.mark.parametrize(
    ("fault", "advice"),
    [(Status(403), "ask for the permission"), (Status(400), "check the options"), (SignInPage(), "sign-in page")],
    ids=["denied", "bad request", "sign-in page"],
)
def test_other_failures_are_exit_code_one(server: FakeHarness, fault: Any, advice: str) -> None:
    """Each with what to do about it."""
    server.faults.add(fault, times=None)
    result = invoke("executions", "default/network")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert advice in result.stderr
    assert len(result.stderr.splitlines()) == 2


def test_a_wait_is_explained_once(capsys: pytest.CaptureFixture[str]) -> None:
    """The library tries for minutes: whoever waits is told why, in one note and in the progress."""
    patience, silent = RetryNotifier(), RetryNotifier(prints_note=False)
    failure = RetryPlanned(method="GET", url="https://x", attempt=1, reason="refused (GET https://x)", wait=1.0)
    for heard in (patience, silent):
        heard.on_event(failure)
        assert heard.reason == ""
        heard.on_event(failure)
        heard.on_event(evolve(failure, reason="status 503"))
        assert str(heard.reason) == "status 503"
    console = Console(file=io.StringIO(), width=100)
    console.print(ProgressDisplay(console, progress, lambda: silent.reason).render(progress()))
    assert "\ntrying again: status 503\n" in console.file.getvalue()  # type: ignore[attr-defined]
    assert capsys.readouterr().err == "Waiting, and trying again: refused. Ctrl-C ends it.\n"
    silent.on_event(PageRead(url="https://x", page=1, rows=0, total_items=None))
    assert not silent.reason


# -- usage and configuration -------------------------------------------------------------------------------------


def test_no_key_mentions_the_demo(bare: None) -> None:
    """Which variables to set, and how to try without."""
    result = invoke("export")
    assert result.exit_code == 2
    assert "HARNESS_PLATFORM_API_KEY or HARNESS_API_KEY" in result.stderr
    assert "--demo" in result.stderr


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--base-url", "ftp://x"], "(--base-url, HARNESS_BASE_URL) must begin with https://"),
        (["--base-url", "http://example.com"], "would send the key unencrypted; use https\n"),
        (["--account", ""], "The account id (--account) is empty"),
    ],
    ids=["scheme", "unencrypted", "empty account"],
)
def test_configuration_is_told_in_the_words_of_the_command_line(
    server: FakeHarness, options: list[str], text: str
) -> None:
    """Arguments of the library are not what somebody at a terminal can pass."""
    result = invoke("projects", *options)
    assert result.exit_code == 2
    assert text in result.stderr
    assert not server.requests


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["export", "--since", "yesterday"], "'yesterday' is no time: write 2025-01-31"),
        (["export", "--project", "default"], "a project is written 'org/project'"),
        (["export", "--format", "xml"], "--format"),
        (["export", "--nope"], "No such option"),
        (["get", "default/network"], "Missing argument"),
        (["nope"], "No such command"),
    ],
    ids=["time", "project", "format", "option", "argument", "command"],
)
def test_usage_errors_are_two_lines(
    capsys: pytest.CaptureFixture[str], bare: None, arguments: list[str], text: str
) -> None:
    """What is wrong, and where the help is; exit code 2."""
    assert run(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    error, help_line = captured.err.splitlines()
    assert error.startswith("Error: ")
    assert text in error
    assert help_line.strip().startswith("See harness-async")
    assert help_line.endswith(" --help.")


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """And the exit code says that nothing was done."""
    assert run([]) == 2
    captured = capsys.readouterr()
    assert "executions" in captured.out + captured.err
    assert "Error" not in captured.err


def test_help_has_no_option_for_the_key_and_says_why() -> None:
    """Keys on command lines show in process lists."""
    text = " ".join(invoke("--help").stdout.split())
    assert "process lists" in text
    assert "completion" not in text
    assert "key" not in [word.strip("-") for word in invoke("export", "--help").stdout.split() if word[:2] == "--"]


@pytest.mark.parametrize("module", ["typer", "rich"])
def test_without_the_extra_the_command_says_how_to_install_it(module: str) -> None:
    """One line on stderr, exit code 2."""
    code = f"import sys; sys.modules[{module!r}] = None\nfrom harness_async.__main__ import main\nmain()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "pip install 'harness-async[cli]'" in done.stderr


def test_importing_the_library_loads_neither_typer_nor_rich() -> None:
    """Nothing else imports the command line."""
    code = "import sys, harness_async; sys.exit(bool({'typer', 'rich'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0  # noqa: S603


# -- times, rows, texts ------------------------------------------------------------------------------------------

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
def test_times_are_iso_8601_or_ages(text: str, expected: str) -> None:
    """Without a zone they are UTC."""
    assert parse_time(text, NOW).isoformat() == expected


@pytest.mark.parametrize(
    "text", ["", "7", "7x", "-7d", "7.5d", "d", "1700000000000", "99999999999d", "2025-13-01", "0001-01-01T00:00+01:00"]
)
def test_what_is_no_time_is_refused_with_examples(text: str) -> None:
    """Milliseconds too: nobody means those in a date's place."""
    with pytest.raises(ValueError, match="or an age such as 30m"):
        parse_time(text, NOW)


def test_the_format_follows_the_name_unless_given() -> None:
    """`.csv` in any case."""
    assert choose_format(None, None) is RowFormat.JSONL
    assert choose_format(None, "rows.CSV") is RowFormat.CSV
    assert choose_format(RowFormat.JSONL, "rows.csv") is RowFormat.JSONL


def test_odd_rows_stay_readable() -> None:
    """Times beyond the calendar are null, text stays text, and what UTF-8 cannot carry is escaped."""
    odd = Execution(org="ö", project="p", pipeline_execution_id="\ud800", pipeline_stage_id="s", created=10**18)
    _, encode = create_encoder(RowFormat.JSONL)
    line = encode(odd)
    assert "ö".encode() in line
    row = json.loads(line)
    assert (row["created"], row["created_at"], row["pipeline_execution_id"]) == (10**18, None, "\ud800")
    _, encode = create_encoder(RowFormat.CSV)
    assert encode(odd).endswith(b",1000000000000000000,\n")
    assert json_line({"a": "x\ny"}).count(b"\n") == 1


def test_text_of_others_cannot_steer_the_terminal() -> None:
    """Escape sequences and markup are shown, not obeyed."""
    assert sanitize("\x1b[2J[red]a\u202eb").plain == "\\x1b[2J[red]a\\u202eb"


def test_clock() -> None:
    """Minutes, and hours where there are any."""
    assert [format_duration(7.4), format_duration(754), format_duration(3723)] == ["0:07", "12:34", "1:02:03"]


# -- the look of progress and tables -----------------------------------------------------------------------------


def progress(**changes: Any) -> Progress:
    values: dict[str, Any] = {"projects_done": 12, "projects_total": 4000, "rows": 1_234_567, "requests": 100}
    values |= {"elapsed": 60.0, "eta": 4000.0, "limited_by": "rate limit"}
    return Progress(**(values | changes))


@pytest.mark.parametrize(("width", "lines"), [(100, 2), (80, 2), (76, 3), (60, 3), (44, 3), (40, 4), (30, 4)])
def test_progress_fits_the_terminal(width: int, lines: int) -> None:
    """As many lines at every moment, none wider than the terminal, nothing cut off from 40 columns on."""
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    view = ProgressDisplay(console, progress, str)
    for moment in (progress(projects_total=None, eta=None), progress(), progress(limited_by="consumer")):
        with console.capture() as captured:
            console.print(view.render(moment))
        shown = captured.get().splitlines()
        assert len(shown) == lines
        assert all(len(line) <= width for line in shown)
        assert width < 40 or "…" not in captured.get()


def test_the_rate_is_that_of_the_last_seconds() -> None:
    """A pause shows soon: after a window without requests the rate is nought."""
    view = ProgressDisplay(Console(file=io.StringIO(), width=100), progress, str)
    view.render(progress(elapsed=0.5, requests=4))
    assert view._rate(progress(elapsed=0.5, requests=4)) == 240
    view.render(progress(elapsed=30.0, requests=200))
    view.render(progress(elapsed=40.0, requests=300))
    assert view._rate(progress(elapsed=40.0, requests=300)) == 600
    view.render(progress(elapsed=60.0, requests=300))
    assert view._rate(progress(elapsed=60.0, requests=300)) == 0


def test_a_narrow_terminal_gets_two_lines_a_row(server: FakeHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is cut: the ids come whole on a line of their own."""
    monkeypatch.setattr("harness_async.cli.console.stdout_console", lambda: Console(width=70))
    row = server.executions("default", "network")[0]
    lines = invoke("executions", "default/network").stdout.splitlines()
    assert len(lines) == 6
    assert f"  {row['pipeline_execution_id']}  {row['pipeline_stage_id']}" in lines
