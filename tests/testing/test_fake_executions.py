from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from harness_async.testing import FakeHarness

LIST = "/iacm/api/orgs/default/projects/payments/executions"
BODY = {
    "pipeline": "provision",
    "pipeline_execution_id": "-run/1",
    "pipeline_stage_id": "stage 1",
    "workspace": "network_prod",
}


def ids(rows: list[Any]) -> list[str]:
    return [row["pipeline_execution_id"] for row in rows]


async def test_members_of_a_row(fake: FakeHarness, get: Any, now: int) -> None:
    """A listed row is what `add_execution` returned, with ids of 22 characters and the time of the clock."""
    row = fake.add_execution("default", "payments")
    assert (await get(LIST)).json == [row]
    assert row.keys() == {*BODY, "account", "created", "org", "project", "status"}
    assert row["created"] == now
    assert len(row["pipeline_execution_id"]) == 22


async def test_create(fake: FakeHarness, get: Any, envelope: Callable[[Any], str], now: int) -> None:
    """A create returns status 200 and a row without outcome; a taken key is a conflict."""
    fake.add_project("default", "payments")
    response = await get(LIST, "POST", json=BODY)
    assert response.status == 200
    scope = {"account": fake.account_id, "org": "default", "project": "payments"}
    assert response.json == {**BODY, **scope, "status": "none", "created": now}
    assert fake.executions("default", "payments") == [response.json]
    again = await get(LIST, "POST", json=BODY)
    assert (again.status, envelope(again), again.json["name"]) == (409, "goa", "conflict")
    assert fake.requests[-1].json == BODY


@pytest.mark.parametrize(
    "body",
    [
        {},
        {**BODY, "extra": 1},
        {**BODY, "pipeline": 1},
        {**BODY, "workspace": "x" * 129},
        {k: v for k, v in BODY.items() if k != "workspace"},
    ],
)
async def test_bad_creates(fake: FakeHarness, get: Any, envelope: Callable[[Any], str], body: Any) -> None:
    """A create accepts exactly its four members, as strings of identifier length."""
    fake.add_project("default", "payments")
    response = await get(LIST, "POST", json=body)
    assert (response.status, envelope(response)) == (400, "goa")
    assert fake.all_executions() == []
