"""Time limits of any number of calls on one timer.

asyncio makes a timer for each `timeout`, and aiohttp one for each piece of an answer that is awaited; nearly all are
cancelled, and a cancelled timer stays in the loop's heap until its time or a clean-up. For a page of 100 rows that was
60 us of some 500. Here one timer is set for the earliest limit of all calls under way; when it fires, it looks who is
late by then and is set again. A limit that moves to a later time, as with each piece of an answer, costs an assignment.

"""

from __future__ import annotations

import asyncio
from math import inf
from types import TracebackType
from typing import Self

_RESOLUTION = 1e-6
"""Seconds by which a timer may fire early: the loop rounds to the resolution of its clock."""


class Watch:
    """The limits of one call, used with `with` in the task that makes it.

    The deadline ends the block with `TimeoutError`. Between `listen` and `rest` the call is cut off as well when
    nothing was heard for a while; who catches the `CancelledError` asks `was_silent` whether it is that.
    """

    __slots__ = ("_cancelling", "_dog", "_quiet", "_silent", "_task", "deadline", "expired", "silent_at")

    def __init__(self, dog: Watchdog, deadline: float | None) -> None:
        self.deadline: float = inf if deadline is None else deadline
        """Loop time at which the call must be over."""

        self.silent_at: float = inf
        """Loop time from which on the other side counts as silent."""

        self.expired: bool = False
        """Whether the deadline ended the call."""

        self._dog = dog
        self._quiet: float | None = None
        self._silent = False

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - there is one in every coroutine
        self._task = task
        self._cancelling = task.cancelling()
        self._dog.watches.add(self)
        if self.deadline < self._dog.wakes:
            self._dog.wake_by(self.deadline)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._dog.watches.discard(self)
        # As asyncio.timeout does: a cancellation that somebody else asked for meanwhile goes on.
        if self.expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def listen(self, quiet: float | None) -> None:
        """Expect to hear something at least every `quiet` seconds, from now on; None: whenever it comes."""
        self._quiet = quiet
        self.hear()

    def hear(self) -> None:
        """Note that something came."""
        if self._quiet is not None:
            self.silent_at = due = self._dog.loop.time() + self._quiet
            if due < self._dog.wakes:
                self._dog.wake_by(due)

    def rest(self) -> None:
        """Expect to hear nothing for now."""
        self.silent_at = inf

    def was_silent(self) -> bool:
        """Tell, of a `CancelledError` just caught, whether it was for silence and for nothing else."""
        if not self._silent:
            return False
        self._silent = False
        return self._task.uncancel() <= self._cancelling

    def look(self, now: float) -> float:
        """Cut the call off if it is late, and tell when to look again."""
        if self.deadline <= now:
            self.deadline, self.expired = inf, True
            self._task.cancel()
        if self.silent_at <= now:
            self.silent_at, self._silent = inf, True
            self._task.cancel()
        return min(self.deadline, self.silent_at)


class Watchdog:
    """Watches over the calls of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.watches: set[Watch] = set()
        """Those in force."""

        self._timer: asyncio.TimerHandle | None = None
        self.wakes: float = inf
        """Loop time at which it looks next; that stays set when nothing is watched, for the next call is soon."""

    def wake_by(self, due: float) -> None:
        """Look again at this loop time, which is earlier than `wakes`."""
        self.close()
        self._timer, self.wakes = self.loop.call_at(due, self._look), due

    def close(self) -> None:
        """Cancel the timer. A later limit sets it again."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self.wakes = None, inf

    def _look(self) -> None:
        self._timer, self.wakes = None, inf
        now = self.loop.time() + _RESOLUTION
        due = min((watch.look(now) for watch in tuple(self.watches)), default=inf)
        if due < inf:
            self.wake_by(due)
