"""Printing: results to stdout; errors and notes to stderr."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

_UNLIMITED_WIDTH = 10_000
"""Columns of a file or pipe, where lines are not wrapped."""

_TRAILING_BLANKS = re.compile(r"(?: |\x1b\[[0-9;]*m)+$")
"""Blanks at the end of a line, and the style sequences among them."""

_MINUTE, _HOUR = 60, 3600

_ESTIMATE_STEPS = ((_MINUTE, 1), (10 * _MINUTE, 5), (_HOUR, 30))
"""Estimates below the first number of seconds are rounded to the second. Longer ones are rounded to minutes."""

_STATUS_STYLES = {"success": "green", "failure": "red", "none": "dim"}


def sanitize(text: object, style: str = "") -> Text:
    """Return text of an outside source without markup, with control characters escaped."""
    shown = "".join(char if char.isprintable() else _escape(char) for char in str(text))
    return Text(shown, style=style, overflow="fold")


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode()


def status_text(status: str) -> Text:
    """Return the status of an execution in its color."""
    return sanitize(status, _STATUS_STYLES.get(status, ""))


def format_count(number: int, noun: str) -> str:
    """Format a number of things: 1 project, 2,000 projects."""
    return f"{number:,} {pluralize(number, noun)}"


def pluralize(number: int, noun: str) -> str:
    """Return the noun in the form for this number."""
    return noun if number == 1 else f"{noun}s"


def format_duration(seconds: float) -> str:
    """Format a duration: 0:07, 12:34, 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def format_estimate(seconds: float) -> str:
    """Format an estimated duration, longer ones with less precision: 0:07, 3:20, 12:30, 1:07 h."""
    step = next((step for limit, step in _ESTIMATE_STEPS if seconds < limit), _MINUTE)
    rounded = round(seconds / step) * step
    if rounded < _HOUR:
        return format_duration(rounded)
    hours, minutes = divmod(round(rounded / _MINUTE), 60)
    return f"{hours}:{minutes:02} h"


class _Console(Console):
    """A console that ends the command if stdout cannot be written, and prints nothing more if stderr cannot."""

    def on_broken_pipe(self) -> None:
        """Raise. The method of rich exits, and redirects stdout, which would lose rows if it is stderr that failed."""
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    def __exit__(self, *error: object) -> None:
        """Write what a block has printed; rich enters one for each `print`."""
        with self.write_errors():
            super().__exit__(*error)

    @contextmanager
    def write_errors(self) -> Iterator[None]:
        """Handle the errors of a write."""
        try:
            yield
        except OSError:  # the disk is full, the terminal is gone, or the pipe is closed
            if not self.stderr:
                raise
            self.quiet = True
            discard(sys.stderr)


def stdout_console() -> _Console:
    """Create the console of results."""
    return _create_console(sys.stdout, stderr=False)


def stderr_console() -> _Console:
    """Create the console of errors, notes, progress and summaries."""
    return _create_console(sys.stderr, stderr=True)


def _create_console(stream: TextIO, *, stderr: bool) -> _Console:
    console = _Console(stderr=stderr, highlight=False, width=None if stream.isatty() else _UNLIMITED_WIDTH)
    if stream.isatty() and console.is_dumb_terminal:  # rich assumes 80 columns
        size = os.get_terminal_size(stream.fileno())
        if size.columns:  # 0 if the terminal does not know
            console.size = size
    return console


def discard(stream: TextIO) -> None:
    """Redirect a stream to the null device: it cannot be written, and the flush at exit would fail."""
    with Path(os.devnull).open("wb") as null:
        os.dup2(null.fileno(), stream.fileno())


def print_trimmed(console: Console, renderable: RenderableType) -> None:
    """Print without the trailing blanks of table cells, which would wrap when the terminal becomes narrower."""
    if console.legacy_windows:  # not written as text
        console.print(renderable)
        return
    with console.write_errors() if isinstance(console, _Console) else nullcontext():
        with console.capture() as capture:
            console.print(renderable)
        for line in capture.get().splitlines():
            console.file.write(_TRAILING_BLANKS.sub(lambda found: found.group().replace(" ", ""), line) + "\n")
        console.file.flush()


def print_error(message: str, hint: str = "") -> None:
    """Print an error, and below it a hint at the fix."""
    table = Table.grid(padding=(0, 1, 0, 0))
    for label, text in (("Error:", message), ("", hint)):
        if text:
            table.add_row(Text(label, "bold red"), sanitize(text))
    print_trimmed(stderr_console(), table)


def print_data(data: bytes) -> None:
    """Print data to stdout as it is; on a terminal with control characters escaped, and with a line end."""
    if data and sys.stdout.isatty():
        text = data.decode(errors="backslashreplace")
        text = "".join(char if char.isprintable() or char in "\n\t" else _escape(char) for char in text)
        data = (text if text.endswith("\n") else f"{text}\n").encode(errors="backslashreplace")
    sys.stdout.buffer.write(data)
    sys.stdout.flush()


def print_note(message: str) -> None:
    """Print a note to stderr."""
    stderr_console().print(sanitize(message, "dim"))


def print_table(headers: Sequence[str], rows: Sequence[Sequence[Text]], details: int) -> None:
    """Print a table to stdout, or two lines per row if the terminal is too narrow for it.

    Args:
        headers: The column headers.
        rows: The cells.
        details: The number of columns that move to the second line.
    """
    console = stdout_console()
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for header in headers:
        table.add_column(header, no_wrap=True, overflow="fold")
    for row in rows:
        table.add_row(*row)
    unlimited = console.options.update(max_width=_UNLIMITED_WIDTH)
    if Measurement.get(console, unlimited, table).maximum <= console.width:
        print_trimmed(console, table)
        return
    for row in rows:
        print_trimmed(console, _two_lines(row, details))


def _two_lines(row: Sequence[Text], details: int) -> Group:
    first, second = (Text("  ").join(cells) for cells in (row[:-details], row[-details:]))
    second.style = "dim"
    return Group(first, Padding(second, (0, 0, 0, 2)))


def print_fields(fields: Mapping[str, Text]) -> None:
    """Print names and values to stdout, one per line."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in fields.items():
        table.add_row(name, value)
    print_trimmed(stdout_console(), table)
