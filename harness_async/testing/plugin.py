"""The pytest plugin: a running server for every test that asks for `fake_harness`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness_async.testing.server import FakeHarness


@pytest.fixture
def fake_harness() -> Iterator[FakeHarness]:
    """A seeded `FakeHarness` that is running, a new one for each test.

    It serves from a thread of its own, so the test may be plain, or asynchronous on any loop. Its data
    methods take a lock and may be called from the test; its hooks run in the server's thread.
    """
    # Imported here: pytest loads this plugin in every run, and most runs need no web server.
    from harness_async.testing.server import FakeHarness
    from harness_async.testing.threads import run_in_thread

    with run_in_thread(FakeHarness.seeded()) as fake:
        yield fake
