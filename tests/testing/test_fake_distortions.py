from __future__ import annotations

import asyncio
import json
from typing import Any

import attrs
import pytest

from harness_async.testing import (
    ChangeJson,
    ChangeResponse,
    FakeHarness,
    FakeResponse,
    Headers,
    Interim,
    Nulls,
    PageTotals,
    SlowBody,
    SlowHead,
    Status,
    Totals,
)
from tests.testing.cases import ALL

LIST = "/iacm/api/orgs/default/projects/payments/executions"


@pytest.fixture(autouse=True)
def rows(fake: FakeHarness) -> list[dict[str, Any]]:
    return fake.add_executions("default", "payments", 12)


async def test_changed_responses(fake: FakeHarness, get: Any) -> None:
    """A function changes the response, or its decoded body."""
    fake.faults.add(ChangeResponse(lambda response: attrs.evolve(response, status=response.status + 3)), times=1)
    assert (await get(LIST)).status == 203
    fake.faults.add(ChangeJson(lambda body: {"rows": body[:1]}), times=1)
    assert (await get(LIST)).json == {"rows": fake.executions("default", "payments")[:1]}
    assert len((await get(LIST)).json) == 12


async def test_changed_json_needs_json() -> None:
    """A body that is not JSON is not changed."""
    fault = ChangeJson(lambda _body: 1)
    for response in (FakeResponse(200, b"{"), FakeResponse(200, b"1", "text/html"), FakeResponse(200, b"", None)):
        assert fault.apply(response) == response


async def test_headers(fake: FakeHarness, get: Any) -> None:
    """Any header can be sent, such as a date, an age or a very long one, and headers can be removed."""
    date = "Tue, 14 Nov 2023 22:13:20 GMT"
    fake.faults.add(Headers({"Date": date, "Age": "86400", "X-Long": "x" * 7000, "X-Total-Items": None}))
    response = await get(LIST)
    assert (response.headers["Date"], response.headers["Age"]) == (date, "86400")
    assert len(response.headers["X-Long"]) == 7000
    assert "x-total-items" not in response.headers
    assert response.headers["x-page-size"] == "30"


async def test_nulls(fake: FakeHarness, get: Any) -> None:
    """Members are null at any depth, in arrays and in page objects."""
    fake.faults.add(Nulls(["workspace", "totalPages", "executionTriggerInfo"]))
    assert {row["workspace"] for row in (await get(LIST)).json} == {None}
    fake.add_pipeline_execution("default", "payments")
    data = (await ALL["pipeline executions"].fetch(get)).json["data"]
    assert data["totalPages"] is None
    assert data["content"][0]["executionTriggerInfo"] is None


async def test_totals_in_bodies(fake: FakeHarness, get: Any) -> None:
    """The totals of a page object are replaced or removed, all of them and no other member."""
    fake.add_pipeline_execution("default", "payments")
    case = ALL["pipeline executions"]
    fake.faults.add(Totals(items=10**9, pages=None, size=7), times=1)
    data = (await case.fetch(get)).json["data"]
    assert (data["totalElements"], data["size"], data["numberOfElements"]) == (10**9, 7, 1)
    assert "totalPages" not in data
    fake.add_cost("default", "payments")
    fake.faults.add(Totals(items="many"), times=1)
    assert (await ALL["costs"].fetch(get)).json["totalItems"] == "many"


async def test_page_totals_need_rows(fake: FakeHarness, get: Any) -> None:
    """A response without rows keeps its content."""
    fake.faults.add(PageTotals())
    assert (await get("/v1/orgs/default")).json["org"]["identifier"] == "default"
    assert (await get("/v1/orgs/nope")).status == 404


async def test_errors_with_status_200(fake: FakeHarness, get: Any) -> None:
    """A response with status 200 can be an error, with any code."""
    fake.faults.add(Status(200, envelope="legacy"), times=1)
    response = await get(LIST)
    assert (response.status, response.json["status"]) == (200, "ERROR")
    fake.faults.add(Status(400, envelope="legacy", code="TOO_MANY_REQUESTS"), times=1)
    assert (await get(LIST)).json["code"] == "TOO_MANY_REQUESTS"
    fake.faults.add(Status(400, envelope="failure", message="size is wrong"), times=1)
    assert (await get(LIST)).json["errors"] == [{"fieldId": "request", "error": "size is wrong"}]
    fake.faults.add(Status(400, envelope="v1", code="X"), times=1)
    assert (await get(LIST)).json["code"] == "X"


async def raw(fake: FakeHarness) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Send a request for the executions on a new connection."""
    host, port = fake.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = [f"GET {LIST} HTTP/1.1", "Host: x", f"x-api-key: {fake.api_key}", f"Harness-Account: {fake.account_id}"]
    writer.write("\r\n".join([*head, "Connection: close", "", ""]).encode())
    return reader, writer


async def test_interim_responses(fake: FakeHarness, get: Any) -> None:
    """Interim responses precede the regular one, which a client reads as usual."""
    fake.faults.add(Interim(102, 2))
    reader, writer = await raw(fake)
    data = await reader.read()
    writer.close()
    assert data.startswith(b"HTTP/1.1 102 Processing\r\n\r\n" * 2 + b"HTTP/1.1 200 OK\r\n")
    assert len((await get(LIST)).json) == 12
    assert fake.requests[-1].status == 200


async def test_slow_heads(fake: FakeHarness, get: Any) -> None:
    """The head arrives in pieces, then the body, and the connection is closed."""
    fake.faults.add(SlowHead(20, 0.001))
    reader, writer = await raw(fake)
    first = await reader.read(20)
    rest = await reader.read()
    writer.close()
    assert (first + rest).startswith(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
    assert json.loads(rest.partition(b"\r\n\r\n")[2]) == fake.executions("default", "payments")
    assert fake.requests[-1].status == 200
    for _ in range(2):
        assert len((await get(LIST)).json) == 12


@pytest.mark.parametrize("fault", [SlowHead(1, 0.001), SlowBody(1, 0.001)])
async def test_clients_that_disconnect(fake: FakeHarness, fault: Any) -> None:
    """When the client disconnects, a slow response ends."""
    fake.faults.add(fault)
    reader, writer = await raw(fake)
    await reader.read(5)
    (task,) = fake._tasks
    writer.close()
    await asyncio.wait({task}, timeout=5)
    assert task.done()
