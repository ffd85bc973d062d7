"""What all parts share: how much to run, what is installed, medians, and tables for people and for files."""

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

from benchmarks.server import PAGE_SIZE, make_body, project_name

NOT_INSTALLED = "not installed"

_PLAIN_WIDTH = 120
"""Columns of a table that goes to a file or a pipe."""

_PACKAGES = ("aiohttp", "attrs", "cattrs", "yarl", "msgspec", "orjson", "uvloop", "httpx", "harness-open-api")


@frozen
class Settings:
    """What was asked for on the command line."""

    quick: bool = False
    """Whether to do no more than show that everything works: the figures mean nothing."""

    without: frozenset[str] = frozenset()
    """Modules to be treated as not installed."""

    def has(self, *modules: str) -> bool:
        """Tell whether all these modules can be imported."""
        return all(name not in self.without and find_spec(name) is not None for name in modules)


@frozen
class Table:
    """Rows of texts under a title; the first column is set left, the others right. A short row says why it is one."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = field(default=())
    """Sentences below: what was held equal, what a column means."""


def make_console() -> Console:
    """Make a console as wide as the terminal, or as wide as tables are where there is none."""
    return Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=_PLAIN_WIDTH)


def show(table: Table) -> None:
    """Print a table, in plain ASCII where it goes to no terminal."""
    console = make_console()
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
    """Tell what the figures were measured with."""
    body = len(make_body(project_name(0, 1), 1))
    return (
        f"Python {platform.python_version()} ({platform.python_implementation()}), {platform.system()} "
        f"{platform.machine()}, {os.cpu_count()} cores, {time.strftime('%Y-%m-%d')}\n"
        f"{', '.join(f'{name} {_version(name)}' for name in _PACKAGES)}\n"
        f"A page has {PAGE_SIZE} rows in {body:,} bytes; the server is a process of its own on a loopback port"
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return NOT_INSTALLED


def median(values: Sequence[float]) -> float:
    """Give the median."""
    return statistics.median(values)


def spread(values: Sequence[float], form: str) -> str:
    """Write the lowest and the highest value."""
    return f"{min(values):{form}} - {max(values):{form}}"
