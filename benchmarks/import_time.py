"""What `import harness_async` costs beside its four dependencies: whole processes, interleaved, medians.

python benchmarks/import_time.py [--runs 15]
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

HERE = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r})"  # this checkout, installed or not
DEPENDENCIES = "import aiohttp, attrs, cattrs, cattrs.gen, yarl"
OURS = "from harness_async import *"  # the names are imported when asked for, so ask for all
NOTHING = "pass"


def measure(code: str) -> float:
    """Run a fresh interpreter and return its seconds of processor time."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-I", "-c", f"{HERE}; {code}"], check=True)  # noqa: S603 - our own interpreter
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print, as the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=15)
    runs = parser.parse_args(arguments).runs
    codes = {"nothing": NOTHING, "dependencies": DEPENDENCIES, "harness_async": OURS}
    for code in codes.values():
        measure(code)  # compiles and caches
    taken: dict[str, list[float]] = {name: [] for name in codes}
    for _ in range(runs):
        for name, code in codes.items():
            taken[name].append(measure(code))
    base = statistics.median(taken["nothing"])
    print(f"Python {sys.version.split()[0]}, {runs} runs, {time.strftime('%Y-%m-%d')}; milliseconds of CPU, median")
    for name in codes:
        print(f"  {name:14} {1000 * statistics.median(taken[name]):8.1f}")
    ratio = (statistics.median(taken["harness_async"]) - base) / (statistics.median(taken["dependencies"]) - base)
    print(f"  harness_async / dependencies, interpreter taken off: {ratio:.2f}")


if __name__ == "__main__":
    main()
