"""Encoding of rows, and the background writer."""

from __future__ import annotations

import asyncio
import io
import json
import os
import select
import sys
from collections.abc import Iterator
from typing import BinaryIO

import pytest

from harness_async import Execution
from harness_async.cli.options import RowFormat
from harness_async.cli.writers import RowWriter, create_encoder

ROWS = [f"{number:0299}\n".encode() for number in range(3000)]

posix = pytest.mark.skipif(sys.platform == "win32", reason="pipes that an event loop can watch")


@pytest.fixture
def pipe() -> Iterator[tuple[int, BinaryIO]]:
    """A pipe: the descriptor to read, the stream to write."""
    reader, writer = os.pipe()
    with open(writer, "wb") as stream:  # noqa: PTH123 - a descriptor
        yield reader, stream
    os.close(reader)


async def read_pipe(reader: int, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += await asyncio.to_thread(os.read, reader, 65536)
    return data


def is_writable(stream: BinaryIO) -> bool:
    return bool(select.select([], [stream], [], 0)[1])


@posix
async def test_slow_reader(pipe: tuple[int, BinaryIO]) -> None:
    """While a pipe is full, `put` waits and the event loop runs. All rows arrive when the reader continues."""
    reader, stream = pipe
    writer = RowWriter(stream)

    async def put_all() -> None:
        for row in ROWS:
            await writer.put(row)
        writer.finish()

    async with asyncio.TaskGroup() as group:
        group.create_task(writer.run())
        producer = group.create_task(put_all())
        while is_writable(stream):
            await asyncio.sleep(0)
        for _ in range(100):
            await asyncio.sleep(0)
        assert not producer.done()
        assert await read_pipe(reader, 300 * len(ROWS)) == b"".join(ROWS)
    assert writer.rows == len(ROWS)


@posix
async def test_cancelled_on_a_full_pipe(pipe: tuple[int, BinaryIO]) -> None:
    """A cancelled writer leaves whole rows in a full pipe, as many as it counts."""
    reader, stream = pipe
    writer = RowWriter(stream)
    task = asyncio.create_task(writer.run())
    for row in ROWS[:900]:
        await writer.put(row)
    while is_writable(stream):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert 0 < writer.rows < 900
    assert await read_pipe(reader, 300 * writer.rows) == b"".join(ROWS[: writer.rows])
    assert not select.select([reader], [], [], 0)[0]


async def test_cancelled_on_a_file() -> None:
    """A cancelled writer of a file writes all queued rows."""
    stream = io.BytesIO()
    writer = RowWriter(stream)
    task = asyncio.create_task(writer.run())
    await asyncio.sleep(0)
    for row in ROWS[:500]:
        await writer.put(row)
    task.cancel()
    await asyncio.wait([task])
    assert stream.getvalue() == b"".join(ROWS[:500])


def test_unusual_values() -> None:
    """A time outside the calendar has no `created_at`; text stays UTF-8 except what UTF-8 cannot encode."""
    execution = Execution(
        org="ö", project="p\nq", pipeline_execution_id="\ud800", pipeline_stage_id="s", created=10**18
    )
    _, encode = create_encoder(RowFormat.JSONL)
    line = encode(execution)
    assert "ö".encode() in line
    assert line.count(b"\n") == 1
    row = json.loads(line)
    assert (row["created"], row["created_at"], row["pipeline_execution_id"]) == (10**18, None, "\ud800")
    _, encode = create_encoder(RowFormat.CSV)
    assert encode(execution).endswith(b",1000000000000000000,\n")
