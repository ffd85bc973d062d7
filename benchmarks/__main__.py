"""What the library costs: processor time, waiting, memory, imports, and what its pacing and its walks come to.

    python -m benchmarks [--quick] [--without MODULE]... [PART]...

Without a part all of them run, which takes some ten minutes. Figures are medians, set against others that were
measured in the same minutes; a machine that is busy with something else makes them worse, not wrong. Clients to
compare with are in the dependency group `benchmarks`; where one is not installed its row says so.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence

from benchmarks import blocking, cpu, latency, memory
from benchmarks.report import NOT_INSTALLED, Settings, describe, make_console


def _imports(settings: Settings) -> None:
    from benchmarks import import_time

    import_time.main(["--runs", "1" if settings.quick else "15"])


def _pacing(settings: Settings) -> None:
    from benchmarks import pacing

    minutes = ("1", "1") if settings.quick else ("20", "10")
    pacing.main(["--seeds", "1", "--minutes", minutes[0], "--known-minutes", minutes[1]])


def _drift(settings: Settings) -> None:
    from benchmarks import drift

    size = ("1", "4") if settings.quick else ("50", "20")
    drift.main(["--schedules", size[0], "--pages", size[1]])


def _scale(settings: Settings) -> None:
    if not settings.has("looptime"):
        print(f"looptime is {NOT_INSTALLED}")
        return
    from benchmarks import scale

    scale.main(["--projects", "200" if settings.quick else "5000"])


PARTS: dict[str, tuple[str, Callable[[Settings], None]]] = {
    "cpu": ("processor time of a page, beside other clients", cpu.run),
    "latency": ("walks and runs over many lists, beside what the latency allows", latency.run),
    "memory": ("growth with the number of rows", memory.run),
    "imports": ("what the import costs (import_time.py)", _imports),
    "blocking": ("how long the event loop is held up", blocking.run),
    "pacing": ("share of a rate limit, in virtual time (pacing.py)", _pacing),
    "drift": ("what lists that move cost and lose, in virtual time (drift.py)", _drift),
    "scale": ("a run over thousands of projects, in virtual time (scale.py)", _scale),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the parts that were asked for, in the order in which they are listed."""
    parts = "\n".join(f"  {name:10}{what}" for name, (what, _) in PARTS.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        epilog=f"parts:\n{parts}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help="what to measure; everything if left out")
    parser.add_argument("--quick", action="store_true", help="show that everything works; the figures mean nothing")
    parser.add_argument("--without", action="append", default=[], metavar="MODULE", help="as if it were not installed")
    options = parser.parse_args(arguments)
    if unknown := set(options.parts) - PARTS.keys():
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    settings = Settings(options.quick, frozenset(options.without))
    console = make_console()
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
