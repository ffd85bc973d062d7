"""Executions: the exact wire forms, the create that looks before it repeats, and the wait for an outcome."""

from __future__ import annotations

import pickle
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, TypeAlias

import pytest

from harness_async import (
    BadRequestError,
    ConflictError,
    DeadlineExceededError,
    DecodeError,
    Execution,
    ExecutionStatus,
    HarnessClient,
    HarnessError,
    NotFoundError,
    PermissionDeniedError,
    RetryPolicy,
    ServerError,
    Timeouts,
    TransportError,
    UnexpectedResponseError,
)
from harness_async.testing import (
    Body,
    CutBody,
    Delay,
    FakeHarness,
    RecordedRequest,
    Reset,
    SignInPage,
    SlowBody,
    Status,
    TooManyRequests,
    Totals,
)
from tests.support.connections import free_places

Connect: TypeAlias = Callable[..., HarnessClient]
Serve: TypeAlias = Callable[..., Awaitable[str]]

EXECUTIONS = "/iacm/api/orgs/default/projects/payments/executions"
NEW = {
    "pipeline": "provision",
    "pipeline_execution_id": "fresh",
    "pipeline_stage_id": "stage",
    "workspace": "network",
}
ROW = (
    b'{"account":"a","created":1,"org":"o","pipeline":"p","pipeline_execution_id":"e","pipeline_stage_id":"s",'
    b'"project":"j","status":"success","workspace":"w"}'
)


def lines(fake: FakeHarness) -> list[str]:
    """Give the requests that came in, as method and what follows the list's path."""
    return [f"{request.method} {request.path.removeprefix(EXECUTIONS)}" for request in fake.requests]


def stored(fake: FakeHarness) -> list[dict[str, Any]]:
    """Give the executions of the ids of `NEW`."""
    return [row for row in fake.executions("default", "payments") if row["pipeline_execution_id"] == "fresh"]


# -- wire forms --------------------------------------------------------------------------------------------------------


async def test_list_as_on_the_wire(fake: FakeHarness, client: HarnessClient) -> None:
    """A list goes out exactly as the API's documentation has it: size, page, and the statuses as one value."""
    fake.add_project("vf4", "yy")
    await client.executions.list("vf4", "yy", limit=30, status=["a", "b"]).collect()
    request = fake.requests[0]
    assert request.method == "GET"
    assert f"{request.path}?{request.query_string}" == (
        "/iacm/api/orgs/vf4/projects/yy/executions?limit=30&page=1&status=a%2Cb"
    )
    assert request.body == b""


@pytest.mark.parametrize(
    ("filters", "query"),
    [
        pytest.param({}, "", id="none"),
        pytest.param({"status": "success"}, "&status=success", id="status"),
        pytest.param({"status": ExecutionStatus.FAILURE}, "&status=failure", id="status-member"),
        pytest.param({"status": (ExecutionStatus("aborted"), "none")}, "&status=aborted%2Cnone", id="statuses"),
        pytest.param({"workspace": "net work"}, "&workspace=net%20work", id="workspace"),
        pytest.param({"pipeline_execution_id": "-2w/+"}, "&pipeline_execution_id=-2w%2F%2B", id="run"),
        pytest.param({"pipeline_name": "a&b"}, "&pipeline_name=a%26b", id="pipeline-name"),
        pytest.param({"start_time": 0, "end_time": 5}, "&start_time=0&end_time=5", id="milliseconds"),
        pytest.param({"start_time": -1}, "&start_time=-1", id="before-1970"),
        pytest.param(
            {"start_time": datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=2)))},
            "&start_time=1704060000000",
            id="zone",
        ),
        pytest.param(
            {"end_time": datetime(2024, 1, 1, 0, 0, 0, 1999, tzinfo=UTC)}, "&end_time=1704067200001", id="microseconds"
        ),
    ],
)
async def test_list_filters(fake: FakeHarness, client: HarnessClient, filters: dict[str, Any], query: str) -> None:
    """Each filter goes out under its name, times as milliseconds, and the server takes it."""
    await client.executions.list("default", "payments", **filters).collect()
    assert fake.requests[0].query_string == f"limit=100&page=1{query}"
    assert fake.requests[0].status == 200


