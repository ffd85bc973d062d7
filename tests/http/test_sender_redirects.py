"""Redirects: followed within the origin, refused elsewhere."""

from __future__ import annotations

import ssl
from typing import Any

import aiohttp
import pytest

from harness_async import HarnessClient, HarnessError, UnexpectedResponseError
from harness_async.testing import Body, FakeHarness, Redirect, Status
from tests.support.connections import anonymous_tls, is_idle
from tests.support.http import Connect, Serve, response


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("location", ["/v1/orgs/labs", "labs", "{url}/v1/orgs/labs", "?a=b"])
async def test_within_the_origin(fake: FakeHarness, client: HarnessClient, status: int, location: str) -> None:
    """A redirect to the same scheme, host and port is followed with the same headers."""
    fake.faults.add(Redirect(location.format(url=fake.url), status), times=1)
    fake.faults.add(Body(b"{}"))
    found = await client.request("GET", "/v1/orgs/default")
    assert [attempt.status for attempt in found.attempts] == [status, 200]
    first, second = fake.requests
    target = "/v1/orgs/default?a=b" if location == "?a=b" else "/v1/orgs/labs"
    assert f"{second.path}?{second.query_string}".rstrip("?") == target
    assert second.headers["x-api-key"] == first.headers["x-api-key"] == fake.api_key
    assert client.stats.requests == 2


@pytest.mark.parametrize(
    "location",
    [
        "{other}/v1/orgs/default",
        "//{authority}/v1/orgs/default",
        "http://localhost:{port}/v1/orgs/default",
        "https://127.0.0.1:{port}/v1/orgs/default",
        "http://127.0.0.1:{port}@{authority}/v1/orgs/default",
        "\\\\{authority}/v1/orgs/default",
        "http://[broken/",
        "file:///etc/passwd",
        "data:text/plain,x",
        "mailto:x@y.z",
    ],
)
@pytest.mark.parametrize("status", [302, 307])
async def test_elsewhere(fake: FakeHarness, client: HarnessClient, status: int, location: str) -> None:
    """A redirect to another scheme, host or port is an error, and nothing is sent there."""
    async with FakeHarness(api_key=fake.api_key) as other:
        other.add_organization("default")
        authority = other.url.removeprefix("http://")
        target = location.format(other=other.url, authority=authority, port=fake.url.rpartition(":")[2])
        fake.faults.add(Redirect(target, status))
        for call in (client.organizations.get("default"), client.organizations.update("default", name="N")):
            with pytest.raises(HarnessError) as caught:
                await call
            if not location.startswith("\\"):  # which is a path for yarl, and a host for browsers
                assert type(caught.value) is UnexpectedResponseError
                assert "another host" in str(caught.value)
                assert caught.value.status == status
        assert other.requests == []
    if not location.startswith("\\"):
        assert len(fake.requests) == 2


async def test_downgrade(fake: FakeHarness, connect: Connect, serve: Serve) -> None:
    """A redirect from https to plain http is an error, and the key is not sent in the clear."""
    redirect = response(b"", f"Location: {fake.url}/v1/orgs/default", status="302 Found")
    url = await serve(lambda _: redirect, tls=anonymous_tls(ssl.PROTOCOL_TLS_SERVER))
    connector = aiohttp.TCPConnector(ssl=anonymous_tls(ssl.PROTOCOL_TLS_CLIENT))
    async with aiohttp.ClientSession(connector=connector) as http:
        with pytest.raises(UnexpectedResponseError, match="another host"):
            await connect(url, http_session=http).organizations.get("default")
    assert fake.requests == []


async def test_loop(fake: FakeHarness, client: HarnessClient) -> None:
    """A redirect loop ends after five redirects with an error that has all attempts."""
    fake.faults.add(Redirect("/v1/orgs/default"))
    with pytest.raises(UnexpectedResponseError, match="too often") as caught:
        await client.organizations.get("default")
    assert len(fake.requests) == len(caught.value.attempts) == 6
    assert {attempt.status for attempt in caught.value.attempts} == {302}
    assert is_idle(client)


@pytest.mark.parametrize(
    "fault", [Status(304, body=b""), Redirect(""), Status(300, body=b"choose")], ids=["304", "empty", "300"]
)
async def test_without_a_target(fake: FakeHarness, client: HarnessClient, fault: Any) -> None:
    """A redirect without a target is an error."""
    fake.faults.add(fault)
    with pytest.raises(UnexpectedResponseError, match="without a target"):
        await client.organizations.get("default")
    assert len(fake.requests) == 1


@pytest.mark.parametrize("status", [301, 302, 303])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_changed_method(fake: FakeHarness, client: HarnessClient, method: str, status: int) -> None:
    """A redirect that would turn a write into a GET is not followed."""
    fake.faults.add(Redirect("/v1/orgs/labs", status))
    with pytest.raises(UnexpectedResponseError, match="change the request"):
        await client.request(method, "/v1/orgs/default", json={})
    assert len(fake.requests) == 1


@pytest.mark.parametrize("status", [307, 308])
async def test_write(fake: FakeHarness, client: HarnessClient, status: int) -> None:
    """A redirect that keeps method and body is followed with both."""
    fake.faults.add(Redirect("/v1/orgs", status), path="/v1/elsewhere")
    body = {"org": {"identifier": "fresh", "name": "Fresh"}}
    assert (await client.request("POST", "/v1/elsewhere", json=body)).status == 201
    assert [(request.method, request.json) for request in fake.requests] == [("POST", body)] * 2


async def test_retry_at_the_target(fake: FakeHarness, client: HarnessClient) -> None:
    """A failure after a redirect is retried at the target."""
    fake.faults.add(Redirect("/v1/orgs/labs"), path="*/default")
    fake.faults.add(Status(503), times=1, path="*/labs")
    assert (await client.organizations.get("default")).identifier == "labs"
    assert [request.path for request in fake.requests] == ["/v1/orgs/default", "/v1/orgs/labs", "/v1/orgs/labs"]
