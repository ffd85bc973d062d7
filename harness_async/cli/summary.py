"""The command `summary`: an exported file as a table with bars, as data, or as a page."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer
from attrs import frozen
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness_async.cli.connection import Connection, connect, run_blocking
from harness_async.cli.console import format_count, print_note, print_trimmed, sanitize, stdout_console
from harness_async.cli.errors import COMPLETE, CommandError
from harness_async.cli.files import write_file
from harness_async.cli.options import RowFormat
from harness_async.cli.summary_html import render_page
from harness_async.cli.summary_rows import RowError, RowReader
from harness_async.cli.summary_table import (
    Counts,
    Group,
    GroupBy,
    SummaryTable,
    UnsuitableRowsError,
    apportion,
    format_share,
    shorten,
    split_groups,
    sum_counts,
)
from harness_async.cli.targets import Target, check_distinct, find_target
from harness_async.cli.writers import Row, create_encoder, execution_row

_DEFAULT_ROWS, _DEFAULT_PAGE_ROWS = 20, 100
"""Groups that the terminal and the page show. Data contains all of them."""

_MAX_LABEL_LENGTH = 200
_MIN_LABEL_WIDTH, _MIN_BAR_WIDTH, _MAX_BAR_WIDTH = 12, 10, 60
_WIDE = 110
"""Columns from which all counts are shown."""

_STYLES = ("red", "dim", "green")
_SIGNS, _ASCII_SIGNS = "▇╍─", "#+-"
"""Signs of failure, other and success. They differ without color."""


class SummaryFormat(StrEnum):
    """Output format of `summary`."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


@frozen(kw_only=True)
class SummarySpec:
    """The options of a summary."""

    file: str | None
    by: GroupBy
    top: int | None
    summary_format: SummaryFormat
    html: str | None
    demo: bool = False

    @property
    def source(self) -> str:
        """The name of the input in messages and titles."""
        return "the demo" if self.file is None else "stdin" if self.file == "-" else self.file

    def check(self) -> Target | None:
        """Check that the options fit together, and return where the page is written.

        Raises:
            CommandError: They do not, or the page cannot be written.
        """
        if self.demo and self.file is not None:
            raise CommandError("--demo generates its own rows.", "Remove FILE or --demo.")
        if not self.demo and self.file is None:
            raise CommandError("No file.", "Name an exported file, - for stdin, or use --demo.")
        if self.html is None:
            return None
        check_distinct({"FILE": None if self.file == "-" else self.file, "--html": self.html})
        target = find_target("--html", self.html)
        if target.kind == "stdout" and self.summary_format is not SummaryFormat.TABLE:
            raise CommandError(
                f"--html - and --format {self.summary_format} both write to stdout.", "Name a file for the page."
            )
        return target


def summary(
    *,
    file: Annotated[
        str | None,
        typer.Argument(metavar="FILE", help="An exported file, JSON Lines or CSV. - reads stdin.", show_default=False),
    ] = None,
    by: Annotated[GroupBy, typer.Option("--by", help="Group the rows by this.")] = GroupBy.PROJECT,
    top: Annotated[
        int | None,
        typer.Option(
            "--top",
            metavar="N",
            min=1,
            help=f"Show N groups, and the others in one line. Default: {_DEFAULT_ROWS}, on the page "
            f"{_DEFAULT_PAGE_ROWS}; all with --format json or csv.",
        ),
    ] = None,
    summary_format: Annotated[
        SummaryFormat, typer.Option("--format", help="A table with bars, or data.")
    ] = SummaryFormat.TABLE,
    html: Annotated[
        str | None,
        typer.Option(
            "--html", metavar="FILE", help="Also write a page that stands alone: the table, and a chart by day."
        ),
    ] = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="Summarize generated executions. Needs no file, no key and no network.")
    ] = False,
) -> None:
    """Show an exported file as a picture: counts and failure share, worst first.

    The failure share is the number of failures (failed, errored, expired) among all rows. Every row counts: if the
    output of several runs of sync is combined, an execution counts each time it was written. Days are those of UTC.
    """
    spec = SummarySpec(file=file, by=by, top=top, summary_format=summary_format, html=html, demo=demo)
    run_blocking(lambda: _summarize_demo(spec) if demo else _summarize_file(spec))