@pytest.mark.parametrize(
    ("filters", "error"),
    [
        pytest.param({"status": []}, ValueError, id="no-status"),
        pytest.param({"status": ""}, ValueError, id="empty-status"),
        pytest.param({"status": "a,b"}, ValueError, id="comma"),
        pytest.param({"status": 5}, TypeError, id="status-number"),
        pytest.param({"start_time": datetime(2024, 1, 1)}, ValueError, id="naive"),  # noqa: DTZ001 - the point
        pytest.param({"start_time": 1.5}, TypeError, id="float"),
        pytest.param({"start_time": True}, TypeError, id="boolean"),
        pytest.param({"end_time": "2024-01-01"}, TypeError, id="text-time"),
        pytest.param({"start_time": 5, "end_time": 4}, ValueError, id="backwards"),
        pytest.param({"limit": 0}, ValueError, id="limit-0"),
        pytest.param({"limit": 101}, ValueError, id="limit-101"),
        pytest.param({"prefetch": -1}, ValueError, id="prefetch"),
        pytest.param({"consistency": "eventual"}, ValueError, id="consistency"),
        pytest.param({"workspace": b"a"}, TypeError, id="bytes"),
    ],
)
async def test_list_refuses(
    fake: FakeHarness, client: HarnessClient, filters: dict[str, Any], error: type[Exception]
) -> None:
    """A filter that cannot be meant is refused where the list is made, before anything is sent."""
    with pytest.raises(error):
        client.executions.list("default", "payments", **filters)
    assert fake.requests == []


@pytest.mark.parametrize(
    ("ids", "path"),
    [
        pytest.param(("-2w/../b", "s"), "/-2w%2F..%2Fb/s", id="dash-and-climbing"),
        pytest.param(("a b", "c\td"), "/a%20b/c%09d", id="spaces"),
        pytest.param(("100%", "%2e%2e"), "/100%25/%252e%252e", id="percent"),
        pytest.param(("a?b", "c#d"), "/a%3Fb/c%23d", id="query"),
        pytest.param(("cost-changes", "é"), "/cost-changes/%C3%A9", id="letters"),
    ],
)
async def test_get_with_awkward_ids(fake: FakeHarness, client: HarnessClient, ids: tuple[str, str], path: str) -> None:
    """Ids of any kind are one segment each, and the server finds what was meant."""
    run, stage = ids
    fake.add_execution("default", "payments", pipeline_execution_id=run, pipeline_stage_id=stage)
    found = await client.executions.get("default", "payments", run, stage)
    assert found.key == ("default", "payments", run, stage)
    assert lines(fake) == [f"GET {path}"]


async def test_get(fake: FakeHarness, client: HarnessClient) -> None:
    """An execution has every member as it was sent, and is a value: equal, hashable, picklable."""
    found = await client.executions.get("default", "payments", "run1", "stage")
    assert found == Execution(
        account=fake.account_id,
        org="default",
        project="payments",
        pipeline="provision_network",
        pipeline_execution_id="run1",
        pipeline_stage_id="stage",
        workspace="network_prod",
        status=ExecutionStatus.FAILURE,
        created=1_700_000_000_001,
    )
    assert found.created_at == datetime(2023, 11, 14, 22, 13, 20, 1000, tzinfo=UTC)
    assert pickle.loads(pickle.dumps(found)) == found  # noqa: S301 - our own
    assert len({found, await client.executions.get("default", "payments", "run1", "stage")}) == 1


async def test_get_of_nothing(client: HarnessClient) -> None:
    """Ids that the project does not have are a `NotFoundError` in IaCM's own envelope."""
    with pytest.raises(NotFoundError) as caught:
        await client.executions.get("default", "payments", "run9", "stage")
    assert (caught.value.code, caught.value.message) == ("not_found", "execution not found")
    assert caught.value.correlation_id


