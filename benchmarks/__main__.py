"""Benchmarks: processor time, latency, memory, import, blocking of the event loop, pacing and moving lists.

Figures are medians of runs in turns, so that a busy machine affects all of them alike. Other clients are compared
where they are installed; they are in the dependency group `benchmarks`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence

from benchmarks import blocking, cpu, drift, import_time, latency, memory, pacing, scale
from benchmarks.report import Settings, create_console, describe

PARTS: dict[str, tuple[str, Callable[[Settings], None]]] = {
    "cpu": ("processor time of a page, beside other clients", cpu.run),
    "latency": ("walks and bulk runs, beside what the latency of the server allows", latency.run),
    "memory": ("growth with the number of rows", memory.run),
    "import": ("processor time of the import", import_time.run),
    "blocking": ("how long callbacks block the event loop", blocking.run),
    "pacing": ("share of a rate limit, in virtual time", pacing.run),
    "drift": ("rows that moving lists lose, in virtual time", drift.run),
    "scale": ("a bulk run over thousands of projects, in virtual time", scale.run),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the parts that were named, or all."""
    parts = "\n".join(f"  {name:10}{what}" for name, (what, _) in PARTS.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        epilog=f"parts:\n{parts}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help="what to measure (default: all parts)")
    parser.add_argument("--quick", action="store_true", help="run the smallest input once; the figures mean nothing")
    parser.add_argument(
        "--without", action="append", default=[], metavar="MODULE", help="treat a module as not installed; repeatable"
    )
    options = parser.parse_args(arguments)
    if unknown := set(options.parts) - PARTS.keys():
        parser.error(f"no such part: {', '.join(sorted(unknown))} (choose from {', '.join(PARTS)})")
    settings = Settings(options.quick, frozenset(options.without))
    console = create_console()
    console.print(describe(), markup=False)
    if settings.quick:
        console.print("A quick run: the figures mean nothing", markup=False)
    for name, (what, run) in PARTS.items():
        if not options.parts or name in options.parts:
            console.print(f"\n== {name}: {what}", markup=False)
            began = time.perf_counter()
            run(settings)
            console.print(f"  {time.perf_counter() - began:.0f} s", markup=False)


if __name__ == "__main__":
    main()
