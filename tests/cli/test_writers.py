"""Encoding of rows, and the background writer."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import select
from collections.abc import Iterator
from typing import Any, BinaryIO

import pytest

from harness_async.cli.files import RowOutput, StreamOutput
from harness_async.cli.options import RowFormat
from harness_async.cli.row_writer import RowWriter
from harness_async.cli.writers import create_encoder
from tests.support.cli_runner import posix

ROWS = [f"{number:0299}\n".encode() for number in range(3000)]


@pytest.fixture
def pipe() -> Iterator[tuple[int, BinaryIO]]:
    """A pipe: the descriptor to read, the stream to write."""
    reader, writer = os.pipe()
    with open(writer, "wb", buffering=0) as stream:  # noqa: PTH123 - a descriptor
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
    writer = RowWriter(RowOutput("rows", StreamOutput(stream), b"", is_early=True))

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
    writer = RowWriter(RowOutput("rows", StreamOutput(stream), b"", is_early=True))
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
    writer = RowWriter(RowOutput("rows", StreamOutput(stream), b"", is_early=True))
    task = asyncio.create_task(writer.run())
    await asyncio.sleep(0)
    for row in ROWS[:500]:
        await writer.put(row)
    task.cancel()
    await asyncio.wait([task])
    assert stream.getvalue() == b"".join(ROWS[:500])


NAMES = ("text", "number", "nested")


def csv_line(row: dict[str, Any], *, raw: bool = False) -> bytes:
    header, encode = create_encoder(RowFormat.CSV, NAMES, raw=raw)
    assert header == b"text,number,nested\n"
    return encode(row)


def test_json_lines() -> None:
    """A row is one line for every reader of lines; text stays UTF-8 except what UTF-8 cannot encode."""
    row = {"text": "ö\n\u2028\x85\ud800", "number": 10**18, "nested": {"a": None}}
    _, encode = create_encoder(RowFormat.JSONL, NAMES)
    line = encode(row)
    assert "ö".encode() in line
    assert len(line.decode().splitlines()) == 1
    assert json.loads(line) == row


@pytest.mark.parametrize("start", ["=", "@", "+", "-", "\t", "\r"])
def test_formulas(start: str) -> None:
    """Text that a spreadsheet would run is prefixed, unless it is wanted as it is; numbers are not text."""
    row = {"text": f"{start}1+1", "number": -1, "nested": None}
    for raw, text in ((False, f"'{start}1+1"), (True, f"{start}1+1")):
        stream = io.StringIO(csv_line(row, raw=raw).decode(), newline="")
        assert list(csv.reader(stream)) == [[text, "-1", ""]]


@pytest.mark.parametrize("text", ["", "a,b", 'a "b"', "a\nb", "a\rb", "a\r\nb", " a ", "\\", "'", "\x00"])
def test_csv(text: str) -> None:
    """Every text is one cell of one row, and nested values are JSON."""
    row = {"text": text, "number": 1.5, "nested": {"a": [True, text]}}
    found = list(csv.reader(io.StringIO(csv_line(row).decode(), newline="")))
    assert [(each[0], each[1], json.loads(each[2])) for each in found] == [(text, "1.5", row["nested"])]
