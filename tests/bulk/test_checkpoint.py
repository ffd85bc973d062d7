"""Checkpoints: what a run has finished is kept, and nothing else."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import json
import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness_async import (
    AuthenticationError,
    BudgetError,
    CheckpointError,
    HarnessClient,
    HarnessError,
    ProjectOutcome,
    ProjectRef,
)
from harness_async.bulk.checkpoint import Checkpoint, Identity, read_started_at
from harness_async.testing import FakeHarness, Status
from harness_async.types import TimeWindow
from tests.support.executions import Key, listed, served, take

IDENTITY = Identity(host="http://h", account="a", filters="f")


@pytest.fixture
async def fake() -> AsyncIterator[FakeHarness]:
    async with FakeHarness.seeded(projects=25, executions=500, seed=3) as server:
        yield server


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run"


def outcome(project: str = "web", rows: int = 3) -> ProjectOutcome:
    ref, window = ProjectRef.unchecked("default", project), TimeWindow(None, 9)
    return ProjectOutcome(project=ref, status="complete", guarantee="exact", rows=rows, window=window)


def write(path: Path, *names: str, end: int | None = 42) -> bytes:
    """Write the checkpoint of a run that has finished these projects; return its content."""
    with Checkpoint.open(path, IDENTITY) as checkpoint:
        checkpoint.end = end
        checkpoint.begin()
        for number, name in enumerate(names, 1):
            checkpoint.record(outcome(name), {"length": 10 * number})
    return path.read_bytes()


def finished(path: Path) -> list[str]:
    with Checkpoint.open(path, IDENTITY) as checkpoint:
        return [ref.project for ref in checkpoint.finished]


def read(path: Path) -> str:
    return path.read_text()


def recorded(path: Path) -> set[str]:
    """Return the projects that a checkpoint has a line of."""
    return {json.loads(line)["project"] for line in read(path).splitlines()[1:]}


@pytest.mark.parametrize("name", ["app", "", "..", "a/b", "50%", "a%2Fb", "x" * 500, "zwei\nZeilen", "\ud800"])
def test_round_trip(path: Path, name: str) -> None:
    """A checkpoint returns the outcomes, the frozen end and what was stored last, whatever a project is named."""
    write(path, "web", name)
    with Checkpoint.open(path, IDENTITY) as again:
        assert again.end == 42
        assert again.finished == {one.project: one for one in (outcome("web"), outcome(name))}
        assert again.extra == {"length": 20}
    assert read_started_at(path) is not None


@pytest.mark.parametrize("cut", range(1, 200, 13))
def test_a_torn_last_line(path: Path, cut: int) -> None:
    """The rest of a line that a kill left is cut off; the next line begins where it began."""
    path.write_bytes(write(path, "web", "app")[:-cut])
    before = finished(path)
    assert before in (["web"], [])
    with Checkpoint.open(path, IDENTITY) as again:
        again.record(outcome("new"), {})
    assert finished(path) == [*before, "new"]


@pytest.mark.parametrize("length", [0, 1, 14, 40, 100])
def test_a_torn_first_line(path: Path, length: int) -> None:
    """A torn header means that nothing was begun, the frozen end included."""
    path.write_bytes(write(path)[:length])
    assert read_started_at(path) is None
    with Checkpoint.open(path, IDENTITY) as again:
        assert again.is_new
        assert again.end is None


@pytest.mark.parametrize(
    ("member", "reported"),
    [("host", "host 'http://h', not 'other'"), ("account", "account 'a', not 'other'"), ("filters", "other filters")],
)
def test_another_run(path: Path, member: str, reported: str) -> None:
    """A run with another host, account or other filters is refused with the difference."""
    write(path)
    with pytest.raises(CheckpointError, match=reported):
        Checkpoint.open(path, evolve(IDENTITY, **{member: "other"}))


HEADER = json.dumps({"harness_async": "checkpoint", "version": 1, "host": "http://h", "account": "a", "filters": "f"})
LINE = (
    '{"project": "o/p", "rows": 1, "requests": 1, "retries": 0, "consistency": "exact", "window": [1, 9], "extra": {}}'
)
DAMAGED: dict[str, tuple[str, str]] = {
    "not JSON": ("not json", "Line 1 .* not JSON; choose another path, or delete the file"),
    "binary": ("\x00\x01", "Line 1 .* not JSON"),
    "deep": ("[" * 100_000, "Line 1 .* not JSON"),
    "array": ("[]", "not a JSON object"),
    "another object": ('{"a": 1}', "not a checkpoint"),
    "newer version": ('{"harness_async": "checkpoint", "version": 2}', "version 2"),
    "odd version": ('{"harness_async": "checkpoint", "version": [1]}', r"version \[1\]"),
    "no host": ('{"harness_async": "checkpoint", "version": 1}', "host None"),
    "text as end": (HEADER[:-1] + ', "end": "soon"}', "an end"),
    "fraction as end": (HEADER[:-1] + ', "end": 1e400}', "an end"),
    "deep line": (HEADER + "\n" + "[" * 100_000, "Line 2 .* not JSON"),
    "empty line": (HEADER + "\n", "Line 2 .* not JSON"),
    "null line": (HEADER + "\nnull", "Line 2 .* not a JSON object"),
    "huge number": (HEADER + '\n{"rows": ' + "9" * 5000 + "}", "Line 2"),
}
MEMBERS: dict[str, list[Any]] = {
    "project": [3, "x", "a/b/c"],
    "rows": [-1, "1", 1.5],
    "requests": [True],
    "retries": [None],
    "consistency": ["perfect", []],
    "window": [3, [1], [1, 2, 3], ["a", 2], {}],
    "extra": [7, None, [1]],
    "list": [4],
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_files(path: Path, kind: str) -> None:
    """A file of something else, or a damaged one, is refused with the line, and left as it is."""
    text, reported = DAMAGED[kind]
    content = text.encode() + b"\n"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=reported):
        Checkpoint.open(path, IDENTITY)
    assert path.read_bytes() == content
    assert read_started_at(path) is None


@pytest.mark.parametrize("name", MEMBERS)
@pytest.mark.parametrize("last", [False, True], ids=["middle", "last"])
def test_damaged_lines(path: Path, name: str, last: bool) -> None:
    """A line with a member of a wrong type or value is refused, also where it is the last one."""
    for value in MEMBERS[name]:
        lines = [HEADER, json.dumps({**json.loads(LINE), name: value}), *([] if last else [LINE])]
        content = "\n".join(lines).encode() + b"\n"
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="Line 2"):
            Checkpoint.open(path, IDENTITY)
        assert path.read_bytes() == content


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.integers(0, 2000), st.binary(max_size=3)), min_size=1, max_size=3))
def test_random_damage(path: Path, changes: list[tuple[int, bytes]]) -> None:
    """Whatever bytes change, a checkpoint opens, or raises `CheckpointError` and is left as it is."""
    path.unlink(missing_ok=True)
    content = bytearray(write(path, "web", "app", "api"))
    for position, replacement in changes:
        content[position % len(content) : position % len(content) + 2] = replacement
    path.write_bytes(content)
    read_started_at(path)
    try:
        Checkpoint.open(path, IDENTITY).close()
    except CheckpointError:
        assert path.read_bytes() == content


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EIO], ids=os.strerror)
def test_no_locks(path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """A file system without locks is named as the reason, with a way to go on; without a lock the file opens."""

    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(CheckpointError, match=f"cannot be locked: {os.strerror(code)}.*checkpoint_lock=False"):
        Checkpoint.open(path, IDENTITY)
    assert not path.exists()
    Checkpoint.open(path, IDENTITY, lock=False).close()


def test_unusable_paths(tmp_path: Path) -> None:
    """A directory, a path in a missing one or that cannot be one, a pipe and an endless device are refused."""
    os.mkfifo(tmp_path / "pipe")
    for unusable, reason in [
        (tmp_path, "Cannot open"),
        (tmp_path / "missing" / "run", "Cannot open"),
        (Path("a\0b"), "Cannot open .*null"),
        (tmp_path / "pipe", "not a regular file"),
        (Path("/dev/full"), "not a regular file"),
    ]:
        with pytest.raises(CheckpointError, match=reason):
            Checkpoint.open(unusable, IDENTITY)


async def test_a_run_is_resumed(client: HarnessClient, fake: FakeHarness, path: Path) -> None:
    """A finished project is not requested again; all runs together have every row, up to one frozen end."""
    first = await take(client.executions.bulk(checkpoint=path), 400)
    done = recorded(path)
    assert 0 < len(done) < 25
    before = served(fake)
    for org, project in fake.projects:
        fake.add_execution(org, project, created=fake.now() + 5000)
    fake.requests.clear()
    second = client.executions.bulk(checkpoint=path)
    rest = await take(second)
    assert done.isdisjoint(listed(fake))
    assert set(first) | set(rest) == set(before)
    assert done.isdisjoint(f"{key[0]}/{key[1]}" for key in first if key in rest)
    assert second.report.complete == 25
    assert len({each.window.end for each in second.report.outcomes.values() if each.window is not None}) == 1
    fake.requests.clear()
    assert await take(client.executions.bulk(checkpoint=path)) == Counter()
    assert listed(fake) == set()
    assert fake.api_key.split(".")[-1] not in read(path)


@pytest.mark.parametrize("spelling", [str.upper, str.title, str.swapcase], ids=["upper", "title", "swapped"])
async def test_spelling(client: HarnessClient, fake: FakeHarness, path: Path, spelling: Callable[[str], str]) -> None:
    """A checkpoint keeps projects as they were requested, however the server spells them."""
    projects = [ProjectRef(spelling(org), spelling(project)) for org, project in fake.projects]
    first = await take(client.executions.bulk(projects, checkpoint=path), 300)
    done = recorded(path)
    assert 0 < len(done) < 25
    fake.requests.clear()
    rest = await take(client.executions.bulk(projects, checkpoint=path))
    assert done.isdisjoint(listed(fake))
    assert set(first) | set(rest) == set(served(fake))


@pytest.mark.parametrize("how", ["break", "raise", "cancel"])
async def test_rows_that_were_not_taken(client: HarnessClient, fake: FakeHarness, path: Path, how: str) -> None:
    """A row that the consumer did not take comes again, however the run was left."""
    rng = random.Random(how)
    taken = set[Key]()

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
                taken.add(row.key)
        return True

    for _ in range(200):
        result = (await asyncio.gather(asyncio.create_task(consume(rng.randrange(500))), return_exceptions=True))[0]
        if result is True:
            break
    assert taken == set(served(fake))


@pytest.mark.parametrize("lock", [True, False])
async def test_two_runs(client: HarnessClient, fake: FakeHarness, path: Path, lock: bool) -> None:
    """A second run on a checkpoint in use is refused, unless it goes without the lock; the first one goes on."""
    async with client.executions.bulk(checkpoint=path) as run:
        await anext(run)
        second = client.executions.bulk(checkpoint=path, checkpoint_lock=lock)
        if lock:
            with pytest.raises(CheckpointError, match="in use by another process"):
                await take(second)
        else:
            assert await take(second) == served(fake)
        assert len([row async for row in run]) == 499


@pytest.mark.parametrize("refusal", ["max_requests", "plan", "refused key", "never iterated", "first project denied"])
async def test_a_run_that_got_nothing(client: HarnessClient, fake: FakeHarness, path: Path, refusal: str) -> None:
    """A run that finishes no project begins nothing, so that its frozen end does not hide rows from the next one."""
    options: dict[str, Any] = {"checkpoint": path}
    if refusal == "max_requests":
        with pytest.raises(BudgetError):
            await take(client.executions.bulk(max_requests=3, **options))
    elif refusal == "plan":
        await client.executions.bulk(**options).plan()
    elif refusal == "refused key":
        fault = fake.faults.add(Status(401))
        with pytest.raises(AuthenticationError):
            await take(client.executions.bulk(**options))
        assert fault.hits
        fake.faults.clear()
    elif refusal == "never iterated":
        async with client.executions.bulk(**options):
            pass
    else:
        fake.deny(*fake.projects[0])
        with pytest.raises(HarnessError):
            await take(client.executions.bulk([fake.projects[0]], on_error="raise", **options))
        fake.allow(*fake.projects[0])
    assert await asyncio.to_thread(os.listdir, path.parent) == []
    assert await take(client.executions.bulk(**options)) == served(fake)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO], ids=os.strerror)
@pytest.mark.parametrize("at", [1, 2, 5])
async def test_a_full_disk(
    client: HarnessClient, fake: FakeHarness, path: Path, monkeypatch: pytest.MonkeyPatch, at: int, code: int
) -> None:
    """A checkpoint that cannot be written ends the run with `CheckpointError`; what it has is valid and resumed."""
    calls, sync = [0], os.fsync

    def fail(descriptor: int) -> None:
        calls[0] += 1
        if calls[0] == at:
            raise OSError(code, os.strerror(code))
        sync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(CheckpointError, match=os.strerror(code)):
            await take(client.executions.bulk(checkpoint=path))
    run = client.executions.bulk(checkpoint=path)
    await take(run)
    assert run.report.complete == 25
    assert len(recorded(path)) == 25


async def test_failures(client: HarnessClient, fake: FakeHarness, path: Path) -> None:
    """Only complete projects are finished: a resumed run reads those that failed, and those that a refusal left."""
    fake.deny(*fake.projects[0])
    fault = fake.faults.add(Status(401), when=lambda _: len(fake.requests) > 15)
    with pytest.raises(AuthenticationError):
        await take(client.executions.bulk(checkpoint=path))
    assert fault.hits
    fake.faults.clear()
    fake.allow(*fake.projects[0])
    fake.requests.clear()
    run = client.executions.bulk(checkpoint=path)
    await take(run)
    assert run.report.complete == 25
    assert "/".join(fake.projects[0]) in listed(fake)
    assert len(listed(fake)) < 25
