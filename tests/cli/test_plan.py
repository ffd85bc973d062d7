"""`export --plan` and `--max-requests`."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from harness_async.testing import FakeHarness
from tests.support.cli_runner import export


@pytest.fixture
def fake() -> FakeHarness:
    return FakeHarness.seeded(projects=6, executions=900, seed=2)


def test_plan(server: FakeHarness, tmp_path: Path) -> None:
    """A plan takes one request per project and writes nothing. The export then takes as many as it predicts."""
    output = tmp_path / "rows.jsonl"
    result = export("--plan", "--output", str(output))
    assert result.exit_code == 0
    assert len([request for request in server.requests if request.path.endswith("/executions")]) == 6
    assert not output.exists()
    assert re.search(r"^projects +6$", result.stdout, re.MULTILINE)
    assert re.search(r"^rows +900$", result.stdout, re.MULTILINE)
    planned, made = map(int, re.findall(r"^requests +(\d+) \((\d+) made\)$", result.stdout, re.MULTILINE)[0])
    assert made == len(server.requests)
    server.requests.clear()
    assert export("--output", str(output)).exit_code == 0
    assert len(server.requests) == planned


def test_checkpoint(server: FakeHarness, tmp_path: Path) -> None:
    """A plan creates no checkpoint. With an existing one, it counts what is left and changes nothing."""
    files = ("--output", str(tmp_path / "rows.jsonl"), "--checkpoint", str(tmp_path / "run"))
    assert export("--plan", *files).exit_code == 0
    assert not list(tmp_path.iterdir())
    assert export(*files).exit_code == 0
    before = [path.read_bytes() for path in sorted(tmp_path.iterdir())]
    result = export("--plan", *files)
    assert result.exit_code == 0
    assert re.search(r"^projects +0$", result.stdout, re.MULTILINE)
    assert [path.read_bytes() for path in sorted(tmp_path.iterdir())] == before


def test_failures(server: FakeHarness) -> None:
    """Projects that cannot be read and organizations that cannot be listed are reported; exit code 1."""
    server.deny(*server.projects[0])
    result = export("--plan")
    assert (result.exit_code, "6 (1 failed)" in result.stdout) == (1, True)
    result = export("--plan", "--org", "nope")
    assert result.exit_code == 1
    assert "nope/*: projects not listed: 404" in result.stderr


@pytest.mark.parametrize(
    "options", [lambda _: (), lambda folder: ("--checkpoint", str(folder / "run"))], ids=["", "checkpoint"]
)
def test_max_requests_exceeded(server: FakeHarness, tmp_path: Path, options: Callable[[Path], Sequence[str]]) -> None:
    """An export over --max-requests is exit code 2 with a hint. The old file is kept, and no checkpoint is begun."""
    output = tmp_path / "rows.jsonl"
    output.write_text("old", encoding="utf-8")
    result = export("--max-requests", "9", "--output", str(output), *options(tmp_path))
    assert (result.exit_code, result.stdout, output.read_text(encoding="utf-8")) == (2, "", "old")
    assert list(tmp_path.iterdir()) == [output]
    assert "more than --max-requests 9" in result.stderr
    assert "--since" in result.stderr
    assert len(server.requests) <= 9


def test_max_requests(server: FakeHarness, tmp_path: Path) -> None:
    """Within --max-requests, the pages of the plan are not requested again, with a checkpoint either."""
    assert export("--output", str(tmp_path / "one.jsonl")).exit_code == 0
    needed = len(server.requests)
    server.requests.clear()
    options = ("--max-requests", str(needed), "--output", str(tmp_path / "two.jsonl"))
    assert export(*options, "--checkpoint", str(tmp_path / "run")).exit_code == 0
    assert len(server.requests) == needed + 1, "one more to read the server's clock"
    one, two = (sorted((tmp_path / f"{name}.jsonl").read_bytes().splitlines()) for name in ("one", "two"))
    assert one == two
    assert len(one) == 900
