from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import aiohttp
import attrs
import pytest

from harness_async.testing import FakeHarness

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

NOW = 1_700_000_000.0


@attrs.frozen
class Reply:
    """An answer read whole."""

    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        """The decoded body."""
        return json.loads(self.body)


@attrs.frozen
class Client:
    """A plain HTTP client that sends what the API wants, unless told otherwise."""

    fake: FakeHarness
    session: aiohttp.ClientSession

    async def __call__(self, path: str, method: str = "GET", **options: Any) -> Reply:
        """Send a request; a header of None is left out."""
        headers = {"x-api-key": self.fake.api_key, "Harness-Account": self.fake.account_id}
        for name, value in options.pop("headers", {}).items():
            if value is None:
                del headers[name]
            else:
                headers[name] = value
        options.setdefault("allow_redirects", False)
        async with self.session.request(method, self.fake.url + path, headers=headers, **options) as response:
            return Reply(response.status, response.headers, await response.read())

    async def walk(self, path: str, size: int, first: int = 1) -> list[Any]:
        """Read pages until an empty one."""
        rows: list[Any] = []
        for page in range(first, 10_000):
            reply = await self(path, params={"limit": size, "page": page})
            if not reply.json:
                return rows
            rows += reply.json
        raise AssertionError("the list has no end")


@pytest.fixture
async def fake() -> AsyncIterator[FakeHarness]:
    """A running server without data whose clock stands still."""
    async with FakeHarness(clock=lambda: NOW) as server:
        yield server


@pytest.fixture
async def get(fake: FakeHarness) -> AsyncIterator[Client]:
    """A client of that server."""
    async with aiohttp.ClientSession() as session:
        yield Client(fake, session)


@pytest.fixture
def now() -> int:
    """The server's time in milliseconds."""
    return int(NOW * 1000)


@pytest.fixture
def envelope() -> Callable[[Reply], str]:
    """Names the envelope of an error by its shape."""

    def name(reply: Reply) -> str:
        if reply.headers["Content-Type"] == "application/vnd.goa.error":
            assert reply.json.keys() == {"name", "id", "message", "temporary", "timeout", "fault"}
            return "goa"
        assert reply.headers["Content-Type"] == "application/json"
        if reply.json.get("status") == "ERROR":
            return "legacy"
        assert reply.json.keys() == {"message", "code", "errors", "error_metadata"}
        return "v1"

    return name
