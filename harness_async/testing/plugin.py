"""The pytest plugin: the fixture `fake_harness`, a running server for each test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness_async.testing.server import FakeHarness


@pytest.fixture
def fake_harness() -> Iterator[FakeHarness]:
    """A seeded and running `FakeHarness`, new for each test.

    The server runs in its own thread, so the test may be synchronous, or asynchronous on any event loop. Its
    data methods hold a lock and may be called from the test. Its hooks run in the server's thread.
    """
    # Imported here because pytest loads this plugin in every run, and most runs need no web server.
    from harness_async.testing.server import FakeHarness
    from harness_async.testing.threads import run_in_thread

    with run_in_thread(FakeHarness.seeded()) as fake:
        yield fake
