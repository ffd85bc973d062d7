"""Bulk runs over a server: each row once, one outcome for each project, and an end that leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness_async import (
    AuthenticationError,
    BulkError,
    HarnessClient,
    HarnessError,
    NotFoundError,
    PermissionDeniedError,
    Progress,
    ProjectRef,
    RetryPolicy,
    ServerError,
    UnexpectedResponseError,
)
from harness_async.testing import (
    Body,
    ChangeJson,
    CutBody,
    FakeHarness,
    Fault,
    Headers,
    RecordedRequest,
    Reset,
    SignInPage,
    Status,
    TooManyRequests,
    Totals,
)
from tests.support.executions import connect, listed, served, take

BIG = ("retail", "streaming")
"""The project with 239 executions."""


@pytest.fixture
async def fake() -> AsyncIterator[FakeHarness]:
    async with FakeHarness.seeded(projects=30, executions=600, seed=5) as server:
        yield server


def tasks() -> list[asyncio.Task[object]]:
    """Return the tasks of bulk runs that are still there."""
    return [task for task in asyncio.all_tasks() if "BulkRun" in repr(task) or "PageWalk" in repr(task)]


def path_of(project: tuple[str, str]) -> str:
    return "*/orgs/{}/projects/{}/executions".format(*project)


async def test_everything(client: HarnessClient, fake: FakeHarness) -> None:
    """A run reads all projects that the key can see: each row once, in as few requests as possible."""
    run = client.executions.bulk()
    assert await take(run) == served(fake)
    report = run.report
    rows = Counter(key[:2] for key in served(fake))
    assert {(ref.org, ref.project): outcome.rows for ref, outcome in report.outcomes.items()} == {
        project: rows[project] for project in fake.projects
    }
    assert report.complete == len(fake.projects)
    assert (report.failed, report.pending, report.rows) == (0, 0, 600)
    report.raise_for_failures()
    pages = sum(rows[project] // 100 + 1 for project in fake.projects)
    assert report.requests == len(fake.requests) == pages + 1 + len(fake.organizations)
    assert sum(outcome.requests for outcome in report.outcomes.values()) == pages


async def trickle(pairs: list[tuple[str, str]], end: BaseException | None = None) -> AsyncIterator[str]:
    for org, project in pairs:
        await asyncio.sleep(0)
        yield f"{org}/{project}"
    if end is not None:
        raise end


def iterate(pairs: list[tuple[str, str]], end: BaseException) -> Iterator[tuple[str, str]]:
    yield from pairs
    raise end


FORMS: dict[str, Callable[[list[tuple[str, str]]], Any]] = {
    "refs": lambda pairs: {ProjectRef(*pair) for pair in pairs},
    "pairs": lambda pairs: pairs,
    "texts": lambda pairs: ["/".join(pair) for pair in pairs],
    "lazy": lambda pairs: (ProjectRef(*pair) for pair in pairs),
    "lazy async": trickle,
    "repeated": lambda pairs: [*pairs, ProjectRef(*pairs[0]), "/".join(pairs[1])],
}


@pytest.mark.parametrize("form", FORMS)
async def test_forms_of_projects(client: HarnessClient, fake: FakeHarness, form: str) -> None:
    """Projects come from any iterable in any form; one that is named twice is read once."""
    some = fake.projects[:7]
    assert await take(client.executions.bulk(FORMS[form](some))) == Counter(
        {key: 1 for key in served(fake) if key[:2] in some}
    )
    assert len(fake.requests) == sum(Counter(key[:2] for key in served(fake))[pair] // 100 + 1 for pair in some)


async def test_a_lazy_iterable_is_read_as_needed(client: HarnessClient, fake: FakeHarness) -> None:
    """Rows of the first project arrive while the iterable waits for the next one."""
    more = asyncio.Event()

    async def endless() -> AsyncIterator[tuple[str, str]]:
        yield BIG
        await more.wait()
        yield fake.projects[0]

    async with client.executions.bulk(endless()) as run:
        first = await anext(run)
        assert (first.org, first.project) == BIG
        assert run.progress.projects_total is None
        more.set()
        assert len([row async for row in run]) > 0
    assert run.progress.projects_total == 2


async def test_one_request_in_five_fails(fake: FakeHarness) -> None:
    """Resets, cut bodies, server errors and 429 lose no row, and are counted as they were sent."""
    rng = random.Random(11)
    statuses = [Status(503), Status(500), Status(502, envelope="html"), Status(408)]
    kinds: list[Fault] = [
        *statuses,
        Reset("before"),
        Reset("head"),
        CutBody(),
        Body(b'[{"account"'),
        TooManyRequests(0),
    ]
    rules = [fake.faults.add(kind, when=lambda _: rng.random() < 0.2 / len(kinds)) for kind in kinds]
    async with connect(fake) as client:
        run = client.executions.bulk()
        assert await take(run) == served(fake)
    assert run.report.failed == 0
    assert run.report.requests == len(fake.requests)
    retries = sum(outcome.retries for outcome in run.report.outcomes.values())
    assert 0 < retries <= sum(rule.hits for rule in rules)


async def test_failures_are_outcomes(client: HarnessClient, fake: FakeHarness) -> None:
    """A denied, a missing and a broken project have their outcomes; all others are complete."""
    denied, gone, broken = fake.projects[:3]
    fake.deny(*denied)
    fake.faults.add(Status(404), path=path_of(gone))
    fake.faults.add(SignInPage(), path=path_of(broken))
    run = client.executions.bulk(fake.projects)
    got = await take(run)
    statuses = {(ref.org, ref.project): outcome.status for ref, outcome in run.report.outcomes.items()}
    assert statuses == dict.fromkeys(fake.projects, "complete") | {
        denied: "denied",
        gone: "not_found",
        broken: "failed",
    }
    assert got == Counter({key: 1 for key in served(fake) if key[:2] not in {denied, gone, broken}})
    assert isinstance(run.report.outcomes[ProjectRef(*denied)].error, PermissionDeniedError)
    with pytest.raises(BulkError) as caught:
        run.report.raise_for_failures()
    assert caught.value.report is not None
    assert len(caught.value.exceptions) == run.report.failed == 3
    assert "/".join(gone) in str(run.report)


@pytest.mark.parametrize("attempts", [1, 2, 4])
async def test_requests_are_counted_as_sent(fake: FakeHarness, attempts: int) -> None:
    """A project that fails at its first page counts the attempts that were sent, and one retry less."""
    fake.faults.add(Status(503), path=path_of(BIG))
    async with connect(fake, retry=RetryPolicy(initial_backoff=0.001, max_attempts=attempts)) as client:
        run = client.executions.bulk([BIG])
        await take(run)
    outcome = run.report.outcomes[ProjectRef(*BIG)]
    assert (
        (outcome.requests, outcome.retries) == (len(fake.requests), len(fake.requests) - 1) == (attempts, attempts - 1)
    )


@pytest.mark.parametrize("when", ["listing projects", "reading rows", "every project once"])
async def test_a_single_401(client: HarnessClient, fake: FakeHarness, when: str) -> None:
    """A 401 after successes is confirmed by one more request, so that a failure of the token service ends nothing."""
    if when == "every project once":
        for project in fake.projects:
            fake.faults.add(Status(401), path=path_of(project), times=1)
    else:
        path = "*/projects" if when == "listing projects" else "*/executions"
        fake.faults.add(Status(401), path=path, times=1, when=lambda _: len(fake.requests) > 1)
    run = client.executions.bulk()
    assert await take(run) == served(fake)
    assert run.report.failed == 0


async def test_a_refused_key_ends_the_run(fake: FakeHarness) -> None:
    """A constant 401 is raised with the report attached; each worker confirms it once and sends nothing more."""
    async with connect(fake, max_in_flight=4) as client:
        fake.faults.add(Status(401), when=lambda _: len(fake.requests) > 25)
        run = client.executions.bulk(concurrency=4)
        with pytest.raises(AuthenticationError) as caught:
            await take(run)
        sent = len(fake.requests)
        assert sent <= 26 + 2 * 4
        await asyncio.sleep(0.01)
        assert len(fake.requests) == sent
    assert caught.value.report is not None
    assert caught.value.report.outcomes.keys() == run.report.outcomes.keys()
    assert run.report.complete > 0
    assert run.report.pending > 0
    assert not tasks()


@pytest.mark.parametrize(
    ("fault", "path", "error", "on_error"),
    [
        (Status(401), "*", AuthenticationError, "collect"),
        (Status(501, envelope="v1"), "*/v1/orgs", ServerError, "collect"),
        (Status(403), path_of(BIG), PermissionDeniedError, "raise"),
    ],
    ids=["wrong key", "organizations cannot be listed", "first failure with on_error=raise"],
)
async def test_errors_of_the_run(
    client: HarnessClient, fake: FakeHarness, fault: Fault, path: str, error: type[HarnessError], on_error: Any
) -> None:
    """An error that concerns the whole run is raised with the report attached, and not repeated."""
    rule = fake.faults.add(fault, path=path)
    with pytest.raises(error) as caught:
        await take(client.executions.bulk(on_error=on_error))
    assert caught.value.report is not None
    assert rule.hits == 1
    assert not tasks()


ENDS: dict[str, tuple[BaseException, type[BaseException]]] = {
    "error": (ZeroDivisionError(), ZeroDivisionError),
    "cancelled": (asyncio.CancelledError(), HarnessError),
    "base": (type("Stop", (BaseException,), {})(), BaseException),
    "generator exit": (GeneratorExit(), GeneratorExit),
}


@pytest.mark.parametrize("form", ["iterator", "async iterator", "open_list"])
@pytest.mark.parametrize("end", ENDS)
async def test_the_callers_code_raises(client: HarnessClient, fake: FakeHarness, form: str, end: str) -> None:
    """Whatever the iterator of projects or `open_list` raises ends the run, behind the rows that arrived before."""
    error, expected = ENDS[end]

    def open_list(ref: ProjectRef) -> Any:
        if (ref.org, ref.project) != BIG:
            raise error
        return client.executions.list(ref.org, ref.project)

    if form == "open_list":
        run: Any = client.bulk(open_list, iter([BIG, *fake.projects]), concurrency=2)
    else:
        projects = iterate([BIG], error) if form == "iterator" else trickle([BIG], error)
        run = client.executions.bulk(projects)
    with pytest.raises(expected):
        await asyncio.wait_for(take(run), 10)
    assert not tasks()
    assert not run.report.listed or run.report.pending
    with pytest.raises(BulkError, match="not read to the end"):
        run.report.raise_for_failures()


async def test_the_iterator_cancels_the_task_that_reads_it(client: HarnessClient) -> None:
    """A run whose iterator cancels the task that it is called in ends with an error, and does not wait for ever."""

    async def projects() -> AsyncIterator[ProjectRef]:
        yield ProjectRef(*BIG)
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    with pytest.raises(HarnessError, match="iterator of projects ended with CancelledError"):
        await asyncio.wait_for(take(client.executions.bulk(projects())), 10)
    assert not tasks()


async def test_two_tasks_cannot_share_a_run(client: HarnessClient) -> None:
    """A second task that iterates a run at the same time is refused, and the first one gets all rows."""
    async with client.executions.bulk([BIG]) as run:

        async def count() -> int:
            return len([row async for row in run])

        first, second = await asyncio.wait_for(asyncio.gather(count(), count(), return_exceptions=True), 10)
    assert first == run.report.rows > 0
    assert isinstance(second, RuntimeError)


PERMANENT: dict[str, tuple[Fault, type[HarnessError]]] = {
    "denied": (Status(403), PermissionDeniedError),
    "not found": (Status(404), NotFoundError),
    "sign-in page": (SignInPage(), UnexpectedResponseError),
    "not JSON": (Body(b"oops"), UnexpectedResponseError),
    "endless header": (Headers({"X-Long": "x" * 70_000}), HarnessError),
    "wrong encoding": (Headers({"Content-Encoding": "gzip"}), HarnessError),
}


@pytest.mark.parametrize("planned", [False, True])
@pytest.mark.parametrize("kind", PERMANENT)
async def test_all_projects_fail_alike(client: HarnessClient, fake: FakeHarness, kind: str, planned: bool) -> None:
    """Twenty failures of one permanent kind from the start end the run, or its plan: all others would fail too."""
    fault, expected = PERMANENT[kind]
    fake.faults.add(fault, path="*/executions")
    run = client.executions.bulk(fake.projects, concurrency=2)
    with pytest.raises(expected) as caught:
        await (run.plan() if planned else take(run))
    assert caught.value.report is not None
    assert len(listed(fake)) < 24 < len(fake.projects)
    assert not tasks()


@pytest.mark.parametrize("good", [0, 10, 19, None])
async def test_failures_that_are_not_alike(client: HarnessClient, fake: FakeHarness, good: int | None) -> None:
    """A run goes on if one project can be read, which shows that the key is good, or if failures are of two kinds."""
    for project in fake.projects:
        fake.deny(*project)
    projects = list(fake.projects)
    if good is None:
        projects[10:20] = [(org, f"{project}_gone") for org, project in projects[10:20]]
    else:
        fake.allow(*projects[good])
    run = client.executions.bulk(projects, concurrency=1)
    await take(run)
    assert run.report.failed == (30 if good is None else 29)


async def test_a_project_that_vanishes(client: HarnessClient, fake: FakeHarness) -> None:
    """A project that is deleted between two of its pages is not found, not complete."""
    fake.before_request = lambda _: fake.remove_project(*BIG) if len(fake.requests) == 2 else None
    run = client.executions.bulk([BIG])
    assert len(await take(run)) == 100
    assert run.report.outcomes[ProjectRef(*BIG)].status == "not_found"


@pytest.mark.parametrize("error", [Status(501, envelope="v1"), Status(403), SignInPage()], ids=["501", "403", "HTML"])
async def test_an_organization_that_cannot_be_listed(client: HarnessClient, fake: FakeHarness, error: Fault) -> None:
    """The report names an organization whose projects could not be listed; all others are read."""
    fake.faults.add(error, path="*/v1/orgs/retail/projects")
    run = client.executions.bulk()
    assert await take(run) == Counter({key: 1 for key in served(fake) if key[0] != "retail"})
    assert list(run.report.unlisted) == ["retail"]
    assert "retail/*  projects not listed" in str(run.report)
    with pytest.raises(BulkError, match="1 organizations could not be listed"):
        run.report.raise_for_failures()


ODD_MEMBERS: dict[str, dict[str, Any]] = {
    "null tag": {"tags": {"team": None}},
    "null module": {"modules": ["CD", None]},
    "number as color": {"color": 0},
    "list as tags": {"tags": ["team"]},
    "text as modules": {"modules": "CD"},
    "number as name": {"name": 7, "description": False},
    "object as name": {"name": {}, "modules": {}, "tags": None},
}


@pytest.mark.parametrize("odd", ODD_MEMBERS)
@pytest.mark.parametrize("kind", ["project", "org"])
async def test_odd_members_of_projects(client: HarnessClient, fake: FakeHarness, kind: str, odd: str) -> None:
    """Discovery needs two identifiers: no other member of a project or an organization hides its rows."""
    change = ChangeJson(lambda rows: [{**row, kind: {**row[kind], **ODD_MEMBERS[odd]}} for row in rows])
    fake.faults.add(change, path="*/v1/orgs/*/projects" if kind == "project" else "*/v1/orgs")
    run = client.executions.bulk()
    assert await take(run) == served(fake)
    assert not run.report.unlisted


@pytest.mark.parametrize(
    ("members", "invalid"),
    [({"workspace": 7}, 1), ({"status": 5, "pipeline": []}, 2), ({"created": "x", "account": {}}, 2)],
    ids=["workspace", "status and pipeline", "created and account"],
)
async def test_odd_members_of_rows(
    client: HarnessClient, fake: FakeHarness, caplog: pytest.LogCaptureFixture, members: dict[str, object], invalid: int
) -> None:
    """Members outside of the identity never fail a row: they count as missing, are reported and logged once."""
    fake.faults.add(ChangeJson(lambda rows: [{**row, **members} for row in rows]), path="*/executions")
    run = client.executions.bulk(consistency="live")
    assert await take(run) == served(fake)
    assert run.report.invalid_members == invalid * 600
    assert "of unexpected types" in str(run.report)
    assert sum(next(iter(members)) in record.getMessage() for record in caplog.records) == 1


BAD_NAMES = ["", ".", "..", "x" * 129]


@pytest.mark.parametrize("name", BAD_NAMES, ids=["empty", "dot", "dots", "long"])
@pytest.mark.parametrize("kind", ["project", "org"])
async def test_impossible_names(client: HarnessClient, fake: FakeHarness, tmp_path: Path, kind: str, name: str) -> None:
    """An identifier that cannot stand in a path fails its own project or organization only, in a resumed run too."""

    def add(rows: list[Any]) -> list[Any]:
        return [*rows, *({**row, kind: {**row[kind], "identifier": name}} for row in rows[:1])]

    fake.faults.add(ChangeJson(add), path="*/v1/orgs/retail/projects" if kind == "project" else "*/v1/orgs")
    run = client.executions.bulk(checkpoint=tmp_path / "run")
    assert await take(run) == served(fake)
    assert await take(client.executions.bulk(checkpoint=tmp_path / "run")) == Counter()
    if kind == "project":
        outcome = run.report.outcomes[ProjectRef.unchecked("retail", name)]
        assert outcome.status == "failed"
        assert (run.report.failed, run.report.complete) == (1, 30)
    else:
        assert list(run.report.unlisted) == [name]
    with pytest.raises(BulkError):
        run.report.raise_for_failures()


@pytest.mark.parametrize("change", ["create and delete", "delete", "create"])
async def test_projects_change_while_they_are_listed(change: str) -> None:
    """A project that is there all the time is read, whatever is created and deleted while projects are listed."""
    async with FakeHarness(v1_max_limit=100) as fake, connect(fake) as client:
        for number in range(250):
            fake.add_project("default", f"p{number}")

        def move(request: RecordedRequest) -> None:
            if request.path.endswith("/projects") and len(fake.requests) in {4, 5}:
                if "delete" in change:
                    fake.remove_project("default", f"p{len(fake.requests)}")
                if "create" in change:
                    fake.add_project("default", f"new{len(fake.requests)}")

        fake.before_request = move
        run = client.executions.bulk()
        await take(run)
        names = {ref.project for ref in run.report.outcomes}
        assert {f"p{number}" for number in range(250)} - {"p4", "p5"} <= names
        assert run.report.discovery is not None
        assert ("may be missing" in str(run.report)) == (run.report.discovery == "best_effort")


@pytest.mark.parametrize("items", [None, 0, 7, 5000, "9" * 17, "many"])
async def test_wrong_totals_of_projects(items: str | int | None) -> None:
    """Wrong totals of the list of projects hide no project, take few requests, and are reported."""
    async with FakeHarness(v1_max_limit=100) as fake, connect(fake) as client:
        for number in range(120):
            fake.add_project("default", f"p{number}")
        fake.faults.add(Totals(items=items), path="*/projects")
        run = client.executions.bulk()
        await take(run)
        assert run.report.complete == 120
        assert sum(request.path.endswith("/projects") for request in fake.requests) < 10
        assert run.report.discovery == "best_effort"


@pytest.mark.parametrize("how", ["break", "raise", "cancel", "never iterated"])
async def test_leaving_early(client: HarnessClient, fake: FakeHarness, tmp_path: Path, how: str) -> None:
    """However the block is left, no task goes on, nothing more is requested, and the report says what is pending."""
    run = client.executions.bulk(checkpoint=tmp_path / "run")

    async def consume() -> None:
        async with run:
            if how == "never iterated":
                return
            async for _ in run:
                if how == "break":
                    break
                if how == "raise":
                    raise ZeroDivisionError
                await asyncio.Event().wait()

    task = asyncio.create_task(consume())
    if how == "cancel":
        while len(fake.requests) < 15:
            await asyncio.sleep(0)
        task.cancel()
    with contextlib.suppress(ZeroDivisionError, asyncio.CancelledError):
        await task
    assert not tasks()
    sent = len(fake.requests)
    await asyncio.sleep(0.01)
    assert len(fake.requests) == sent
    report = run.report
    assert report.failed == 0
    assert 0.0 < report.elapsed == run.report.elapsed
    assert report.pending or not report.listed
    with pytest.raises(BulkError, match="not read to the end"):
        report.raise_for_failures()


async def test_a_slow_consumer(client: HarnessClient, fake: FakeHarness) -> None:
    """While the consumer rests, no more pages are fetched than the workers hold."""
    async with client.executions.bulk(fake.projects, concurrency=2) as run:
        await anext(run)
        await asyncio.sleep(0.05)
        pages = client.stats.pages
        await asyncio.sleep(0.05)
        assert client.stats.pages == pages <= 12
        assert run.progress.limited_by == "consumer"


async def test_misuse(client: HarnessClient) -> None:
    """Using a run without `async with`, or twice, and planning it late, are errors that say so."""
    run = client.executions.bulk()
    with pytest.raises(RuntimeError, match="async with"):
        await anext(run)
    await take(run, 1)
    with pytest.raises(RuntimeError, match="already started"):
        await run.plan()
    with pytest.raises(RuntimeError, match="once"):
        await take(run)


async def test_progress(client: HarnessClient, fake: FakeHarness) -> None:
    """The last call reports all projects as done, and no figure goes back."""
    reported: list[Progress] = []
    run = client.executions.bulk(on_progress=reported.append)
    await take(run)
    last = reported[-1]
    assert (last.projects_done, last.projects_total, last.rows) == (30, 30, 600)
    assert last.requests == len(fake.requests)
    assert last.eta == 0.0
    assert [step.rows for step in reported] == sorted(step.rows for step in reported)
    assert run.progress == last


@pytest.mark.parametrize(
    ("fault", "limited_by"),
    [(Status(503), "retries"), (Status(408), "retries"), (Reset(), "retries"), (TooManyRequests(), "cooldown")],
    ids=["503", "408", "reset", "429"],
)
async def test_what_limits_a_run(fake: FakeHarness, fault: Fault, limited_by: str) -> None:
    """While requests fail, progress names the failures as the limit, not the latency."""
    fake.faults.add(fault, path=path_of(BIG))
    retry = RetryPolicy(initial_backoff=0.2, max_backoff=0.3)
    async with connect(fake, retry=retry) as client, client.executions.bulk([BIG]) as run:
        row = asyncio.ensure_future(anext(run))
        for _ in range(1000):
            await asyncio.sleep(0.001)
            if run.progress.limited_by == limited_by:
                break
        assert run.progress.limited_by == limited_by
        row.cancel()
        await asyncio.gather(row, return_exceptions=True)


async def test_an_observer_raises(client: HarnessClient, fake: FakeHarness, caplog: pytest.LogCaptureFixture) -> None:
    """What `on_progress` raises is logged, and the run goes on."""

    def broken(_: Progress) -> None:
        raise ZeroDivisionError

    assert await take(client.executions.bulk(on_progress=broken)) == served(fake)
    assert "on_progress raised" in caplog.text
