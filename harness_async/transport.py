"""Whose connections a client has, and how many requests may be under way on them.

A `Transport` belongs to the event loop and the process of its first call, and makes there what it takes to send: a
wire, places for requests in flight, and a watchdog over their time.
"""

from __future__ import annotations

import asyncio
import os

import aiohttp
from attrs import define, field

from harness_async.direct import DirectWire, knows_aiohttp
from harness_async.places import Places
from harness_async.watchdog import Watchdog
from harness_async.wire import USER_AGENT, SessionWire, Wire


@define(eq=False, repr=False)
class Home:
    """What belongs to one process and one event loop."""

    pid: int
    loop: asyncio.AbstractEventLoop
    places: Places
    """The one queue there is."""

    wire: Wire
    watchdog: Watchdog


@define(eq=False, repr=False)
class Transport:
    """The wire and the places for requests in flight. Safe for any number of tasks of one loop."""

    max_in_flight: int
    borrowed: aiohttp.ClientSession | None = field(default=None, repr=False)
    _home: Home | None = field(default=None, init=False, repr=False)
    _closed: bool = field(default=False, init=False)

    def at_home(self) -> Home:
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
        self._home = Home(os.getpid(), loop, Places(self.max_in_flight), wire, Watchdog(loop))
        return self._home

    async def close(self) -> None:
        """Close what is ours; later use is an error. May be called twice, and in any loop."""
        self._closed = True
        home, self._home = self._home, None
        if home is not None:
            home.watchdog.close()
            if home.pid == os.getpid():
                await home.wire.close()


def make_wire(borrowed: aiohttp.ClientSession | None) -> Wire:
    """Make the wire of the running loop, over a borrowed session if there is one."""
    if borrowed is not None:
        return SessionWire(borrowed, ours=False)
    if knows_aiohttp():
        return DirectWire(asyncio.get_running_loop())
    # No cookies: the key is all there is, and a sign-in page's cookies must not change later answers.
    http = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": USER_AGENT},
    )
    return SessionWire(http, ours=True)
