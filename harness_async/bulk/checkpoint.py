"""Checkpoints: what a bulk run has finished, on disk, so that a run that was killed goes on where it stopped.

A file of JSON lines, only ever appended to:

    {"harness_async": "checkpoint", "version": 1, "begun": ..., "host": ..., "account": ..., "filters": ..., "end": ...}
    {"project": "org/project", "rows": 12, ..., "extra": {...}}

The header says whose run it is, by a hash of the filters and with the frozen end of its windows; then comes a line for
each project whose rows the consumer has all taken, on disk before the run goes on. The key is never in it.

A last line without its line end is what a kill leaves: it is cut off. Anything else that is odd is a
`CheckpointError`, and so is a file that another process is using: it stays locked while it is open.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Self

from attrs import define, field, frozen

from harness_async.bulk.models import ProjectOutcome, ProjectRef
from harness_async.errors import CheckpointError

_KIND = "checkpoint"
_VERSION = 1


@frozen(kw_only=True)
class Identity:
    """What must be the same for a run to go on where another stopped."""

    host: str
    account: str
    filters: str

    @classmethod
    def of(cls, host: str, account: str, filters: Mapping[str, object]) -> Identity:
        """Make the identity of a run; filters go in as a hash, for they may be long."""
        text = json.dumps({name: value for name, value in filters.items() if value is not None}, sort_keys=True)
        return cls(host=host, account=account, filters=hashlib.sha256(text.encode()).hexdigest()[:32])


@frozen(kw_only=True, eq=False, repr=False)
class CheckpointPlan:
    """Where a run keeps what it has finished, and what it takes to begin."""

    path: Path
    identity: Identity
    freeze: Callable[[], Awaitable[int | None]]
    """Gives the end of all windows of a run that begins: the server's now."""


@define(eq=False, repr=False)
class Checkpoint:
    """An open checkpoint. Blocking; for one thread at a time."""

    path: Path
    end: int | None
    """The frozen end of the run, in milliseconds since 1970; None where nothing is frozen."""

    finished: dict[ProjectRef, ProjectOutcome] = field(factory=dict[ProjectRef, ProjectOutcome])
    extra: Mapping[str, Any] = field(factory=dict[str, Any])
    """What the consumer stored with the latest line."""

    stream: BinaryIO = field(kw_only=True, repr=False)

    @classmethod
    def open(cls, path: Path, identity: Identity, end: int | None, now: datetime | None = None) -> Checkpoint:
        """Open or begin a checkpoint; `end` and `now`, when the run begins, are for a new one.

        Raises:
            CheckpointError: It belongs to another run or a newer version, is no checkpoint, or is in use.
        """
        try:
            stream = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666), "r+b")
        except OSError as error:
            raise CheckpointError(f"Cannot open the checkpoint {path}: {error.strerror}") from error
        try:
            _lock(stream, path)
            return cls._read(path, stream, identity, end, now or datetime.now(UTC))
        except BaseException:
            stream.close()
            raise

    @classmethod
    def _read(cls, path: Path, stream: BinaryIO, identity: Identity, end: int | None, now: datetime) -> Checkpoint:
        content = stream.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):  # torn by a kill
            stream.truncate(whole)
        lines = content[:whole].splitlines()
        if not lines:
            made = cls(path, end, stream=stream)
            header = {"harness_async": _KIND, "version": _VERSION, "begun": now.isoformat(), **_members(identity)}
            made._write({**header, "end": end})
            return made
        made = cls(path, _check_header(path, _parse(path, 1, lines[0]), identity), stream=stream)
        for number, line in enumerate(lines[1:], 2):
            made._take(number, _parse(path, number, line))
        return made

    def _take(self, number: int, line: Mapping[str, Any]) -> None:
        try:
            ref = ProjectRef.parse(line["project"])
            window = line["window"]
            self.finished[ref] = ProjectOutcome(
                project=ref,
                status="complete",
                consistency=line["consistency"],
                rows=int(line["rows"]),
                requests=int(line["requests"]),
                retries=int(line["retries"]),
                window=None if window is None else (window[0], window[1]),
            )
            self.extra = dict(line["extra"])
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise CheckpointError(f"Line {number} of the checkpoint {self.path} is no finished project") from error

    def record(self, outcome: ProjectOutcome, extra: Mapping[str, Any]) -> None:
        """Add a finished project; it is on disk when this returns."""
        self._write(
            {
                "project": str(outcome.project),
                "rows": outcome.rows,
                "requests": outcome.requests,
                "retries": outcome.retries,
                "consistency": outcome.consistency,
                "window": outcome.window,
                "extra": extra,
            }
        )

    def _write(self, line: Mapping[str, object]) -> None:
        try:
            self.stream.write(json.dumps(line).encode() + b"\n")
            self.stream.flush()
            os.fsync(self.stream.fileno())
        except OSError as error:
            raise CheckpointError(f"Cannot write the checkpoint {self.path}: {error.strerror}") from error

    def close(self) -> None:
        """Close the file and give up its lock. May be called twice."""
        self.stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def started_at(path: Path) -> datetime | None:
    """Tell when the run of a checkpoint began, by the clock of its machine; None where there is none to tell.

    Who counts times back from now ("the last seven days") must count from there to ask for the same rows again.
    """
    try:
        with path.open("rb") as stream:
            return datetime.fromisoformat(json.loads(stream.readline())["begun"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _members(identity: Identity) -> dict[str, str]:
    return {"host": identity.host, "account": identity.account, "filters": identity.filters}


def _parse(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise CheckpointError(f"Line {number} of the checkpoint {path} is not JSON") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"Line {number} of the checkpoint {path} is no JSON object")
    return value


def _check_header(path: Path, header: Mapping[str, Any], identity: Identity) -> int | None:
    """Return the frozen end of the run that a header belongs to, or say what differs."""
    if header.get("harness_async") != _KIND:
        raise CheckpointError(f"{path} is no checkpoint of a bulk run; choose another path")
    version = header.get("version")
    if version != _VERSION:
        raise CheckpointError(f"The checkpoint {path} has version {version!r}, this library writes {_VERSION}")
    for name, value in _members(identity).items():
        if header.get(name) != value:
            difference = "other filters" if name == "filters" else f"{name} {header.get(name)!r}, not {value!r}"
            raise CheckpointError(
                f"The checkpoint {path} belongs to a run with {difference}; "
                "run with the same arguments, or choose another path"
            )
    end = header.get("end")
    if end is not None and (isinstance(end, bool) or not isinstance(end, int)):
        raise CheckpointError(f"The checkpoint {path} has an end that is no number of milliseconds")
    return end


def _lock(stream: BinaryIO, path: Path) -> None:
    """Take the file for this process alone, until it is closed or the process ends."""
    try:
        import fcntl
    except ModuleNotFoundError:  # Windows, where opening for writing does not exclude others either
        import msvcrt

        locking: Any = msvcrt
        try:
            locking.locking(stream.fileno(), locking.LK_NBLCK, 1)
        except OSError as error:
            raise CheckpointError(f"The checkpoint {path} is in use by another process") from error
        return
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise CheckpointError(f"The checkpoint {path} is in use by another process") from error
