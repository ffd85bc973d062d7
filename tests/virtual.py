"""Virtual time: hours of pacing in a second, the same each run."""

from __future__ import annotations

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


class BusyLoop(looptime.make_event_loop_class(__import__("asyncio").SelectorEventLoop)):  # type: ignore[misc]
    """A virtual loop that can be kept busy: time that passes without the loop turning."""

    lost = 0.0

    def time(self) -> float:
        """Give the virtual time, blocked spells included."""
        return float(super().time()) + self.lost

    def block(self, seconds: float) -> None:
        """Let time pass as a long computation does."""
        self.lost += seconds
