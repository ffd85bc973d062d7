"""The output file of an export with a checkpoint.

The rows of a project wait, in memory or in a temporary file, until the project is complete. They are then appended to
the output and synced to disk, and the checkpoint records the project with the new length of the output. A resumed
export truncates the output to the recorded length, and requests the projects after it again.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from attrs import define, field

from harness_async import Execution, ProjectOutcome, ProjectRef
from harness_async.cli.errors import CommandError
from harness_async.cli.options import RowFormat
from harness_async.cli.writers import create_encoder

_MAX_SPOOL_BYTES = 256 * 1024
"""Bytes of one project's rows kept in memory, about a thousand rows. More go to a temporary file."""


@define
class ResumableOutput:
    """An output file that contains whole projects only.

    For one task. `commit` runs in a thread while that task waits.
    """

    path: Path
    row_format: RowFormat
    rows: int = field(default=0, init=False)
    """Rows in the file, including those of earlier runs."""

    _stream: BinaryIO | None = field(default=None, init=False)
    _length: int = field(default=0, init=False)
    _pending: dict[ProjectRef, tuple[tempfile.SpooledTemporaryFile[bytes], int]] = field(
        factory=dict[ProjectRef, tuple["tempfile.SpooledTemporaryFile[bytes]", int]], init=False
    )

    def open(self, resumed: Mapping[str, Any]) -> None:
        """Open the file and truncate it to its last recorded length.

        Args:
            resumed: The last return value of `commit` of the run that is resumed, else empty.

        Raises:
            CommandError: The file does not match the checkpoint, or cannot be written.
        """
        header, _ = create_encoder(self.row_format)
        length, recorded_format = int(resumed.get("length", 0)), resumed.get("format", self.row_format.value)
        if recorded_format != self.row_format.value:
            raise CommandError(
                f"The checkpoint belongs to an export with --format {recorded_format}, not {self.row_format.value}.",
                f"Add --format {recorded_format}, or choose another --checkpoint and --output.",
            )
        try:
            self._stream = os.fdopen(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
            size = os.fstat(self._stream.fileno()).st_size
            if size < length:
                raise CommandError(
                    f"{self.path} has {size:,} bytes, but the checkpoint records {length:,}: the file was changed.",
                    "Restore the file, or delete it and the checkpoint to start from the beginning.",
                )
            self._stream.truncate(length)
            self._stream.seek(length)
            self._stream.write(b"" if length else header)
            self._stream.flush()
        except OSError as error:
            raise CommandError(f"Cannot write {self.path}: {error.strerror}.", "Choose another --output.") from error
        self._length = length or len(header)
        self.rows = int(resumed.get("rows", 0))

    def put(self, execution: Execution, row: bytes) -> None:
        """Hold a row until its project is complete."""
        ref = ProjectRef(execution.org, execution.project)
        spool, rows = self._pending.get(ref) or (tempfile.SpooledTemporaryFile(_MAX_SPOOL_BYTES), 0)  # noqa: SIM115
        spool.write(row)
        self._pending[ref] = (spool, rows + 1)

    def commit(self, outcome: ProjectOutcome) -> Mapping[str, Any]:
        """Append the rows of a complete project, sync them to disk, and return what `open` needs to resume."""
        spool, rows = self._pending.pop(outcome.project, (None, 0))
        if spool is not None and self._stream is not None:
            with spool:
                spool.seek(0)
                shutil.copyfileobj(spool, self._stream)
            self._stream.flush()
            os.fsync(self._stream.fileno())
            self._length = self._stream.tell()
            self.rows += rows
        return {"length": self._length, "rows": self.rows, "format": self.row_format.value}

    def close(self) -> None:
        """Close the file and discard the rows of incomplete projects."""
        for spool, _ in self._pending.values():
            spool.close()
        if self._stream is not None:
            self._stream.close()
