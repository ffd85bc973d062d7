"""Checkpoints: what a run has finished survives it, and nothing else does."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from harness_async import CheckpointError, Execution, HarnessClient, HarnessError, ProjectOutcome, ProjectRef
from harness_async.bulk.checkpoint import Checkpoint, Identity, read_started_at
from harness_async.bulk.run import BulkRun, with_output
from harness_async.testing import FakeHarness, Status
from harness_async.types import TimeWindow

IDENTITY = Identity(host="http://h", account="a", filters="f")


@pytest.fixture
async def fake() -> AsyncIterator[FakeHarness]:
    async with FakeHarness.seeded(projects=25, executions=900, seed=3) as server:
        yield server


@pytest.fixture
async def client(fake: FakeHarness) -> AsyncIterator[HarnessClient]:
    async with HarnessClient(fake.api_key, base_url=fake.url, rate_limit=None) as made:
        yield made


def served(fake: FakeHarness) -> Counter[tuple[str, str, str, str]]:
    return Counter(
        (row["org"], row["project"], row["pipeline_execution_id"], row["pipeline_stage_id"])
        for row in fake.all_executions()
    )


def outcome(project: str = "web", rows: int = 3) -> ProjectOutcome:
    return ProjectOutcome(
        project=ProjectRef("default", project),
        status="complete",
        guarantee="exact",
        rows=rows,
        window=TimeWindow(None, 9),
    )


def start(path: Path, end: int | None = None) -> Checkpoint:
    """Open a checkpoint and begin its run."""
    made = Checkpoint.open(path, IDENTITY)
    made.end = end
    made.begin()
    return made


def asked(fake: FakeHarness) -> set[str]:
    """Projects whose executions were asked for."""
    paths = [request.path.split("/") for request in fake.requests if request.path.endswith("/executions")]
    return {f"{parts[4]}/{parts[6]}" for parts in paths}


# -- the file ------------------------------------------------------------------------------------------------------


def test_a_checkpoint_remembers_what_was_finished(tmp_path: Path) -> None:
    """Opened again, it has the finished projects with their outcomes, the frozen end, and what was stored last."""
    path = tmp_path / "run"
    with start(path, 42) as made:
        made.record(outcome("web"), {"length": 10})
        made.record(outcome("app", 7), {"length": 20})
    with Checkpoint.open(path, IDENTITY) as again:
        assert again.end == 42
        assert again.finished == {one.project: one for one in (outcome("web"), outcome("app", 7))}
        assert again.extra == {"length": 20}
    assert read_started_at(path) is not None


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_torn_last_line_is_cut_off(tmp_path: Path, cut: int) -> None:
    """What a kill left of a line is no line; what is written next begins anew."""
    path = tmp_path / "run"
    with start(path, 42) as made:
        made.record(outcome("web"), {})
        made.record(outcome("app"), {})
    path.write_bytes(path.read_bytes()[:-cut])
    with Checkpoint.open(path, IDENTITY) as again:
        assert [ref.project for ref in again.finished] == ["web"]
        again.record(outcome("app"), {})
    with Checkpoint.open(path, IDENTITY) as last:
        assert [ref.project for ref in last.finished] == ["web", "app"]


@pytest.mark.parametrize(
    ("other", "reported"),
    [
        (Identity(host="http://x", account="a", filters="f"), "host 'http://h', not 'http://x'"),
        (Identity(host="http://h", account="b", filters="f"), "account 'a', not 'b'"),
        (Identity(host="http://h", account="a", filters="g"), "other filters"),
    ],
    ids=["host", "account", "filters"],
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path, other: Identity, reported: str) -> None:
    """Going on with another host, account or other filters is an error that says what differs."""
    path = tmp_path / "run"
    start(path).close()
    with pytest.raises(CheckpointError, match=reported):
        Checkpoint.open(path, other)


@pytest.mark.parametrize(
    ("content", "reported"),
    [
        (b"not json\n", "Line 1 .* not JSON"),
        (b"[]\n", "not a JSON object"),
        (b'{"a": 1}\n', "not a checkpoint"),
        (b'{"harness_async": "checkpoint", "version": 2}\n', "version 2"),
        (b'{"harness_async": "checkpoint", "version": 1}\n', "host None"),
    ],
)
def test_a_file_that_is_no_checkpoint_is_refused_and_left_alone(tmp_path: Path, content: bytes, reported: str) -> None:
    """A file of something else, or of a newer version, is neither taken nor changed."""
    path = tmp_path / "run"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=reported):
        Checkpoint.open(path, IDENTITY)
    assert path.read_bytes() == content


@pytest.mark.parametrize("line", [b"{}", b"garbage", b'{"project": "x"}', b'{"project": 3, "window": null}'])
def test_a_broken_line_in_the_middle_is_refused(tmp_path: Path, line: bytes) -> None:
    """Only the end of the file can be torn: damage elsewhere is an error that names the line."""
    path = tmp_path / "run"
    with start(path) as made:
        made.record(outcome(), {})
    header, last = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([header, line, last, b""]))
    with pytest.raises(CheckpointError, match="Line 2"):
        Checkpoint.open(path, IDENTITY)


def test_a_checkpoint_in_use_is_refused(tmp_path: Path) -> None:
    """Two runs on one checkpoint would undo each other: the second is refused while the first is there."""
    path = tmp_path / "run"
    with start(path), pytest.raises(CheckpointError, match="in use"):
        Checkpoint.open(path, IDENTITY)
    Checkpoint.open(path, IDENTITY).close()


def test_a_path_that_cannot_be_opened_is_a_checkpoint_error(tmp_path: Path) -> None:
    """A directory, or a path without one, is refused with the reason."""
    with pytest.raises(CheckpointError, match="Cannot open"):
        Checkpoint.open(tmp_path, IDENTITY)
    assert read_started_at(tmp_path / "nothing") is None


# -- runs ----------------------------------------------------------------------------------------------------------


async def take(run: BulkRun[Execution], most: int | None = None) -> Counter[tuple[str, str, str, str]]:
    got: Counter[tuple[str, str, str, str]] = Counter()
    async with run:
        async for row in run:
            got[row.key] += 1
            if most is not None and got.total() >= most:
                break
    return got


async def test_a_run_goes_on_where_the_last_one_stopped(
    client: HarnessClient, fake: FakeHarness, tmp_path: Path
) -> None:
    """A finished project is never asked for again; all runs together have every row."""
    path = tmp_path / "run"
    first = await take(client.executions.bulk(checkpoint=path), 400)
    finished = {json.loads(line)["project"] for line in path.read_text().splitlines()[1:]}
    assert 0 < len(finished) < 25
    fake.requests.clear()
    second = client.executions.bulk(checkpoint=path)
    rest = await take(second)
    assert finished.isdisjoint(asked(fake))
    assert set(first) | set(rest) == set(served(fake))
    repeated = {f"{key[0]}/{key[1]}" for key in first if key in rest}
    assert repeated.isdisjoint(finished), "repeats come only from projects that were not finished"
    assert second.report.complete == 25
    fake.requests.clear()
    assert await take(client.executions.bulk(checkpoint=path)) == Counter()
    assert asked(fake) == set()


async def test_a_resumed_run_reads_up_to_the_same_moment(
    client: HarnessClient, fake: FakeHarness, tmp_path: Path
) -> None:
    """Rows that arrived between two runs are of neither: the whole has one frozen end."""
    path = tmp_path / "run"
    await take(client.executions.bulk(checkpoint=path), 300)
    before = served(fake)
    for org, project in fake.projects:
        fake.add_execution(org, project, created=int(fake.clock() * 1000) + 5000)
    run = client.executions.bulk(checkpoint=path)
    assert set(await take(run)) <= set(before)
    ends = {done.window[1] for done in run.report.outcomes.values() if done.window is not None}
    assert len(ends) == 1


@pytest.mark.parametrize("how", ["break", "raise", "cancel"])
async def test_however_a_run_ends_nothing_is_lost(
    client: HarnessClient, fake: FakeHarness, tmp_path: Path, how: str
) -> None:
    """A row that the consumer did not take comes again, whatever ended the run."""
    rng = random.Random(how)
    path, taken = tmp_path / "run", set[tuple[str, str, str, str]]()

    async def consume(most: int) -> bool:
        async with client.executions.bulk(checkpoint=path) as run:
            async for row in run:
                if not most:
                    if how == "raise":
                        raise ZeroDivisionError
                    if how == "cancel":
                        asyncio.current_task().cancel()  # type: ignore[union-attr]
                        await asyncio.sleep(0)
                    return False
                most -= 1
                taken.add(row.key)  # the consumer's part: from here on the row is safe
        return True

    for _ in range(200):
        result = (await asyncio.gather(asyncio.create_task(consume(rng.randrange(900))), return_exceptions=True))[0]
        if result is True:
            break
    assert taken == set(served(fake))


async def test_a_failed_project_is_tried_again(client: HarnessClient, fake: FakeHarness, tmp_path: Path) -> None:
    """Only what is complete is finished: a project that failed or was denied is asked for by the next run."""
    path = tmp_path / "run"
    org, project = fake.projects[0]
    fake.deny(org, project)
    run = client.executions.bulk(checkpoint=path)
    first = await take(run)
    assert run.report.failed == 1
    fake.allow(org, project)
    assert first + await take(client.executions.bulk(checkpoint=path)) == served(fake)


async def test_other_arguments_are_refused(client: HarnessClient, tmp_path: Path) -> None:
    """A checkpoint goes with its filters and consistency."""
    path = tmp_path / "run"
    await take(client.executions.bulk(checkpoint=path), 1)
    others: list[dict[str, Any]] = [
        {"status": "failure"},
        {"start_time": 5},
        {"workspace": "w"},
        {"consistency": "strict"},
    ]
    for arguments in others:
        with pytest.raises(CheckpointError, match="other filters"):
            await take(client.executions.bulk(checkpoint=path, **arguments))


async def test_two_runs_on_one_checkpoint(client: HarnessClient, tmp_path: Path) -> None:
    """The second run is refused, and the first goes on."""
    path = tmp_path / "run"
    async with client.executions.bulk(checkpoint=path) as run:
        await anext(run)
        with pytest.raises(CheckpointError, match="in use"):
            await take(client.executions.bulk(checkpoint=path))
        assert len([row async for row in run]) == 899


async def test_the_key_is_not_in_the_file(client: HarnessClient, fake: FakeHarness, tmp_path: Path) -> None:
    """What is on disk tells whose run it is, and not how to be them."""
    path = tmp_path / "run"
    await take(client.executions.bulk(checkpoint=path))
    assert fake.api_key.split(".")[-1] not in path.read_text()


async def test_rows_are_made_durable_before_their_project_is_finished(
    client: HarnessClient, fake: FakeHarness, tmp_path: Path
) -> None:
    """`commit` is called for each complete project, when its rows were taken and before its line is written."""
    path = tmp_path / "run"
    seen: Counter[str] = Counter()
    calls: list[str] = []

    def on_project_complete(done: ProjectOutcome) -> Mapping[str, Any]:
        assert seen[str(done.project)] == done.rows
        assert str(done.project) not in path.read_text()
        calls.append(str(done.project))
        return {"calls": len(calls)}

    run = with_output(client.executions.bulk(checkpoint=path), on_project_complete, datetime.now(UTC))
    async with run:
        assert run.resumed == {}
        async for row in run:
            seen[f"{row.org}/{row.project}"] += 1
    assert len(calls) == len(set(calls)) == 25
    again = client.executions.bulk(checkpoint=path)
    async with again:
        assert again.resumed == {"calls": 25}


async def test_a_run_whose_server_fails_keeps_what_it_has(
    client: HarnessClient, fake: FakeHarness, tmp_path: Path
) -> None:
    """A refused key in the middle ends the run; the next one goes on with what was finished."""
    path = tmp_path / "run"
    fault = fake.faults.add(Status(401), when=lambda _: len(fake.requests) > 15)
    with pytest.raises(HarnessError):
        await take(client.executions.bulk(checkpoint=path))
    assert fault.hits
    fake.faults.clear()
    fake.requests.clear()
    run = client.executions.bulk(checkpoint=path)
    await take(run)
    assert run.report.complete == 25
    assert len(asked(fake)) < 25


async def test_the_clock_is_learned_before_a_run_is_frozen(fake: FakeHarness, tmp_path: Path) -> None:
    """With projects of its own a run asks the server for the time first, for all its windows end there."""
    make: Callable[[], HarnessClient] = lambda: HarnessClient(fake.api_key, base_url=fake.url, rate_limit=None)  # noqa: E731
    async with make() as client:
        await take(client.executions.bulk(fake.projects, checkpoint=tmp_path / "run"))
    assert fake.requests[0].path.endswith("/v1/orgs")
