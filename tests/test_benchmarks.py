"""The benchmarks run to their end; their figures are not tested."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

PEERS = ("harness_open_api", "orjson", "msgspec", "uvloop")

TITLES = {
    "cpu": ["Processor time", "Rows a second of processor time"],
    "latency": ["One list of 8 pages, checked", "4 lists of 1 to 2 pages"],
    "memory": ["Growth from row 1,000 to row 3,000"],
    "import": ["Import"],
    "blocking": ["How long callbacks block the event loop"],
    "pacing": ["Rate limit: 1,000 a minute, known", "30 s of 503"],
    "drift": ["Lists that change during a walk"],
    "scale": ["A bulk run with 32 workers", "200 empty projects"],
}
"""The tables of each part."""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *arguments]
    # Coverage would follow into every worker.
    env = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)  # noqa: S603 - our own interpreter


@pytest.mark.timeout(120)
@pytest.mark.parametrize("part", TITLES)
def test_part(part: str) -> None:
    """A part runs alone without the other clients, prints its tables in ASCII, and names what is not installed."""
    done = run("--quick", *(f"--without={name}" for name in PEERS), part)
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split(":")[0] for line in done.stdout.splitlines() if line.startswith("== ")] == [f"== {part}"]
    assert [title for title in TITLES[part] if title not in done.stdout] == []
    assert ("not installed |" in done.stdout) == (part in {"cpu", "blocking"})
    assert done.stdout.isascii()


def test_usage() -> None:
    """The help lists every part, and an unknown part is a usage error."""
    usage = run("--help")
    assert all(f"\n  {part} " in usage.stdout for part in TITLES)
    done = run("imprts")
    assert (done.returncode, "no such part: imprts" in done.stderr) == (2, True)
