"""Whose connections a client has, and how many requests may be under way on them.

A `Transport` belongs to the event loop and the process of its first call. It makes its wire there, hands out the places
for requests in flight, watches the time, and translates what a wire raises into `Broken`. It retries nothing and waits
for nothing but the network: that is the sender's business.
"""

from __future__ import annotations

import asyncio
import os

import aiohttp
from attrs import define, field

from harness_async.config import Timeouts
from harness_async.errors import HarnessError
from harness_async.retry import Trouble
from harness_async.watchdog import Watch, Watchdog
from harness_async.wire import ERRORS, TALKATIVE, Broken, OnResend, Reply, Request, Wire, make_wire, translate


@define(eq=False)
class _Home:
    """What belongs to one process and one event loop."""

    pid: int
    loop: asyncio.AbstractEventLoop
    places: asyncio.Semaphore
    wire: Wire
    watchdog: Watchdog


@define(eq=False)
class Transport:
    """The wire and the places for requests in flight. Safe for any number of tasks of one loop."""

    max_in_flight: int
    borrowed: aiohttp.ClientSession | None = field(default=None, repr=False)
    _home: _Home | None = field(default=None, init=False, repr=False)
    _closed: bool = field(default=False, init=False)

    @property
    def places(self) -> asyncio.Semaphore:
        """The places for requests in flight: the one queue there is, first come first served."""
        return self._at_home().places

    def _at_home(self) -> _Home:
        """Give what belongs to this loop, making it on first use.

        Raises:
            RuntimeError: The client was closed, or belongs to another event loop.
        """
        home = self._home
        loop = asyncio.get_running_loop()
        if self._closed:
            raise RuntimeError("This client is closed; make a new one")
        if home is not None and home.pid == os.getpid():
            if home.loop is not loop:
                raise RuntimeError(
                    "This client belongs to another event loop; make one client for each loop (asyncio.run)"
                )
            return home
        if home is not None:
            home.wire.abandon()  # after a fork
        wire = make_wire(self.borrowed)
        self._home = _Home(os.getpid(), loop, asyncio.Semaphore(self.max_in_flight), wire, Watchdog(loop))
        return self._home

    async def close(self) -> None:
        """Close what is ours; later use is an error. May be called twice, and in any loop."""
        self._closed = True
        home, self._home = self._home, None
        if home is not None:
            home.watchdog.close()
            if home.pid == os.getpid():
                await home.wire.close()

    def watch(self, deadline: float | None) -> Watch:
        """Make the watch over a call that is about to be made."""
        return Watch(self._at_home().watchdog, deadline)

    async def exchange(self, request: Request, timeouts: Timeouts, on_resend: OnResend, watch: Watch) -> Reply:
        """Send a request once and read the answer whole; `on_resend` is awaited before it is sent again.

        Raises:
            Broken: No usable answer came.
        """
        broken: Broken | None = None
        cause: Exception | None = None
        try:
            return await self._at_home().wire.exchange(request, timeouts, on_resend, watch)
        except asyncio.CancelledError:
            if not watch.was_silent():
                raise
            broken = Broken(Trouble.LOST, "no answer in time", timed_out=True)
        except HarnessError:  # from `on_resend`; some of ours are OSErrors too
            raise
        except ERRORS as error:
            broken = translate(error)
            cause = None if isinstance(error, TALKATIVE) else error
        finally:
            watch.rest()
        # Raised here, so that it has no context but the one it is given.
        raise broken from cause
