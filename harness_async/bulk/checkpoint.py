"""Checkpoints: a file of what a bulk run has finished, so that a run that was killed can continue.

A file of JSON lines, which is only appended to:

    {"harness_async": "checkpoint", "version": 1, "begun": ..., "host": ..., "account": ..., "filters": ..., "end": ...}
    {"project": "org/project", "rows": 12, ..., "extra": {...}}

The header identifies the run, with a hash of the filters and the frozen end of its windows. One line follows for each
project whose rows the consumer has all taken; it is on disk before the run goes on. Before the first of them nothing is
written, so that a run that was refused, or failed at once, does not freeze the windows of the next one. The key is not
in the file.

A last line without a line end is what a kill or a full disk leaves, and is cut off. Anything else that is malformed
raises `CheckpointError` and leaves the file as it is, and so does a file that another process uses: it is locked while
it is open.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import stat
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Self, cast, get_args

from attrs import define, field, frozen

from harness_async.bulk.models import ProjectOutcome
from harness_async.errors import CheckpointError
from harness_async.types import Guarantee, ProjectRef, TimeWindow, ref_from_text, ref_to_text

_KIND = "checkpoint"
_VERSION = 1

_DAMAGED = "choose another path, or delete the file to start from the beginning"

_IN_USE = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK}
"""Errors of a lock that another process holds. Any other one means that the file cannot be locked at all."""


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

    lock: bool = True
    """Whether to lock the file against other processes."""


@define(eq=False)
class Checkpoint:
    """An open checkpoint. Its methods block; for one thread at a time."""

    path: Path
    identity: Identity = field(repr=False)
    end: int | None = None
    """Frozen end of the run in milliseconds since 1970; None where nothing is frozen."""

    finished: dict[ProjectRef, ProjectOutcome] = field(factory=dict[ProjectRef, ProjectOutcome])
    lists: dict[ProjectRef, str | None] = field(factory=dict[ProjectRef, str | None])
    """The fingerprint of the list of each finished project, where the run stores one."""

    extra: Mapping[str, Any] = field(factory=dict[str, Any])
    """What the caller stored with the last line."""

    is_new: bool = True
    """Whether nothing was written yet."""

    _stream: BinaryIO = field(alias="stream", kw_only=True, repr=False)
    _created: bool = field(alias="created", kw_only=True, repr=False)

    @classmethod
    def open(cls, path: Path, identity: Identity, *, lock: bool = True) -> Checkpoint:
        """Open a checkpoint, or create an empty file.

        Raises:
            CheckpointError: The file belongs to another run or a newer version, is not a checkpoint, or is in use.
        """
        created = not path.exists()
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o666)
        except (OSError, ValueError) as error:  # ValueError: the path contains a null character
            reason = error.strerror if isinstance(error, OSError) else error
            raise CheckpointError(f"Cannot open the checkpoint {path}: {reason}") from error
        # Without a buffer, whose rest a failed write would leave to the end of the process.
        stream = cast("BinaryIO", os.fdopen(descriptor, "r+b", buffering=0))
        try:
            if lock:
                _lock(stream, path, created=created)
            return cls._read(path, stream, identity, created=created)
        except BaseException as error:
            stream.close()
            if isinstance(error, OSError):
                raise CheckpointError(f"Cannot read the checkpoint {path}: {error.strerror}") from error
            raise

    @classmethod
    def _read(cls, path: Path, stream: BinaryIO, identity: Identity, *, created: bool) -> Checkpoint:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):  # a pipe or a device may have no end
            raise CheckpointError(f"The checkpoint {path} is not a regular file; choose another path")
        content = stream.read()
        whole = content.rfind(b"\n") + 1
        lines = content[:whole].splitlines()
        checkpoint = cls(path, identity, stream=stream, created=created)
        if lines:
            checkpoint.is_new = False
            checkpoint.end = _check_header(path, _parse(path, 1, lines[0]), identity)
        elif whole < len(content) and not content.startswith(b'{"harness_async"'[: len(content)]):
            raise CheckpointError(f"{path} is not a checkpoint of a bulk run; choose another path")
        for number, line in enumerate(lines[1:], 2):
            checkpoint._add_line(number, _parse(path, number, line))
        if whole < len(content):
            stream.truncate(whole)
        return checkpoint

    def _add_line(self, number: int, line: Mapping[str, Any]) -> None:
        try:
            ref = ref_from_text(line["project"])
            guarantee = line["consistency"]
            if guarantee not in get_args(Guarantee):
                raise ValueError(guarantee)  # noqa: TRY301
            outcome = ProjectOutcome(
                project=ref,
                status="complete",
                guarantee=guarantee,
                rows=_check_count(line["rows"]),
                requests=_check_count(line["requests"]),
                retries=_check_count(line["retries"]),
                window=None if line["window"] is None else _check_window(line["window"]),
            )
            extra, fingerprint = dict(line["extra"]), line.get("list")
            if fingerprint is not None and not isinstance(fingerprint, str):
                raise TypeError(fingerprint)  # noqa: TRY301
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise CheckpointError(
                f"Line {number} of the checkpoint {self.path} is not a finished project; {_DAMAGED}"
            ) from error
        self.finished[ref], self.lists[ref], self.extra = outcome, fingerprint, extra

    def begin(self, now: datetime | None = None) -> None:
        """Write the header of a new run, which began at `now`.

        Raises:
            CheckpointError: The file cannot be written.
        """
        if self.is_new:
            begun = (now or datetime.now(UTC)).isoformat()
            header = {"harness_async": _KIND, "version": _VERSION, "begun": begun, **_members(self.identity)}
            self._write({**header, "end": self.end})
            self.is_new = False

    def record(self, outcome: ProjectOutcome, extra: Mapping[str, Any], fingerprint: str | None = None) -> None:
        """Add a finished project. It is on disk when this returns.

        Raises:
            CheckpointError: The file cannot be written.
        """
        line = {
            "project": ref_to_text(outcome.project),
            "rows": outcome.rows,
            "requests": outcome.requests,
            "retries": outcome.retries,
            "consistency": outcome.guarantee,
            "window": outcome.window,
            "extra": extra,
        }
        self._write(line if fingerprint is None else {**line, "list": fingerprint})

    def _write(self, line: Mapping[str, object]) -> None:
        descriptor = self._stream.fileno()
        size = os.fstat(descriptor).st_size
        rest = memoryview(json.dumps(line).encode() + b"\n")
        try:
            while rest:
                rest = rest[self._stream.write(rest) :]
            os.fsync(descriptor)
        except OSError as error:
            with contextlib.suppress(OSError):
                self._stream.truncate(size)
            raise CheckpointError(f"Cannot write the checkpoint {self.path}: {error.strerror}") from error

    def close(self) -> None:
        """Close the file and release its lock; delete it if it was created for nothing. May be called twice."""
        if not self._stream.closed and self.is_new and self._created:
            with contextlib.suppress(OSError):
                self.path.unlink()
        self._stream.close()

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
            line = stream.readline()
        return datetime.fromisoformat(json.loads(line)["begun"]) if line.endswith(b"\n") else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _members(identity: Identity) -> dict[str, str]:
    return {"host": identity.host, "account": identity.account, "filters": identity.filters}


def _parse(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"Line {number} of the checkpoint {path} is not JSON; {_DAMAGED}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"Line {number} of the checkpoint {path} is not a JSON object; {_DAMAGED}")
    return value


def _check_count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{value!r} is not a count")
    return value


def _check_time(value: object) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise TypeError(f"{value!r} is not a time in milliseconds")
    return value


def _check_window(value: object) -> TimeWindow:
    if not isinstance(value, list):
        raise TypeError(f"{value!r} is not a time window")
    start, end = map(_check_time, value)
    return TimeWindow(start, end)


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
    try:
        return _check_time(header.get("end"))
    except TypeError as error:
        raise CheckpointError(f"The checkpoint {path} has an end that is not an integer") from error


def _lock(stream: BinaryIO, path: Path, *, created: bool) -> None:
    """Lock the file for this process until it is closed or the process ends.

    A file that was created is deleted if it cannot be locked.

    Raises:
        CheckpointError: Another process has locked it, or the file system has no locks.
    """
    try:
        try:
            import fcntl
        except ModuleNotFoundError:  # Windows, where opening for writing does not exclude others either
            import msvcrt

            locking: Any = msvcrt
            locking.locking(stream.fileno(), locking.LK_NBLCK, 1)
        else:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _IN_USE:
            raise CheckpointError(f"The checkpoint {path} is in use by another process") from error
        if created:
            with contextlib.suppress(OSError):
                path.unlink()
        raise CheckpointError(
            f"The checkpoint {path} cannot be locked: {error.strerror}. Choose a path on a local disk, or continue "
            "without a lock (checkpoint_lock=False, --no-lock) if no other process uses the file"
        ) from error