async def test_unknown_status_is_kept(fake: FakeHarness, client: HarnessClient) -> None:
    """A word that this version does not know comes through unchanged."""
    fake.set_status(fake.executions("default", "payments")[0], "pending approval")
    found = await client.executions.list("default", "payments").first()
    assert found is not None
    assert found.status == "pending approval"
    assert not found.status.is_known


async def test_time_beyond_any_calendar(fake: FakeHarness, client: HarnessClient) -> None:
    """A time that fits no calendar, as the documentation's samples have, is kept as the integer it is."""
    fake.faults.add(Body(ROW.replace(b'"created":1', b'"created":8261120883995203000')))
    found = await client.executions.get("o", "j", "e", "s")
    assert found.created == 8_261_120_883_995_203_000
    assert found.created_at is None


@pytest.mark.parametrize("name", ["org", "project", "pipeline_execution_id", "pipeline_stage_id"])
@pytest.mark.parametrize("how", ["missing", "null", "number"])
async def test_identity_must_be_there(fake: FakeHarness, client: HarnessClient, name: str, how: str) -> None:
    """A row without one of its identity members is a `DecodeError` that names the place, never the text "None"."""
    whole = f'"{name}":'.encode()
    value = ROW.partition(whole)[2].partition(b",")[0]
    new = {"missing": b'"x":', "null": whole + b"null", "number": whole + b"5"}[how]
    row = ROW.replace(whole + value, new + (value if how == "missing" else b""))
    fake.faults.add(Body(b"[" + ROW + b"," + row + b"]"))
    with pytest.raises(DecodeError) as caught:
        await client.executions.list("default", "payments").collect()
    assert caught.value.path == f"$[1].{name}"


# -- create ------------------------------------------------------------------------------------------------------------


async def test_create(fake: FakeHarness, client: HarnessClient) -> None:
    """A create sends exactly the four members and gives what the server stored."""
    made = await client.executions.create("default", "payments", **NEW)
    request = fake.requests[0]
    assert (request.method, request.path, request.query_string) == ("POST", EXECUTIONS, "")
    assert request.json == NEW
    assert request.headers["Content-Type"] == "application/json"
    assert made.key == ("default", "payments", "fresh", "stage")
    assert (made.pipeline, made.workspace, made.status) == ("provision", "network", ExecutionStatus.NONE)
    assert len(fake.requests) == len(stored(fake)) == 1


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"pipeline": ""}, ValueError),
        ({"workspace": None}, TypeError),
        ({"pipeline_execution_id": ""}, ValueError),
        ({"pipeline_execution_id": "x" * 129}, ValueError),
        ({"pipeline_stage_id": ".."}, ValueError),
        ({"pipeline_stage_id": 5}, TypeError),
    ],
    ids=["no-pipeline", "no-workspace", "no-run", "long-run", "climbing-stage", "number-stage"],
)
async def test_create_refuses(
    fake: FakeHarness, client: HarnessClient, change: dict[str, Any], error: type[Exception]
) -> None:
    """What could not be stored or found again is refused before anything is sent."""
    with pytest.raises(error):
        await client.executions.create("default", "payments", **{**NEW, **change})
    assert fake.requests == []


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Reset("after_effect"), id="reset"),
        pytest.param(Reset("head"), id="reset-in-head"),
        pytest.param(Reset("after_head"), id="reset-after-head"),
        pytest.param(CutBody(), id="cut"),
        pytest.param(CutBody(0.0), id="cut-to-nothing"),
    ],
)
async def test_create_whose_answer_was_lost(fake: FakeHarness, client: HarnessClient, fault: Any) -> None:
    """A create that worked though its answer was lost is found again, and stored once."""
    fake.faults.add(fault, times=1, method="POST")
    made = await client.executions.create("default", "payments", **NEW)
    assert made.key == ("default", "payments", "fresh", "stage")
    assert lines(fake) == ["POST ", "GET /fresh/stage"]
    assert len(stored(fake)) == 1


