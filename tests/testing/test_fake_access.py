from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
import yarl

from harness_async.testing import FakeHarness
from tests.testing.cases import ALL, IN_PROJECT

LIST = "/iacm/api/orgs/default/projects/payments/executions"
WRONG = "pat.Ab1Cd2Ef3Gh4Ij5Kl6Mn7O.other.secret"


@pytest.mark.parametrize(
    ("path", "headers", "status", "shape"),
    [
        (LIST, {"x-api-key": None}, 401, "legacy"),
        (LIST, {"x-api-key": WRONG}, 401, "goa"),
        ("/v1/orgs", {"x-api-key": None}, 401, "legacy"),
        ("/v1/orgs", {"x-api-key": WRONG}, 401, "legacy"),
        (LIST, {"Harness-Account": None}, 400, "goa"),
        (LIST, {"Harness-Account": "other"}, 404, "goa"),
        ("/v1/orgs", {"Harness-Account": "other"}, 404, "v1"),
        (LIST.replace("payments", "nope"), {}, 404, "goa"),
        (LIST.replace("payments", "p" * 129), {}, 400, "goa"),
        ("/v1/orgs/default/projects/nope", {}, 404, "v1"),
        ("/v2/orgs", {}, 404, "legacy"),
    ],
)
async def test_refusals(
    fake: FakeHarness,
    get: Any,
    envelope: Callable[[Any], str],
    path: str,
    headers: dict[str, str | None],
    status: int,
    shape: str,
) -> None:
    """Each rejection has the status and the envelope of the service that sends it, and is recorded."""
    fake.add_project("default", "payments")
    response = await get(path, headers=headers)
    assert (response.status, envelope(response)) == (status, shape)
    assert [request.status for request in fake.requests] == [status]


async def test_methods_that_are_not(fake: FakeHarness, get: Any) -> None:
    """An unsupported method is 405, and the response names the supported ones."""
    response = await get("/v1/orgs", "DELETE")
    assert (response.status, response.headers["Allow"]) == (405, "GET, POST")


@pytest.mark.parametrize(
    ("path", "shapes"),
    [(LIST, ("goa", "goa")), ("/v1/orgs", ("legacy", "v1")), (ALL["pipeline executions"].path, ("legacy", "legacy"))],
    ids=["iacm", "v1", "pipeline"],
)
async def test_writes_must_be_json(
    fake: FakeHarness, get: Any, envelope: Callable[[Any], str], path: str, shapes: tuple[str, ...]
) -> None:
    """Another content type is 415, and a body that is not JSON is 400, each in the envelope of the service."""
    fake.add_project("default", "payments")
    params = IN_PROJECT if path.startswith("/pipeline/") else {}
    for content_type, body, status, shape in (
        ("text/plain", b"{}", 415, shapes[0]),
        ("application/json; charset=utf-8", b"{", 400, shapes[1]),
        ("application/json", b"\xff", 400, shapes[1]),
    ):
        response = await get(path, "POST", params=params, data=body, headers={"Content-Type": content_type})
        assert (response.status, envelope(response)) == (status, shape)


async def test_paths_must_be_utf8(fake: FakeHarness, get: Any) -> None:
    """A path that is not UTF-8 is rejected."""
    url = yarl.URL(f"{fake.url}/v1/orgs/%FF", encoded=True)
    async with get.session.get(url, headers={"x-api-key": fake.api_key}) as response:
        assert response.status == 400


async def test_a_prefix_is_part_of_the_url() -> None:
    """With a prefix everything is served below it and nothing outside of it."""
    async with FakeHarness(prefix="/gateway/") as fake, aiohttp.ClientSession() as session:
        headers = {"x-api-key": fake.api_key}
        assert fake.url.endswith("/gateway")
        async with session.get(f"{fake.url}/v1/orgs", headers=headers) as response:
            assert response.status == 200
        for path in ("/v1/orgs", "/gatewayed/v1/orgs"):
            async with session.get(fake.url.removesuffix("/gateway") + path, headers=headers) as response:
                assert response.status == 404


async def test_recorded_requests(fake: FakeHarness, get: Any) -> None:
    """A request is recorded completely, with case-insensitive headers and the encoded path."""
    await get("/v1/orgs", params={"org": "a b"}, headers={"X-Odd": "1"})
    (request,) = fake.requests
    assert (request.method, request.path, request.query_string) == ("GET", "/v1/orgs", "org=a+b")
    assert request.query == {"org": ["a b"]}
    assert request.headers["x-odd"] == "1"
    assert (request.body, request.status) == (b"", 200)
    assert fake.api_key not in repr(request)


@pytest.mark.parametrize("turns", range(4))
async def test_close_of_accepted_connections(turns: int) -> None:
    """A connection is closed however few turns of the event loop before the server it was opened."""
    fake = FakeHarness()
    await fake.start()
    with socket.create_connection((fake.host, int(fake.url.rpartition(":")[2]))) as connection:
        for _ in range(turns):
            await asyncio.sleep(0)
        await fake.close()
        connection.setblocking(False)
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(1) == b""
    gc.collect()  # a socket that was not closed warns
