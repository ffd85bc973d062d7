"""Every file that the command writes: where it is, how it is replaced, and what a failure leaves behind.

A regular file is replaced. Rows go to a temporary file in the same directory, which takes the place of the old file
with the first row: a failure before that leaves the old file as it was. The old file is kept under another name until
the end, and comes back if the disk is full. Links are followed, and the mode is kept. What a killed command leaves
under such names is removed by the next one that writes the same file.

Pipes, devices and open descriptors (`-`, `/dev/stdout`) are written in place, and so are files that cannot be replaced:
bind mounts, and writable files in a directory that is not.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import secrets
import select
import shutil
import stat
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from attrs import define, field

from harness_async.cli.console import print_note
from harness_async.cli.errors import INCOMPLETE, OS_ADVICE, CommandError
from harness_async.cli.targets import Target

_NOT_REPLACEABLE = {errno.EBUSY, errno.EXDEV, errno.EPERM, errno.EACCES}
"""Errors of a rename onto a file that may still be writable: a mount point, a file of another user."""

_READER_INTERVAL = 0.05
"""Seconds between two looks for the reader of a named pipe."""

_READER_NOTE = 20
"""Looks after which a note says what the command waits for."""


class WriteError(CommandError):
    """A write failed, usually because the disk is full."""

    def __init__(self, name: str, error: OSError, *, is_undone: bool = False) -> None:
        hints = ["The file is as it was before."] if is_undone else []
        hints += [OS_ADVICE[error.errno]] if error.errno in OS_ADVICE else []
        super().__init__(f"Cannot write {name}: {error.strerror}.", " ".join(hints), code=INCOMPLETE)
        self.is_undone = is_undone


def is_disk_full(error: BaseException | None) -> bool:
    """Return whether there was no space for a write."""
    return isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def write_errors(name: str) -> Iterator[None]:
    """Raise a `WriteError` in place of an `OSError`, except where the reader of a pipe has closed it."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise WriteError(name, error) from error


# -- outputs -----------------------------------------------------------------------------------------------------


class Output(Protocol):
    """An open target. Nothing has changed before the first write."""

    stream: BinaryIO
    """What is written, without a buffer."""

    length: int
    """Bytes written."""

    def write(self, data: bytes) -> None:
        """Write whole rows."""

    def sync(self) -> None:
        """Put what was written in its place, where also a failure of the machine leaves it."""

    def close(self) -> None:
        """Put what was written in its place, and close."""

    def discard(self) -> bool:
        """Undo what was written as far as possible, and close. Return whether the old file is in its place."""
        ...


@define
class StreamOutput:
    """A pipe, a device, a descriptor, or a regular file that is written in place."""

    stream: BinaryIO
    is_file: bool = False
    length: int = 0
    """Bytes written; in a regular file that is continued, all bytes that stay."""

    is_owned: bool = True
    """Whether the stream is closed at the end."""

    def write(self, data: bytes) -> None:
        """Write rows. In a regular file, the first ones replace the content."""
        if self.is_file and not self.length:
            self.stream.truncate(0)
        _write_all(self.stream, data)
        self.length += len(data)

    def sync(self) -> None:
        """Make the content of a regular file last."""
        if self.is_file:
            self.stream.truncate(self.length)
            os.fsync(self.stream.fileno())

    def close(self) -> None:
        """Close the stream."""
        self.sync()
        if self.is_owned:
            self.stream.close()

    def discard(self) -> bool:
        """Close the stream. Whole rows stay in a regular file."""
        if self.is_file and self.length:
            with suppress(OSError):
                self.stream.truncate(self.length)
        if self.is_owned:
            self.stream.close()
        return self.is_file and not self.length