async def test_create_whose_answer_came_too_late(fake: FakeHarness, connect: Connect) -> None:
    """A create that the server answers too late is found again, and stored once."""
    fake.faults.add(Delay(3600), times=1, method="POST")
    client = connect(timeouts=Timeouts(read=0.05))
    assert (await client.executions.create("default", "payments", **NEW)).workspace == "network"
    assert lines(fake)[0] == "POST "
    assert set(lines(fake)[1:]) == {"GET /fresh/stage"}
    assert len(stored(fake)) == 1


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Reset("before"), id="reset"),
        pytest.param(Status(503), id="503"),
        pytest.param(Status(500), id="500"),
        pytest.param(Status(499), id="499"),
        pytest.param(Status(502, envelope="html"), id="502-page"),
        pytest.param(Body(b"", status=200), id="empty-success"),
        pytest.param(Body(b"{", status=200), id="garbled-success"),
    ],
)
async def test_create_that_had_no_effect(fake: FakeHarness, client: HarnessClient, fault: Any) -> None:
    """A create that is not found after a failure is sent again, once it was looked for."""
    fake.faults.add(fault, times=1, method="POST")
    made = await client.executions.create("default", "payments", **NEW)
    assert made.key[2:] == ("fresh", "stage")
    assert lines(fake) == ["POST ", "GET /fresh/stage", "POST "]
    assert len(stored(fake)) == 1


async def test_create_that_keeps_failing(fake: FakeHarness, client: HarnessClient) -> None:
    """After three sends without effect the failure is raised, with all of them on it."""
    fake.faults.add(Status(503), method="POST")
    with pytest.raises(ServerError) as caught:
        await client.executions.create("default", "payments", **NEW)
    assert lines(fake) == ["POST ", "GET /fresh/stage"] * 3
    assert [attempt.status for attempt in caught.value.attempts] == [503] * 3
    assert caught.value.ambiguous


async def test_create_whose_lookup_fails(fake: FakeHarness, client: HarnessClient) -> None:
    """Where the look for its effect fails too, the first failure is raised and nothing is sent again."""
    fake.faults.add(Reset("after_effect"), method="POST")
    fake.faults.add(Status(403), method="GET")
    with pytest.raises(TransportError) as caught:
        await client.executions.create("default", "payments", **NEW)
    assert caught.value.ambiguous
    assert caught.value.method == "POST"
    assert lines(fake) == ["POST ", "GET /fresh/stage"]


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Status(400), BadRequestError),
        (Status(403), PermissionDeniedError),
        (Status(409), ConflictError),
        (SignInPage(), UnexpectedResponseError),
    ],
    ids=["400", "403", "409", "sign-in"],
)
async def test_create_refused(fake: FakeHarness, client: HarnessClient, fault: Any, error: type[HarnessError]) -> None:
    """A clear refusal is raised at once, without a look."""
    fake.faults.add(fault, method="POST")
    with pytest.raises(error):
        await client.executions.create("default", "payments", **NEW)
    assert lines(fake) == ["POST "]


async def test_create_after_a_refusal_by_rate(fake: FakeHarness, client: HarnessClient) -> None:
    """A 429 proves that nothing was stored: the create goes again without a look."""
    fake.faults.add(TooManyRequests(), times=2, method="POST")
    await client.executions.create("default", "payments", **NEW)
    assert lines(fake) == ["POST "] * 3
    assert len(stored(fake)) == 1


async def test_create_of_taken_ids(fake: FakeHarness, client: HarnessClient) -> None:
    """Ids that are taken are a `ConflictError`, even where what is stored is the same: we did not store it."""
    await client.executions.create("default", "payments", **NEW)
    with pytest.raises(ConflictError) as caught:
        await client.executions.create("default", "payments", **NEW)
    assert not caught.value.ambiguous


def store_before(fake: FakeHarness, number: int, **members: Any) -> None:
    """Let an execution of the ids of `NEW` appear before the request of that number, as a slow first try would."""

    def hook(_: RecordedRequest) -> None:
        if len(fake.requests) == number:
            fake.add_execution("default", "payments", **{**NEW, **members})

    fake.before_request = hook


