"""Shared by all parts: settings, installed packages, medians and tables."""

from __future__ import annotations

import os
import platform
import statistics
import sys
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from attrs import field, frozen
from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from benchmarks.server import PAGE_SIZE, create_body, project_name

NOT_INSTALLED = "not installed"

_PLAIN_WIDTH = 120
"""Columns of a table in a file or a pipe."""

_PACKAGES = ("aiohttp", "attrs", "cattrs", "yarl", "msgspec", "orjson", "uvloop", "harness-open-api")


@frozen
class Settings:
    """The options of the command line."""

    quick: bool = False
    """Whether to run the smallest input once; the figures mean nothing."""

    without: frozenset[str] = frozenset()
    """Modules to treat as not installed."""

    def has(self, *modules: str) -> bool:
        """Return whether all these modules can be imported."""
        return all(name not in self.without and find_spec(name) is not None for name in modules)


@frozen
class Table:
    """Rows of texts under a title. A short row has the reason instead of figures."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = field(default=())
    """Sentences below the table."""


def create_console() -> Console:
    """Create a console as wide as the terminal; without a terminal, as wide as the tables."""
    return Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=_PLAIN_WIDTH)


def show(table: Table) -> None:
    """Print a table, in plain ASCII without a terminal."""
    console = create_console()
    grid = RichTable(box=box.SIMPLE_HEAD if console.is_terminal else box.ASCII, title=table.title, title_justify="left")
    for index, name in enumerate(table.columns):
        grid.add_column(name, justify="right" if index else "left")
    for row in table.rows:
        grid.add_row(*row)
    console.print()
    console.print(grid)
    for note in table.notes:
        console.print(Padding(Text(note), (0, 0, 0, 2)))


def describe() -> str:
    """Return the versions and the machine that the figures were measured with."""
    body = len(create_body(project_name(0, 2), 1, 2))
    return (
        f"Python {platform.python_version()} ({platform.python_implementation()}), {platform.system()} "
        f"{platform.machine()}, {os.cpu_count()} cores, {time.strftime('%Y-%m-%d')}\n"
        f"{', '.join(f'{name} {_version(name)}' for name in _PACKAGES)}\n"
        f"A page has {PAGE_SIZE} rows in {body:,} bytes; the server is another process on a loopback port"
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return NOT_INSTALLED


def median(values: Sequence[float]) -> float:
    """Return the median."""
    return statistics.median(values)


def spread(values: Sequence[float], form: str) -> str:
    """Format the lowest and the highest value."""
    return f"{min(values):{form}} - {max(values):{form}}"