def _summarize_demo(spec: SummarySpec) -> int:
    target = spec.check()
    table = SummaryTable(spec.by)
    asyncio.run(_add_demo_rows(table))
    return _write(table, spec, target, ())


async def _add_demo_rows(table: SummaryTable) -> None:
    async with connect(Connection(demo=True)) as client, client.executions.bulk() as run:
        async for execution in run:
            table.add(execution_row(execution))


def _summarize_file(spec: SummarySpec) -> int:
    target = spec.check()
    table = SummaryTable(spec.by)
    try:
        with nullcontext(sys.stdin.buffer) if spec.file == "-" else Path(str(spec.file)).open("rb") as stream:
            reader = _add_rows(table, stream)
        table.check()
    except UnsuitableRowsError as error:
        raise CommandError(str(error), error.hint) from error
    except RowError as error:
        hint = "Use a file that harness-async export wrote."
        raise CommandError(f"Cannot read {spec.source}: {error}.", hint) from error
    except (OSError, ValueError) as error:  # the latter: a null character in the name
        reason = error.strerror or error if isinstance(error, OSError) else error
        raise CommandError(f"Cannot read {spec.source}: {reason}.", "Check the name.") from error
    notes = []
    if reader.incomplete:
        notes.append(f"Left out {reader.incomplete}, which was not written to its end. Is the export still running?")
    return _write(table, spec, target, notes)


def _add_rows(table: SummaryTable, stream: BinaryIO) -> RowReader:
    reader = RowReader(stream)
    for row in reader:
        table.add(row)
    return reader


def _write(table: SummaryTable, spec: SummarySpec, target: Target | None, notes: Sequence[str]) -> int:
    groups = table.groups()
    all_notes = [*notes, *table.notes()]
    if target is not None:
        shown, others = split_groups(groups, spec.top or _DEFAULT_PAGE_ROWS, spec.by)
        name = spec.source if spec.file is None else Path(spec.source).name  # without folders of this machine
        page = render_page(table, shown, others, source=name, notes=all_notes).encode()
        if target.kind == "stdout":
            sys.stdout.buffer.write(page)
            sys.stdout.flush()
        else:
            write_file(target, page)
    if spec.summary_format is not SummaryFormat.TABLE:
        _print_data(table, groups, spec)
    elif target is None or target.kind != "stdout":
        shown, others = split_groups(groups, spec.top or _DEFAULT_ROWS, spec.by)
        _print_table(stdout_console(), table, shown, others, spec)
    for note in all_notes:
        print_note(note)
    if target is not None and target.is_regular:
        print_note(f"Page written to {target.name}.")
    return COMPLETE


def _print_data(table: SummaryTable, groups: Sequence[Group], spec: SummarySpec) -> None:
    shown, others = split_groups(groups, spec.top, spec.by)
    names = spec.by.columns

    def values(counts: Counts) -> dict[str, Any]:
        share = round(counts.failure_share, 6) if table.has_status and counts.total else None
        return {
            "total": counts.total,
            "success": counts.success,
            "failure": counts.failure,
            "other": counts.other,
            "failure_share": share,
        }

    rows: list[Row] = [{**dict(zip(names, group.key, strict=True)), **values(group.counts)} for group in shown]
    if spec.summary_format is SummaryFormat.CSV:
        header, encode = create_encoder(RowFormat.CSV, [*names, *values(Counts())])
        data = b"".join([header, *map(encode, rows)])
    else:
        document = {"by": str(spec.by), "groups": rows, "more_groups": len(others), "total": values(table.total)}
        text = json.dumps(document, ensure_ascii=False, indent=2)
        data = text.encode(errors="backslashreplace") + b"\n"
    sys.stdout.buffer.write(data)
    sys.stdout.flush()


def _print_table(
    console: Console, table: SummaryTable, shown: Sequence[Group], others: Sequence[Group], spec: SummarySpec
) -> None:
    if not table.total.total:
        print_note(f"No rows in {spec.source}.")
        return
    console.print(_title(table, spec.source))
    console.print()
    view = _View.create(console, table, shown)
    print_trimmed(console, view.render(shown, others))
    console.print()
    print_trimmed(console, view.legend())


