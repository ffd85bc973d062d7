"""Executions: requests and filters, the create that checks for its own effect, and the wait for an outcome."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from harness_async import (
    BadRequestError,
    ConflictError,
    DeadlineExceededError,
    DecodeError,
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
)
from tests.support.connections import free_places
from tests.support.http import Connect
from tests.support.virtual import run_jumping

EXECUTIONS = "/iacm/api/orgs/default/projects/payments/executions"
NEW = {"pipeline": "provision", "pipeline_execution_id": "fresh", "pipeline_stage_id": "stage", "workspace": "network"}
RUN2 = ("default", "payments", "run2", "stage")


def sent(fake: FakeHarness) -> list[str]:
    """Return the received requests as method and the path behind that of the list."""
    return [f"{request.method} {request.path.removeprefix(EXECUTIONS)}" for request in fake.requests]


def stored(fake: FakeHarness) -> list[dict[str, Any]]:
    """Return the executions with the identifiers of `NEW`."""
    return [row for row in fake.executions("default", "payments") if row["pipeline_execution_id"] == "fresh"]


def store_before(fake: FakeHarness, number: int, **members: Any) -> None:
    """Store an execution with the identifiers of `NEW` before a request, as a slow first create would."""

    def hook(_: RecordedRequest) -> None:
        if len(fake.requests) == number:
            fake.add_execution("default", "payments", **{**NEW, **members})

    fake.before_request = hook


def change_status(fake: FakeHarness, *words: str) -> None:
    """Change the status of the execution `run2` with each request; the last status stays."""
    row = fake.executions("default", "payments")[0]
    assert row["pipeline_execution_id"] == "run2"
    rest = list(words)

    def hook(_: RecordedRequest) -> None:
        if rest:
            fake.set_status(row, rest.pop(0))

    fake.before_request = hook


@pytest.mark.parametrize(
    ("filters", "query"),
    [
        ({}, "limit=100&page=1"),
        ({"limit": 30, "status": ["a", "b"]}, "limit=30&page=1&status=a%2Cb"),
        ({"status": ExecutionStatus.FAILURE}, "limit=100&page=1&status=failure"),
        ({"status": (ExecutionStatus("aborted"), "none")}, "limit=100&page=1&status=aborted%2Cnone"),
        ({"workspace": "a b", "pipeline_name": "a&b"}, "limit=100&page=1&workspace=a%20b&pipeline_name=a%26b"),
        ({"pipeline_execution_id": "-2w/+"}, "limit=100&page=1&pipeline_execution_id=-2w%2F%2B"),
        ({"start_time": -1, "end_time": 5}, "limit=100&page=1&start_time=-1&end_time=5"),
        (
            {
                "start_time": datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=2))),
                "end_time": datetime(2024, 1, 1, 0, 0, 0, 1999, tzinfo=UTC),
            },
            "limit=100&page=1&start_time=1704060000000&end_time=1704067200001",
        ),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:.* is not a known ExecutionStatus:UserWarning")
async def test_list_filters(fake: FakeHarness, client: HarnessClient, filters: dict[str, Any], query: str) -> None:
    """A list sends its filters under the names of the API: statuses as one value, times as milliseconds."""
    await client.executions.list("default", "payments", **filters).collect()
    request = fake.requests[0]
    assert (request.method, request.path, request.query_string, request.body) == ("GET", EXECUTIONS, query, b"")
    assert request.status == 200


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (b"{}", "$"),
        (b"[{}]", "$[0].pipeline_execution_id"),
        (b'[{"org":"o","project":"j","pipeline_execution_id":"e","pipeline_stage_id":"s"},null]', "$[1]"),
    ],
    ids=["object", "identity", "second-row"],
)
async def test_responses_that_do_not_fit(fake: FakeHarness, client: HarnessClient, body: bytes, path: str) -> None:
    """A list that does not fit is a `DecodeError` with path, body, request and attempts, after one request."""
    fake.faults.add(Body(body))
    with pytest.raises(DecodeError) as caught:
        await client.executions.list("default", "payments").collect()
    error = caught.value
    assert path in str(error)
    assert (error.path, error.body, error.method, error.status) == (path, body, "GET", 200)
    assert error.url.endswith(f"{EXECUTIONS}?limit=100&page=1")
    assert len(error.attempts) == len(fake.requests) == 1


async def test_get_with_reserved_characters(fake: FakeHarness, client: HarnessClient) -> None:
    """Each identifier is one segment of the path, whatever it contains."""
    fake.add_execution("default", "payments", pipeline_execution_id="-2w/../b", pipeline_stage_id="%2e?#é")
    found = await client.executions.get("default", "payments", "-2w/../b", "%2e?#é")
    assert found.key == ("default", "payments", "-2w/../b", "%2e?#é")
    assert sent(fake) == ["GET /-2w%2F..%2Fb/%252e%3F%23%C3%A9"]


async def test_create(fake: FakeHarness, client: HarnessClient) -> None:
    """A create sends exactly the four members and returns what the server stored."""
    created = await client.executions.create("default", "payments", **NEW)
    assert sent(fake) == ["POST "]
    assert (fake.requests[0].query_string, fake.requests[0].json) == ("", NEW)
    assert created.key == ("default", "payments", "fresh", "stage")
    assert (created.pipeline, created.workspace, created.status) == ("provision", "network", ExecutionStatus.NONE)
    assert len(stored(fake)) == 1


LOOKUP = "GET /fresh/stage"


@pytest.mark.parametrize(
    ("fault", "requests"),
    [
        *[(fault, ["POST ", LOOKUP])
          for fault in (Reset("after_effect"), Reset("head"), Reset("after_head"), CutBody(), CutBody(0.0))],
        *[(fault, ["POST ", LOOKUP, "POST "])
          for fault in (Reset("before"), *map(Status, (499, 500, 503)), Status(502, envelope="html"))],
        *[(Body(body, status=200), ["POST ", LOOKUP, "POST "]) for body in (b"", b"{", b"{}")],
        (TooManyRequests(), ["POST ", "POST "]),
    ],
    ids=str,
)  # fmt: skip
async def test_create_after_a_failure(
    fake: FakeHarness, client: HarnessClient, fault: Any, requests: list[str]
) -> None:
    """A create whose effect is unknown is looked up first, and sent again only where nothing was stored."""
    fake.faults.add(fault, times=1, method="POST")
    created = await client.executions.create("default", "payments", **NEW)
    assert created.key == ("default", "payments", "fresh", "stage")
    assert sent(fake) == requests
    assert len(stored(fake)) == 1


@pytest.mark.parametrize(("max_attempts", "attempts"), [(None, 3), (2, 2), (1, 1)])
async def test_create_that_keeps_failing(
    fake: FakeHarness, connect: Connect, max_attempts: int | None, attempts: int
) -> None:
    """After three requests without effect, or as many as the policy allows, the failure is raised with all attempts."""
    client = connect(retry=RetryPolicy(max_attempts=max_attempts))
    fake.faults.add(Status(503), method="POST")
    with pytest.raises(ServerError) as caught:
        await client.executions.create("default", "payments", **NEW)
    assert sent(fake) == ["POST ", LOOKUP] * attempts
    assert [attempt.status for attempt in caught.value.attempts] == [503] * attempts
    assert caught.value.ambiguous


@pytest.mark.parametrize(
    "lookup", [Status(403), Status(503, headers={"Retry-After": "60"})], ids=["denied", "too-long"]
)
async def test_create_whose_lookup_fails(fake: FakeHarness, connect: Connect, lookup: Any) -> None:
    """Where the look-up fails, or would exceed the deadline of the create, the failure of the create is raised."""
    client = connect(timeouts=Timeouts(deadline=30.0))
    fake.faults.add(Reset("after_effect"), method="POST")
    fake.faults.add(lookup, method="GET")
    with pytest.raises(TransportError) as caught:
        await client.executions.create("default", "payments", **NEW)
    assert caught.value.ambiguous
    assert caught.value.method == "POST"
    assert sent(fake) == ["POST ", LOOKUP]


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
async def test_create_that_is_refused(
    fake: FakeHarness, client: HarnessClient, fault: Any, error: type[HarnessError]
) -> None:
    """A refusal, such as a conflict on the first request, is raised at once, without a look-up."""
    fake.faults.add(fault, method="POST")
    with pytest.raises(error) as caught:
        await client.executions.create("default", "payments", **NEW)
    assert getattr(caught.value, "ambiguous", None) is False
    assert sent(fake) == ["POST "]


async def test_create_that_conflicts_with_itself(fake: FakeHarness, client: HarnessClient) -> None:
    """A conflict on the second request with what the first one stored is a success."""
    fake.faults.add(Reset("before"), times=1, method="POST")
    store_before(fake, 3)
    created = await client.executions.create("default", "payments", **NEW)
    assert created.workspace == "network"
    assert sent(fake) == ["POST ", LOOKUP, "POST ", LOOKUP]
    assert len(stored(fake)) == 1


@pytest.mark.parametrize("number", [1, 3], ids=["before-the-lookup", "before-the-second-request"])
@pytest.mark.parametrize("member", ["workspace", "pipeline"])
async def test_create_that_conflicts_with_another(
    fake: FakeHarness, client: HarnessClient, member: str, number: int
) -> None:
    """An execution with the same identifiers and other members is a `ConflictError` with every attempt."""
    fake.faults.add(Reset("before"), times=1, method="POST")
    store_before(fake, number, **{member: "other"})
    with pytest.raises(ConflictError) as caught:
        await client.executions.create("default", "payments", **NEW)
    assert [attempt.status for attempt in caught.value.attempts] == ([None] if number == 1 else [None, 409])
    assert [row[member] for row in stored(fake)] == ["other"]


@pytest.mark.parametrize("timeouts", [Timeouts(read=5.0), Timeouts(read=None, deadline=5.0)], ids=["read", "deadline"])
def test_create_that_times_out(timeouts: Timeouts) -> None:
    """A create whose response is late is looked up, unless the deadline of the call ends: then it is ambiguous."""

    async def main() -> None:
        async with FakeHarness() as fake, HarnessClient(fake.api_key, base_url=fake.url, timeouts=timeouts) as client:
            fake.add_project("default", "payments")
            fake.faults.add(Delay(3600), times=1, method="POST")
            if timeouts.read:
                assert (await client.executions.create("default", "payments", **NEW)).workspace == "network"
                assert sent(fake) == ["POST ", LOOKUP]
            else:
                with pytest.raises(DeadlineExceededError) as caught:
                    await client.executions.create("default", "payments", **NEW)
                assert (caught.value.ambiguous, len(caught.value.attempts), sent(fake)) == (True, 1, ["POST "])
            assert len(stored(fake)) == 1

    run_jumping(main())


async def test_create_that_was_not_sent(fake: FakeHarness, connect: Connect) -> None:
    """A create that pacing held back until the deadline is not ambiguous."""
    client = connect(timeouts=Timeouts(deadline=5.0))
    client._session.sender.pacer.pause(3600)
    with pytest.raises(DeadlineExceededError) as caught:
        await client.executions.create("default", "payments", **NEW)
    assert not caught.value.ambiguous
    assert caught.value.attempts == ()
    assert fake.requests == []


@pytest.mark.parametrize("timeout", [60.0, None])
@pytest.mark.parametrize("outcome", ["success", "failure"])
async def test_wait(fake: FakeHarness, client: HarnessClient, outcome: str, timeout: float | None) -> None:  # noqa: ASYNC109
    """A wait polls until the status is an outcome, which `none` and unknown words are not; failures are retried."""
    fake.faults.add(Status(503), times=1)
    change_status(fake, "none", "none", "running", "SUCCESS", outcome)
    found = await client.executions.wait(*RUN2, timeout=timeout, poll_interval=0.001)
    assert found.status == outcome
    assert sent(fake) == ["GET /run2/stage"] * 5


async def test_wait_for_a_finished_execution(fake: FakeHarness, client: HarnessClient) -> None:
    """A wait for a finished execution sends one request and does not sleep."""
    found = await client.executions.wait("default", "payments", "run0", "stage", timeout=60.0, poll_interval=3600.0)
    assert found.status is ExecutionStatus.SUCCESS
    assert len(fake.requests) == 1


async def test_wait_that_times_out_during_a_request(fake: FakeHarness, client: HarnessClient) -> None:
    """A wait that times out before the first response says so and leaves no request in flight."""
    fake.faults.add(SlowBody(chunk_size=1, pause=0.02))
    with pytest.raises(DeadlineExceededError, match="yet"):
        await client.executions.wait(*RUN2, timeout=0.05, poll_interval=0.001)
    assert free_places(client) == 32


async def test_wait_raises_errors(fake: FakeHarness, connect: Connect) -> None:
    """Errors of a request are raised as they are, its own timeout too."""
    client = connect(timeouts=Timeouts(read=0.02), retry=RetryPolicy(max_attempts=1))
    with pytest.raises(NotFoundError):
        await client.executions.wait("default", "payments", "nope", "stage", timeout=60.0)
    fake.faults.add(Delay(3600))
    with pytest.raises(TransportError, match="in time"):
        await client.executions.wait(*RUN2, timeout=60.0)
