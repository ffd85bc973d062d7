from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import attrs
import pytest

from harness_async.testing import FakeHarness

NOW = 1_700_000_000.0


@attrs.frozen
class Response:
    """A complete response."""

    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        """The decoded body."""
        return json.loads(self.body)


@attrs.frozen
class Client:
    """A plain HTTP client that sends the headers of the API, unless they are overridden."""

    fake: FakeHarness
    session: aiohttp.ClientSession

    async def __call__(self, path: str, method: str = "GET", **options: Any) -> Response:
        """Send a request. A header of None is left out."""
        headers = {"x-api-key": self.fake.api_key, "Harness-Account": self.fake.account_id}
        for name, value in options.pop("headers", {}).items():
            if value is None:
                del headers[name]
            else:
                headers[name] = value
        options.setdefault("allow_redirects", False)
        async with self.session.request(method, self.fake.url + path, headers=headers, **options) as response:
            return Response(response.status, response.headers, await response.read())


@pytest.fixture
async def fake() -> AsyncIterator[FakeHarness]:
    """A running server without data, whose clock does not move."""
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
def envelope() -> Callable[[Response], str]:
    """Returns the name of the envelope of an error, which its shape shows."""

    def name(response: Response) -> str:
        if response.headers["Content-Type"] == "application/vnd.goa.error":
            assert response.json.keys() == {"name", "id", "message", "temporary", "timeout", "fault"}
            return "goa"
        assert response.headers["Content-Type"] == "application/json"
        if response.json.get("status") == "FAILURE":
            assert all(error.keys() == {"fieldId", "error"} for error in response.json["errors"])
            return "failure"
        if response.json.get("status") == "ERROR":
            assert {"code", "message", "correlationId", "responseMessages"} <= response.json.keys()
            return "legacy"
        assert response.json.keys() == {"message", "code", "errors", "error_metadata"}
        return "v1"

    return name
