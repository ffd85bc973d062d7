"""`summary`: reading exported rows, counting them, and what the command prints."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from harness_async import PipelineExecution, Workspace, WorkspaceStatus
from harness_async.cli.summary_html import render_page
from harness_async.cli.summary_rows import RowReader
from harness_async.cli.summary_table import Counts, GroupBy, SummaryTable, apportion, format_share
from harness_async.testing import FakeHarness
from tests.support.cli_runner import Result, export, invoke

DAY = 86_400_000
START = 1_700_006_400_000  # 2023-11-15, midnight


def row(project: object = "payments", status: object = "success", day: int = 0, **members: Any) -> dict[str, object]:
    """Return the row of an execution."""
    names = {"org": "default", "project": project, "pipeline": "deploy", "pipeline_execution_id": "r"}
    return {
        **names,
        "pipeline_stage_id": "s",
        "workspace": "dns",
        "status": status,
        "created": START + day * DAY,
        **members,
    }


ROWS = [
    *(row("payments", status, day) for day, status in enumerate(["success", "success", "failure", "none"])),
    *(row("network", status, workspace="vpc") for status in ["failure", "failure", "success"]),
    row("idle", "none"),
    *(row("busy", "success", pipeline=name) for name in ["build", "build", "test"]),
]


def json_lines(rows: Iterable[dict[str, object]]) -> bytes:
    return b"".join(json.dumps(each).encode() + b"\n" for each in rows)


def csv_lines(rows: list[dict[str, object]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def count(rows: Iterable[dict[str, Any]], by: str = "project") -> SummaryTable:
    table = SummaryTable(GroupBy(by))
    for each in rows:
        table.add(each)
    return table


def counts_of(table: SummaryTable) -> dict[str, tuple[int, int, int]]:
    """Return the counts of failures, other outcomes and successes by label, in the order of the groups."""
    return {group.label: (c.failure, c.other, c.success) for group in table.groups() for c in [group.counts]}


def summarize(tmp_path: Path, content: bytes, *arguments: str) -> Result:
    """Run the command on a file whose name says nothing about its format."""
    path = tmp_path / "rows"
    path.write_bytes(content)
    return invoke("summary", str(path), *arguments)


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("project", "network 2-0-1, payments 1-1-2, busy 0-0-3, idle 0-1-0"),
        (
            "pipeline",
            "network/deploy 2-0-1, payments/deploy 1-1-2, busy/build 0-0-2, busy/test 0-0-1, idle/deploy 0-1-0",
        ),
        ("workspace", "network/vpc 2-0-1, payments/dns 1-1-2, busy/dns 0-0-3, idle/dns 0-1-0"),
        ("day", "2023-11-15 2-1-5, 2023-11-16 0-0-1, 2023-11-17 1-0-0, 2023-11-18 0-1-0"),
    ],
)
def test_groups(by: str, expected: str) -> None:
    """Groups come with the highest failure share first, then most rows, then by name; days in calendar order."""
    found = counts_of(count(ROWS, by))
    assert ", ".join(f"{name.removeprefix('default/')} {f}-{o}-{s}" for name, (f, o, s) in found.items()) == expected


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        *(("failure", word) for word in ("failure", "Failed", "Errored", "Expired")),
        *(("success", word) for word in ("success", "Success", "SUCCESS")),
        *(("other", word) for word in ("none", "Running", "Aborted", "ApprovalRejected", "IgnoreFailed")),
        *(("other", word) for word in ("Frozen", "", None, 7)),
    ],
)
def test_outcome_of_a_status(outcome: str, status: object) -> None:
    """The words of IaCM and of pipelines have an outcome; words that are not known are other, with a note."""
    table = count([row(status=status)])
    assert table.total == Counts(**{outcome: 1})
    assert bool(table.notes()) == (status in {"Frozen", "", None, 7})


STRANGE_TIMES: list[Any] = [10**18, -(10**18), "9" * 5000, "x", "²", True, 1.5, [], {}, None]


@pytest.mark.parametrize(
    ("members", "day"),
    [
        ({"created": START}, "2023-11-15"),
        ({"created": str(START)}, "2023-11-15"),
        ({"created": 0, "created_at": "2023-11-15T23:30:00-02:00"}, "2023-11-16"),
        ({"created": None, "created_at": "2023-11-15T23:30:00.123Z"}, "2023-11-15"),
        ({"created": START, "start_ts": START + DAY}, "2023-11-16"),
        ({"created": START, "start_ts": 0, "started_at": None}, "2023-11-15"),
        ({"created": -1}, "1969-12-31"),
        *(({"created": value}, "(unknown)") for value in STRANGE_TIMES),
        ({"created": None, "created_at": "yesterday"}, "(unknown)"),
        ({"created": None, "created_at": "0001-01-01T00:00:00+14:00"}, "(unknown)"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_day_of_a_row(members: dict[str, Any], day: str) -> None:
    """A row belongs to the UTC day on which it started or was created, if the time fits a calendar."""
    assert list(counts_of(count([row(**members)], "day"))) == [day]


def test_rows_of_other_lists() -> None:
    """Rows of pipeline executions and workspaces are counted by what they have: their own words and times."""
    run = PipelineExecution(
        org="o", project="p", plan_execution_id="r", pipeline="x", start_ts=START, created=START - DAY
    )
    rows = [{**run.to_dict(), "status": status} for status in ("Failed", "Success", "AsyncWaiting")]
    for by, label in (("project", "o/p"), ("pipeline", "o/p/x"), ("day", "2023-11-15")):
        table = count(rows, by)
        assert counts_of(table) == {label: (1, 1, 1)}
        assert table.noun == "execution"
    workspaces = [
        Workspace(org="o", project="p", identifier="w", status=status, created=START)
        for status in (WorkspaceStatus.FAILED, WorkspaceStatus.ACTIVE)
    ]
    table = count(workspace.to_dict() for workspace in workspaces)
    assert (counts_of(table), table.noun, table.notes()) == ({"o/p": (1, 1, 0)}, "row", [])


@pytest.mark.parametrize(
    ("share", "text"),
    [((0, 5), "0.0%"), ((1, 9999), "<0.1%"), ((9999, 10000), ">99.9%"), ((3, 3), "100.0%"), ((0, 0), "–")],  # noqa: RUF001
    ids=str,
)
def test_share(share: tuple[int, int], text: str) -> None:
    """A share that is rounded is not shown as none or all."""
    assert format_share(*share) == text


@pytest.mark.parametrize("width", [1, 3, 10, 57])
@pytest.mark.parametrize(
    "counts", [Counts(1, 1, 1), Counts(10**9, 1, 1), Counts(0, 5, 0), Counts(0, 0, 0), Counts(7, 2)]
)
def test_cells_of_a_bar(counts: Counts, width: int) -> None:
    """A bar has its width, and each outcome that occurs has a cell."""
    parts = (counts.failure, counts.other, counts.success)
    cells = apportion(counts, width)
    assert [bool(each) for each in cells] == [bool(part) for part in parts]
    assert all(each >= 0 for each in cells)
    assert sum(cells) == (max(width, sum(map(bool, parts))) if counts.total else 0)


def test_formats_of_an_export(server: FakeHarness, tmp_path: Path) -> None:
    """An export in JSON Lines and one in CSV have the same summary, whatever the names of the files and the options."""
    summaries = []
    for row_format in ("jsonl", "csv"):
        content = export("--format", row_format).stdout.encode()
        summaries.append(json.loads(summarize(tmp_path, content, "--format", "json").stdout))
    assert summaries[0] == summaries[1]
    assert summaries[0] == {
        "by": "project",
        "groups": [
            {"org": "default", "project": "network", "total": 3, "success": 0, "failure": 3, "other": 0}
            | {"failure_share": 1.0},
            {"org": "default", "project": "payments", "total": 250, "success": 250, "failure": 0, "other": 0}
            | {"failure_share": 0.0},
        ],
        "more_groups": 0,
        "total": {"total": 253, "success": 250, "failure": 3, "other": 0, "failure_share": 0.011858},
    }


GOOD = json_lines([row()])
HEADER = b"org,project,status,created\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x00\xff\xfe\x80", "line 1 is not UTF-8 text"),
        (b"\x00" * 100, "line 1 is neither a JSON object nor the header"),
        ("org\n".encode("utf-16"), "UTF-16"),
        (b"\x1f\x8b\x08\x00\x00", "gunzip"),
        (b"[\n{}\n]\n", "line 1 begins JSON that has not one object per line"),
        (GOOD + b"\n[1]\n", "line 3 is not a JSON object, but an array"),
        (GOOD + b'{"created": ' + b"9" * 5000 + b"}\n", "line 2 is not valid JSON (Exceeds the limit"),
        (GOOD + b'{"a": ' + b"[" * 100_000 + b"\n", "line 2 is not valid JSON"),
        (GOOD + b'{"org": "\xff"}\n', "line 2 is not UTF-8 text"),
        (HEADER + b"a,b\n" + b"a,b,success,1\n", "line 2 has 2 fields, the header has 4"),
        (HEADER + b"a,b,success,1\na,b,c,d,e,f\n", "line 3 has 6 fields, the header has 4"),
        (HEADER + b'a,b,"success,1\na,b,success,1\n', "line 2 is not valid CSV (unexpected end of data)"),
        (HEADER + b'a,b,"x"y,1\n', "line 2 is not valid CSV"),
        (HEADER + b"\xff\n" + b"a\n", "line 2 is not UTF-8 text"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_file_that_is_not_an_export(tmp_path: Path, content: bytes, message: str) -> None:
    """A file that cannot be read is a usage error of two lines, which names the line, and nothing is printed."""
    page = tmp_path / "page.html"
    result = summarize(tmp_path, content, "--html", str(page))
    assert (result.exit_code, result.stdout, page.exists()) == (2, "", False)
    assert len(result.stderr.splitlines()) == 2
    assert result.stderr.startswith("Error: Cannot read ")
    assert message in result.stderr


@pytest.mark.parametrize(
    ("content", "total", "note"),
    [
        (b"", 0, "No rows in"),
        (HEADER, 0, "No rows in"),
        (GOOD * 2 + GOOD[:-30], 2, "Left out line 3, which was not written to its end."),
        (GOOD + b'{"org": "\xc3', 1, "Left out line 2"),
        (GOOD + GOOD.rstrip(), 2, ""),
        (b"\xef\xbb\xbf" + GOOD.replace(b"\n", b"\r\n") + b"\n", 1, ""),
        (HEADER + b"o,p,success,1700006400000\no,p,suc", 1, "Left out line 3"),
        (HEADER + b'o,p,success,1700006400000\no,p,"a\nb', 1, "Left out lines 3 to 4"),
        ((HEADER + b"o,p,success,1700006400000\n\n") * 2, 2, ""),
        (b"org;project;status;created\r\no;p;success;1700006400000\r\n", 1, ""),
        (b"\xef\xbb\xbf" + HEADER + b'o,"p\nq",success,1700006400000\n', 1, ""),
        (json_lines([row(status="Frozen"), row(status="\x1b[31m<b>")]), 2, "2 executions have a status that this"),
        (json_lines([row(status=None)]), 1, "The executions have no status: counted as other."),
        (json_lines([row(), row(project=None)]), 2, "1 execution has no project: counted under (unknown)."),
        (json_lines([row(), row(created=10**40)]), 2, "1 execution has no time: not in the counts by day."),
        (json_lines([{"org": "o", "project": "p", "x": 1}]), 1, "The rows have no status: the failure share is unk"),
    ],
)
def test_unusual_rows(tmp_path: Path, content: bytes, total: int, note: str) -> None:
    """Rows with missing or strange values are counted, a last line that is not complete is left out, with a note."""
    result = summarize(tmp_path, content)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith(f"{total} ") == bool(total)
    assert note in result.stderr
    assert ("Left out" in result.stderr) == ("Left out" in note)
    assert bool(result.stderr) == bool(note)
    assert "\x1b" not in result.stdout + result.stderr
    data = json.loads(summarize(tmp_path, content, "--format", "json").stdout)
    assert data["total"]["total"] == total


@pytest.mark.parametrize(
    ("content", "by", "message"),
    [
        (
            json_lines([{"org": "o", "project": "p", "identifier": "x", "created": 1}]),
            "workspace",
            "no workspace, only",
        ),
        (json_lines([{"identifier": "x\x1b", "name": "y"}]), "project", r"no project, only identifier, name"),
        (json_lines([{"org": "o", "project": "p"}]), "day", "no time (start_ts, created, started_at or created_at)"),
        (b"{}\n", "project", "The rows have no project."),
    ],
    ids=["workspace", "project", "time", "nothing"],
)
def test_rows_without_the_column(tmp_path: Path, content: bytes, by: str, message: str) -> None:
    """Rows that lack the column of the group are a usage error that names what is there, and what can be used."""
    result = summarize(tmp_path, content, "--by", by)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    hint = {"workspace": "Use --by project or day.", "day": "Use --by project."}.get(by, "Use a file that")
    assert hint in result.stderr


def test_reading_is_lazy() -> None:
    """No more than one row is read ahead, so that memory does not depend on the size of the file."""
    for content in (json_lines(ROWS), csv_lines(ROWS)):
        stream = io.BytesIO(content)
        ends = [stream.tell() for _ in RowReader(stream)]
        assert ends == [
            len(content) - len(b"".join(content.splitlines(keepends=True)[-rest:]))
            for rest in range(len(ROWS) - 1, 0, -1)
        ] + [len(content)]


def test_table_at_two_widths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table fits 80 columns, with long names folded; a wide terminal has all counts. It needs no color."""
    content = json_lines([*ROWS, row("a_project_with_a_long_name" * 3, "failure"), row("[red]bold[/red]", "none")])
    for width in (80, 200):
        monkeypatch.setattr(
            "harness_async.cli.summary.stdout_console",
            lambda width=width: Console(width=width, highlight=False, no_color=True),
        )
        lines = summarize(tmp_path, content).stdout.splitlines()
        assert max(map(len, lines)) <= width
        assert ("succeeded" in lines[2]) == (width == 200)
        payments = next(line for line in lines if line.startswith("default/payments "))
        assert "25.0%" in payments
        assert payments[-4:] == "────"
        assert any(line.startswith("default/[red]bold[/red] ") for line in lines)
        assert any(line.startswith("total ") for line in lines)
        assert lines[-1].startswith("▇▇ failed   ╍╍ other   ── succeeded")


