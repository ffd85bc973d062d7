"""Samples taken in worker processes, in turns, so that a busy machine affects all of them alike.

A worker opens what it measures once. A line of JSON on its standard input requests a sample, a line on its standard
output returns it. What is opened is a function that returns an asynchronous context manager around a `Measure`, named
as `module:function`.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, ExitStack, contextmanager
from importlib import import_module
from typing import Any, TypeAlias

from attrs import frozen

from benchmarks.server import ROOT

Measure: TypeAlias = Callable[[Mapping[str, int]], Awaitable[Mapping[str, float]]]
"""Takes a sample of a load and returns its figures, both by name."""

Opener: TypeAlias = Callable[[str, str], AbstractAsyncContextManager[Measure]]
"""Opens what is measured: its name, and the URL of the server."""


@frozen
class Job:
    """The job of a worker."""

    opener: str
    which: str
    hide: tuple[str, ...] = ()
    """Modules that the worker cannot import."""

    uvloop: bool = False


@frozen
class Worker:
    """A worker process."""

    job: Job
    process: subprocess.Popen[str]

    def measure(self, **load: int) -> dict[str, float]:
        """Take a sample."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps(load), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the worker of {self.job} ended; its output is above")
        figures: dict[str, float] = json.loads(line)
        return figures


@contextmanager
def start_worker(job: Job, url: str) -> Iterator[Worker]:
    """Run a worker until the end of the block."""
    command = [sys.executable, "-m", "benchmarks.workers", job.opener, job.which, url]
    command += [f"--hide={name}" for name in job.hide] + ["--uvloop"] * job.uvloop
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own interpreter
        try:
            yield Worker(job, process)
        finally:
            assert process.stdin is not None
            process.stdin.close()


def take_samples(jobs: Mapping[str, Job], url: str, samples: int, **load: int) -> dict[str, list[dict[str, float]]]:
    """Take samples of all jobs in turns, after one of each that does not count."""
    with ExitStack() as stack:
        workers = {name: stack.enter_context(start_worker(job, url)) for name, job in jobs.items()}
        taken: dict[str, list[dict[str, float]]] = {name: [] for name in jobs}
        for turn in range(samples + 1):
            for name, worker in workers.items():
                figures = worker.measure(**load)
                if turn:
                    taken[name].append(figures)
    return taken


async def work(opener: Opener, which: str, url: str) -> None:
    """Measure whenever a line arrives. Waiting for it blocks the loop, in which nothing runs then."""
    async with opener(which, url) as measure:
        for line in sys.stdin:
            gc.collect()
            print(json.dumps(await measure(json.loads(line))), flush=True)


def main() -> None:
    """Run a worker."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("opener")
    parser.add_argument("which")
    parser.add_argument("url")
    parser.add_argument("--hide", action="append", default=[], metavar="MODULE")
    parser.add_argument("--uvloop", action="store_true")
    options = parser.parse_args()
    for name in options.hide:
        sys.modules[name] = None  # type: ignore[assignment]  # the import system raises ModuleNotFoundError for it
    module, _, function = options.opener.partition(":")
    opener = getattr(import_module(module), function)
    factory: Any = import_module("uvloop").new_event_loop if options.uvloop else None
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(work(opener, options.which, options.url))


if __name__ == "__main__":
    main()
