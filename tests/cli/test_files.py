"""Every target of `export` and `sync`: what is written, what stays, and what is refused before the first request."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness_async.testing import Delay, FakeHarness, Status
from tests.support.cli_runner import Result, invoke, json_lines, row_keys, start

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="links, pipes and modes of POSIX")

OLD = "old\n"
MODE = 0o604
NOBODY = 65534

Command = Callable[..., Sequence[str]]


def export_command(folder: Path, output: str) -> Sequence[str]:
    return ("export", "--output", output)


def checkpoint_command(folder: Path, output: str) -> Sequence[str]:
    return ("export", "--output", output, "--checkpoint", str(folder / "run"))


def sync_command(folder: Path, output: str) -> Sequence[str]:
    return ("sync", "--output", output, "--state", str(folder / "run"))


COMMANDS = {"export": export_command, "checkpoint": checkpoint_command, "sync": sync_command}

commands = pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
streaming_commands = pytest.mark.parametrize("command", [export_command, sync_command], ids=["export", "sync"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The directory of the output. Other files of a command are in its parent."""
    (tmp_path / "output").mkdir()
    return tmp_path / "output"


def run(command: Command, output: Path | str, *more: str) -> Result:
    parent = Path(output).parent.parent if isinstance(output, Path) else Path()
    options = ("--requests-per-minute", "100000", "--format", "jsonl", "--quiet")
    return invoke(*command(parent, str(output)), *options, *more)


def check_rows(text: str, server: FakeHarness) -> None:
    """Check that a text has every row of the server once."""
    assert row_keys(json_lines(text)) == row_keys(server.all_executions())


@pytest.fixture
def small(server: FakeHarness) -> FakeHarness:
    """The server with few rows."""
    server.remove_project("default", "payments")
    return server


def new(folder: Path) -> Path:
    return folder / "rows"


def existing(folder: Path) -> Path:
    path = folder / "rows"
    path.write_text(OLD)
    path.chmod(MODE)
    return path


def existing_without_hard_links(folder: Path) -> Path:
    return existing(folder)


def refuse(*_: object) -> None:
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


def link(folder: Path) -> Path:
    (folder / "elsewhere").mkdir()
    (folder / "link").symlink_to(existing(folder / "elsewhere"))
    (folder / "rows").symlink_to("link")
    return folder / "rows"


def dangling_link(folder: Path) -> Path:
    (folder / "rows").symlink_to("new")
    return folder / "rows"


def longest_name(folder: Path) -> Path:
    return folder / ("x" * 255)


@commands
@pytest.mark.parametrize("prepare", [new, existing, link, dangling_link, longest_name])
def test_regular_file(small: FakeHarness, folder: Path, command: Command, prepare: Callable[[Path], Path]) -> None:
    """A file is replaced behind all its links. An old mode is kept, a new one is that of the umask."""
    path = prepare(folder)
    links = {each: each.readlink() for each in folder.iterdir() if each.is_symlink()}
    mode = MODE if path.exists() else 0o640
    old = os.umask(0o027)
    try:
        result = run(command, path)
    finally:
        os.umask(old)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
    check_rows(path.read_text(), small)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert {each: each.readlink() for each in folder.iterdir() if each.is_symlink()} == links
    assert not list(folder.glob(".*")), "no temporary file is left"


@contextmanager
def mounted(target: Path, *arguments: str) -> Iterator[None]:
    """Mount something, which only root may do."""
    mount, umount = shutil.which("mount"), shutil.which("umount")
    if mount is None or umount is None or subprocess.run([mount, *arguments, target], check=False).returncode:  # noqa: S603
        pytest.skip("mounts need root")
    try:
        yield
    finally:
        subprocess.run([umount, target], check=True)  # noqa: S603


@commands
def test_bind_mount(small: FakeHarness, folder: Path, command: Command) -> None:
    """A file that is a mount point keeps its place and is written."""
    path = existing(folder)
    source = folder.parent / "source"
    source.write_text("x" * 100_000)
    with mounted(path, "--bind", str(source)):
        result = run(command, path)
    assert (result.exit_code, result.stderr) == (0, "")
    check_rows(source.read_text(), small)
    assert path.read_text() == OLD, "under the mount"
    assert [each.name for each in folder.iterdir()] == ["rows"]