async def test_create_conflicting_with_itself(fake: FakeHarness, client: HarnessClient) -> None:
    """A conflict on the second send with what the first one stored after all is success."""
    fake.faults.add(Reset("before"), times=1, method="POST")
    store_before(fake, 3)
    made = await client.executions.create("default", "payments", **NEW)
    assert made.workspace == "network"
    assert lines(fake) == ["POST ", "GET /fresh/stage", "POST ", "GET /fresh/stage"]
    assert len(stored(fake)) == 1


@pytest.mark.parametrize("members", [{"workspace": "other"}, {"pipeline": "other"}], ids=["workspace", "pipeline"])
async def test_create_conflicting_with_another(
    fake: FakeHarness, client: HarnessClient, members: dict[str, str]
) -> None:
    """A conflict on the second send with something else is a `ConflictError`, with every send on it."""
    fake.faults.add(Reset("before"), times=1, method="POST")
    store_before(fake, 3, **members)
    with pytest.raises(ConflictError) as caught:
        await client.executions.create("default", "payments", **NEW)
    assert [attempt.status for attempt in caught.value.attempts] == [None, 409]


async def test_create_that_finds_another(fake: FakeHarness, client: HarnessClient) -> None:
    """Where the look finds another execution under the ids, nothing is sent again and nothing is returned."""
    fake.faults.add(Reset("before"), times=1, method="POST")
    store_before(fake, 1, workspace="other")
    with pytest.raises(HarnessError):
        await client.executions.create("default", "payments", **NEW)
    assert lines(fake) == ["POST ", "GET /fresh/stage"]
    assert [row["workspace"] for row in stored(fake)] == ["other"]


async def test_create_within_one_deadline(fake: FakeHarness, connect: Connect) -> None:
    """Sends and looks share one deadline: a look that would have to wait beyond it is not waited for."""
    fake.faults.add(Status(503), method="POST")
    fake.faults.add(Status(503, headers={"Retry-After": "60"}), method="GET")
    client = connect(timeouts=Timeouts(deadline=30.0))
    with pytest.raises(ServerError) as caught:
        await client.executions.create("default", "payments", **NEW)
    assert caught.value.ambiguous
    assert lines(fake) == ["POST ", "GET /fresh/stage"]


async def test_create_cut_short_by_the_deadline(fake: FakeHarness, connect: Connect) -> None:
    """A create that is under way when the deadline passes is ambiguous, and there is no time for a look."""
    fake.faults.add(Delay(3600), method="POST")
    client = connect(timeouts=Timeouts(deadline=0.05))
    with pytest.raises(DeadlineExceededError) as caught:
        await client.executions.create("default", "payments", **NEW)
    assert caught.value.ambiguous
    assert len(caught.value.attempts) == 1
    assert lines(fake) == ["POST "]


async def test_create_that_was_never_sent_is_not_ambiguous(fake: FakeHarness, connect: Connect) -> None:
    """A create that the pace kept from going out before the deadline had no effect for certain."""
    client = connect(timeouts=Timeouts(deadline=5.0))
    client._session.sender.pacer.pause(3600)
    with pytest.raises(DeadlineExceededError) as caught:
        await client.executions.create("default", "payments", **NEW)
    assert not caught.value.ambiguous
    assert caught.value.attempts == ()
    assert fake.requests == []


async def test_create_answered_with_what_does_not_fit(fake: FakeHarness, client: HarnessClient) -> None:
    """A create whose success cannot be read was stored all the same: it is looked for and returned."""
    fake.faults.add(Body(b"{}"), times=1, method="POST")
    store_before(fake, 2)
    made = await client.executions.create("default", "payments", **NEW)
    assert made.workspace == "network"
    assert lines(fake) == ["POST ", "GET /fresh/stage"]


# -- wait --------------------------------------------------------------------------------------------------------------


