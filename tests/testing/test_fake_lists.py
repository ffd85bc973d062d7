from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from harness_async.testing import (
    ClipPages,
    FakeHarness,
    PageTotals,
    RecordedRequest,
    SamePage,
    Totals,
)
from harness_async.testing.api.lists import List
from harness_async.testing.api.routes import ROUTES
from tests.testing.cases import CASES, IN_PROJECT, Case, read

EVERY_LIST = pytest.mark.parametrize("case", CASES, ids=str)
PROJECT_LISTS = pytest.mark.parametrize(
    "case", [case for case in CASES if "payments" in case.path or case.params == IN_PROJECT], ids=str
)


def test_every_list_is_a_case() -> None:
    """Every route that is a list has a case in the table."""
    routes = {
        re.sub(r"\{\w+\}", ".+", route.partition(" ")[2]) for route, found in ROUTES.items() if isinstance(found, List)
    }
    assert len(routes) == len(CASES)
    for route in routes:
        assert any(re.fullmatch(route, case.path) for case in CASES), route


@EVERY_LIST
async def test_pages(fake: FakeHarness, get: Any, case: Case) -> None:
    """The pages contain each row once, clipped ones too; behind the last one is nothing, or an error as configured."""
    identities = sorted(case.fill(fake, 11))
    assert sorted(await case.walk(get, 4)) == identities
    assert [case.total_of(await case.fetch(get, page, 4)) for page in (0, 2)] == [11, 11]
    for status in (404, 400):
        fake.past_end = status
        assert [(await case.fetch(get, page, 11)).status for page in (0, 1)] == [200, status]
    fake.past_end = "empty"
    fake.max_page_size = 4
    assert sorted(await case.walk(get, 50)) == identities
    fake.faults.add(ClipPages(2))
    assert len(case.names(await case.fetch(get, 0, 50))) == 2


@EVERY_LIST
async def test_page_sizes(fake: FakeHarness, get: Any, envelope: Callable[[Any], str], case: Case) -> None:
    """Without a size a page has the default one; other values than numbers in range are rejected."""
    case.fill(fake, case.default + 1)
    assert len(case.names(await case.fetch(get))) == case.default
    assert len(case.names(await case.fetch(get, size=case.maximum))) == case.default + 1
    for name, value in ((case.page, "-1"), (case.page, "x"), (case.size, "0"), (case.size, str(case.maximum + 1))):
        response = await case.fetch(get, extra={name: value})
        assert (response.status, envelope(response)) == (400, case.envelope)
        assert name in response.json["message"]


@EVERY_LIST
async def test_unknown_parameters(fake: FakeHarness, get: Any, envelope: Callable[[Any], str], case: Case) -> None:
    """A parameter of another dialect is rejected, as is one that is given twice."""
    case.fill(fake, 1)
    for name in {"page", "limit", "size", "pageIndex", "pageSize", "per_page"} - {case.page, case.size}:
        response = await case.fetch(get, extra={name: "1"})
        assert (response.status, envelope(response)) == (400, case.envelope)
        assert name in response.json["message"]
    twice = [*case.params.items(), (case.size, "1"), (case.size, "2")]
    options = {} if case.body is None else {"json": case.body}
    response = await get(case.path, "GET" if case.body is None else "POST", params=twice, **options)
    assert (response.status, envelope(response)) == (400, case.envelope)


@EVERY_LIST
async def test_totals(fake: FakeHarness, get: Any, case: Case) -> None:
    """Totals can be left out, replaced by any value, and by the number of rows of the page."""
    case.fill(fake, 5)
    fake.faults.add(PageTotals(), times=1)
    assert case.total_of(await case.fetch(get, 0, 2)) == 2
    fake.faults.add(Totals(items=77), times=1)
    assert case.total_of(await case.fetch(get, 0, 2)) == 77
    fake.faults.add(Totals(items=None), times=1)
    assert case.total_of(await case.fetch(get, 0, 2)) is None
    fake.totals = "none"
    response = await case.fetch(get, 0, 2)
    assert case.total_of(response) is None
    assert len(case.names(response)) == 2