@commands
def test_read_only_file_system(small: FakeHarness, folder: Path, command: Command) -> None:
    """A file system that root may not write either is refused before the first request."""
    with mounted(folder, "-t", "tmpfs", "-o", "ro", "tmpfs"):
        result = run(command, folder / "rows")
    assert (result.exit_code, small.requests) == (2, [])
    assert f"Cannot write {folder / 'rows'}: Read-only file system." in result.stderr


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A directory for the output that every user may read, in another one."""
    folder = Path(tempfile.mkdtemp())
    try:
        (folder / "output").mkdir()
        yield folder / "output"
    finally:
        shutil.rmtree(folder)


@contextmanager
def unprivileged(folder: Path) -> Iterator[None]:
    """Act as a user who is not root and owns a directory."""
    if os.geteuid() != 0:
        yield
        return
    for path in (folder, *folder.rglob("*")):
        os.chown(path, NOBODY, -1)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@commands
def test_directory_that_cannot_be_written(small: FakeHarness, public_folder: Path, command: Command) -> None:
    """In a directory without write permission, a writable file is written in place and a new file is refused."""
    path, other = existing(public_folder), public_folder / "other"
    assert run(command, other).exit_code == 0, "imports every module that the other user might not be able to read"
    other.unlink()
    (public_folder.parent / "run").unlink(missing_ok=True)
    inode = path.stat().st_ino
    path.write_text("x" * 100_000)
    with unprivileged(public_folder.parent):
        public_folder.chmod(0o500)
        result = run(command, path)
        assert (result.exit_code, result.stderr) == (0, "")
        check_rows(path.read_text(), small)
        assert (path.stat().st_ino, stat.S_IMODE(path.stat().st_mode)) == (inode, MODE)
        path.chmod(0o400)
        (public_folder.parent / "run").unlink(missing_ok=True)
        small.requests.clear()
        for refused in (path, other):
            result = run(command, refused)
            assert (result.exit_code, small.requests) == (2, [])
            assert f"Cannot write {refused}: Permission denied." in result.stderr
        public_folder.chmod(0o700)


@streaming_commands
def test_named_pipe(small: FakeHarness, folder: Path, command: Command) -> None:
    """A named pipe stays one: the rows go to its reader, for which the command waits."""
    path = folder / "rows"
    os.mkfifo(path)
    received: list[str] = []
    result: list[Result] = []
    writer = threading.Thread(target=lambda: result.append(run(command, path)))
    writer.start()
    received.append(path.read_text())
    writer.join()
    assert (result[0].exit_code, result[0].stderr) == (0, "")
    check_rows(received[0], small)
    assert path.is_fifo()


@streaming_commands
def test_stdout(small: FakeHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command) -> None:
    """`-` is stdout, and no file."""
    monkeypatch.chdir(tmp_path)
    result = run(command, "-")
    check_rows(result.stdout, small)
    assert (result.exit_code, result.stderr) == (0, "")
    assert {path.name for path in tmp_path.iterdir()} <= {"run"}


@streaming_commands
def test_link_to_stdout(small: FakeHarness, folder: Path, command: Command) -> None:
    """A link to /dev/stdout is stdout, also when that is a file with content."""
    (folder / "link").symlink_to("/dev/stdout")
    redirected = folder / "redirected"
    redirected.write_text(OLD)
    with redirected.open("a") as stdout, start(*command(folder, str(folder / "link")), stdout=stdout) as process:
        assert process.wait(60) == 0
    text = redirected.read_text()
    assert text.startswith(OLD)
    check_rows(text.removeprefix(OLD), small)
    assert (folder / "link").is_symlink()


@streaming_commands
def test_closed_stdout(small: FakeHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command) -> None:
    """Rows for a stdout that is closed are not lost in silence: exit code 2, before any request."""
    monkeypatch.setattr(sys, "__stdout__", None)  # as with >&-
    result = invoke(*command(tmp_path, "-"))
    assert (result.exit_code, small.requests) == (2, [])
    assert "Standard output is closed." in result.stderr


@streaming_commands
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_device(small: FakeHarness, tmp_path: Path, command: Command) -> None:
    """Rows that stdout does not accept are one line of error, without a second one at exit."""
    with Path("/dev/full").open("w") as full, start(*command(tmp_path, "-"), "--quiet", stdout=full) as process:
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    errors = [line for line in stderr.splitlines() if "No space left" in line]
    assert errors == ["Error: Cannot write standard output: No space left on device."]
    assert "       Free space on the disk, then run again.\n" in stderr
    assert "Traceback" not in stderr
    assert "ignored" not in stderr
    assert not (tmp_path / "run").exists()


@commands
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing/rows", "Cannot write {}: No such file or directory."),
        ("file/rows", "Cannot write {}: Not a directory."),
        ("folder", "Cannot write {}: Is a directory."),
        ("new/", "Cannot write {}: Is a directory."),
        ("loop", "Cannot write {}: Too many levels of symbolic links."),
        ("/dev/fd/999", "Cannot write {}: Bad file descriptor."),
    ],
    ids=["missing folder", "file as folder", "folder", "slash", "loop", "closed descriptor"],
)
def test_unusable_path(
    small: FakeHarness, tmp_path: Path, command: Command, name: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path that cannot be written is exit code 2 before the first request; nothing is created."""
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("file").touch()
    Path("loop").symlink_to("loop")
    before = sorted(Path().rglob("*"))
    result = run(command, name)
    assert result.exit_code == 2
    assert message.format(name) in result.stderr
    assert (small.requests, sorted(Path().rglob("*"))) == ([], before)


