"""Rows as bytes, and a writer that neither cuts a row nor holds up the event loop."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import select
import stat
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from attrs import fields

from harness_async.cli.connection import CommandError
from harness_async.cli.options import RowFormat
from harness_async.converters import unstructure
from harness_async.executions import Execution

_WAITING_ROWS = 1000
"""Rows that may wait for the file before the consumer waits too: ten pages."""

_PIPE_BYTES = 4096
"""What a pipe takes without blocking once it has said that it takes anything (PIPE_BUF of Linux; 512 elsewhere)."""

_FILE_BYTES = 65536


def format_time(time: datetime | None, precision: str = "milliseconds") -> str | None:
    """Write a UTC time in ISO 8601, with Z."""
    return None if time is None else time.isoformat(timespec=precision).replace("+00:00", "Z")


def execution_row(execution: Execution) -> dict[str, Any]:
    """Make the row of an execution: its members as on the wire, and when it was created for people."""
    return {**unstructure(execution), "created_at": format_time(execution.created_at)}


def json_line(row: dict[str, Any]) -> bytes:
    """Make one line of JSON.

    A lone surrogate, which UTF-8 cannot carry, comes out as the escape that JSON has for it.
    """
    return json.dumps(row, ensure_ascii=False).encode(errors="backslashreplace") + b"\n"


def print_json(rows: Iterable[dict[str, Any]]) -> None:
    """Print one object a line."""
    sys.stdout.buffer.write(b"".join(map(json_line, rows)))
    sys.stdout.flush()


class _Echo:
    """A file for `csv.writer` that hands back what is written."""

    def write(self, text: str) -> str:
        return text


def _csv_writer() -> Callable[[Iterable[object]], bytes]:
    # Lines end as those of other Unix tools do, not in the CRLF of RFC 4180: readers of CSV take both.
    writer = csv.writer(_Echo(), lineterminator="\n")

    def write(values: Iterable[object]) -> bytes:
        line: Any = writer.writerow(values)
        return str(line).encode(errors="backslashreplace")

    return write


def choose_format(given: RowFormat | None, path: str | None) -> RowFormat:
    """Take the format that was asked for, else the one of the file's name."""
    if given is not None:
        return given
    return RowFormat.CSV if path is not None and path.lower().endswith(".csv") else RowFormat.JSONL


def create_encoder(form: RowFormat) -> tuple[bytes, Callable[[Execution], bytes]]:
    """Give the head of a file in that format, and what makes a row of an execution."""
    if form is RowFormat.JSONL:
        return b"", lambda execution: json_line(execution_row(execution))
    write = _csv_writer()
    head = write([*(field.name for field in fields(Execution)), "created_at"])
    return head, lambda execution: write(execution_row(execution).values())


@contextmanager
def open_output(path: str | None) -> Iterator[BinaryIO]:
    """Open the file, emptying it, or standard output.

    Raises:
        CommandError: It cannot be written.
    """
    if path is None or path == "-":
        sys.stdout.flush()
        yield sys.stdout.buffer
        return
    try:
        stream = Path(path).open("wb")  # noqa: SIM115 - closed below, its failure to open told apart
    except OSError as error:
        raise CommandError(
            f"Cannot write {path}: {error.strerror}.", "Choose another --output; nothing was asked for yet."
        ) from error
    with stream:
        yield stream


def discard_stdout() -> None:
    """Point standard output to nowhere: its reader is gone, and Python would complain about that at exit."""
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


class RowWriter:
    """Writes rows in the background, as soon as the consumer has to wait for the next ones.

    So what has arrived is in the file while the run waits, and rows that arrive together are written together. A
    pipe or terminal is written only when it has room: a reader that pauses (`less`) holds back the run, not the loop,
    whose requests would all time out meanwhile.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self.rows: int = 0
        self._stream = stream
        self._pipe = _pipe_of(stream)
        self._rows: deque[bytes] = deque()
        self._filled = asyncio.Event()
        self._room = asyncio.Event()
        self._finished = False

    async def put(self, row: bytes) -> None:
        """Take a row; waits where too many are waiting."""
        self._rows.append(row)
        self._filled.set()
        if len(self._rows) >= _WAITING_ROWS:
            self._room.clear()
            await self._room.wait()

    def finish(self) -> None:
        """Let `run` end when all is written."""
        self._finished = True
        self._filled.set()

    async def run(self) -> None:
        """Write until finished. Cancelled, it writes what can be written at once, in whole rows."""
        try:
            while not self._finished or self._rows:
                await self._filled.wait()
                self._filled.clear()
                while self._rows:
                    await self._wait_for_room()
                    self._write()
                self._room.set()
        except asyncio.CancelledError:
            while self._rows and (self._pipe is None or select.select([], [self._pipe], [], 0)[1]):
                self._write()
            raise

    def _write(self) -> None:
        """Write some rows: never a part of one, and of pipes no more than they take at once."""
        most = _FILE_BYTES if self._pipe is None else _PIPE_BYTES
        chunk = bytearray()
        count = 0
        while self._rows and (not chunk or len(chunk) + len(self._rows[0]) <= most):
            chunk += self._rows.popleft()
            count += 1
        self._stream.write(chunk)
        self._stream.flush()
        self.rows += count

    async def _wait_for_room(self) -> None:
        if self._pipe is None:
            return
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_writer(self._pipe, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_writer(self._pipe)


def _pipe_of(stream: BinaryIO) -> int | None:
    """Give the descriptor of a stream that may make its writer wait, as far as the loop can watch it."""
    if sys.platform == "win32":
        return None
    try:
        descriptor = stream.fileno()
    except OSError:  # a stream in memory
        return None
    mode = os.fstat(descriptor).st_mode
    return descriptor if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(descriptor) else None
