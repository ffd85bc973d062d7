"""Runs commands in this process or as a process, optionally with stderr on a terminal."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping
from contextlib import redirect_stderr, redirect_stdout, suppress
from types import TracebackType
from typing import IO, Any, Self

import pytest
from attrs import frozen

from harness_async.cli import run

posix = pytest.mark.skipif(sys.platform == "win32", reason="terminals and signals of POSIX")

STYLES = re.compile(r"\x1b\[[\d;]*m")
"""Sequences of colors and styles."""


@frozen
class Result:
    """What a command returned and wrote."""

    exit_code: int
    stdout: str
    stderr: str


def invoke(*arguments: str) -> Result:
    """Run a command in this process. Fails if the output contains the API key of the environment."""
    stdout, stderr = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    with redirect_stdout(stdout), redirect_stderr(stderr):
        exit_code = run(arguments)
    texts = []
    for stream in (stdout, stderr):
        stream.seek(0)
        texts.append(stream.read())
    key = os.environ.get("HARNESS_API_KEY")
    assert key is None or not any(key in text for text in texts)
    return Result(exit_code, *texts)


def export(*arguments: str) -> Result:
    """Run `export` without a noticeable rate limit."""
    return invoke("export", "--requests-per-minute", "100000", *arguments)


def start(
    *arguments: str, stdout: int | IO[Any] = subprocess.PIPE, stderr: int | IO[Any] = subprocess.PIPE
) -> subprocess.Popen[str]:
    """Start a command as a process."""
    return subprocess.Popen(  # noqa: S603 - the command under test
        [sys.executable, "-m", "harness_async", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        text=True,
    )


def json_lines(text: str) -> list[dict[str, Any]]:
    """Parse JSON Lines."""
    return [json.loads(line) for line in text.splitlines()]


def row_keys(rows: Iterable[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Return the sorted identities of executions. A row that is missing or duplicated changes the list."""
    names = ("org", "project", "pipeline_execution_id", "pipeline_stage_id")
    return sorted(tuple(row[name] for name in names) for row in rows)


class Terminal:
    """A pseudo-terminal that records what is written to its stream."""

    def __init__(self) -> None:
        import pty

        self._master, slave = pty.openpty()
        self.stream = os.fdopen(slave, "w", encoding="utf-8")
        self._data = b""
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read)

    @property
    def text(self) -> str:
        return self._data.decode(errors="replace").replace("\r\n", "\n")

    def wait_for(self, text: str) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: text in self.text, timeout=60), self.text

    def _read(self) -> None:
        with suppress(OSError):  # the end of a terminal on Linux
            while data := os.read(self._master, 65536):
                with self._changed:
                    self._data += data
                    self._changed.notify_all()

    def __enter__(self) -> Self:
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stream.close()
        self._reader.join()
        os.close(self._master)
