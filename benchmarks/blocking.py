"""Time for which callbacks block the event loop while pages of 100 rows are read and decoded.

Each callback of the loop is measured by two clocks: wall time, which includes interruptions by other processes, and
the processor time of the thread. Both include the garbage collector, whose longest collection is shown too.
"""

from __future__ import annotations

import asyncio
import gc
import time
from array import array
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

CLOCKS = ("cpu p99", "cpu longest", "wall p99", "wall longest")

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

    wall: array[float] = field(factory=lambda: array("d"))
    cpu: array[float] = field(factory=lambda: array("d"))
    collected: float = 0.0
    """Processor time of all collections so far."""

    longest_collection: float = 0.0
    over: int = 0
    """Callbacks that took more than `AIM`."""

    by_collector: int = 0
    """Those of them that would not have, without a collection."""

    _began: float = 0.0

    def collect(self, phase: str, _: dict[str, int]) -> None:
        """Measure a collection."""
        if phase == "start":
            self._began = time.thread_time()
        else:
            taken = time.thread_time() - self._began
            self.collected += taken
            self.longest_collection = max(self.longest_collection, taken)

    def note(self, wall: float, cpu: float, collected: float) -> None:
        """Record the times of a callback, and those of all collections before it."""
        self.wall.append(wall)
        self.cpu.append(cpu)
        if cpu > AIM:
            self.over += 1
            self.by_collector += cpu - (self.collected - collected) <= AIM


@contextmanager
def watch() -> Iterator[Watch]:
    """Measure every callback of the event loop."""
    seen = Watch()
    original = asyncio.Handle._run  # noqa: SLF001 - asyncio has no public hook around callbacks
    wall, cpu = time.perf_counter, time.thread_time

    def timed(handle: asyncio.Handle) -> Any:
        collected, began, busy = seen.collected, wall(), cpu()
        original(handle)
        seen.note(cpu=cpu() - busy, wall=wall() - began, collected=collected)

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
            wall, cpu = sorted(seen.wall), sorted(seen.cpu)
            p99 = 99 * len(wall) // 100
            return {
                "callbacks": len(wall),
                "wall p99": wall[p99],
                "wall longest": wall[-1],
                "cpu p99": cpu[p99],
                "cpu longest": cpu[-1],
                "over": seen.over,
                "by_collector": seen.by_collector,
                "collection": seen.longest_collection,
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
    limit = f"{1000 * AIM:g} ms"
    columns = (
        "ms",
        "callbacks",
        *(name.replace("p99", "99 %") for name in CLOCKS),
        "collector",
        f"over {limit}",
        "by it",
    )
    note = (
        f"{samples} samples of {pages} pages, in turns. 99 % is the median of the samples; longest is the maximum, "
        f"with the median in brackets. Over: callbacks of more than {limit} of processor time; by it: through the "
        "collector."
    )
    show(Table("How long callbacks block the event loop", columns, rows, [note]))


def _cells(samples: Sequence[Mapping[str, float]]) -> list[str]:
    def write(name: str) -> str:
        values = [1000 * sample[name] for sample in samples]
        return f"{max(values):.2f} ({median(values):.2f})" if "longest" in name else f"{median(values):.2f}"

    return [
        f"{sum(sample['callbacks'] for sample in samples):,.0f}",
        *map(write, CLOCKS),
        f"{1000 * max(sample['collection'] for sample in samples):.2f}",
        *(f"{sum(sample[key] for sample in samples):,.0f}" for key in ("over", "by_collector")),
    ]
