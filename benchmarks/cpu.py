"""Processor time of a page of 100 rows: HarnessClient beside loops on aiohttp and other clients.

Every row of the table is a process that reads the same pages, in turns with all others; the time is the user and
system time of that process. A ratio compares rows per second of processor time: the median of the turns, and the
ratio of the lowest times, which disturbances affect least. Pacing is off.

`speed` is the extra of that name; the other rows cannot import its decoder, though it may be installed. The event
loop is asyncio's except where the row names uvloop.
"""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager

from attrs import frozen

from benchmarks.readers import CONCURRENCY, PROJECTS, READERS, expected_rows
from benchmarks.report import NOT_INSTALLED, Settings, Table, median, show, spread
from benchmarks.server import PAGE_SIZE, start_server
from benchmarks.workers import Job, Measure, take_samples

DECODER = "msgspec"
"""The decoder of the extra `speed`."""

OPENER = "benchmarks.cpu:open_measure"


@frozen
class Row:
    """One row of the table."""

    reader: str
    speed: bool = False
    uvloop: bool = False

    @property
    def needs(self) -> tuple[str, ...]:
        """The modules that it needs."""
        return (*READERS[self.reader].needs, *(DECODER,) * self.speed, *("uvloop",) * self.uvloop)

    @property
    def job(self) -> Job:
        """The job of its worker."""
        return Job(OPENER, self.reader, () if self.speed else (DECODER,), self.uvloop)


ROWS = {
    "live walk, speed": Row("live", speed=True),
    "checked walk, speed": Row("checked", speed=True),
    "raw aiohttp, orjson": Row("raw orjson"),
    "harness-open-api": Row("generated"),
    "live walk": Row("live"),
    "checked walk": Row("checked"),
    "raw aiohttp, json": Row("raw json"),
    "bulk, speed": Row("bulk", speed=True),
    "raw aiohttp, orjson, many": Row("raw orjson, many"),
    "bulk": Row("bulk"),
    "raw aiohttp, json, many": Row("raw json, many"),
    "live walk, speed, uvloop": Row("live", speed=True, uvloop=True),
}
"""Rows that are compared are next to each other, because a turn takes seconds."""

RATIOS: tuple[tuple[str, str, str], ...] = (
    ("live walk, speed", "raw aiohttp, orjson", "0.6"),
    ("checked walk, speed", "raw aiohttp, orjson", "0.6"),
    ("bulk, speed", "raw aiohttp, orjson, many", "0.6"),
    ("live walk", "raw aiohttp, json", ""),
    ("checked walk", "raw aiohttp, json", ""),
    ("bulk", "raw aiohttp, json, many", ""),
    ("live walk, speed", "harness-open-api", "1.2"),
    ("live walk", "harness-open-api", ""),
)
"""What is compared, and the least ratio to reach."""


@asynccontextmanager
async def open_measure(which: str, url: str) -> AsyncGenerator[Measure, None]:
    """Open a reader and measure its processor time."""
    async with READERS[which].open(url) as read:

        async def measure(load: Mapping[str, int]) -> Mapping[str, float]:
            began = time.process_time()
            rows = await read(load["pages"])
            taken = time.process_time() - began
            assert rows == expected_rows(which, load["pages"])
            return {"cpu": taken / rows * PAGE_SIZE, "decoder": sys.modules.get(DECODER) is not None}

        yield measure


def run(settings: Settings) -> None:
    """Measure and print."""
    samples, pages = (1, PROJECTS) if settings.quick else (31, 5 * PROJECTS)
    jobs = {name: row.job for name, row in ROWS.items() if settings.has(*row.needs)}
    with start_server() as url:
        taken = take_samples(jobs, url, samples, pages=pages)
    costs = {name: [figures["cpu"] for figures in each] for name, each in taken.items()}
    notes = [
        f"{samples} samples of {pages} pages each, in turns; many: {CONCURRENCY} at a time of {PROJECTS} projects.",
    ]
    if any(not figures["decoder"] for name, each in taken.items() if ROWS[name].speed for figures in each):
        notes.append(f"{DECODER} is installed but was not imported: the rows with speed are like those without.")
    show(Table("Processor time", ("", "us a page", "lowest - highest", "rows a second"), _figures(costs), notes))
    show(
        Table(
            "Rows a second of processor time", ("", "ratio", "lowest - highest", "of the lowest", "aim"), _ratios(costs)
        )
    )


def _figures(costs: Mapping[str, Sequence[float]]) -> list[list[str]]:
    return [
        [
            name,
            f"{1e6 * median(costs[name]):,.0f}",
            spread([1e6 * cost for cost in costs[name]], ",.0f"),
            f"{PAGE_SIZE / median(costs[name]):,.0f}",
        ]
        if name in costs
        else [name, NOT_INSTALLED]
        for name in ROWS
    ]


def _ratios(costs: Mapping[str, Sequence[float]]) -> list[list[str]]:
    rows = []
    for name, other, aim in RATIOS:
        title = f"{name} / {other}"
        if name in costs and other in costs:
            ratios = [theirs / mine for mine, theirs in zip(costs[name], costs[other], strict=True)]
            best = min(costs[other]) / min(costs[name])
            rows.append([title, f"{median(ratios):.2f}", spread(ratios, ".2f"), f"{best:.2f}", aim])
        else:
            rows.append([title, NOT_INSTALLED])
    return rows
