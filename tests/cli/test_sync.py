"""`sync`: new rows to a file, and a state that never covers rows that are in no file."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest

from harness_async.testing import Delay, FakeHarness, Status
from tests.support.cli_runner import Result, Terminal, invoke, json_lines, posix, start


@pytest.fixture
def fake() -> FakeHarness:
    return FakeHarness.seeded(projects=4, executions=120, seed=2)


def sync(folder: Path, *more: str) -> Result:
    files = ("--state", str(folder / "state"), "--output", str(folder / "rows.jsonl"))
    return invoke("sync", *files, "--requests-per-minute", "100000", *more)


def written(folder: Path) -> list[str]:
    """Return the pipeline execution IDs in the output."""
    return [row["pipeline_execution_id"] for row in json_lines((folder / "rows.jsonl").read_text(encoding="utf-8"))]


def test_new_rows(server: FakeHarness, tmp_path: Path) -> None:
    """The first sync writes all rows, the second only what is new. No other file is left; the state keeps its mode."""
    assert sync(tmp_path).exit_code == 0
    (tmp_path / "state").chmod(0o604)
    assert len(written(tmp_path)) == 120
    new = server.add_execution(*server.projects[0])
    result = sync(tmp_path)
    assert result.exit_code == 0
    assert new["pipeline_execution_id"] in written(tmp_path)
    assert len(written(tmp_path)) < 20
    assert "4 complete" in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.jsonl", "state"]
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o604


def test_selected_projects(server: FakeHarness, tmp_path: Path) -> None:
    """--project and --org choose what is read; other projects keep their state. A missing organization is a failure."""
    first, second = server.projects[:2]
    assert sync(tmp_path, "--project", "/".join(first)).exit_code == 0
    assert len(written(tmp_path)) == len(server.executions(*first))
    server.add_execution(*first)
    result = sync(tmp_path, "-p", "/".join(second), "--org", "missing")
    assert result.exit_code == 1
    assert "missing/*  projects not listed: 404" in result.stderr
    assert len(written(tmp_path)) == len(server.executions(*second))
    assert sync(tmp_path).exit_code == 0
    assert len(written(tmp_path)) < len(server.executions(*first)) + 120 - len(server.executions(*second))


def test_rows_before_state(server: FakeHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk while the state is written is exit code 1. The next sync writes the same rows again."""
    sync(tmp_path)
    state = (tmp_path / "state").read_bytes()
    new = server.add_execution(*server.projects[0])
    replace = Path.replace

    def fail_state(path: Path, target: Path) -> Path:
        if target.name == "state":
            raise OSError(28, "No space left on device")
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", fail_state)
    result = sync(tmp_path)
    assert (result.exit_code, f"Cannot write {tmp_path / 'state'}: No space left" in result.stderr) == (1, True)
    assert new["pipeline_execution_id"] in written(tmp_path)
    assert (tmp_path / "state").read_bytes() == state
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.jsonl", "state"]
    monkeypatch.setattr(Path, "replace", replace)
    assert sync(tmp_path).exit_code == 0
    assert new["pipeline_execution_id"] in written(tmp_path)


def test_failed_project(server: FakeHarness, tmp_path: Path) -> None:
    """A failed project is exit code 1. The other rows are written, and the next sync writes what was missed."""
    org, project = server.projects[0]
    server.faults.add(Status(501), path=f"*/{org}/projects/{project}/executions")
    result = sync(tmp_path, "--quiet")
    assert (result.exit_code, f"{org}/{project}" in result.stderr) == (1, True)
    got = set(written(tmp_path))
    server.faults.clear()
    assert sync(tmp_path).exit_code == 0
    assert got | set(written(tmp_path)) == {row["pipeline_execution_id"] for row in server.all_executions()}


@posix
def test_interrupted(server: FakeHarness, tmp_path: Path) -> None:
    """A sync that is interrupted says so, and leaves both files as they were and no other one."""
    sync(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    server.faults.add(Delay(3600), path="*/executions", times=None)
    server.requests.clear()
    process = start("sync", "--state", str(tmp_path / "state"), "--output", str(tmp_path / "rows.jsonl"))
    server.before_request = lambda request: process.terminate() if request.path.endswith("/executions") else None
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "the state is as it was" in stderr
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_control_characters(server: FakeHarness, tmp_path: Path) -> None:
    """Control characters that the server sends do not reach the terminal, in the names of projects either."""
    sync(tmp_path)
    server.add_project("default", "evil\x1b[31m", modules=["IACM"])
    server.deny("default", "evil\x1b[31m")
    result = sync(tmp_path)
    assert result.exit_code == 1
    assert "\x1b" not in result.stderr
    assert "default/evil\\x1b[31m" in result.stderr


def test_pipeline_executions(server: FakeHarness, tmp_path: Path) -> None:
    """The other list has a state of its own; a state of another list is exit code 2 with a hint."""
    assert sync(tmp_path, "pipeline-executions").exit_code == 0
    rows = json_lines((tmp_path / "rows.jsonl").read_text())
    assert {row["plan_execution_id"] for row in rows} == {
        row["planExecutionId"] for ref in server.projects for row in server.rows("pipeline_executions", *ref)
    }
    assert sync(tmp_path, "pipeline-executions").exit_code == 0
    result = sync(tmp_path)
    assert (result.exit_code, "Choose another --state" in result.stderr) == (2, True)


def test_demo(tmp_path: Path) -> None:
    """The state of a demo fits the server of the next one, which has another port."""
    for least, most in ((4000, 4000), (0, 1000)):
        result = sync(tmp_path, "--demo")
        assert result.exit_code == 0
        assert least <= len(written(tmp_path)) <= most
        assert "Each run writes only what is new" in result.stderr


def test_progress(server: FakeHarness, tmp_path: Path) -> None:
    """On a terminal the progress is shown, and erased before the report."""
    server.faults.add(Delay(0.3), path="*/executions", times=None)
    with Terminal() as terminal:
        arguments = ("sync", "--state", str(tmp_path / "state"), "--output", "-")
        with start(*arguments, stderr=terminal.stream) as process:
            terminal.wait_for("/4 projects")
            assert process.stdout is not None
            rows = json_lines(process.stdout.read())
        terminal.wait_for("Each run writes only what is new")
    assert (process.returncode, len(rows)) == (0, 120)
    assert not re.search("limited by|━", terminal.text.partition("4 complete")[2])


@pytest.mark.parametrize("content", ["", "garbage", '{"version": 9}', "{}"])
def test_invalid_state(server: FakeHarness, tmp_path: Path, content: str) -> None:
    """A file that is not a state is exit code 2 with a hint, before any request."""
    (tmp_path / "state").write_text(content)
    result = sync(tmp_path)
    assert result.exit_code == 2
    assert f"Cannot read the state {tmp_path / 'state'}" in result.stderr
    assert "Choose another --state, or delete the file" in result.stderr
    assert ("'version' is missing" in result.stderr) == (content == "{}")
    assert server.requests == []
    assert not (tmp_path / "rows.jsonl").exists()
