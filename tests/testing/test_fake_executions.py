from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yarl

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness_async.testing import FakeHarness, RecordedRequest

LIST = "/iacm/api/orgs/default/projects/payments/executions"
BODY = {
    "pipeline": "provision",
    "pipeline_execution_id": "-run/1",
    "pipeline_stage_id": "stage 1",
    "workspace": "network_prod",
}


def ids(rows: list[Any]) -> list[str]:
    return [row["pipeline_execution_id"] for row in rows]


async def test_a_row_has_exactly_the_members_of_the_contract(fake: FakeHarness, get: Any, now: int) -> None:
    """A listed row is what `add_execution` returned, with ids of 22 characters and the time of the clock."""
    row = fake.add_execution("default", "payments")
    assert (await get(LIST)).json == [row]
    assert row.keys() == {*BODY, "account", "created", "org", "project", "status"}
    assert row["created"] == now
    assert len(row["pipeline_execution_id"]) == 22


@pytest.mark.parametrize("size", [1, 3, 10, 100])
async def test_pages_cover_the_list_once(fake: FakeHarness, get: Any, size: int) -> None:
    """The pages of a list that does not change contain each row once, in the configured order."""
    fake.add_executions("default", "payments", 25)
    assert await get.walk(LIST, size) == fake.executions("default", "payments")


async def test_the_default_page_holds_thirty_rows(fake: FakeHarness, get: Any) -> None:
    """Without page and limit, the response has the first thirty rows, and the totals count all."""
    fake.add_executions("default", "payments", 61)
    response = await get(LIST)
    assert response.json == fake.executions("default", "payments")[:30]
    assert response.headers["x-page-size"] == "30"
    assert response.headers["x-total-items"] == "61"
    assert response.headers["x-total-pages"] == "3"
    assert "X-Page-Number" not in response.headers
    assert "Date" in response.headers


async def test_orders(fake: FakeHarness) -> None:
    """The order "oldest" is the reverse of "newest", "hash" is unrelated to time, and all contain the same rows."""
    fake.add_executions("default", "payments", 20)
    newest = fake.executions("default", "payments")
    assert [row["created"] for row in newest] == sorted((row["created"] for row in newest), reverse=True)
    fake.order = "oldest"
    assert fake.executions("default", "payments") == newest[::-1]
    fake.order = "hash"
    hashed = fake.executions("default", "payments")
    assert hashed == fake.executions("default", "payments")
    assert hashed not in (newest, newest[::-1])
    assert sorted(ids(hashed)) == sorted(ids(newest))


