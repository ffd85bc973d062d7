"""Processor time of `import harness_async` beside its dependencies, in whole processes that run in turns."""

from __future__ import annotations

import resource
import subprocess
import sys

from benchmarks.report import Settings, Table, median, show
from benchmarks.server import ROOT

DEPENDENCIES = "import aiohttp, attrs, cattrs, cattrs.gen, yarl"
CODES = {
    "nothing": "pass",
    "aiohttp": "import aiohttp",
    "all dependencies": DEPENDENCIES,
    "harness_async": "import harness_async",
    "HarnessClient": "from harness_async import HarnessClient",
    "all names": "from harness_async import *",
}
AIM = "1.25"


def measure(code: str) -> float:
    """Run a fresh interpreter and return its seconds of processor time."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    path = f"import sys; sys.path.insert(0, {str(ROOT)!r})"  # this checkout, installed or not
    subprocess.run([sys.executable, "-I", "-c", f"{path}; {code}"], check=True)  # noqa: S603 - our own interpreter
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)


def run(settings: Settings) -> None:
    """Measure and print."""
    runs = 1 if settings.quick else 15
    times: dict[str, list[float]] = {name: [] for name in CODES}
    for turn in range(runs + (not settings.quick)):  # the first turn compiles, and does not count
        for name, code in CODES.items():
            seconds = measure(code)
            if turn or settings.quick:
                times[name].append(seconds)
    rows = []
    for name in CODES:
        cells = [f"{1000 * median(times[name]):.1f}"]
        for base in ("aiohttp", "all dependencies"):
            for pick in (median, min):
                alone = pick(times[base]) - pick(times["nothing"])
                cells.append(f"{(pick(times[name]) - pick(times['nothing'])) / alone:.2f}")
        rows.append([name, *cells, AIM if name == "HarnessClient" else ""])
    columns = ("", "ms of CPU", "to aiohttp", "of the lowest", "to dependencies", "of the lowest", "aim, to aiohttp")
    note = f"{runs} runs in turns, medians. Ratios are of the time beyond that of the interpreter."
    show(Table("Import", columns, rows, [note]))
