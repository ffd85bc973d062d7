"""Writes the rows of a run in the background, at the pace of a slow reader."""

from __future__ import annotations

import asyncio
import os
import select
import stat
import sys
from collections import deque
from collections.abc import Callable
from typing import Any, BinaryIO

from harness_async import BulkRun
from harness_async.cli.files import RowOutput

_MAX_QUEUED_ROWS = 1000
"""Rows queued for the file before `RowWriter.put` waits: ten pages."""

_PIPE_CHUNK_BYTES = 4096
"""Bytes that a pipe accepts without blocking when it is writable (PIPE_BUF of Linux)."""

_FILE_CHUNK_BYTES = 65536


class RowWriter:
    """Writes rows in a background task.

    Rows that have arrived are written while the consumer waits for more, and rows that arrive together are written
    together. A pipe or terminal is written only when it is writable: a slow reader (`less`) delays the consumer
    through `put`, but does not block the event loop, where requests would time out.
    """

    def __init__(self, output: RowOutput) -> None:
        self.rows: int = 0
        """Rows written."""

        self._output = output
        self._descriptor = _blocking_descriptor(output.stream)
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
        self._output.write(bytes(chunk))
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


async def write_rows(run: BulkRun[Any], writer: RowWriter, encode: Callable[[Any], bytes]) -> None:
    """Write all rows of a run that was entered."""
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(writer.run())
            async for batch in run.batches():
                for row in batch.items:
                    await writer.put(encode(row))
            writer.finish()
    except BaseExceptionGroup as group_error:
        error = group_error.exceptions[0]
        raise error from error.__cause__
