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
PACKAGE = f"{DEPENDENCIES}; import harness_async"
CLIENT = f"{DEPENDENCIES}; from harness_async import HarnessClient"  # names are imported when they are asked for
EVERYTHING = f"{DEPENDENCIES}; from harness_async import *"
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
    codes = {
        "nothing": NOTHING,
        "dependencies": DEPENDENCIES,
        "and harness_async": PACKAGE,
        "and HarnessClient": CLIENT,
        "and all names": EVERYTHING,
    }
    for code in codes.values():
        measure(code)  # compiles and caches
    taken: dict[str, list[float]] = {name: [] for name in codes}
    for _ in range(runs):
        for name, code in codes.items():
            taken[name].append(measure(code))
    print(
        f"Python {sys.version.split()[0]}, {runs} runs in turns, {time.strftime('%Y-%m-%d')}: milliseconds of CPU, and"
    )
    print("the ratio to the dependencies, the interpreter taken off both; of medians, and of the lowest")
    for name in codes:
        cells = []
        for pick in (statistics.median, min):
            base, alone, total = (pick(taken[each]) for each in ("nothing", "dependencies", name))
            cells.append(f"{1000 * total:8.1f} {(total - base) / (alone - base):6.2f}")
        print(f"  {name:18}{'   '.join(cells)}")


if __name__ == "__main__":
    main()