@define
class FileOutput:
    """A temporary file that takes the place of a regular file."""

    path: Path
    stream: BinaryIO
    _temporary: Path
    _keeps_old: bool
    """Whether the old file is kept until the end, so that it can come back."""

    length: int = field(default=0, init=False)
    _old: Path | None = field(default=None, init=False)
    _old_stream: BinaryIO | None = field(default=None, init=False)
    """The lock of the old file."""

    _is_placed: bool = field(default=False, init=False)

    @classmethod
    def create(cls, path: Path, *, keeps_old: bool = False) -> FileOutput:
        """Create the temporary file, with the mode of the old file, or of the umask if there is none."""
        _remove_left_over(path)
        temporary = _hidden_name(path)
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        stream = cast("BinaryIO", os.fdopen(descriptor, "r+b", buffering=0))
        _lock(stream)
        with suppress(FileNotFoundError):
            _copy_owner_and_mode(path.stat(), temporary)
        return cls(path, stream, temporary, keeps_old)

    def write(self, data: bytes) -> None:
        """Write rows."""
        _write_all(self.stream, data)
        self.length += len(data)

    def sync(self) -> None:
        """Put the file in the place of the old one, if the old one need not be kept, or can be."""
        os.fsync(self.stream.fileno())
        if self._is_placed or not self._keep_old():
            return
        try:
            self._temporary.replace(self.path)
        except OSError as error:
            if error.errno not in _NOT_REPLACEABLE:
                raise
            self._copy_in_place()
        self._is_placed = True
        _sync_folder(self.path.parent)

    def _keep_old(self) -> bool:
        """Give the old file a second name. Return False where the file system has no hard links."""
        if self._keeps_old and self._old is None:
            old = _hidden_name(self.path)
            try:
                os.link(self.path, old)
            except FileNotFoundError:
                pass
            except OSError:
                return False
            else:
                self._old = old
                with suppress(OSError):  # without the permission to read
                    self._old_stream = old.open("rb")
                    _lock(self._old_stream)
        return True

    def _copy_in_place(self) -> None:
        """Write what there is into the old file, and continue there."""
        mode = "r+b" if self.path.exists() else "wb"
        with self._temporary.open("rb") as source, self.path.open(mode) as target:
            shutil.copyfileobj(source, target)
            target.truncate()
            target.flush()
            os.fsync(target.fileno())
        self.stream.close()
        self._temporary.unlink()
        self.stream = cast("BinaryIO", self.path.open("r+b", buffering=0))
        self.stream.seek(0, os.SEEK_END)

    def close(self) -> None:
        """Put the file in the place of the old one, and close it."""
        self._keeps_old = self._old is not None
        self.sync()
        self.stream.close()
        self._forget_old()

    def discard(self) -> bool:
        """Put the old file back, if it was kept; else keep the whole rows that are in its place."""
        with suppress(OSError):
            if self._old is not None:
                self._old.replace(self.path)
                self._old, self._is_placed = None, False
            elif self._is_placed:
                self.stream.truncate(self.length)
        self.stream.close()
        self._temporary.unlink(missing_ok=True)
        self._forget_old()
        return not self._is_placed

    def _forget_old(self) -> None:
        if self._old is not None:
            self._old.unlink(missing_ok=True)
        if self._old_stream is not None:
            self._old_stream.close()


def _copy_owner_and_mode(old: os.stat_result, path: Path) -> None:
    new = path.stat()
    if hasattr(os, "chown") and (old.st_uid, old.st_gid) != (new.st_uid, new.st_gid):
        with suppress(OSError):  # only an administrator may give a file away
            os.chown(path, old.st_uid, old.st_gid)
    path.chmod(stat.S_IMODE(old.st_mode))


def _hidden_prefix(path: Path) -> str:
    """Return what hidden names for a file begin with, however long its own name is."""
    return f".harness-async-{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}-"


def _hidden_name(path: Path) -> Path:
    """Return an unused name in the directory of a file."""
    return path.with_name(f"{_hidden_prefix(path)}{secrets.token_hex(8)}")


def _remove_left_over(path: Path) -> None:
    """Remove the hidden files of killed commands that wrote a file. Those of running ones are locked."""
    for hidden in path.parent.glob(f"{_hidden_prefix(path)}*"):
        with suppress(OSError), hidden.open("rb") as stream:
            if _lock(stream):
                hidden.unlink()


def _lock(stream: BinaryIO) -> bool:
    """Lock a file until its stream is closed. Return False if another process has locked it, or it has no locks."""
    try:
        import fcntl

        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ModuleNotFoundError, OSError):  # the former on Windows
        return False
    return True


