"""Virtual time: hours of pacing in a second, the same each run."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

import looptime

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in a loop whose clock jumps to the next timer; no sockets, no threads."""
    loop = looptime.new_event_loop(noop_cycles=0)
    try:
        return loop.run_until_complete(main)
    finally:
        loop.close()


class NoJitter:
    """A source of jitter that returns 0."""

    def random(self) -> float:
        return 0.0


class BusyLoop(looptime.make_event_loop_class(__import__("asyncio").SelectorEventLoop)):  # type: ignore[misc]
    """A virtual loop that can be blocked: time that passes between two turns."""

    lost = 0.0

    def time(self) -> float:
        """Return the virtual time, blocked time included."""
        return float(super().time()) + self.lost

    def block(self, seconds: float) -> None:
        """Let time pass as during a long computation."""
        self.lost += seconds


class JumpingLoop(asyncio.SelectorEventLoop):
    """A loop with real sockets whose clock stands still while there is work, and jumps when there is only waiting."""

    def __init__(self) -> None:
        self.now = 1000.0
        selector = selectors.DefaultSelector()
        self._poll = selector.select
        self._files = selector.get_map()
        setattr(selector, "select", self._wait)  # noqa: B010 - a method replaced on purpose
        super().__init__(selector)

    def time(self) -> float:
        return self.now

    def _wait(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout <= 0:
            return self._poll(timeout)
        # A millisecond for data in flight between two sockets; one file is the loop's own, to which nothing is written.
        ready = self._poll(0.001 if len(self._files) > 1 else 0)
        if not ready:
            self.now += timeout
        return ready


def run_jumping(main: Coroutine[Any, Any, T], kind: type[JumpingLoop] = JumpingLoop) -> T:
    """Run a coroutine in such a loop, and check that it leaves no tasks and no unhandled errors."""
    unheard: list[dict[str, Any]] = []
    with asyncio.Runner(loop_factory=kind) as runner:
        loop = runner.get_loop()
        loop.set_exception_handler(lambda _loop, context: unheard.append(context))
        result = runner.run(main)
        assert not asyncio.all_tasks(loop)
        assert not unheard
        return result