async def test_random_ties_shuffle_only_ties(fake: FakeHarness, get: Any, now: int) -> None:
    """Under "random_ties", rows with equal times change places from request to request, others do not."""
    for index in range(40):
        fake.add_execution("default", "payments", created=now - index // 20)
    fake.order = "random_ties"
    first, second = (
        (await get(LIST, params={"limit": 100})).json,
        (await get(LIST, params={"limit": 100})).json,
    )
    assert first != second
    assert sorted(ids(first[:20])) == sorted(ids(second[:20]))


@pytest.mark.parametrize(
    ("totals", "names"),
    [
        ("iacm", {"x-page-size", "x-total-items", "x-total-pages"}),
        ("v1", {"x-page-size", "x-total-elements", "x-page-number"}),
        ("both", {"x-page-size", "x-total-items", "x-total-pages", "x-total-elements", "x-page-number"}),
        ("none", set()),
    ],
)
async def test_header_families(fake: FakeHarness, get: Any, totals: Any, names: set[str]) -> None:
    """Totals have the header names of the configured family, each once, and the page number counts from 0."""
    fake.add_executions("default", "payments", 5)
    fake.totals = totals
    response = await get(LIST, params={"page": 2, "limit": 2})
    sent = [name.lower() for name in response.headers if name.lower().startswith("x-")]
    assert sorted(sent) == sorted(names)
    assert response.headers.get("X-Page-Number", "1") == "1"


async def test_clipped_pages_leave_no_row_out(fake: FakeHarness, get: Any) -> None:
    """Positions follow from the clipped page size, which x-page-size and x-total-pages report."""
    rows = fake.add_executions("default", "payments", 20)
    fake.max_page_size = 7
    assert sorted(ids(await get.walk(LIST, 100))) == sorted(ids(rows))
    response = await get(LIST, params={"limit": 100})
    assert (response.headers["x-page-size"], response.headers["x-total-pages"]) == ("7", "3")


async def test_past_the_end(fake: FakeHarness, get: Any) -> None:
    """A page past the end is empty or an error, as configured; the first page of an empty list is never an error."""
    fake.add_execution("default", "payments")
    assert (await get(LIST, params={"page": 2})).json == []
    fake.past_end = 404
    assert (await get(LIST, params={"page": 2})).status == 404
    fake.past_end = 400
    assert (await get(LIST, params={"page": 2})).status == 400
    fake.add_project("default", "empty")
    assert (await get(LIST.replace("payments", "empty"))).json == []


async def test_filters_combine(fake: FakeHarness, get: Any) -> None:
    """Filters combine with AND, and totals count the filtered rows."""
    add = fake.add_execution
    one = add("default", "payments", status="failure", workspace="a", pipeline="p", pipeline_name="The P")
    two = add("default", "payments", status="failure", workspace="b", pipeline="p")
    three = add("default", "payments", status="none", workspace="a")

    async def kept(**params: str) -> list[Any]:
        response = await get(LIST, params=params)
        assert response.headers["x-total-items"] == str(len(response.json))
        return sorted(ids(response.json))

    assert await kept(status="failure") == sorted(ids([one, two]))
    assert await kept(status="failure,none") == sorted(ids([one, two, three]))
    assert await kept(workspace="a") == sorted(ids([one, three]))
    assert await kept(workspace="a", status="failure") == ids([one])
    assert await kept(pipeline_name="The P") == ids([one])
    assert await kept(pipeline_execution_id=three["pipeline_execution_id"]) == ids([three])
    assert await kept(status="no_such") == []


async def test_filters_see_what_changed(fake: FakeHarness, get: Any) -> None:
    """A repeated filter includes rows that were added, and excludes those removed or changed, in any order."""
    for order in ("newest", "random_ties"):
        fake.order = order
        one = fake.add_execution("default", "payments", status="none")
        assert ids((await get(f"{LIST}?status=none")).json) == ids([one])
        fake.set_status(one, "failure")
        assert (await get(f"{LIST}?status=none")).json == []
        two = fake.add_execution("default", "payments", status="none")
        assert ids((await get(f"{LIST}?status=none")).json) == ids([two])
        fake.remove_execution(two)
        assert (await get(f"{LIST}?status=none")).json == []


async def test_many_filters(fake: FakeHarness, get: Any) -> None:
    """Each of many filters has its own rows."""
    for index in range(20):
        fake.add_execution("default", "payments", workspace=f"w{index}")
    for _ in range(2):
        for index in range(20):
            response = await get(LIST, params={"workspace": f"w{index}"})
            assert [row["workspace"] for row in response.json] == [f"w{index}"]


@pytest.mark.parametrize(
    ("mode", "params", "kept"),
    [
        ("inclusive", {"start_time": 10, "end_time": 20}, {10, 15, 20}),
        ("exclusive", {"start_time": 10, "end_time": 20}, {10, 15}),
        ("ignored", {"start_time": 10, "end_time": 20}, {5, 10, 15, 20, 25}),
        ("inclusive", {"start_time": 15}, {15, 20, 25}),
        ("inclusive", {"end_time": 10}, {5, 10}),
    ],
)
async def test_time_filters(fake: FakeHarness, get: Any, mode: Any, params: Any, kept: set[int]) -> None:
    """The time filters compare `created` and include the end as configured."""
    for created in (5, 10, 15, 20, 25):
        fake.add_execution("default", "payments", created=created)
    fake.end_time = mode
    assert {row["created"] for row in (await get(LIST, params=params)).json} == kept


@pytest.mark.parametrize(
    "query",
    [
        *("limit=0", "limit=101", "limit=abc", "limit=", "limit=1&limit=2", "page=0", "page=-1", "page=1.0"),
        *(
            "unknown=1",
            "start_time=now",
            "end_time=99999999999999999999",
            "status=",
            "status=a&status=b",
            "limit=²",
        ),
    ],
)
async def test_bad_queries(fake: FakeHarness, get: Any, envelope: Callable[[Any], str], query: str) -> None:
    """Queries that violate the contract are rejected with 400 in the goa envelope."""
    fake.add_execution("default", "payments")
    response = await get(f"{LIST}?{query}")
    assert (response.status, envelope(response)) == (400, "goa")


async def test_ids_are_one_segment_each(fake: FakeHarness, get: Any) -> None:
    """Percent-encoded ids with slashes, spaces and percent signs are found, and recorded as received."""
    row = fake.add_execution("default", "payments", pipeline_execution_id="a/b %2F", pipeline_stage_id="ä")
    path = f"{LIST}/a%2Fb%20%252F/%C3%A4"
    async with get.session.get(
        yarl.URL(fake.url + path, encoded=True),
        headers={"x-api-key": fake.api_key, "Harness-Account": fake.account_id},
    ) as response:
        assert await response.json() == row
    assert fake.requests[-1].path == path
    assert (await get(f"{LIST}/a/b/c")).status == 404
    assert (await get(f"{LIST}/nope/nope")).json["name"] == "not_found"


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
        [],
        {},
        {**BODY, "extra": 1},
        {**BODY, "pipeline": 1},
        {**BODY, "pipeline": ""},
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


async def test_writes_must_be_json(fake: FakeHarness, get: Any, envelope: Callable[[Any], str]) -> None:
    """Another content type is 415, invalid JSON is 400."""
    fake.add_project("default", "payments")
    response = await get(LIST, "POST", data=b"{}", headers={"Content-Type": "text/plain"})
    assert (response.status, envelope(response)) == (415, "goa")
    response = await get(LIST, "POST", data=b"{", headers={"Content-Type": "application/json; charset=utf-8"})
    assert (response.status, envelope(response)) == (400, "goa")


async def test_the_hook_between_count_and_rows(fake: FakeHarness, get: Any) -> None:
    """A row that is removed between count and rows is counted and not listed."""
    rows = fake.add_executions("default", "payments", 3)

    def remove(_request: RecordedRequest) -> None:
        fake.remove_execution(rows[0])

    fake.between_count_and_rows = remove
    response = await get(LIST)
    assert (response.headers["x-total-items"], len(response.json)) == ("3", 2)


async def test_the_hook_before_a_request(fake: FakeHarness, get: Any) -> None:
    """The response contains the rows that the hook adds; the hook is not called for a request without a key."""

    def add(_request: RecordedRequest) -> None:
        fake.add_executions("default", "payments", 2)

    fake.before_request = add
    assert (await get(LIST, headers={"x-api-key": None})).status == 401
    assert len((await get(LIST)).json) == 2


async def test_rows_handed_out_are_copies(fake: FakeHarness) -> None:
    """Modifying a returned row changes nothing on the server; its methods do."""
    row = fake.add_execution("default", "payments", status="none")
    row["status"] = "odd"
    assert fake.executions("default", "payments")[0]["status"] == "none"
    assert fake.set_status(row, "success")["status"] == "success"
    assert fake.all_executions()[0]["status"] == "success"
    fake.remove_execution(row)
    assert fake.all_executions() == []
    with pytest.raises(KeyError):
        fake.remove_execution(row)
    with pytest.raises(KeyError):
        fake.set_status(row, "success")


async def test_a_taken_key_is_refused(fake: FakeHarness) -> None:
    """Two executions of a project cannot have the same two ids."""
    row = fake.add_execution("default", "payments")
    with pytest.raises(ValueError, match="already"):
        fake.add_execution(
            "default",
            "payments",
            pipeline_execution_id=row["pipeline_execution_id"],
            pipeline_stage_id=row["pipeline_stage_id"],
        )
