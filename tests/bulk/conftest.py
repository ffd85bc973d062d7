"""A client for bulk runs."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from harness_async import HarnessClient
from harness_async.testing import FakeHarness
from tests.support.executions import connect


@pytest.fixture
async def client(fake: FakeHarness) -> AsyncIterator[HarnessClient]:
    """A client of the server, without a rate limit."""
    async with connect(fake) as made:
        yield made