def test_top(tmp_path: Path) -> None:
    """--top shows the first groups and the others in one line; of the days it shows the latest."""
    lines = summarize(tmp_path, json_lines(ROWS), "--top", "1").stdout.splitlines()
    assert [line.split("  ")[0] for line in lines[3:6]] == ["default/network", "and 3 more", "total"]
    assert lines[4].split()[3:5] == ["8", "1"]
    lines = summarize(tmp_path, json_lines(ROWS), "--top", "1", "--by", "day").stdout.splitlines()
    assert [line.split("  ")[0] for line in lines[3:6]] == ["and 3 earlier", "2023-11-18", "total"]
    rows = [row("=1+1", status="failure", workspace=None), *ROWS]
    data = summarize(tmp_path, json_lines(rows), "--top", "2", "--by", "workspace", "--format", "csv").stdout
    assert data.splitlines() == [
        "org,project,workspace,total,success,failure,other,failure_share",
        "default,'=1+1,,1,0,1,0,1.0",
        "default,network,vpc,3,1,2,0,0.666667",
    ]
    (tmp_path / "data.csv").write_text("org,project,workspace,status\ndefault,network,'=1+1,failure\n")
    found = invoke("summary", str(tmp_path / "data.csv"), "--by", "workspace", "--format", "json")
    assert json.loads(found.stdout)["groups"][0]["workspace"] == "=1+1", "without the prefix of the export"


