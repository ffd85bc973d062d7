"""What people read: tables on standard output; errors and notes on standard error."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from harness_async.errors import (
    APIStatusError,
    AuthenticationError,
    BudgetError,
    DeadlineExceededError,
    DecodeError,
    HarnessError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    RequestTimeoutError,
    ServerError,
    TransportError,
    UnexpectedResponseError,
)

_UNBOUNDED = 10_000
"""Columns of what is no terminal: a table in a file is not folded."""

_BLANKS = re.compile(r"(?: |\x1b\[[0-9;]*m)+$")
"""Blanks at the end of a line, and the styles among them, which must stay."""

_STATUS_STYLES = {"success": "green", "failure": "red", "none": "dim"}


def sanitize(text: object, style: str = "") -> Text:
    """Make text of what somebody else wrote: no markup, and no escape sequences for the terminal to obey."""
    shown = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in str(text))
    return Text(shown, style=style, overflow="fold")


def status_text(status: str) -> Text:
    """Make the text of an execution's status."""
    return sanitize(status, _STATUS_STYLES.get(status, ""))


def stdout_console() -> Console:
    """Make the console of the results."""
    return _make_console(sys.stdout, stderr=False)


def stderr_console() -> Console:
    """Make the console of everything that is no result."""
    return _make_console(sys.stderr, stderr=True)


def _make_console(stream: TextIO, *, stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False, width=None if stream.isatty() else _UNBOUNDED)
    if stream.isatty() and console.is_dumb_terminal:  # of which rich takes every one to have 80 columns
        console.size = os.get_terminal_size(stream.fileno())
    return console


def print_trimmed(console: Console, what: RenderableType) -> None:
    """Print something, without the blanks that fill up the lines of a table: a narrower terminal would wrap them."""
    if console.legacy_windows:  # draws by other means than text
        console.print(what)
        return
    with console.capture() as captured:
        console.print(what)
    lines = (_BLANKS.sub(lambda found: found.group().replace(" ", ""), line) for line in captured.get().splitlines())
    console.file.write("".join(f"{line}\n" for line in lines))
    console.file.flush()


def print_error(message: str, advice: str = "") -> None:
    """Say what went wrong, and on a second line what to do about it."""
    console = stderr_console()
    console.print(Text.assemble(("Error: ", "bold red"), sanitize(message)))
    if advice:
        print_trimmed(console, Padding(sanitize(advice), (0, 0, 0, len("Error: "))))


def print_note(message: str) -> None:
    """Say something by the way."""
    stderr_console().print(sanitize(message, "dim"))


def print_table(headers: Sequence[str], rows: Sequence[Sequence[Text]], details: int) -> None:
    """Print a table; where it is too wide for the terminal, two lines for each row, the last columns in the second.

    Args:
        headers: The heads of the columns.
        rows: The cells.
        details: How many columns go to the second line.
    """
    console = stdout_console()
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for header in headers:
        table.add_column(header, no_wrap=True, overflow="fold")
    for row in rows:
        table.add_row(*row)
    wide = console.options.update(max_width=_UNBOUNDED)
    if Measurement.get(console, wide, table).maximum <= console.width:
        print_trimmed(console, table)
        return
    for row in rows:
        print_trimmed(console, _card(row, details))


def _card(row: Sequence[Text], details: int) -> Group:
    first, second = (Text("  ").join(cells) for cells in (row[:-details], row[-details:]))
    second.style = "dim"
    return Group(first, Padding(second, (0, 0, 0, 2)))


def print_fields(members: Sequence[tuple[str, Text]]) -> None:
    """Print names and values, one a line."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in members:
        table.add_row(name, value)
    print_trimmed(stdout_console(), table)


def format_count(number: int, noun: str) -> str:
    """Write a number of things: 1 project, 2,000 projects."""
    return f"{number:,} {noun if number == 1 else f'{noun}s'}"


_PASSING = frozenset({408, 409, 423, 425, 499})
"""Statuses of a client's error that say nothing against the request: too slow, in conflict, locked, too early, cut."""

_ADVICE: tuple[tuple[type[HarnessError], str], ...] = (
    (AuthenticationError, "The key was not accepted: is it whole, not expired, and of this account?"),
    (PermissionDeniedError, "The key may not read this: ask for the permission to view it."),
    (NotFoundError, "Check the names: 'harness-async projects' lists what the key can see."),
    (RateLimitError, "Too many requests: run again later, or with a lower --requests-per-minute."),
    (ServerError, "The server is in trouble: run again later."),
    (APIStatusError, "The API does not take this request: check the options."),
    (DeadlineExceededError, "The server is slow or in trouble: run again later."),
    (RequestTimeoutError, "No answer in time: run again later; if that does not help, check the network."),
    (TransportError, "No answer: check the network and the address (HARNESS_BASE_URL), then run again."),
    (DecodeError, "The answer does not fit this version: look for a newer harness-async."),
    (BudgetError, "Allow more requests, or ask for less: with --org, --project or --since."),
    (UnexpectedResponseError, "Is the address that of the Harness API, with no proxy or sign-in page before it?"),
    (HarnessError, "Run again."),
)
"""What to do about an error: the first class that fits."""


def hint_for(error: HarnessError) -> str:
    """Say what to do about an error."""
    if isinstance(error, APIStatusError) and error.status in _PASSING:
        return "It does not work at this moment: run again later."
    return next(advice for kind, advice in _ADVICE if isinstance(error, kind))