def _title(table: SummaryTable, source: str) -> Text:
    title = Text.assemble((format_count(table.total.total, table.noun), "bold"), " in ", sanitize(source))
    if table.day_range is not None:
        first, last = table.day_range
        title.append(f", {first} UTC" if first == last else f", {first} to {last} UTC", "dim")
    return title


@frozen
class _View:
    """The layout of the table for a width of the terminal."""

    table: SummaryTable
    has_all_counts: bool
    bar_width: int
    label_width: int
    scale: int | None
    """Rows of a bar of the full width. None: every bar has the full width."""

    signs: str

    @classmethod
    def create(cls, console: Console, table: SummaryTable, groups: Sequence[Group]) -> _View:
        """Choose the columns, and divide the width between the names and the bars."""
        total = table.total
        has_all_counts = console.width >= _WIDE
        numbers = (total.total, total.failure, *((total.other, total.success) if has_all_counts else ()))
        headers = (f"{table.noun}s", "failed", *(("other", "succeeded") if has_all_counts else ()))
        width = sum(max(len(f"{number:,}"), len(header)) + 2 for number, header in zip(numbers, headers, strict=True))
        left = console.width - width - len(">99.9%") - 2 - 2
        longest = max((cell_len(_label(group).plain) for group in groups), default=0)
        label_width = max(_MIN_LABEL_WIDTH, min(max(longest, len("and 1,000 more")), left - _MIN_BAR_WIDTH))
        return cls(
            table=table,
            has_all_counts=has_all_counts,
            bar_width=max(_MIN_BAR_WIDTH, min(left - label_width, _MAX_BAR_WIDTH)),
            label_width=label_width,
            scale=max(group.counts.total for group in groups) if table.by is GroupBy.DAY else None,
            signs=_ASCII_SIGNS if console.options.ascii_only else _SIGNS,
        )

    def render(self, shown: Sequence[Group], others: Sequence[Group]) -> Table:
        """Return the table: the groups, the others in one line, and the total."""
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        table.add_column(str(self.table.by), width=self.label_width, overflow="fold")
        headers = (f"{self.table.noun}s", "failed", *(("other", "succeeded") if self.has_all_counts else ()), "share")
        for header in headers:
            table.add_column(header, justify="right", no_wrap=True)
        table.add_column("", no_wrap=True, overflow="crop")
        earlier = self.table.by is GroupBy.DAY
        more = f"and {len(others):,} {'earlier' if earlier else 'more'}"
        if others and earlier:
            table.add_row(*self._cells(Text(more, "dim"), sum_counts(others), has_bar=False))
        for group in shown:
            table.add_row(*self._cells(_label(group), group.counts))
        if others and not earlier:
            table.add_row(*self._cells(Text(more, "dim"), sum_counts(others)))
        table.add_section()
        table.add_row(*self._cells(Text("total"), self.table.total, has_bar=not earlier), style="bold")
        return table

    def _cells(self, label: Text, counts: Counts, *, has_bar: bool = True) -> list[Text]:
        numbers = [counts.total, counts.failure, *((counts.other, counts.success) if self.has_all_counts else ())]
        cells = [label, *(Text(f"{number:,}") for number in numbers)]
        if counts.failure:
            cells[2].stylize("red")
        share = format_share(counts.failure, counts.total) if self.table.has_status else format_share(0, 0)
        return [*cells, Text(share), self._bar(counts) if has_bar else Text()]

    def _bar(self, counts: Counts) -> Text:
        width = self.bar_width if self.scale is None else round(self.bar_width * counts.total / self.scale)
        bar = Text(no_wrap=True)
        for sign, style, cells in zip(self.signs, _STYLES, apportion(counts, width), strict=True):
            bar.append(sign * cells, f"not bold {style}")
        return bar

    def legend(self) -> Text:
        """Return what the signs and the length of a bar mean."""
        legend = Text()
        for sign, style, label in zip(self.signs, _STYLES, ("failed", "other", "succeeded"), strict=True):
            legend.append(sign * 2, style).append(f" {label}   ")
        length = (
            "share of the row" if self.scale is None else f"full length: {format_count(self.scale, self.table.noun)}"
        )
        return legend.append(length, "dim")


def _label(group: Group) -> Text:
    return sanitize(shorten(group.label, _MAX_LABEL_LENGTH))