def change_status(fake: FakeHarness, *words: str) -> None:
    """Let the execution `run2` have these statuses, one after each request, the last for good."""
    row = fake.executions("default", "payments")[0]
    assert row["pipeline_execution_id"] == "run2"
    rest = list(words)

    def hook(_: RecordedRequest) -> None:
        if rest:
            fake.set_status(row, rest.pop(0))

    fake.before_request = hook


@pytest.mark.parametrize("outcome", ["success", "failure"])
async def test_wait(fake: FakeHarness, client: HarnessClient, outcome: str) -> None:
    """Waiting asks until there is an outcome; `none` and words unknown to us are none."""
    change_status(fake, "none", "running", "SUCCESS", outcome)
    found = await client.executions.wait("default", "payments", "run2", "stage", timeout=60.0, poll_interval=0.001)
    assert found.status == outcome
    assert lines(fake) == ["GET /run2/stage"] * 4


async def test_wait_for_what_is_over(fake: FakeHarness, client: HarnessClient) -> None:
    """Waiting for an execution that has its outcome takes one request and no pause."""
    found = await client.executions.wait("default", "payments", "run0", "stage", timeout=60.0, poll_interval=3600.0)
    assert found.status is ExecutionStatus.SUCCESS
    assert len(fake.requests) == 1


@pytest.mark.parametrize("word", ["none", "pending approval"])
async def test_wait_too_long(fake: FakeHarness, client: HarnessClient, word: str) -> None:
    """When the time is over the error names the execution, the time and the last status."""
    change_status(fake, word)
    with pytest.raises(DeadlineExceededError) as caught:
        await client.executions.wait("default", "payments", "run2", "stage", timeout=0.2, poll_interval=3600.0)
    text = str(caught.value)
    assert word in text
    assert "run2" in text
    assert "0.2" in text
    assert isinstance(caught.value, TimeoutError)
    assert len(fake.requests) == 1


async def test_wait_without_an_answer(fake: FakeHarness, client: HarnessClient) -> None:
    """When the time is over while the first answer is still due, the error says so, and nothing stays under way."""
    fake.faults.add(SlowBody(chunk_size=1, pause=0.02))
    with pytest.raises(DeadlineExceededError, match="no answer yet"):
        await client.executions.wait("default", "payments", "run2", "stage", timeout=0.05, poll_interval=0.001)
    assert free_places(client) == 32


async def test_wait_for_ever(fake: FakeHarness, client: HarnessClient) -> None:
    """Without a time-out it waits as long as it takes."""
    change_status(fake, "none", "none", "success")
    found = await client.executions.wait("default", "payments", "run2", "stage", timeout=None, poll_interval=0.001)
    assert found.status is ExecutionStatus.SUCCESS


async def test_wait_passes_errors_on(fake: FakeHarness, connect: Connect) -> None:
    """What a request fails with is raised as it is, its own time-out too."""
    client = connect(timeouts=Timeouts(read=0.02), retry=RetryPolicy(max_attempts=1))
    with pytest.raises(NotFoundError):
        await client.executions.wait("default", "payments", "nope", "stage", timeout=60.0)
    fake.faults.add(Delay(3600))
    with pytest.raises(TransportError, match="in time"):
        await client.executions.wait("default", "payments", "run2", "stage", timeout=60.0)


async def test_wait_lives_through_failures(fake: FakeHarness, client: HarnessClient) -> None:
    """Failures that pass are retried within the wait."""
    change_status(fake, "none", "none", "success")
    fake.faults.add(Status(503), every=2)
    found = await client.executions.wait("default", "payments", "run2", "stage", timeout=60.0, poll_interval=0.001)
    assert found.status is ExecutionStatus.SUCCESS


@pytest.mark.parametrize(
    "times",
    [{"timeout": 0}, {"timeout": -1}, {"timeout": True}, {"timeout": "5"}, {"timeout": 5, "poll_interval": 0},
     {"timeout": 5, "poll_interval": None}, {"timeout": float("nan")}],
    ids=str,
)  # fmt: skip
async def test_wait_refuses(fake: FakeHarness, client: HarnessClient, times: dict[str, Any]) -> None:
    """Times that are no positive number of seconds are refused before anything is sent."""
    with pytest.raises(ValueError, match=r"timeout|poll_interval"):
        await client.executions.wait("default", "payments", "run2", "stage", **times)
    assert fake.requests == []


