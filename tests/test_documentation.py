"""The examples of the README and of the guides run as they stand, against the fake server."""

from __future__ import annotations

import asyncio
import importlib
import logging
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

import harness_async
from harness_async.testing import FakeHarness
from harness_async.testing.threads import run_in_thread

README = Path(__file__).parents[1] / "README.md"


GUIDES = [
    harness_async,
    *(
        importlib.import_module(f"harness_async.{name}")
        for name in ("resources", "pagination", "bulk", "http", "config", "errors", "testing")
    ),
]
TEXTS = {"README": README.read_text(encoding="utf-8")} | {module.__name__: str(module.__doc__) for module in GUIDES}
EXAMPLES = [
    pytest.param(match[1], id=f"{name}-{number}")
    for name, text in TEXTS.items()
    for number, match in enumerate(re.finditer(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE), 1)
]


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHarness]:
    """A served account with two projects that have rows of every kind, found through the environment."""
    logger = logging.getLogger("harness_async")
    level = logger.level
    fake = FakeHarness.seeded(projects=2, executions=60)
    for project in ("payments", "checkout"):
        fake.add_project("default", project)
        fake.add_executions("default", project, 30, status="failure")
    with run_in_thread(fake):
        monkeypatch.setenv("HARNESS_API_KEY", fake.api_key)
        monkeypatch.setenv("HARNESS_BASE_URL", fake.url)
        yield fake
    logger.setLevel(level)  # which an example has changed


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_run(example: str, account: FakeHarness, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each block of Python is a complete program."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(example, "example", "exec"), names)  # noqa: S102 - the example is ours
    if "app" in names:
        rows = asyncio.run(get(names["app"], "/failures/default/payments"))
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


def references() -> set[str]:
    """Every dotted name below the package that its docstrings and the README mention in backticks."""
    sources = [README, *README.parent.glob("harness_async/**/*.py")]
    return {name for path in sources for name in re.findall(r"`(harness_async(?:\.\w+)+)`", path.read_text("utf-8"))}


@pytest.mark.parametrize("name", sorted(references()))
def test_references_resolve(name: str) -> None:
    """A name of the package that the documentation mentions exists."""
    assert pkgutil.resolve_name(name) is not None
