from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import aiohttp
import attrs
import pytest

from harness_async.testing import (
    ChangeJson,
    ChangeResponse,
    Delay,
    FakeHarness,
    FakeResponse,
    Fault,
    Reset,
    SlowBody,
    SlowHead,
    Status,
)

LIST = "/iacm/api/orgs/default/projects/payments/executions"
BODY = {"pipeline": "p", "pipeline_execution_id": "e", "pipeline_stage_id": "s", "workspace": "w"}


@pytest.fixture(autouse=True)
def rows(fake: FakeHarness) -> list[dict[str, Any]]:
    return fake.add_executions("default", "payments", 12)


def watch(fake: FakeHarness) -> asyncio.Event:
    """Return an event that is set when a request arrives. The request is executed in the same turn of the loop."""
    arrived = asyncio.Event()
    fake.before_request = lambda _request: arrived.set()
    return arrived


@pytest.mark.parametrize("shape", ["goa", "v1", "legacy"])
async def test_status_in_each_envelope(fake: FakeHarness, get: Any, envelope: Callable[[Any], str], shape: Any) -> None:
    """A scripted status has the named envelope, its message and its headers."""
    fake.faults.add(Status(503, envelope=shape, message="gone fishing", headers={"Retry-After": "7"}))
    response = await get(LIST)
    assert (response.status, envelope(response), response.headers["Retry-After"]) == (503, shape, "7")
    assert response.json["message"] == "gone fishing"
    assert fake.requests[-1].status == 503


async def test_status_without_json(fake: FakeHarness, get: Any) -> None:
    """A status can have an HTML page, text, no body, or a given body."""
    for fault, content_type, body in (
        (Status(502, envelope="html", message="Bad"), "text/html", b"Bad"),
        (Status(502, envelope="text", message="Bad"), "text/plain", b"Bad"),
        (Status(502, envelope="empty"), None, b""),
        (Status(499, body="mine"), "application/vnd.goa.error", b"mine"),
    ):
        fake.faults.clear()
        fake.faults.add(fault)
        response = await get(LIST)
        assert (response.status, body in response.body) == (fault.status, True)
        assert response.headers.get("Content-Type") == content_type


@pytest.mark.parametrize(("moment", "stored"), [("before", 12), ("head", 13), ("after_head", 13), ("after_effect", 13)])
async def test_resets(fake: FakeHarness, get: Any, moment: Any, stored: int) -> None:
    """After a reset the client has no response; only a reset before execution stores nothing."""
    fake.faults.add(Reset(moment), method="post")
    with pytest.raises(aiohttp.ClientError):
        await get(LIST, "POST", json=BODY)
    assert len(fake.all_executions()) == stored
    assert fake.requests[-1].status is None
    assert (await get(LIST)).status == 200


async def test_a_delayed_create_takes_effect_at_once(fake: FakeHarness, get: Any) -> None:
    """A delay affects the response only: the row is created, and the delay ends when the client disconnects."""
    fake.faults.add(Delay(3600))
    arrived = watch(fake)
    request = asyncio.create_task(get(LIST, "POST", json=BODY))
    await arrived.wait()
    (task,) = fake._tasks
    request.cancel()
    await asyncio.wait({task}, timeout=5)
    assert task.cancelled()
    assert len(fake.all_executions()) == 13


async def test_which_requests(fake: FakeHarness, get: Any) -> None:
    """Rules select requests by method, path, predicate, number and share, and count their hits."""
    by_path = fake.faults.add(Status(500), path="/v1/*")
    third = fake.faults.add(Status(501), every=3, when=lambda request: "page" in request.query)
    statuses = [(await get(LIST, params={"page": 1})).status for _ in range(6)]
    assert statuses == [200, 200, 501, 200, 200, 501]
    assert (await get(LIST)).status == 200
    assert (await get("/v1/orgs")).status == 500
    assert (by_path.hits, third.hits, third.seen) == (1, 2, 6)
    fake.faults.clear()
    assert (await get("/v1/orgs")).status == 200


async def test_shares_are_seeded(fake: FakeHarness, get: Any) -> None:
    """A random share applies to about that many requests, the same ones for the same seed."""
    fake.faults.add(Status(500), share=0.5)

    async def statuses() -> list[int]:
        fake.faults.seed = 7
        return [(await get("/v1/orgs")).status for _ in range(40)]

    first = await statuses()
    assert first == await statuses()
    assert 8 < first.count(500) < 32


async def test_the_first_added_wins(fake: FakeHarness, get: Any) -> None:
    """Of two faults that would replace the response, the first one does, and the other does not count."""
    fake.faults.add(Status(500), times=1)
    second = fake.faults.add(Status(502), times=1)
    assert [(await get(LIST)).status for _ in range(3)] == [500, 502, 200]
    assert second.hits == 1


async def test_faults_come_after_the_key(fake: FakeHarness, get: Any) -> None:
    """A request without a key is rejected before faults are selected."""
    rule = fake.faults.add(Status(500))
    assert (await get(LIST, headers={"x-api-key": None})).status == 401
    assert rule.seen == 0


@attrs.frozen
class _Harmless(Fault):
    replaces = True


async def test_a_fault_of_ones_own(fake: FakeHarness, get: Any) -> None:
    """The base class performs the regular exchange, so a custom fault overrides only what it changes."""
    fake.faults.add(_Harmless())
    assert (await get(LIST)).status == 200


@pytest.mark.parametrize("fault", [Delay(3600), SlowBody(1, 3600)], ids=["delay", "body"])
async def test_closing_is_prompt(fault: Fault) -> None:
    """A server closes at once during slow responses, and leaves no task."""
    before = asyncio.all_tasks()
    async with aiohttp.ClientSession() as session:
        async with FakeHarness() as fake:
            fake.faults.add(fault)
            arrived = watch(fake)
            request = asyncio.create_task(_read(session, f"{fake.url}/v1/orgs", fake.api_key))
            await arrived.wait()
            async with asyncio.timeout(5):
                await fake.close()
        with pytest.raises(aiohttp.ClientError):
            await request
    assert asyncio.all_tasks() == before


async def _read(session: aiohttp.ClientSession, url: str, key: str) -> object:
    async with session.get(url, headers={"x-api-key": key}) as response:
        return json.loads(await response.read())


async def test_changed_responses(fake: FakeHarness, get: Any) -> None:
    """A function changes the response, or its decoded body if that is JSON."""
    fake.faults.add(ChangeResponse(lambda response: attrs.evolve(response, status=response.status + 3)), times=1)
    assert (await get(LIST)).status == 203
    fake.faults.add(ChangeJson(lambda body: {"rows": body[:1]}), times=1)
    assert (await get(LIST)).json == {"rows": fake.executions("default", "payments")[:1]}
    fault = ChangeJson(lambda _body: 1)
    for response in (FakeResponse(200, b"{"), FakeResponse(200, b"1", "text/html"), FakeResponse(200, b"", None)):
        assert fault.apply(response) == response


@pytest.mark.parametrize("fault", [SlowHead(1, 0.001), SlowBody(1, 0.001)], ids=["head", "body"])
async def test_clients_that_disconnect(fake: FakeHarness, fault: Fault) -> None:
    """When the client disconnects, a slow response ends."""
    fake.faults.add(fault)
    host, port = fake.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = [f"GET {LIST} HTTP/1.1", "Host: x", f"x-api-key: {fake.api_key}", f"Harness-Account: {fake.account_id}"]
    writer.write("\r\n".join([*head, "", ""]).encode())
    await reader.read(5)
    (task,) = fake._tasks
    writer.close()
    await asyncio.wait({task}, timeout=5)
    assert task.done()