def test_ascii_terminal(tmp_path: Path) -> None:
    """Where stdout cannot encode block characters, the bars are ASCII."""
    (tmp_path / "rows").write_bytes(json_lines(ROWS))
    command = [sys.executable, "-m", "harness_async", "summary", str(tmp_path / "rows")]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, env=environment, check=True)  # noqa: S603 - the command under test
    assert b"## failed   ++ other   -- succeeded" in done.stdout


def test_stdin_and_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    """`-` reads stdin, and --demo needs no file."""
    monkeypatch.setattr("harness_async.cli.connection._DEMO_LATENCY", 0.0)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(GOOD)))
    assert invoke("summary", "-").stdout.startswith("1 execution in stdin, 2023-11-15 UTC\n")
    demo = invoke("summary", "--demo", "--format", "json")
    assert json.loads(demo.stdout)["total"]["total"] == 4000


class _Page(HTMLParser):
    """Collects what a page refers to, its text, and whether its tags are balanced."""

    VOID = frozenset({"meta", "rect", "line", "link", "img", "br"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.references: list[tuple[str, str | None]] = []
        self.tags: set[str] = set()
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(page.replace("<wbr>", ""))  # which splits words, not text
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        names = {"src", "href", "xlink:href", "srcset", "data", "action", "poster", "background", "formaction"}
        self.references += [(name, value) for name, value in attrs if name in names or name.startswith("on")]
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


HOSTILE = "</td><script>alert(1)</script><img src=x onerror=alert(2)>\"'&\x1b[31m\u202e\ud800"


@pytest.mark.parametrize("by", list(GroupBy))
@pytest.mark.parametrize(
    "rows",
    [[], ROWS, [row(HOSTILE, HOSTILE, org=HOSTILE, pipeline=HOSTILE, workspace=HOSTILE)]],
    ids=["none", "some", "hostile"],
)
def test_page_stands_alone(tmp_path: Path, by: GroupBy, rows: list[dict[str, object]]) -> None:
    """The page has no script, no reference and no markup of the data; it has the counts and a description."""
    result = summarize(tmp_path, json_lines(rows), "--by", by, "--html", "-")
    assert result.exit_code == 0, result.stderr
    page = _Page(result.stdout)
    assert page.references == []
    assert not page.tags & {"script", "img", "link", "iframe", "object", "embed", "base", "form", "image", "use"}
    assert "url(" not in result.stdout.replace("url(#hatch)", "")
    assert "@import" not in result.stdout
    assert "://" not in result.stdout
    assert not {"\x1b", "\u202e", "\ud800"} & set(result.stdout)
    text = " ".join(page.text)
    if rows is ROWS:
        assert "4 stacked bars. Most executions: 8, 2023-11-15. Most failures: 2, 2023-11-15." in text
        assert "2023-11-17: 1 execution, 1 failed (100.0%), 0 other, 0 succeeded" in text
    elif rows and by is not GroupBy.DAY:
        assert "</td><script>alert(1)</script><img src=x onerror=alert(2)>\"'&\\x1b[31m\\u202e\\ud800" in text


@pytest.mark.parametrize(
    ("days", "bars", "period"),
    [
        ([0], 1, "day"),
        ([0, 99], 100, "day"),
        ([0, 100], 15, "period of 7 days"),
        ([0, 10**5], 28, "period of 3,640 days"),
        ([-700_000, 2_000_000], 75, "period of 36,400 days"),
    ],
)
def test_chart_of_a_long_time(days: list[int], bars: int, period: str) -> None:
    """The chart has at most a hundred bars, also of rows whose times are centuries apart."""
    table = count([row(day=day) for day in days])
    page = render_page(table, table.groups(), (), source="x")
    assert f'<title id="chart-title">Executions per {period}, by outcome</title>' in page
    assert f"{bars:,} stacked bars." in page
    assert page.count("<g>") == len(days)


def test_page_is_replaced_atomically(tmp_path: Path) -> None:
    """The page replaces an older one, beside the table on stdout; a summary that fails leaves the older one."""
    page = tmp_path / "page.html"
    page.write_text("old")
    assert summarize(tmp_path, b"nonsense", "--html", str(page)).exit_code == 2
    assert page.read_text() == "old"
    result = summarize(tmp_path, GOOD, "--html", str(page), "--format", "csv")
    assert result.stdout.startswith("org,project,total,")
    assert result.stderr == f"Page written to {page}.\n"
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page.html", "rows"]
