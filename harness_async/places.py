"""The places for requests in flight: how many may be under way at once."""

from __future__ import annotations

import asyncio
from collections import deque


class Places:
    """So many places, first come first served. Safe for any number of tasks of one loop.

    A place that is given back goes straight to who has waited longest: nobody overtakes. `asyncio.Semaphore` would do
    the same in seven calls of Python's, most of them for waiters that are not there: 3 us a page of some 200.
    """

    def __init__(self, count: int) -> None:
        self.free: int = count
        """Places that nobody has."""

        self._waiting: deque[asyncio.Future[None]] = deque()

    async def take(self) -> None:
        """Take a place, waiting for it if need be; `give_back` it in any case."""
        if self.free:
            self.free -= 1
            return
        place = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if not place.cancelled():  # it was given to us in the same turn
                self.give_back()
            raise

    def give_back(self) -> None:
        """Hand a place on to who has waited longest, if anybody waits."""
        while self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(None)
                return
        self.free += 1
