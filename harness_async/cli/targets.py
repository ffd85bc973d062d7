"""The files that options name: what they are, and whether they can be written."""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from attrs import frozen

from harness_async.cli.errors import CommandError

_STDOUT = "standard output"

_MAX_LINKS = 40


@frozen(kw_only=True)
class Target:
    """A place to write to. It was found usable, and is not open yet."""

    name: str
    """As in messages."""

    path: Path
    """The file behind all links. Not used if there is a descriptor."""

    kind: Literal["file", "in place", "pipe", "device", "descriptor", "stdout"]
    """`file` is a regular file that can be replaced, `in place` one that can only be written."""

    descriptor: int = -1

    @property
    def is_regular(self) -> bool:
        """Whether it is a regular file, which can be read again."""
        return self.kind in {"file", "in place"}


def find_target(option: str, text: str, *, regular: bool = False) -> Target:
    """Check the value of an option that names a file to write. Nothing is created.

    Args:
        option: The option, for messages.
        text: The value; `-` is stdout.
        regular: Whether it must be a regular file, which can be read again.

    Raises:
        CommandError: The value is empty, or the file cannot be written.
    """
    if not text:
        raise CommandError(f"{option} is empty: name a file.", "A variable of the shell may be unset.")
    target = _find(option, text)
    if regular and not target.is_regular:
        raise CommandError(f"{option} {text} is not a regular file.", f"Choose another {option}.")
    return target


def _find(option: str, text: str) -> Target:
    if text == "-":
        if sys.__stdout__ is None:
            raise CommandError("Standard output is closed.", f"Name a file with {option}.")
        return Target(name=_STDOUT, path=Path(text), kind="stdout")
    try:
        descriptor = _own_descriptor(text)
        if descriptor is not None:
            _check_open_for_writing(descriptor)
            return Target(name=text, path=Path(text), kind="descriptor", descriptor=descriptor)
        path = Path(os.path.realpath(text))
        try:
            mode = Path(text).stat().st_mode
        except FileNotFoundError:
            _check_access(path.parent, is_folder=True)
            if text.endswith(os.sep):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR)) from None
            return Target(name=text, path=path, kind="file")
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        _check_access(path)
        if not stat.S_ISREG(mode):
            return Target(name=text, path=path, kind="pipe" if stat.S_ISFIFO(mode) else "device")
        is_replaceable = _may_write(path.parent, is_folder=True)
        return Target(name=text, path=path, kind="file" if is_replaceable else "in place")
    except OSError as error:
        raise CommandError(f"Cannot write {text}: {error.strerror}.", f"Choose another {option}.") from error


def _check_access(path: Path, *, is_folder: bool = False) -> None:
    """Raise the error that a write would meet."""
    if is_folder and not stat.S_ISDIR(path.stat().st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    if not _may_write(path, is_folder=is_folder):
        is_read_only = hasattr(os, "statvfs") and os.statvfs(path).f_flag & os.ST_RDONLY
        reason = errno.EROFS if is_read_only else errno.EACCES
        raise OSError(reason, os.strerror(reason))


def _may_write(path: Path, *, is_folder: bool = False) -> bool:
    mode = os.W_OK | os.X_OK if is_folder else os.W_OK
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)


def _own_descriptor(text: str) -> int | None:
    """Return the open descriptor that a path such as `/dev/stdout` stands for, else None.

    Opening the path would begin at the start of a redirected file, and fails for sockets.
    """
    path = text
    for _ in range(_MAX_LINKS):
        folder, name = os.path.split(path)
        folder = os.path.realpath(folder)
        if re.fullmatch(rf"/dev/fd|/proc/{os.getpid()}(/task/\d+)?/fd", folder) and name.isdecimal():
            return int(name)
        path = str(Path(folder, name))
        if not Path(path).is_symlink():
            return None
        path = str(Path(folder, Path(path).readlink()))
    return None


def _check_open_for_writing(descriptor: int) -> None:
    import fcntl  # not on Windows, which has no paths of descriptors

    if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))


def check_distinct(options: Mapping[str, str | os.PathLike[str] | None]) -> None:
    """Check that no two options name the same file, by whatever name.

    Raises:
        CommandError: Two do.
    """
    found: dict[object, str] = {}
    for option, path in options.items():
        if path is None or not str(path):
            continue
        other = found.setdefault(_identify(path), option)
        if other != option:
            raise CommandError(f"{other} and {option} name the same file, {path}.", f"Choose another {option}.")


def _identify(path: str | os.PathLike[str]) -> object:
    """Return what is the same for all names of a file."""
    try:
        found = os.fstat(sys.stdout.fileno()) if path == "-" else Path(path).stat()
    except OSError:
        return os.path.normcase(os.path.realpath(path))
    return found.st_dev, found.st_ino
