"""Time for which callbacks block the event loop while pages of 100 rows are read and decoded.

Each callback of the loop is measured in processor time of the thread, which includes the garbage collector.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from attrs import define, field

from benchmarks.cpu import DECODER
from benchmarks.readers import PROJECTS, READERS
from benchmarks.report import NOT_INSTALLED, Settings, Table, median, show
from benchmarks.server import start_server
from benchmarks.workers import Job, Measure, take_samples

OPENER = "benchmarks.blocking:open_measure"

AIM = 0.002
"""Seconds of processor time of the longest callback."""

ROWS: dict[str, tuple[str, bool]] = {
    "live walk, speed": ("live", True),
    "bulk, speed": ("bulk", True),
    "live walk": ("live", False),
    "checked walk": ("checked", False),
    "bulk": ("bulk", False),
    "raw aiohttp, json": ("raw json", False),
}
"""Readers, and whether they decode with the extra `speed`."""


@define
class Watch:
    """Times of callbacks and collections, in seconds."""

    times: list[float] = field(factory=list)
    collected: float = 0.0
    """All collections so far."""

    over: int = 0
    """Callbacks that took more than `AIM` without the collections in them."""

    _began: float = 0.0

    def collect(self, phase: str, _: dict[str, int]) -> None:
        """Measure a collection."""
        if phase == "start":
            self._began = time.thread_time()
        else:
            self.collected += time.thread_time() - self._began


@contextmanager
def watch() -> Iterator[Watch]:
    """Measure every callback of the event loop."""
    seen = Watch()
    original = asyncio.Handle._run  # noqa: SLF001 - asyncio has no public hook around callbacks
    clock = time.thread_time

    def timed(handle: asyncio.Handle) -> Any:
        collected, began = seen.collected, clock()
        original(handle)
        taken = clock() - began
        seen.times.append(taken)
        seen.over += taken - (seen.collected - collected) > AIM

    setattr(asyncio.Handle, "_run", timed)  # noqa: B010 - a method replaced on purpose
    gc.callbacks.append(seen.collect)
    try:
        yield seen
    finally:
        gc.callbacks.remove(seen.collect)
        setattr(asyncio.Handle, "_run", original)  # noqa: B010


@asynccontextmanager
async def open_measure(which: str, url: str) -> AsyncGenerator[Measure, None]:
    """Open a reader and measure its callbacks."""
    async with READERS[which].open(url) as read:

        async def measure(load: Mapping[str, int]) -> Mapping[str, float]:
            with watch() as seen:
                await read(load["pages"])
            times = sorted(seen.times)
            return {
                "callbacks": len(times),
                "99 %": times[99 * len(times) // 100],
                "longest": times[-1],
                "over": seen.over,
            }

        yield measure


def run(settings: Settings) -> None:
    """Measure and print."""
    samples, pages = (1, PROJECTS) if settings.quick else (7, 10 * PROJECTS)
    jobs = {
        name: Job(OPENER, reader, () if speed else (DECODER,))
        for name, (reader, speed) in ROWS.items()
        if not speed or settings.has(DECODER)
    }
    with start_server() as url:
        taken = take_samples(jobs, url, samples, pages=pages)
    rows = [[name, *_cells(taken[name])] if name in taken else [name, NOT_INSTALLED] for name in ROWS]
    columns = ("ms of CPU", "callbacks", "99 %", "longest", "longest of all", f"over {1000 * AIM:g}")
    note = f"{samples} samples of {pages} pages, in turns; medians. Over: without the garbage collector; should be 0."
    show(Table("How long callbacks block the event loop", columns, rows, [note]))


def _cells(samples: Sequence[Mapping[str, float]]) -> list[str]:
    longest = [1000 * sample["longest"] for sample in samples]
    return [
        f"{sum(sample['callbacks'] for sample in samples):,.0f}",
        f"{median([1000 * sample['99 %'] for sample in samples]):.2f}",
        f"{median(longest):.2f}",
        f"{max(longest):.2f}",
        f"{sum(sample['over'] for sample in samples):,.0f}",
    ]
