"""Kill exports at random moments and see whether the file is right in the end, with real processes.

    python tests/kill_exports.py --kills 200

A server process with a little latency; `harness-async export --checkpoint` against it, killed with SIGKILL after a
random time and started again with the same arguments, until as many kills were had and a last run is left to end.
Then every row of the server must be in the file exactly once. Prints a line for each round.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

PROJECTS, ROWS = 60, 4000


@contextlib.contextmanager
def server(latency: float) -> Iterator[dict[str, str]]:
    """Run a server process; gives the environment that a client needs."""
    command = [sys.executable, "-m", "harness_async.testing", "--port", "0", "--latency", str(latency)]
    command += ["--projects", str(PROJECTS), "--executions", str(ROWS), "--seed", "7"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"})  # noqa: S603
    try:
        assert process.stdout is not None
        yield _read_exports(process.stdout)
    finally:
        process.terminate()
        process.communicate()


def _read_exports(stdout: IO[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in stdout:
        for word in line.split():
            name, equals, value = word.partition("=")
            if equals and name.startswith("HARNESS_"):
                found[name] = value.strip("'\"")
        if {"HARNESS_BASE_URL", "HARNESS_API_KEY", "HARNESS_ACCOUNT_ID"} <= found.keys():
            return found
    raise RuntimeError("the server said nothing")


def run_round(folder: Path, environment: dict[str, str], form: str, kills: int, rng: random.Random) -> int:
    """Export one file with so many kills on the way; returns how many it took."""
    output = folder / f"rows.{form}"
    command = [sys.executable, "-m", "harness_async", "export", "--since", "400d", "--format", form, "--quiet"]
    command += ["--requests-per-minute", "60000", "--output", str(output), "--checkpoint", str(folder / "checkpoint")]
    killed = 0
    while True:
        process = subprocess.Popen(command, env={**os.environ, **environment}, stderr=subprocess.PIPE)  # noqa: S603
        if killed < kills:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(rng.uniform(0.3, 1.2))
        if killed < kills and process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            killed += 1
            continue
        _, errors = process.communicate()
        assert process.returncode == 0, errors.decode()
        check(output, form)
        return killed


def check(output: Path, form: str) -> None:
    """Every row once, every line whole."""
    with output.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream)) if form == "csv" else [json.loads(line) for line in stream]
    keys = [(row["org"], row["project"], row["pipeline_execution_id"], row["pipeline_stage_id"]) for row in rows]
    assert len(keys) == ROWS, f"{len(keys)} rows instead of {ROWS}"
    assert len(set(keys)) == ROWS, "a row twice"


def main(kills: int, seed: int, latency: float, per_round: int = 8) -> int:
    """Kill so many exports, and return how many were killed."""
    rng = random.Random(seed)
    done = rounds = 0
    with server(latency) as environment:
        while done < kills:
            with tempfile.TemporaryDirectory() as folder:
                form = "csv" if rounds % 2 else "jsonl"
                began = time.monotonic()
                got = run_round(Path(folder), environment, form, min(per_round, kills - done), rng)
                print(f"round {rounds + 1}: {form}, {got} kills, {time.monotonic() - began:.1f} s, every row once")  # noqa: T201
                done, rounds = done + got, rounds + 1
            if not got:
                latency *= 2  # too fast a machine to be killed in time
                if latency > 1:
                    break
    print(f"{done} kills, {rounds} files, all right")  # noqa: T201
    return done


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--latency", type=float, default=0.2)
    arguments = parser.parse_args()
    main(arguments.kills, arguments.seed, arguments.latency)