@EVERY_LIST
async def test_orders(fake: FakeHarness, get: Any, case: Case) -> None:
    """Every order contains the same rows: by time, or "hash", which is stable and unrelated to it."""
    identities = sorted(case.fill(fake, 12))
    orders = {}
    for order in ("newest", "oldest", "hash", "random_ties"):
        fake.order = order
        orders[order] = await case.walk(get, 5)
        assert sorted(orders[order]) == identities
    if case.collection not in {"organizations", "projects", "workspaces"}:  # by insertion, and by name
        fake.order = "oldest"
        assert orders["newest"][::-1] == orders["oldest"] == case.identities(fake)
    fake.order = "hash"
    assert orders["hash"] == await case.walk(get, 5)
    assert orders["hash"] != orders["oldest"]


@EVERY_LIST
async def test_the_hook_between_count_and_rows(fake: FakeHarness, get: Any, case: Case) -> None:
    """A row that is removed between count and rows is counted and not listed."""
    case.fill(fake, 4)

    def remove(_request: RecordedRequest) -> None:
        fake.remove(case.collection, fake.rows(case.collection, "default", "payments")[0])

    fake.between_count_and_rows = remove
    response = await case.fetch(get)
    assert (case.total_of(response), len(case.names(response))) == (4, 3)


@EVERY_LIST
async def test_the_same_page_for_ever(fake: FakeHarness, get: Any, case: Case) -> None:
    """A server that ignores the page number returns its first page for any, in the same or in random order."""
    case.fill(fake, 20)
    first = case.names(await case.fetch(get, 0, 9))
    rule = fake.faults.add(SamePage())
    assert case.names(await case.fetch(get, 1, 9)) == first
    fake.faults.clear()
    fake.faults.add(SamePage(shuffled=True))
    shuffled = case.names(await case.fetch(get, 1, 9))
    assert sorted(shuffled) == sorted(first)
    assert shuffled != first
    assert rule.hits == 1


@PROJECT_LISTS
async def test_denied_projects(fake: FakeHarness, get: Any, envelope: Callable[[Any], str], case: Case) -> None:
    """A denied project rejects the requests for its rows, until it is allowed again."""
    case.fill(fake, 1)
    for denied in (("default", "payments"), ("default",)):
        fake.deny(*denied)
        response = await case.fetch(get)
        assert (response.status, envelope(response)) == (403, "goa" if case.envelope == "goa" else "legacy")
        fake.allow(*denied)
    assert (await case.fetch(get)).status == 200


@PROJECT_LISTS
async def test_missing_projects(fake: FakeHarness, get: Any, case: Case) -> None:
    """A missing project is 404. With the option `not_found`, v1 and ng manager respond with 400 and a code."""
    assert (await case.fetch(get)).status == 404
    fake.not_found = 400
    response = await case.fetch(get)
    if case.path.startswith(("/v1/", "/ng/")):
        assert (response.status, response.json["code"]) == (400, "RESOURCE_NOT_FOUND_EXCEPTION")
    else:
        assert response.status == 404


@PROJECT_LISTS
async def test_identifiers_in_another_case(fake: FakeHarness, get: Any, case: Case) -> None:
    """Organization and project are found in any case, unless `case_sensitive`. Rows have them as they were added."""
    fake.add_project("DeFault", "PayMents")
    fake.add_rows(case.collection, "DeFault", "PayMents", 2)
    response = await case.fetch(get)
    assert len(case.names(response)) == 2
    for row in read(response.json, case.rows):
        named = {**row, **row.get("service", {}), **row.get("environment", {})}
        assert {named.get("org"), named.get("orgIdentifier")} <= {"DeFault", None}
        assert {named.get("project"), named.get("projectIdentifier")} <= {"PayMents", None}
    fake.case_sensitive = True
    assert (await case.fetch(get)).status == 404


@EVERY_LIST
async def test_rows_are_copies(fake: FakeHarness, case: Case) -> None:
    """Modifying a returned row changes nothing on the server. Removing it twice is a KeyError."""
    case.fill(fake, 2)
    rows = fake.rows(case.collection, "default", "payments")
    spoiled = fake.rows(case.collection, "default", "payments")
    for row in spoiled:
        for value in row.values():
            if isinstance(value, dict):
                value.clear()
        row["extra"] = 1
    assert fake.rows(case.collection, "default", "payments") == rows
    fake.remove(case.collection, rows[0])
    with pytest.raises(KeyError):
        fake.remove(case.collection, rows[0])
    with pytest.raises(KeyError):
        fake.change(case.collection, rows[0], created=1)
    with pytest.raises(ValueError, match="identity"):
        fake.change(case.collection, rows[1], **{case.stored: "other"})
