"""The README's examples run as they stand, against the fake server."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from sybil import Example, Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

from harness_async.testing import FakeHarness
from harness_async.testing.threads import run_in_thread

README = Path(__file__).parents[1] / "README.md"


def examples() -> list[Example]:
    document = Sybil(parsers=[PythonCodeBlockParser()], path=str(README.parent)).parse(README)
    return list(document.examples())


@pytest.mark.parametrize("example", examples(), ids=lambda example: f"line {example.line}")
async def test_an_example_runs(example: Example, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each block of Python is a whole program that a reader can paste."""
    fake = FakeHarness()
    for project in ("payments", "checkout"):
        fake.add_project("default", project)
        fake.add_executions("default", project, 30, status="failure")
    with run_in_thread(fake):
        monkeypatch.setenv("HARNESS_API_KEY", fake.api_key)
        monkeypatch.setenv("HARNESS_BASE_URL", fake.url)
        # In a thread of its own: an example calls asyncio.run, as a program does.
        await asyncio.to_thread(example.evaluate)


def test_the_first_commands_are_two() -> None:
    """The first shell block has the line that tries it and the line that tests it."""
    block = re.search(r"```sh\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    lines = block[1].splitlines()
    assert len(lines) == 2
    assert "export --demo" in lines[0]
    assert lines[1].endswith("poe check")


def test_the_readme_is_read_in_one_go() -> None:
    """Eighty to a hundred and fifty lines."""
    assert 80 <= len(README.read_text(encoding="utf-8").splitlines()) <= 150
