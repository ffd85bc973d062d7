"""What people read: tables on standard output; errors and notes on standard error."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console, Group
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from harness_async.errors import (
    APIStatusError,
    AuthenticationError,
    DeadlineExceededError,
    HarnessError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
    TransportError,
    UnexpectedResponseError,
)

_UNBOUNDED = 10_000
"""Columns of what is no terminal: a table in a file is not folded."""

_STATUS_STYLES = {"success": "green", "failure": "red", "none": "dim"}


def plain(text: object, style: str = "") -> Text:
    """Make text of what somebody else wrote: no markup, and no escape sequences for the terminal to obey."""
    shown = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in str(text))
    return Text(shown, style=style, overflow="fold")


def styled_status(status: str) -> Text:
    """Make the text of an execution's status."""
    return plain(status, _STATUS_STYLES.get(status, ""))


def stdout() -> Console:
    """Make the console of the results."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else _UNBOUNDED)


def stderr() -> Console:
    """Make the console of everything that is no result."""
    return Console(stderr=True, highlight=False)


def print_error(message: str, advice: str = "") -> None:
    """Say what went wrong, and on a second line what to do about it."""
    console = stderr()
    console.print(Text.assemble(("Error: ", "bold red"), plain(message)), soft_wrap=True)
    if advice:
        console.print(plain(f"       {advice}"), soft_wrap=True)


def print_note(message: str) -> None:
    """Say something by the way."""
    stderr().print(plain(message, "dim"), soft_wrap=True)


def print_rows(headers: Sequence[str], rows: Sequence[Sequence[Text]], details: int) -> None:
    """Print a table; where it is too wide for the terminal, two lines for each row, the last columns in the second.

    Args:
        headers: The heads of the columns.
        rows: The cells.
        details: How many columns go to the second line.
    """
    console = stdout()
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for header in headers:
        table.add_column(header, no_wrap=True, overflow="fold")
    for row in rows:
        table.add_row(*row)
    wide = console.options.update(max_width=_UNBOUNDED)
    if Measurement.get(console, wide, table).maximum <= console.width:
        console.print(table)
        return
    for row in rows:
        console.print(_card(row, details))


def _card(row: Sequence[Text], details: int) -> Group:
    first, second = (Text("  ").join(cells) for cells in (row[:-details], row[-details:]))
    second.style = "dim"
    return Group(first, Padding(second, (0, 0, 0, 2)))


def print_members(members: Sequence[tuple[str, Text]]) -> None:
    """Print names and values, one a line."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in members:
        table.add_row(name, value)
    stdout().print(table)


def count(number: int, noun: str) -> str:
    """Write a number of things: 1 project, 2,000 projects."""
    return f"{number:,} {noun if number == 1 else f'{noun}s'}"


def reason(error: HarnessError) -> str:
    """Say in one line why something failed."""
    text = f"{error.status} {error.message}" if isinstance(error, APIStatusError) else str(error)
    return " ".join(text.split())


def advise(error: HarnessError) -> str:
    """Say what to do about an error, in half a sentence."""
    match error:
        case AuthenticationError():
            return "The key was not accepted: is it whole, not expired, and of this account"
        case PermissionDeniedError():
            return "The key may not read this: ask for the permission to view it"
        case NotFoundError():
            return "Check the names; `harness-async projects` lists what the key can see"
        case RateLimitError():
            return "Run again later, with a lower --requests-per-minute if other programs use the key too"
        case ServerError() | DeadlineExceededError():
            return "The server is in trouble or slow: run again later"
        case APIStatusError():
            return "The API does not take this request: check the options"
        case TransportError():
            return "Check the address (--base-url, HARNESS_BASE_URL) and the network, then run again"
        case UnexpectedResponseError():
            return "Is the address that of the Harness API, with no sign-in page or proxy before it"
    return "Run again"
