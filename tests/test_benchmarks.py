"""The benchmarks run from a checkout and end by themselves; what they measure is nobody's business here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

PEERS = ("httpx", "harness_open_api", "orjson", "msgspec", "uvloop")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *arguments]
    # Coverage would follow into every worker and double what all this costs.
    env = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)  # noqa: S603 - our own interpreter


@pytest.mark.timeout(300)
def test_a_quick_run_prints_every_table_and_says_which_peers_are_missing() -> None:
    """Without any peer all parts run to their end, and rows that need one say that it is not installed."""
    done = run("--quick", *(f"--without={name}" for name in PEERS))
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stderr
    titles = (
        "Processor time",
        "Rows a second of processor time",
        "One list of 20 pages, checked",
        "10 lists of 1 to 5 pages",
        "Growth from row",
        "and HarnessClient",
        "How long callbacks hold up the event loop",
        "A limit that is known",
        "arrivals, departures",
        "200 empty projects",
    )
    assert [title for title in titles if title not in done.stdout] == []
    rows = [line for line in done.stdout.splitlines() if "not installed" in line and line.startswith("|")]
    missing = {line.split("|")[1].strip() for line in rows}
    assert {"harness-open-api", "httpx, orjson", "raw aiohttp, orjson", "live walk, speed"} <= missing
    assert "raw aiohttp, json" not in missing
    assert done.stdout.isascii()


def test_a_part_runs_alone() -> None:
    """Parts are named on the command line."""
    done = run("--quick", "drift")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("== ")] == [
        "== drift: what lists that move cost and lose, in virtual time (drift.py)"
    ]


def test_a_part_that_is_none_is_named() -> None:
    """A misspelt part ends with usage, and measures nothing."""
    done = run("imprts")
    assert done.returncode == 2
    assert "no such part: imprts" in done.stderr