# -- lists -------------------------------------------------------------------------------------------------------------


async def test_pages_from_1(fake: FakeHarness, client: HarnessClient) -> None:
    """IaCM counts its pages from 1, and each execution comes once, newest first as the server has them."""
    rows = await client.executions.list("default", "payments", limit=2).collect()
    assert [row.pipeline_execution_id for row in rows] == ["run2", "run1", "run0"]
    assert [request.query["page"] for request in fake.requests] == [["1"], ["2"]]


@pytest.mark.parametrize("total", ["three", "", "-3", "3.0", "0x3", "9" * 30, None], ids=repr)
async def test_totals_that_are_no_number(fake: FakeHarness, client: HarnessClient, total: Any) -> None:
    """Totals that are no number are ignored: every row still comes, and the count is unknown."""
    fake.faults.add(Totals(items=total, pages=total, size=total))
    pager = client.executions.list("default", "payments", limit=1)
    assert len(await pager.collect()) == 3
    assert await pager.count() is None


@pytest.mark.parametrize("totals", ["iacm", "v1", "both"])
async def test_either_family_of_totals(fake: FakeHarness, client: HarnessClient, totals: Any) -> None:
    """Whichever headers tell the total, it is understood."""
    fake.totals = totals
    assert await client.executions.list("default", "payments").count() == 3


async def test_empty_lists(fake: FakeHarness, client: HarnessClient) -> None:
    """A list without rows is empty, whether the server says `[]` or `null`."""
    pager = client.executions.list("default", "billing")
    assert await pager.collect() == []
    assert await pager.first() is None
    assert await pager.count() == 0
    fake.faults.add(Body(b"null"))
    assert await pager.collect() == []


@pytest.mark.parametrize(
    ("body", "path"),
    [
        pytest.param(b"{}", "$", id="object"),
        pytest.param(b'"text"', "$", id="text"),
        pytest.param(b"[null]", "$[0]", id="null-row"),
        pytest.param(b"[" + ROW + b",null]", "$[1]", id="second-null-row"),
        pytest.param(b"[[]]", "$[0]", id="array-row"),
        pytest.param(b"[5]", "$[0]", id="number-row"),
        pytest.param(b"[" + ROW.replace(b":1,", b':"1",') + b"]", "$[0].created", id="text-time"),
        pytest.param(b"[" + ROW.replace(b":1,", b":1.5,") + b"]", "$[0].created", id="fraction"),
        pytest.param(b"[" + ROW.replace(b'"success"', b"7") + b"]", "$[0].status", id="number-status"),
    ],
)
async def test_lists_that_do_not_fit(fake: FakeHarness, client: HarnessClient, body: bytes, path: str) -> None:
    """A list that does not fit is a `DecodeError` with place, body and attempts, raised after one request."""
    fake.faults.add(Body(body))
    with pytest.raises(DecodeError) as caught:
        await client.executions.list("default", "payments").collect()
    assert caught.value.path == path
    assert caught.value.body == body
    assert path in str(caught.value)
    assert (caught.value.method, len(caught.value.attempts), caught.value.status) == ("GET", 1, 200)
    assert caught.value.url.endswith(f"{EXECUTIONS}?limit=100&page=1")
    assert len(fake.requests) == 1


async def test_members_that_may_be_missing(fake: FakeHarness, client: HarnessClient) -> None:
    """Outside the identity everything may be missing, null, or unknown to us."""
    fake.faults.add(
        Body(
            b'[{"org":"o","project":"j","pipeline_execution_id":"e","pipeline_stage_id":"s",'
            b'"status":null,"created":null,"later":{"a":[1]}}]'
        )
    )
    row = await client.executions.list("default", "payments").first()
    assert row == Execution(org="o", project="j", pipeline_execution_id="e", pipeline_stage_id="s")
    assert row is not None
    assert row.status is ExecutionStatus.NONE
