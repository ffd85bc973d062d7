"""Checkpoints: a file of what a bulk run has finished, so that a run that was killed can continue.

A file of JSON lines, which is only appended to:

    {"harness_async": "checkpoint", "version": 1, "begun": ..., "host": ..., "account": ..., "filters": ..., "end": ...}
    {"project": "org/project", "rows": 12, ..., "extra": {...}}

The header identifies the run, with a hash of the filters and the frozen end of its windows. One line follows for each
project whose rows the consumer has all taken; it is on disk before the run goes on. The key is not in the file.

A last line without a line end is what a kill leaves, and is cut off. Anything else that is malformed raises
`CheckpointError`, and so does a file that another process uses: it is locked while it is open.
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

from harness_async.bulk.models import ProjectOutcome
from harness_async.errors import CheckpointError
from harness_async.types import ProjectRef, TimeWindow

_KIND = "checkpoint"
_VERSION = 1


@frozen(kw_only=True)
class Identity:
    """What has to be the same for a run to continue another one."""

    host: str
    account: str
    filters: str

    @classmethod
    def of(cls, host: str, account: str, filters: Mapping[str, object]) -> Identity:
        """Create the identity of a run. Filters are hashed, because they may be long."""
        text = json.dumps({name: value for name, value in filters.items() if value is not None}, sort_keys=True)
        return cls(host=host, account=account, filters=hashlib.sha256(text.encode()).hexdigest()[:32])


@frozen(kw_only=True, eq=False)
class CheckpointSpec:
    """Where a run stores what it has finished."""

    path: Path
    identity: Identity
    freeze: Callable[[], Awaitable[int | None]]
    """Returns the end of all windows of a new run: the server's present time."""


@define(eq=False)
class Checkpoint:
    """An open checkpoint. Its methods block; for one thread at a time."""

    path: Path
    end: int | None
    """Frozen end of the run in milliseconds since 1970; None where nothing is frozen."""

    finished: dict[ProjectRef, ProjectOutcome] = field(factory=dict[ProjectRef, ProjectOutcome])
    extra: Mapping[str, Any] = field(factory=dict[str, Any])
    """What the caller stored with the last line."""

    stream: BinaryIO = field(kw_only=True, repr=False)

    @classmethod
    def open(cls, path: Path, identity: Identity, end: int | None, now: datetime | None = None) -> Checkpoint:
        """Open or create a checkpoint; `end` and `now` (when the run began) are used for a new one.

        Raises:
            CheckpointError: The file belongs to another run or a newer version, is not a checkpoint, or is in use.
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
        if whole < len(content):  # cut by a kill
            stream.truncate(whole)
        lines = content[:whole].splitlines()
        if not lines:
            new = cls(path, end, stream=stream)
            header = {"harness_async": _KIND, "version": _VERSION, "begun": now.isoformat(), **_members(identity)}
            new._write({**header, "end": end})
            return new
        checkpoint = cls(path, _check_header(path, _parse(path, 1, lines[0]), identity), stream=stream)
        for number, line in enumerate(lines[1:], 2):
            checkpoint._add_line(number, _parse(path, number, line))
        return checkpoint

    def _add_line(self, number: int, line: Mapping[str, Any]) -> None:
        try:
            ref = ProjectRef.parse(line["project"])
            window = line["window"]
            self.finished[ref] = ProjectOutcome(
                project=ref,
                status="complete",
                guarantee=line["consistency"],
                rows=int(line["rows"]),
                requests=int(line["requests"]),
                retries=int(line["retries"]),
                window=None if window is None else TimeWindow(window[0], window[1]),
            )
            self.extra = dict(line["extra"])
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise CheckpointError(f"Line {number} of the checkpoint {self.path} is not a finished project") from error

    def record(self, outcome: ProjectOutcome, extra: Mapping[str, Any]) -> None:
        """Add a finished project. It is on disk when this returns.

        Raises:
            CheckpointError: The file cannot be written.
        """
        self._write(
            {
                "project": str(outcome.project),
                "rows": outcome.rows,
                "requests": outcome.requests,
                "retries": outcome.retries,
                "consistency": outcome.guarantee,
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
        """Close the file and release its lock. May be called twice."""
        self.stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_started_at(path: Path) -> datetime | None:
    """Return when the run of a checkpoint began, by the local clock; None where that is not known.

    Filters relative to the present ("the last seven days") have to be relative to this time when a run continues.
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
        raise CheckpointError(f"Line {number} of the checkpoint {path} is not a JSON object")
    return value


def _check_header(path: Path, header: Mapping[str, Any], identity: Identity) -> int | None:
    """Return the frozen end of the run that a header belongs to.

    Raises:
        CheckpointError: The header belongs to another run, or is malformed.
    """
    if header.get("harness_async") != _KIND:
        raise CheckpointError(f"{path} is not a checkpoint of a bulk run; choose another path")
    version = header.get("version")
    if version != _VERSION:
        raise CheckpointError(f"The checkpoint {path} has version {version!r}; this library reads version {_VERSION}")
    for name, value in _members(identity).items():
        if header.get(name) != value:
            difference = "other filters" if name == "filters" else f"{name} {header.get(name)!r}, not {value!r}"
            raise CheckpointError(
                f"The checkpoint {path} belongs to a run with {difference}; "
                "run with the same arguments, or choose another path"
            )
    end = header.get("end")
    if end is not None and (isinstance(end, bool) or not isinstance(end, int)):
        raise CheckpointError(f"The checkpoint {path} has an end that is not an integer")
    return end


def _lock(stream: BinaryIO, path: Path) -> None:
    """Lock the file for this process until it is closed or the process ends."""
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