def _sync_folder(path: Path) -> None:
    """Make the names in a directory last, where the system can."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _write_all(stream: BinaryIO, data: bytes) -> None:
    """Write to a stream without a buffer, in as many pieces as it takes."""
    rest = memoryview(data)
    while rest:
        written = cast("int | None", stream.write(rest))
        if written is None:  # a full pipe that another process has set to non-blocking
            select.select([], [stream], [])
        rest = rest[written or 0 :]


def open_regular(target: Target, *, keeps_old: bool = False) -> Output:
    """Open a target that is a regular file."""
    if target.kind == "file":
        return FileOutput.create(target.path, keeps_old=keeps_old)
    return StreamOutput(cast("BinaryIO", target.path.open("r+b", buffering=0)), is_file=True)


def continue_file(target: Target, length: int) -> Output:
    """Open a regular file behind its first `length` bytes. What follows them is cut off.

    Raises:
        CommandError: It is missing or shorter, or cannot be opened.
    """
    try:
        size = target.path.stat().st_size if target.path.exists() else 0
        if size < length:
            raise CommandError(
                f"{target.name} has {size:,} bytes, but the checkpoint records {length:,}: the file was changed.",
                "Restore the file, or delete it and the checkpoint to start from the beginning.",
            )
        stream = cast("BinaryIO", target.path.open("r+b", buffering=0))
        stream.truncate(length)
        stream.seek(length)
    except OSError as error:
        raise CommandError(f"Cannot write {target.name}: {error.strerror}.", "Choose another --output.") from error
    return StreamOutput(stream, is_file=True, length=length)


def _open_blocking(target: Target, *, keeps_old: bool = False) -> Output:
    """Open any target. A named pipe blocks until it has a reader."""
    match target.kind:
        case "stdout":
            return _open_stdout()
        case "descriptor":
            sys.stdout.flush()
            return StreamOutput(cast("BinaryIO", os.fdopen(os.dup(target.descriptor), "wb", buffering=0)))
        case "pipe" | "device":
            return StreamOutput(cast("BinaryIO", target.path.open("wb", buffering=0)))
        case _:
            return open_regular(target, keeps_old=keeps_old)


def _open_stdout() -> Output:
    sys.stdout.flush()
    try:
        descriptor = sys.stdout.fileno()
    except OSError:  # in memory
        return StreamOutput(sys.stdout.buffer, is_owned=False)
    # Without the buffer of `sys.stdout`, whose rest Python would write at exit, also after a failed write.
    return StreamOutput(cast("BinaryIO", os.fdopen(os.dup(descriptor), "wb", buffering=0)))


async def _open_pipe(target: Target) -> BinaryIO:
    """Open a named pipe when it has a reader."""
    looks = 0
    while True:
        try:
            descriptor = os.open(target.path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
        else:
            os.set_blocking(descriptor, True)
            return cast("BinaryIO", os.fdopen(descriptor, "wb", buffering=0))
        looks += 1
        if looks == _READER_NOTE:
            print_note(f"Waiting for a reader of {target.name}.")
        await asyncio.sleep(_READER_INTERVAL)


# -- rows --------------------------------------------------------------------------------------------------------


@define
class RowOutput:
    """The output of one command: a header, and rows."""

    name: str
    _output: Output
    _header: bytes
    _is_early: bool = field(alias="is_early")
    """Whether the first row replaces the old file, not the last one."""

    is_open: bool = field(default=True, init=False)

    @property
    def stream(self) -> BinaryIO:
        """The stream that is written."""
        return self._output.stream

    def write(self, rows: bytes) -> None:
        """Write whole rows.

        Raises:
            BrokenPipeError: The reader of a pipe has closed it.
            WriteError: They cannot be written.
        """
        with self._errors():
            is_first = not self._output.length
            self._output.write(self._header + rows)
            self._header = b""
            if is_first and self._is_early:
                self._output.sync()

    def finish(self) -> None:
        """Write the header if there were no rows, and put the output in its place.

        Raises:
            WriteError: It cannot be written.
        """
        with self._errors():
            if self._header:
                self._output.write(self._header)
            self._output.close()
            self.is_open = False

    def stop(self) -> None:
        """End an output that is not complete: the rows are kept, unless it replaces the old file at the end.

        Raises:
            WriteError: They cannot be written.
        """
        if self.is_open:
            with self._errors():
                if self._is_early and self._output.length:
                    self._output.close()
                else:
                    self._output.discard()
                self.is_open = False

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            raise
        except OSError as error:
            self.is_open = False
            raise WriteError(self.name, error, is_undone=self._output.discard()) from error


@asynccontextmanager
async def open_output(target: Target, header: bytes = b"", *, at_end: bool = False) -> AsyncIterator[RowOutput]:
    """Open the output of a command. It waits for the reader of a named pipe.

    Without `finish`, the output is incomplete, and a regular file is unchanged if there are no rows.

    Args:
        target: Where to write.
        header: What precedes the rows.
        at_end: Whether a regular file is replaced when the output is complete, not with the first row.

    Raises:
        CommandError: The target cannot be opened.
    """
    try:
        if target.kind == "pipe":
            output: Output = StreamOutput(await _open_pipe(target))
        else:
            output = _open_blocking(target, keeps_old=not at_end)
    except OSError as error:
        raise CommandError(f"Cannot write {target.name}: {error.strerror}.", "Choose another --output.") from error
    rows = RowOutput(target.name, output, header, not at_end)
    try:
        yield rows
    finally:
        rows.stop()


def write_file(target: Target, data: bytes) -> None:
    """Replace the content of a file; write to a pipe or a device. For commands without an event loop too.

    Raises:
        WriteError: It cannot be written. A file that can be replaced is as it was before.
    """
    with write_errors(target.name):
        output = _open_blocking(target)
        try:
            output.write(data)
            output.close()
        except OSError:
            output.discard()
            raise
