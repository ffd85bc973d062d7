"""Growth of memory between two rows of a walk, and of a bulk run.

A walk stores one hash a row, to deliver each row once. A bulk run does so for active projects only, and keeps a short
outcome of each finished project. Memory is measured in two processes: the resident set after a collection (where
there is `/proc`), and what `tracemalloc` counts.
"""

from __future__ import annotations

import gc
import os
import tracemalloc
from collections.abc import AsyncGenerator, AsyncIterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from benchmarks.readers import create_client
from benchmarks.report import Settings, Table, show
from benchmarks.server import ORG, PAGE_SIZE, project_name, start_server
from benchmarks.workers import Job, Measure, start_worker

OPENER = "benchmarks.memory:open_measure"

_STATM = Path("/proc/self/statm")

WALK, BULK = "walk", "bulk"
AIMS = {WALK: "120", BULK: "0"}

PER_PROJECT = 10
"""Pages of each project of a bulk run."""


@asynccontextmanager
async def open_measure(which: str, url: str) -> AsyncGenerator[Measure, None]:
    """Open a client and measure the growth of the process."""
    async with create_client(url) as client:

        async def measure(load: Mapping[str, int]) -> Mapping[str, float]:
            pages = load["end"] // PAGE_SIZE + PER_PROJECT
            if which == WALK:
                name = project_name(0, pages)
                async with client.executions.list(ORG, name, consistency="checked", prefetch=8).walk() as walk:
                    return await _grow(walk, load)
            refs = ((ORG, project_name(number, PER_PROJECT)) for number in range(pages // PER_PROJECT))
            async with client.executions.bulk(refs) as run:
                return await _grow(run, load)

        yield measure


async def _grow(rows: AsyncIterable[Any], load: Mapping[str, int]) -> Mapping[str, float]:
    """Read the rows and measure the memory at two of them."""
    if load["traced"]:
        tracemalloc.start()
    count, before, after = 0, 0, 0
    async for _ in rows:
        count += 1
        if count == load["begin"]:
            before = _held(traced=bool(load["traced"]))
        elif count == load["end"]:
            after = _held(traced=bool(load["traced"]))
    assert count >= load["end"]
    return {"growth": after - before, "at": before}


def _held(*, traced: bool) -> int:
    """Return the bytes that the process holds."""
    gc.collect()
    if traced:
        return tracemalloc.get_traced_memory()[0]
    return int(_STATM.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def run(settings: Settings) -> None:
    """Measure and print."""
    begin, end = (1_000, 3_000) if settings.quick else (20_000, 300_000)
    rows = []
    with start_server() as url:
        for which in (WALK, BULK):
            for how in ("resident", "traced"):
                if how == "resident" and not _STATM.exists():
                    rows.append([which, how, "no /proc"])
                    continue
                with start_worker(Job(OPENER, which), url) as worker:
                    figures = worker.measure(begin=begin, end=end, traced=how == "traced")
                each = figures["growth"] / (end - begin)
                cells = [f"{figures['at'] / 2**20:.1f}", f"{figures['growth'] / 2**20:+.2f}", f"{each:.1f}"]
                rows.append([which, how, *cells, AIMS[which]])
    columns = ("", "memory", f"MiB at {begin:,}", f"more at {end:,}", "bytes a row", "aim, at most")
    note = (
        f"One checked walk, prefetch 8; one bulk run over {end // PAGE_SIZE // PER_PROJECT} projects of "
        f"{PER_PROJECT * PAGE_SIZE - 1:,} rows, concurrency 32. Each measured once."
    )
    show(Table(f"Growth from row {begin:,} to row {end:,}", columns, rows, [note]))
