"""Rows of an exported file, JSON Lines or CSV, read one by one."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from harness_async.cli.writers import strip_prefix

_MAX_LINE_BYTES = 16 * 1024 * 1024
"""A longer line is not one of an export. Bounds the memory that a file without line ends takes."""

_DELIMITERS = ",;\t"
"""The delimiter of an export, and those that spreadsheets save."""

_KNOWN_COLUMNS = frozenset({"org", "project", "pipeline", "workspace", "status", "identifier"})

_SIGNATURES = (
    (b"\xff\xfe", "is UTF-16 text, as the > of Windows PowerShell writes it. Use --output of the export"),
    (b"\xfe\xff", "is UTF-16 text. Save it as UTF-8"),
    (b"\x1f\x8b", "is compressed with gzip. Decompress it: gunzip -c FILE | harness-async summary -"),
    (b"(\xb5/\xfd", "is compressed with zstd. Decompress it: zstdcat FILE | harness-async summary -"),
    (b"PK\x03\x04", "is a ZIP archive or a spreadsheet. Save the sheet as CSV"),
)
"""First bytes of files that are mistaken for an export, and what to do."""


class RowError(ValueError):
    """A line that is not a row. The message names the line."""


class RowReader:
    """Iterates over the rows of an export. The format is that of the content, whatever the name of the file.

    A last line that was not written to its end, because the export is running or was killed, is left out.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self.line: int = 0
        """Number of the line that was read last."""

        self.incomplete: str = ""
        """The last line or lines, if they were left out."""

        self._stream = stream
        self._is_cut = False  # the line that was read last has no line end

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        """Yield the rows.

        Raises:
            RowError: A line is not a row.
            OSError: The file cannot be read.
        """
        lines = self._lines()
        for first in lines:
            if not first.isspace():
                yield from self._json_rows(first, lines) if first.lstrip()[0] in "{[" else self._csv_rows(first, lines)

    def _lines(self) -> Iterator[str]:
        while line := self._stream.readline(_MAX_LINE_BYTES):
            self.line += 1
            self._is_cut = not line.endswith(b"\n")
            if self.line == 1:
                _check_signature(line)
                line = line.removeprefix(b"\xef\xbb\xbf")  # the mark that Windows programs put before UTF-8
            if len(line) == _MAX_LINE_BYTES:
                raise RowError(f"line {self.line:,} is longer than {_MAX_LINE_BYTES:,} bytes")
            try:
                text = line.decode()
            except UnicodeDecodeError as error:
                if self._leave_out():
                    return
                raise RowError(f"line {self.line:,} is not UTF-8 text ({error.reason})") from None
            yield text or "\n"

    def _leave_out(self, start: int | None = None) -> bool:
        """Leave out the row that began in line `start` (default: the present line) if it was not written to its end."""
        if not self._is_cut or self.line == 1:
            return False
        is_long = start is not None and start < self.line
        self.incomplete = f"lines {start:,} to {self.line:,}" if is_long else f"line {self.line:,}"
        return True

    def _json_rows(self, line: str, lines: Iterator[str]) -> Iterator[Mapping[str, Any]]:
        if (stripped := line.strip()) in {"{", "["} or stripped.startswith("[{"):
            raise RowError(f"line {self.line:,} begins JSON that has not one object per line (convert it with jq -c)")
        while True:
            if not line.isspace():
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError) as error:
                    if self._leave_out():
                        return
                    reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
                    raise RowError(f"line {self.line:,} is not valid JSON ({reason})") from None
                if not isinstance(row, dict):
                    raise RowError(f"line {self.line:,} is not a JSON object, but {_describe(row)}")
                yield row
            try:
                line = next(lines)
            except StopIteration:
                return

    def _csv_rows(self, first: str, lines: Iterator[str]) -> Iterator[Mapping[str, Any]]:
        csv.field_size_limit(_MAX_LINE_BYTES)  # messages of failed pipelines can be longer than the default
        header, delimiter = _parse_header(first)
        if not _KNOWN_COLUMNS & set(header):
            raise RowError(f"line {self.line:,} is neither a JSON object nor the header of an exported CSV file")
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        while True:
            start = self.line + 1
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                if self._leave_out(start):
                    return
                raise RowError(f"line {start:,} is not valid CSV ({error})") from None
            if not fields or fields == header:  # an empty line, or the header of a file that was appended
                continue
            if len(fields) != len(header):
                if len(fields) < len(header) and self._leave_out(start):
                    return
                raise RowError(f"line {start:,} has {len(fields):,} fields, the header has {len(header):,}")
            yield dict(zip(header, map(strip_prefix, fields), strict=True))


def _check_signature(line: bytes) -> None:
    for signature, advice in _SIGNATURES:
        if line.startswith(signature):
            raise RowError(f"the file {advice}")


def _parse_header(line: str) -> tuple[list[str], str]:
    """Return the column names and the delimiter that yields the most exported columns."""
    candidates = []
    for delimiter in _DELIMITERS:
        try:
            names = next(csv.reader([line], delimiter=delimiter))
        except csv.Error:
            continue
        candidates.append(([name.strip() for name in names], delimiter))
    return max(candidates, key=lambda found: len(_KNOWN_COLUMNS & set(found[0])), default=([], ","))


def _describe(value: object) -> str:
    return {list: "an array", str: "a string", type(None): "null", bool: "a boolean"}.get(type(value), "a number")
