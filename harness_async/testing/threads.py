"""A server in its own thread, for synchronous tests and for tests on another event loop."""

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
    """Run a server in a background thread with its own event loop until the block ends.

    The data methods of the server hold a lock and may be called from the block. Hooks such as `before_request`
    run in the server's thread. Raises OSError if the port is taken.
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
    """Run the server until the event is set. An error on start is passed to the future."""
    stop = asyncio.Event()
    try:
        await fake.start()
    except Exception as error:  # noqa: BLE001 - raised in the calling thread
        started.set_exception(error)
        return
    started.set_result((asyncio.get_running_loop(), stop))
    try:
        await stop.wait()
    finally:
        await fake.close()
