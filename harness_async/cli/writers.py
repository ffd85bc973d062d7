"""Rows as JSON Lines or CSV, and the files they are written to."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import select
import stat
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO, Any, BinaryIO, TypeAlias

from attrs import fields

from harness_async import Execution, HarnessError, Project
from harness_async.cli.errors import INCOMPLETE, CommandError
from harness_async.cli.options import RowFormat
from harness_async.serialization.converters import unstructure

_MAX_QUEUED_ROWS = 1000
"""Rows queued for the file before `RowWriter.put` waits: ten pages."""

_PIPE_CHUNK_BYTES = 4096
"""Bytes that a pipe accepts without blocking when it is writable (PIPE_BUF of Linux)."""

_FILE_CHUNK_BYTES = 65536

RowEncoder: TypeAlias = Callable[[Execution], bytes]


def format_time(time: datetime | None, timespec: str = "milliseconds") -> str | None:
    """Format a UTC time in ISO 8601, with Z."""
    return None if time is None else time.isoformat(timespec=timespec).replace("+00:00", "Z")


def execution_row(execution: Execution) -> dict[str, Any]:
    """Return the row of an execution: its members as in the API, and `created_at`."""
    return {**unstructure(execution), "created_at": format_time(execution.created_at)}


def project_row(project: Project) -> dict[str, Any]:
    """Return the row of a project."""
    row: dict[str, Any] = unstructure(project)
    return row


def json_line(row: dict[str, Any]) -> bytes:
    """Encode a row as one line of JSON. Lone surrogates, which UTF-8 cannot encode, become JSON escapes."""
    return json.dumps(row, ensure_ascii=False).encode(errors="backslashreplace") + b"\n"


def print_json_lines(rows: Iterable[dict[str, Any]]) -> None:
    """Print one JSON object per line to stdout."""
    sys.stdout.buffer.write(b"".join(map(json_line, rows)))
    sys.stdout.flush()


class _Echo:
    """A file for `csv.writer` whose `write` returns the text, as in the documentation of `csv`."""

    def write(self, text: str) -> str:
        return text


def _create_csv_encoder() -> Callable[[Iterable[object]], bytes]:
    # Lines end with LF as in other Unix tools, not with the CRLF of RFC 4180. CSV readers accept both.
    writer = csv.writer(_Echo(), lineterminator="\n")

    def encode(values: Iterable[object]) -> bytes:
        line: Any = writer.writerow(values)
        return str(line).encode(errors="backslashreplace")

    return encode


def choose_format(row_format: RowFormat | None, path: str | None) -> RowFormat:
    """Return the format, by default the one of the file extension."""
    if row_format is not None:
        return row_format
    return RowFormat.CSV if path is not None and path.lower().endswith(".csv") else RowFormat.JSONL


def create_encoder(row_format: RowFormat) -> tuple[bytes, RowEncoder]:
    """Return the header of a file, and the function that encodes a row."""
    if row_format is RowFormat.JSONL:
        return b"", lambda execution: json_line(execution_row(execution))
    encode = _create_csv_encoder()
    header = encode([*(field.name for field in fields(Execution)), "created_at"])
    return header, lambda execution: encode(execution_row(execution).values())


@contextmanager
def open_output(path: str | None) -> Iterator[BinaryIO]:
    """Open a file, which is emptied, or stdout.

    Raises:
        CommandError: The file cannot be opened.
    """
    if path is None:
        sys.stdout.flush()
        yield sys.stdout.buffer
        return
    try:
        stream = Path(path).open("wb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise CommandError(f"Cannot write {path}: {error.strerror}.", "Choose another --output.") from error
    with stream:
        yield stream


@contextmanager
def replace_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file that replaces `path` when the block ends. An exception leaves `path` unchanged.

    Raises:
        CommandError: The file cannot be written.
    """
    try:
        stream = tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False)  # noqa: SIM115
    except OSError as error:
        raise CommandError(f"Cannot write {path}: {error.strerror}.", "Choose another path.") from error
    try:
        with stream:
            yield stream.file
            stream.flush()
            os.fsync(stream.fileno())
        Path(stream.name).replace(path)
    except BaseException as error:
        Path(stream.name).unlink(missing_ok=True)
        if isinstance(error, OSError) and not isinstance(error, HarnessError):  # some timeouts are both
            raise CommandError(f"Cannot write {path}: {error.strerror}.", code=INCOMPLETE) from error
        raise


def discard_stdout() -> None:
    """Redirect stdout to the null device: its reader is gone, and the flush at exit would fail."""
    with Path(os.devnull).open("wb") as null:
        os.dup2(null.fileno(), sys.stdout.fileno())


class RowWriter:
    """Writes rows in a background task.

    Rows that have arrived are written while the consumer waits for more, and rows that arrive together are written
    together. A pipe or terminal is written only when it is writable: a slow reader (`less`) delays the consumer
    through `put`, but does not block the event loop, where requests would time out.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self.rows: int = 0
        """Rows written."""

        self._stream = stream
        self._descriptor = _blocking_descriptor(stream)
        self._queue: deque[bytes] = deque()
        self._has_rows = asyncio.Event()
        self._has_space = asyncio.Event()
        self._finished = False

    async def put(self, row: bytes) -> None:
        """Queue a row. Wait if the queue is full."""
        self._queue.append(row)
        self._has_rows.set()
        if len(self._queue) >= _MAX_QUEUED_ROWS:
            self._has_space.clear()
            await self._has_space.wait()

    def finish(self) -> None:
        """Let `run` return when the queue is empty."""
        self._finished = True
        self._has_rows.set()

    async def run(self) -> None:
        """Write until finished. When cancelled, write the whole rows that do not block, and stop."""
        try:
            while not self._finished or self._queue:
                await self._has_rows.wait()
                self._has_rows.clear()
                while self._queue:
                    await self._wait_until_writable()
                    self._write_chunk()
                self._has_space.set()
        except asyncio.CancelledError:
            while self._queue and self._is_writable():
                self._write_chunk()
            raise

    def _write_chunk(self) -> None:
        """Write whole rows, to a pipe no more than it accepts without blocking."""
        max_bytes = _FILE_CHUNK_BYTES if self._descriptor is None else _PIPE_CHUNK_BYTES
        chunk = bytearray()
        rows = 0
        while self._queue and (not chunk or len(chunk) + len(self._queue[0]) <= max_bytes):
            chunk += self._queue.popleft()
            rows += 1
        self._stream.write(chunk)
        self._stream.flush()
        self.rows += rows

    def _is_writable(self) -> bool:
        return self._descriptor is None or bool(select.select([], [self._descriptor], [], 0)[1])

    async def _wait_until_writable(self) -> None:
        if self._descriptor is None:
            return
        loop = asyncio.get_running_loop()
        writable = asyncio.Event()
        loop.add_writer(self._descriptor, writable.set)
        try:
            await writable.wait()
        finally:
            loop.remove_writer(self._descriptor)


def _blocking_descriptor(stream: BinaryIO) -> int | None:
    """Return the descriptor of a stream whose `write` can block and that the event loop can watch, else None."""
    if sys.platform == "win32":
        return None
    try:
        descriptor = stream.fileno()
    except OSError:  # a stream in memory
        return None
    mode = os.fstat(descriptor).st_mode
    return descriptor if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(descriptor) else None
