"""A server in a thread of its own, for tests that have no loop or another kind of loop."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness_async.testing.server import FakeHarness


@contextmanager
def run_in_thread(fake: FakeHarness) -> Iterator[FakeHarness]:
    """Serve from a background thread with its own loop until the block ends; nothing is left of it then.

    The data methods of the server take a lock and may be called from the block. Hooks (`before_request` and
    the like) run in the server's thread. OSError if the port is taken.
    """
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
    thread = threading.Thread(target=lambda: asyncio.run(_serve(fake, started)), name="FakeHarness", daemon=True)
    thread.start()
    try:
        loop, stop = started.result()
    except Exception:
        thread.join()
        raise
    try:
        yield fake
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


async def _serve(fake: FakeHarness, started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]]) -> None:
    """Serve until told to stop; a failure to start is the starter's to raise."""
    stop = asyncio.Event()
    try:
        await fake.start()
    except Exception as error:  # noqa: BLE001 - handed over whole
        started.set_exception(error)
        return
    started.set_result((asyncio.get_running_loop(), stop))
    try:
        await stop.wait()
    finally:
        await fake.close()
