"""The work of `sync`: what is new since the last time, into a file of its own, with the state of the next time.

Both files are replaced whole and the rows first: whatever a kill leaves, a state never speaks of rows that are in no
file. Repeated from the older state, the rows come again, which readers of upserts take for the same.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from attrs import frozen

from harness_async.cli.connection import COMPLETE, INCOMPLETE, CommandError, Connection, connect, usage_errors
from harness_async.cli.console import stderr_console
from harness_async.cli.options import RowFormat
from harness_async.cli.writers import create_encoder
from harness_async.config import RateLimit
from harness_async.sync import SyncState


@frozen(kw_only=True)
class SyncSpec:
    """What a sync is to do."""

    state: Path
    output: Path
    form: RowFormat
    quiet: bool


def read_state(path: Path) -> SyncState | None:
    """Read the state of the last time; None where there is none yet.

    Raises:
        CommandError: The file is no state, or cannot be read.
    """
    try:
        return SyncState.from_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise CommandError(f"Cannot use the state {path}: {error}.", "Delete it to begin anew.") from error


@contextmanager
def replace_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that takes the place of another when it is whole and on disk; an error leaves the old one."""
    try:
        stream = tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False)  # noqa: SIM115
    except OSError as error:
        raise CommandError(f"Cannot write {path}: {error.strerror}.", "Choose another path.") from error
    try:
        with stream:
            yield stream.file
            stream.flush()
            os.fsync(stream.fileno())
        Path(stream.name).replace(path)
    except BaseException:
        Path(stream.name).unlink(missing_ok=True)
        raise


async def sync_rows(job: SyncSpec, connection: Connection, rate_limit: RateLimit | None) -> int:
    """Write what is new, then the state; return the exit code."""
    before = read_state(job.state)
    head, encode = create_encoder(job.form)
    async with connect(connection, rate_limit, quiet=job.quiet) as client:
        with usage_errors():
            run = client.executions.sync(before)
        with replace_file(job.output) as stream:
            stream.write(head)
            async with run:
                async for execution in run:
                    stream.write(encode(execution))
    with replace_file(job.state) as stream:
        stream.write(run.state.to_json().encode())
    report = run.report
    if not job.quiet or report.failed or report.unlisted:
        console = stderr_console()
        console.print(str(report), markup=False, highlight=False)
        for word, refs in (("new", run.appeared if before else ()), ("gone", run.vanished)):
            if refs:
                console.print(f"{word:<12}{', '.join(map(str, refs))}", markup=False, highlight=False)
    return INCOMPLETE if report.failed or report.unlisted else COMPLETE
