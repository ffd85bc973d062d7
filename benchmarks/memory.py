"""What a walk and a run over many lists keep in memory as they go on: growth between two rows far apart.

A walk remembers one hash a row, to deliver each row once. A run over many lists does so for the lists at hand only,
and keeps a short outcome of each list that is done. Pages themselves are dropped when they were taken.

Measured twice, in processes of their own: what the operating system holds for the process after a collection (where
there is `/proc`), and what `tracemalloc` counts.

    python -m benchmarks memory
"""

from __future__ import annotations

import gc
import os
import tracemalloc
from collections.abc import AsyncGenerator, AsyncIterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from benchmarks.readers import make_client
from benchmarks.report import Settings, Table, show
from benchmarks.server import ORG, PAGE_SIZE, project_name, start_server
from benchmarks.workers import Job, Measure, start_worker

OPENER = "benchmarks.memory:open_measure"

_STATM = Path("/proc/self/statm")

WALK, BULK = "walk", "bulk"
AIMS = {WALK: "120", BULK: "0"}

PER_PROJECT = 10
"""Pages of each project of a run."""


@asynccontextmanager
async def open_measure(which: str, url: str) -> AsyncGenerator[Measure, None]:
    """Open a client, to measure what reading makes the process grow by."""
    async with make_client(url) as client:

        async def measure(load: Mapping[str, int]) -> Mapping[str, float]:
            pages = load["end"] // PAGE_SIZE
            if which == WALK:
                name = project_name(0, pages)
                async with client.executions.list(ORG, name, consistency="checked", prefetch=8).walk() as walk:
                    return await _grow(walk, load)
            refs = ((ORG, project_name(number, PER_PROJECT)) for number in range(pages // PER_PROJECT))
            async with client.executions.bulk(refs) as run:
                return await _grow(run, load)

        yield measure


async def _grow(rows: AsyncIterable[Any], load: Mapping[str, int]) -> Mapping[str, float]:
    """Read the rows, looking at the memory at two of them."""
    if load["traced"]:
        tracemalloc.start()
    count, before, after = 0, 0, 0
    async for _ in rows:
        count += 1
        if count == load["begin"]:
            before = _held(traced=bool(load["traced"]))
        elif count == load["end"]:
            after = _held(traced=bool(load["traced"]))
    assert count == load["end"]
    return {"growth": after - before, "at": before}


def _held(*, traced: bool) -> int:
    """Give the bytes that the process holds."""
    gc.collect()
    if traced:
        return tracemalloc.get_traced_memory()[0]
    return int(_STATM.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def run(settings: Settings) -> None:
    """Measure and print."""
    begin, end = (1_000, 5_000) if settings.quick else (20_000, 300_000)
    rows = []
    with start_server() as server:
        for which in (WALK, BULK):
            for how in ("resident", "traced"):
                if how == "resident" and not _STATM.exists():
                    rows.append([which, how, "not measured here"])
                    continue
                with start_worker(Job(OPENER, which), server.url) as worker:
                    figures = worker.measure(begin=begin, end=end, traced=how == "traced")
                each = figures["growth"] / (end - begin)
                cells = [f"{figures['at'] / 2**20:.1f}", f"{figures['growth'] / 2**20:+.2f}", f"{each:.1f}"]
                rows.append([which, how, *cells, AIMS[which]])
    columns = ("", "memory", f"MiB at {begin:,}", f"more at {end:,}", "bytes a row", "aim, at most")
    note = (
        f"One checked walk, 8 pages ahead; one run over {end // PAGE_SIZE // PER_PROJECT} projects of "
        f"{PER_PROJECT * PAGE_SIZE:,} rows, 32 at a time. Each measured once."
    )
    show(Table(f"Growth from row {begin:,} to row {end:,}", columns, rows, [note]))
