"""The README's examples run as they stand, against the fake server."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from sybil import Example, Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

from harness_async.testing import FakeHarness
from harness_async.testing.threads import run_in_thread

README = Path(__file__).parents[1] / "README.md"


def examples() -> list[Example]:
    document = Sybil(parsers=[PythonCodeBlockParser()], path=str(README.parent)).parse(README)
    return list(document.examples())


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHarness]:
    """A served account with two projects that have rows of every kind, found through the environment."""
    fake = FakeHarness.seeded(projects=2, executions=60)
    for project in ("payments", "checkout"):
        fake.add_project("default", project)
        fake.add_executions("default", project, 30, status="failure")
    with run_in_thread(fake):
        monkeypatch.setenv("HARNESS_API_KEY", fake.api_key)
        monkeypatch.setenv("HARNESS_BASE_URL", fake.url)
        yield fake


@pytest.mark.parametrize("example", examples(), ids=lambda example: f"line {example.line}")
def test_examples_run(example: Example, account: FakeHarness) -> None:
    """Each block of Python is a complete program."""
    example.namespace.clear()  # each runs alone
    example.evaluate()
    if "app" in example.namespace:
        rows = asyncio.run(get(example.namespace["app"], "/failures/default/payments"))
        failures = [row for row in account.executions("default", "payments") if row["status"] == "failure"]
        assert len(rows) == len(failures) >= 30


async def get(app: FastAPI, path: str) -> list[dict[str, object]]:
    """Start a web application, send one request to it and stop it."""
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app.example") as browser,
    ):
        rows: list[dict[str, object]] = (await browser.get(path)).raise_for_status().json()
        return rows


def test_the_first_commands_are_two() -> None:
    """The first shell block has the line that tries it and the line that tests it."""
    block = re.search(r"```sh\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    lines = block[1].splitlines()
    assert len(lines) == 2
    assert "export --demo" in lines[0]
    assert lines[1].endswith("poe check")
