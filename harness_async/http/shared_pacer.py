"""A pacer that shares one budget among the processes of a machine."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

from harness_async.config import RateLimit
from harness_async.http.rate_limit import RateSchedule

_LONGEST_PAUSE = 3600.0
"""Seconds beyond which a time in the file of a `SharedPacer` is not believed."""


class SharedPacer:
    """One budget for several processes of a machine, kept in an SQLite file.

    Each process passes `pacer=SharedPacer(path, RateLimit(1000))` to its client, with the same path on a local disk
    and the same limit. A request that is cancelled while it waits costs at most one slot. The clock is the machine's:
    when it is set back, all processes wait for as long. Safe for concurrent use by tasks of one loop.

    Raises:
        sqlite3.Error: The file cannot be opened, or is not an SQLite database.
    """

    def __init__(self, path: str | os.PathLike[str], limit: RateLimit) -> None:
        schedule = RateSchedule.of(limit)
        self._path = os.fspath(path)
        self._burst = schedule.burst
        self._interval = 1.0 / schedule.rate
        self._turn = asyncio.Lock()
        with self._transaction() as store:
            store.execute("CREATE TABLE IF NOT EXISTS pace (next_at REAL, open_at REAL)")
            store.execute("INSERT INTO pace SELECT 0, 0 WHERE NOT EXISTS (SELECT * FROM pace)")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._path!r}>"

    async def acquire(self) -> None:
        """Wait until one more request may be sent."""
        async with self._turn:  # a process holds one slot at most: a pause cannot call back what is reserved
            reserved = False
            while not reserved:
                at, reserved = await asyncio.to_thread(self._reserve)
                await asyncio.sleep(at - time.time())

    async def pause(self, seconds: float) -> None:
        """Hold back all processes for so many seconds."""
        await asyncio.to_thread(self._pause, seconds)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._path, timeout=30.0, isolation_level=None)) as store:
            store.execute("BEGIN IMMEDIATE")  # locks the file against other processes
            yield store
            store.execute("COMMIT")

    def _reserve(self) -> tuple[float, bool]:
        """Reserve the next slot and return its time; during a pause, reserve nothing and return the end of it."""
        with self._transaction() as store:
            now = time.time()  # read once the file is locked
            # Times that lie far ahead were written under another clock, and must not hold back every process.
            stored = store.execute("SELECT next_at, open_at FROM pace").fetchone()
            next_at, open_at = (moment if moment - now <= _LONGEST_PAUSE else now for moment in stored)
            if open_at > now:
                return open_at, False
            store.execute("UPDATE pace SET next_at = ?", [max(now, next_at) + self._interval])
            return max(now, next_at - (self._burst - 1) * self._interval), True

    def _pause(self, seconds: float) -> None:
        with self._transaction() as store:
            until = time.time() + seconds
            after = until + self._burst * self._interval  # no burst after a pause
            store.execute("UPDATE pace SET open_at = max(open_at, ?), next_at = max(next_at, ?)", [until, after])
