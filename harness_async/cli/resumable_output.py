"""The output of an export that can be killed: whole projects only, tied to the lines of a checkpoint.

Rows wait beside the file, by project, in memory or in a temporary file of their own. When a project is complete its
rows go to the end of the output, to the disk, and then its line goes into the checkpoint with the length that the
output has then. Whatever a kill leaves behind that length was not finished: a run that goes on cuts it off, without
reading what is there, and fetches those projects again.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from attrs import define, field

from harness_async.cli.connection import CommandError
from harness_async.cli.options import RowFormat
from harness_async.cli.writers import create_encoder
from harness_async.executions import Execution
from harness_async.outcomes import ProjectOutcome, ProjectRef

_SPOOL_BYTES = 256 * 1024
"""Bytes of one project's rows kept in memory, about a thousand rows; more wait in a temporary file."""


@define
class ResumableOutput:
    """The output file and the rows that wait for it. For one task; `commit` runs in a thread while that task waits."""

    path: Path
    form: RowFormat
    rows: int = field(default=0, init=False)
    """Rows in the file, those of earlier runs included."""

    _stream: BinaryIO | None = field(default=None, init=False)
    _length: int = field(default=0, init=False)
    _waiting: dict[ProjectRef, tuple[tempfile.SpooledTemporaryFile[bytes], int]] = field(
        factory=dict[ProjectRef, tuple["tempfile.SpooledTemporaryFile[bytes]", int]], init=False
    )

    def begin(self, resumed: Mapping[str, Any]) -> None:
        """Open the file and cut off what was not finished; `resumed` is what the last `commit` returned.

        Raises:
            CommandError: The file is not the one that the checkpoint speaks of, or cannot be written.
        """
        head, _ = create_encoder(self.form)
        length, form = int(resumed.get("length", 0)), resumed.get("format", self.form.value)
        if form != self.form.value:
            raise CommandError(f"The checkpoint belongs to an export as {form}.", f"Add --format {form}.")
        try:
            self._stream = os.fdopen(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
            if os.fstat(self._stream.fileno()).st_size < length:
                raise CommandError(
                    f"{self.path} is shorter than the checkpoint says: it is another file, or was changed.",
                    "Bring it back, or begin anew: delete both files.",
                )
            self._stream.truncate(length)
            self._stream.seek(length)
            self._stream.write(b"" if length else head)
            self._stream.flush()
        except OSError as error:
            raise CommandError(f"Cannot write {self.path}: {error.strerror}.", "Choose another --output.") from error
        self._length = length or len(head)
        self.rows = int(resumed.get("rows", 0))

    def put(self, execution: Execution, row: bytes) -> None:
        """Let a row wait until its project is complete."""
        ref = ProjectRef(execution.org, execution.project)
        spool, count = self._waiting.get(ref) or (tempfile.SpooledTemporaryFile(_SPOOL_BYTES), 0)  # noqa: SIM115
        spool.write(row)
        self._waiting[ref] = (spool, count + 1)

    def commit(self, outcome: ProjectOutcome) -> Mapping[str, Any]:
        """Put the rows of a complete project on disk, and return what the checkpoint must know to go on from here."""
        spool, count = self._waiting.pop(outcome.project, (None, 0))
        if spool is not None and self._stream is not None:
            with spool:
                spool.seek(0)
                shutil.copyfileobj(spool, self._stream)
            self._stream.flush()
            os.fsync(self._stream.fileno())
            self._length = self._stream.tell()
            self.rows += count
        return {"length": self._length, "rows": self.rows, "format": self.form.value}

    def close(self) -> None:
        """Close the file, at the end of the last complete project."""
        for spool, _ in self._waiting.values():
            spool.close()
        if self._stream is not None:
            self._stream.close()
