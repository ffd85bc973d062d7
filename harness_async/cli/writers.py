"""Rows as JSON Lines or CSV."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, TypeAlias

from harness_async import Execution
from harness_async.cli.options import RowFormat
from harness_async.serialization.converters import unstructure

Row: TypeAlias = dict[str, Any]

_LINE_ENDS = {ord(char): f"\\u{ord(char):04x}" for char in "\x85\u2028\u2029"}
"""Characters that JSON allows in text, and some readers of lines take as their end."""

_NEEDS_QUOTES = re.compile(r'[",\r\n]')

_FORMULA_STARTS = ("=", "@", "+", "-", "\t", "\r")
"""What makes a spreadsheet run a cell."""


def format_time(time: datetime | None, timespec: str = "milliseconds") -> str | None:
    """Format a UTC time in ISO 8601, with Z."""
    return None if time is None else time.isoformat(timespec=timespec).replace("+00:00", "Z")


def execution_row(execution: Execution) -> dict[str, Any]:
    """Return the row of an execution: its members as in the API, and `created_at`."""
    return {**unstructure(execution), "created_at": format_time(execution.created_at)}


def json_line(row: dict[str, Any]) -> bytes:
    """Encode a row as one line of JSON. Lone surrogates, which UTF-8 cannot encode, become JSON escapes."""
    line = json.dumps(row, ensure_ascii=False)
    return (line if line.isascii() else line.translate(_LINE_ENDS)).encode(errors="backslashreplace") + b"\n"


def choose_format(row_format: RowFormat | None, path: str | None) -> RowFormat:
    """Return the format, by default the one of the file extension."""
    if row_format is not None:
        return row_format
    return RowFormat.CSV if path is not None and path.lower().endswith(".csv") else RowFormat.JSONL


def create_encoder(
    row_format: RowFormat, columns: Iterable[str], *, raw: bool = False
) -> tuple[bytes, Callable[[Row], bytes]]:
    """Return the header of a file, and the function that encodes a row.

    Args:
        row_format: The format.
        columns: The names of the columns, which every row has.
        raw: Whether text that a spreadsheet would run as a formula is left as it is.
    """
    if row_format is RowFormat.JSONL:
        return b"", json_line
    names = tuple(columns)

    def encode(row: Row) -> bytes:
        return _csv_line(_cell(row[name], raw=raw) for name in names)

    return _csv_line(names), encode


def _cell(value: object, *, raw: bool) -> str:
    if isinstance(value, str):
        return f"'{value}" if not raw and value.startswith(_FORMULA_STARTS) else value
    return "" if value is None else json.dumps(value, ensure_ascii=False)


def strip_prefix(cell: str) -> str:
    """Return the text of a cell without the `'` that keeps a spreadsheet from running it."""
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(_FORMULA_STARTS) else cell


def _csv_line(cells: Iterable[str]) -> bytes:
    # Lines end with LF as in other Unix tools, not with the CRLF of RFC 4180. CSV readers accept both. Before Python
    # 3.13 the module csv leaves a carriage return without quotes if lines end with LF.
    quoted = ('"{}"'.format(cell.replace('"', '""')) if _NEEDS_QUOTES.search(cell) else cell for cell in cells)
    return f"{','.join(quoted)}\n".encode(errors="backslashreplace")
