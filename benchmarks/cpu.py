"""Processor time of a page of 100 rows: our walks beside loops written by hand and beside other clients.

Every row of the table is a process of its own that reads the same pages over and over, in turns with all others; its
time is user and system time of that process alone, whatever the machine does besides. A ratio compares rows per
second of processor time: it is taken turn by turn, and the median is shown; beside it the ratio of the lowest times,
which is what is left when nothing else disturbed either. Pacing is off.

A lent session is an `aiohttp.ClientSession` passed as `http_session`; without one a client has connections of its own.
`speed` is the extra of that name, of which only the decoder is used here; a row without it cannot import the
decoder, though it may be installed. The event loop is asyncio's except where the row says uvloop.

    python -m benchmarks cpu
"""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager

from attrs import frozen

from benchmarks.readers import CONCURRENCY, PROJECTS, READERS
from benchmarks.report import NOT_INSTALLED, Settings, Table, median, show, spread
from benchmarks.server import PAGE_SIZE, start_server
from benchmarks.workers import Job, Measure, take_samples

DECODER = "msgspec"
"""The module of the extra `speed` that makes rows of JSON."""

OPENER = "benchmarks.cpu:open_measure"


@frozen
class Row:
    """One row of the table."""

    reader: str
    speed: bool = False
    uvloop: bool = False

    @property
    def needs(self) -> tuple[str, ...]:
        """The modules it cannot do without."""
        return (*READERS[self.reader].needs, *(DECODER,) * self.speed, *("uvloop",) * self.uvloop)

    @property
    def job(self) -> Job:
        """What its worker does."""
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
    "live walk, speed, lent session": Row("live, lent session", speed=True),
    "raw aiohttp, body only": Row("raw"),
    "httpx, orjson": Row("httpx"),
}
"""What is compared stands together, for a round takes seconds and machines change their pace."""

RATIOS = (
    ("live walk, speed", "raw aiohttp, orjson", 0.9),
    ("checked walk, speed", "raw aiohttp, orjson", 0.9),
    ("bulk, speed", "raw aiohttp, orjson, many", 0.9),
    ("live walk", "raw aiohttp, json", 0.8),
    ("checked walk", "raw aiohttp, json", 0.8),
    ("bulk", "raw aiohttp, json, many", 0.8),
    ("live walk, speed", "harness-open-api", 1.7),
    ("live walk", "harness-open-api", 1.7),
    ("live walk, speed", "httpx, orjson", 1.0),
)
"""What is compared with what, and the ratio that we mean to reach."""


@asynccontextmanager
async def open_measure(which: str, url: str) -> AsyncGenerator[Measure, None]:
    """Open a reader, to measure the processor time of so many pages."""
    async with READERS[which].open(url) as read:

        async def measure(load: Mapping[str, int]) -> Mapping[str, float]:
            began = time.process_time()
            rows = await read(load["pages"])
            taken = time.process_time() - began
            assert rows == load["pages"] * PAGE_SIZE
            return {"cpu": taken / rows * PAGE_SIZE, "decoder": sys.modules.get(DECODER) is not None}

        yield measure


def run(settings: Settings) -> None:
    """Measure and print."""
    samples, pages = (1, PROJECTS) if settings.quick else (31, 5 * PROJECTS)
    jobs = {name: row.job for name, row in ROWS.items() if settings.has(*row.needs)}
    with start_server() as server:
        taken = take_samples(jobs, server.url, samples, pages=pages)
        answers, seconds = server.usage()
    costs = {name: [figures["cpu"] for figures in each] for name, each in taken.items()}
    notes = [
        f"{samples} samples of {pages} pages each, in turns; many: {CONCURRENCY} at a time of {PROJECTS} projects.",
        f"The server took {1e6 * seconds / answers:.0f} us of its own process for a page, its start included.",
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
    for ours, other, aim in RATIOS:
        name = f"{ours} / {other}"
        if ours in costs and other in costs:
            ratios = [theirs / mine for mine, theirs in zip(costs[ours], costs[other], strict=True)]
            best = min(costs[other]) / min(costs[ours])
            rows.append([name, f"{median(ratios):.2f}", spread(ratios, ".2f"), f"{best:.2f}", f"{aim:g}"])
        else:
            rows.append([name, NOT_INSTALLED])
    return rows
