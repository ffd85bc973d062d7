"""`harness-async sync`: what is new into a file, and a state that never gets ahead of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from harness_async.cli.app import app
from harness_async.testing import FakeHarness, Status
from harness_async.testing.threads import run_in_thread


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHarness]:
    server = FakeHarness.seeded(projects=4, executions=120, seed=2)
    with run_in_thread(server):
        monkeypatch.setenv("HARNESS_API_KEY", server.api_key)
        monkeypatch.setenv("HARNESS_BASE_URL", server.url)
        yield server


def sync(folder: Path, *more: str) -> Result:
    files = ("--state", str(folder / "state"), "--output", str(folder / "rows.jsonl"))
    return CliRunner().invoke(app, ["sync", *files, "--requests-per-minute", "100000", *more])


def rows(folder: Path) -> list[str]:
    lines = (folder / "rows.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["pipeline_execution_id"] for line in lines]


def test_each_sync_writes_what_is_new(fake: FakeHarness, tmp_path: Path) -> None:
    """The first file has everything, the next what came since; the state goes from one to the other."""
    assert sync(tmp_path).exit_code == 0
    assert len(rows(tmp_path)) == 120
    org, project = fake.projects[0]
    new = fake.add_execution(org, project)
    result = sync(tmp_path)
    assert result.exit_code == 0
    assert new["pipeline_execution_id"] in rows(tmp_path)
    assert len(rows(tmp_path)) < 20
    assert "4 complete" in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.jsonl", "state"], "nothing else is left"


def test_a_sync_that_is_stopped_leaves_both_files(fake: FakeHarness, tmp_path: Path) -> None:
    """A refused key changes neither the rows nor the state of the last time."""
    sync(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    fake.faults.add(Status(401))
    assert sync(tmp_path).exit_code == 3
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_project_that_fails_is_told_and_read_again(fake: FakeHarness, tmp_path: Path) -> None:
    """The exit code is 1, the rest is written, and the next sync brings what was missed."""
    org, project = fake.projects[0]
    fake.faults.add(Status(501), path=f"*/{org}/projects/{project}/executions")
    assert sync(tmp_path, "--quiet").exit_code == 1
    got = set(rows(tmp_path))
    fake.faults.clear()
    assert sync(tmp_path).exit_code == 0
    assert got | set(rows(tmp_path)) == {row["pipeline_execution_id"] for row in fake.all_executions()}


@pytest.mark.parametrize("content", ["", "garbage", '{"version": 9}'])
def test_a_file_that_is_no_state_is_refused(fake: FakeHarness, tmp_path: Path, content: str) -> None:
    """Said with what to do, before anything is asked for."""
    (tmp_path / "state").write_text(content)
    result = sync(tmp_path)
    assert result.exit_code == 2
    assert "Delete it" in result.stderr
    assert fake.requests == []
    assert not (tmp_path / "rows.jsonl").exists()
