"""What an export would take: `--plan` says it, `--max-requests` refuses it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness_async.cli.app import app
from harness_async.testing import FakeHarness
from harness_async.testing.threads import run_in_thread


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHarness]:
    server = FakeHarness.seeded(projects=6, executions=900, seed=2)
    with run_in_thread(server):
        monkeypatch.setenv("HARNESS_API_KEY", server.api_key)
        monkeypatch.setenv("HARNESS_BASE_URL", server.url)
        yield server


def export(*arguments: str) -> tuple[int, str, str]:
    """Export in this process; gives exit code, standard output and standard error."""
    result = CliRunner().invoke(app, ["export", "--requests-per-minute", "100000", *arguments])
    return result.exit_code, result.stdout, result.stderr


def executions_asked(fake: FakeHarness) -> int:
    return sum(request.path.endswith("/executions") for request in fake.requests)


def test_a_plan_says_what_the_export_takes_and_writes_nothing(fake: FakeHarness, tmp_path: Path) -> None:
    """One request a project; the numbers are those of the export that follows."""
    output = tmp_path / "rows.jsonl"
    code, out, _ = export("--plan", "--output", str(output))
    assert code == 0
    assert executions_asked(fake) == 6
    assert not output.exists()
    assert re.search(r"^projects +6$", out, re.MULTILINE)
    assert re.search(r"^rows +900$", out, re.MULTILINE)
    assert re.search(r"^time +0\.0 min at least", out, re.MULTILINE)
    planned, made = map(int, re.findall(r"^requests +(\d+) \((\d+) made\)$", out, re.MULTILINE)[0])
    assert made == len(fake.requests)
    fake.requests.clear()
    assert export("--output", str(output))[0] == 0
    assert len(fake.requests) == planned


def test_a_plan_begins_no_checkpoint_and_reads_one_that_is_there(fake: FakeHarness, tmp_path: Path) -> None:
    """A plan of a run to come freezes nothing; that of a run that has begun counts what is left."""
    files = ("--output", str(tmp_path / "rows.jsonl"), "--checkpoint", str(tmp_path / "run"))
    assert export("--plan", *files)[0] == 0
    assert not list(tmp_path.iterdir())
    assert export(*files)[0] == 0
    before = [path.read_bytes() for path in sorted(tmp_path.iterdir())]
    code, out, _ = export("--plan", *files)
    assert code == 0
    assert re.search(r"^projects +0$", out, re.MULTILINE)
    assert [path.read_bytes() for path in sorted(tmp_path.iterdir())] == before


def test_a_plan_tells_what_cannot_be_read(fake: FakeHarness) -> None:
    """Projects that are refused and organizations that cannot be listed are counted, and the exit code says so."""
    fake.deny(*fake.projects[0])
    code, out, _ = export("--plan")
    assert (code, "6 (1 failed)" in out) == (1, True)
    code, out, err = export("--plan", "--org", "nope")
    assert code == 1
    assert "nope/*: projects not listed: 404" in err


def test_an_export_that_would_take_too_much_is_refused(fake: FakeHarness, tmp_path: Path) -> None:
    """Nothing is written over, no checkpoint begun in vain, and the message says what to do."""
    output = tmp_path / "rows.jsonl"
    output.write_text("old", encoding="utf-8")
    code, out, err = export("--max-requests", "9", "--output", str(output))
    assert (code, out, output.read_text(encoding="utf-8")) == (2, "", "old")
    assert "more than --max-requests 9" in err
    assert "--since" in err
    assert len(fake.requests) <= 9


def test_an_export_within_its_budget_asks_for_no_page_twice(fake: FakeHarness, tmp_path: Path) -> None:
    """The pages of the plan are part of the export: with the budget it takes what it takes without."""
    assert export("--output", str(tmp_path / "one.jsonl"))[0] == 0
    least = len(fake.requests)
    fake.requests.clear()
    budget = ("--max-requests", str(least), "--output", str(tmp_path / "two.jsonl"))
    assert export(*budget, "--checkpoint", str(tmp_path / "run"))[0] == 0
    assert len(fake.requests) == least + 1, "a run with a checkpoint asks for the server's time first"
    one, two = (sorted((tmp_path / f"{name}.jsonl").read_bytes().splitlines()) for name in ("one", "two"))
    assert one == two
    assert len(one) == 900


def test_a_demo_keeps_no_checkpoint(tmp_path: Path) -> None:
    """The demo's account ends with the run, so that nothing could go on from there: refused, and no file begun."""
    files = ("--output", str(tmp_path / "rows.jsonl"), "--checkpoint", str(tmp_path / "run"))
    code, _, err = export("--demo", *files)
    assert (code, "--demo" in err) == (2, True)
    assert not list(tmp_path.iterdir())