@pytest.mark.parametrize("names", [("f", "f"), ("f", "d/../f"), ("f", "link"), ("f", "hard"), ("n", "x/n")])
@pytest.mark.parametrize("options", ["export --output --checkpoint", "sync --output --state"])
def test_same_file(
    small: FakeHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: tuple[str, str], options: str
) -> None:
    """Two options that name one file, which exists or not, are refused before anything is written."""
    monkeypatch.chdir(tmp_path)
    Path("f").write_text(OLD)
    Path("link").symlink_to("f")
    Path("hard").hardlink_to("f")
    Path("x").symlink_to(".")
    Path("d").mkdir()
    command, first, second = options.split()
    for one, two in (names, names[::-1]):
        result = invoke(command, first, one, second, two)
        assert result.exit_code == 2
        assert "name the same file" in result.stderr
        assert {first, second} <= set(result.stderr.split())
    assert (Path("f").read_text(), Path("n").exists(), small.requests) == (OLD, False, [])


def refused_key(server: FakeHarness, _: pytest.MonkeyPatch) -> None:
    server.faults.add(Status(401), times=None)


def every_project_denied(server: FakeHarness, _: pytest.MonkeyPatch) -> None:
    for org, project in server.projects:
        server.deny(org, project)


def unknown_host(_: FakeHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_BASE_URL", "https://127.0.0.1:1")


@commands
@pytest.mark.parametrize("fail", [refused_key, every_project_denied, unknown_host])
def test_failure_before_the_first_row(
    small: FakeHarness,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: Command,
    fail: Callable[[FakeHarness, pytest.MonkeyPatch], None],
) -> None:
    """The old file stays as it was."""
    path = existing(folder)
    inode = path.stat().st_ino
    fail(small, monkeypatch)
    result = invoke(*command(folder.parent, str(path)), "--timeout", "0.5")
    assert result.exit_code in {1, 3}
    assert (path.read_text(), path.stat().st_ino) == (OLD, inode)
    assert [each.name for each in folder.iterdir()] == ["rows"]


@commands
def test_failure_after_the_first_row(server: FakeHarness, folder: Path, command: Command) -> None:
    """An export keeps its rows, one with a checkpoint those of complete projects; a sync leaves the old file."""
    path = existing(folder)
    server.faults.add(Status(401), when=lambda request: request.query.get("page") == ["2"], times=None)
    result = run(command, path)
    assert result.exit_code == 3
    if command is export_command:
        assert len(json_lines(path.read_text())) in {100, 103}
    elif command is checkpoint_command and path.read_text() != OLD:
        assert row_keys(json_lines(path.read_text())) == row_keys(server.executions("default", "network"))
    else:
        assert path.read_text() == OLD
    assert (stat.S_IMODE(path.stat().st_mode), len(list(folder.iterdir()))) == (MODE, 1)


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Let writes beyond a size fail, as on a full disk."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@commands
@pytest.mark.parametrize("part", [0.0, 0.3, 0.9, 0.999])
@pytest.mark.parametrize("prepare", [new, existing, existing_without_hard_links])
def test_full_disk(
    server: FakeHarness,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: Command,
    part: float,
    prepare: Callable[[Path], Path],
) -> None:
    """A full disk, at the first or the last piece, is one line of error; the old file is intact, and no other is left.

    An export with a checkpoint keeps the projects that it has completed, and continues with the others.
    """
    path = prepare(folder)
    if prepare is existing_without_hard_links:
        monkeypatch.setattr(os, "link", refuse)
    reference = folder.parent / "reference"
    assert run(export_command, reference).exit_code == 0
    size = int(reference.stat().st_size * part)
    for name in ("default", "network", "payments"):
        server.add_execution("default", "network", workspace=name)
    with file_size_limit(size):
        result = run(command, path)
    assert result.exit_code == 1
    name = f"the checkpoint {folder.parent / 'run'}" if command is checkpoint_command and not part else str(path)
    assert f"Error: Cannot write {name}: File too large." in result.stderr.splitlines()
    if command is checkpoint_command:
        assert run(command, path).exit_code == 0
        check_rows(path.read_text(), server)
    elif prepare is not new:
        assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == (OLD, MODE)
    elif path.exists():
        assert path.read_text().endswith("}\n"), "whole rows"
    assert [each.name for each in folder.iterdir()] in ([], ["rows"])


@streaming_commands
def test_killed(server: FakeHarness, folder: Path, command: Command) -> None:
    """After SIGKILL the file has whole rows if the first row has replaced it, else it is the old one."""
    path = existing(folder)
    server.faults.add(Delay(3600), path="*/payments/*", times=None)
    with start(*command(folder.parent, str(path))) as process:
        if command is export_command:
            while path.read_text() == OLD:
                assert process.poll() is None
                time.sleep(0.01)
        else:
            while not any(each.stat().st_size for each in folder.glob(".*")):
                assert process.poll() is None
                time.sleep(0.01)
        process.kill()
    if command is export_command:
        assert row_keys(json_lines(path.read_text())) == row_keys(server.executions("default", "network"))
    else:
        assert path.read_text() == OLD
        assert not (folder.parent / "run").exists()
    assert stat.S_IMODE(path.stat().st_mode) == MODE
    server.faults.clear()
    assert run(command, path).exit_code == 0
    check_rows(path.read_text(), server)
    assert [each.name for each in folder.iterdir()] == ["rows"], "what the killed process left is removed"
