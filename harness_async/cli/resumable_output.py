"""The output file of an export with a checkpoint.

The rows of a project wait, in memory or in a temporary file, until the project is complete. They are then appended to
the output and synced to disk, and the checkpoint records the project with the new length of the output. A resumed
export truncates the output to the recorded length, and requests the projects after it again. The first project of a new
export replaces an old file.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from typing import Any

from attrs import define, field

from harness_async import ProjectOutcome, ProjectRef
from harness_async.cli.errors import CommandError
from harness_async.cli.files import Output, continue_file, open_regular, write_errors
from harness_async.cli.targets import Target

_MAX_SPOOL_BYTES = 256 * 1024
"""Bytes of one project's rows kept in memory, about a thousand rows. More go to a temporary file."""


@define
class _Pending:
    """The rows of a project that is not complete."""

    spool: tempfile.SpooledTemporaryFile[bytes] = field(
        factory=lambda: tempfile.SpooledTemporaryFile(_MAX_SPOOL_BYTES)  # noqa: SIM115 - closed with the output
    )
    rows: int = 0


@define
class ResumableOutput:
    """An output file that contains whole projects only.

    For one task. `commit` runs in a thread while that task waits.
    """

    target: Target
    format_options: str
    """The options that the encoding of rows depends on."""

    header: bytes
    rows: int = field(default=0, init=False)
    """Rows in the file, including those of earlier runs."""

    _output: Output | None = field(default=None, init=False)
    _pending: dict[ProjectRef, _Pending] = field(factory=dict[ProjectRef, _Pending], init=False)

    def open(self, resumed: Mapping[str, Any]) -> None:
        """Open the file of an earlier run, and truncate it to its last recorded length.

        Args:
            resumed: The last return value of `commit` of the run that is resumed, else empty.

        Raises:
            CommandError: The checkpoint belongs to an export in another format, or the file was changed.
        """
        recorded = resumed.get("format", self.format_options)
        if recorded != self.format_options:
            raise CommandError(
                f"The checkpoint belongs to an export with {recorded}, not {self.format_options}.",
                f"Use {recorded}, or choose another --checkpoint and --output.",
            )
        if length := int(resumed.get("length", 0)):
            self._output = continue_file(self.target, length)
        self.rows = int(resumed.get("rows", 0))

    def put(self, project: ProjectRef, row: bytes) -> None:
        """Hold a row until its project is complete.

        Raises:
            WriteError: There is no space for it.
        """
        pending = self._pending.get(project)
        if pending is None:
            pending = self._pending[project] = _Pending()
        with write_errors("a temporary file"):
            pending.spool.write(row)
        pending.rows += 1

    def commit(self, outcome: ProjectOutcome) -> Mapping[str, Any]:
        """Append the rows of a complete project, sync them to disk, and return what `open` needs to resume.

        Raises:
            WriteError: They cannot be written.
        """
        pending = self._pending.get(outcome.project)
        if pending is not None:
            pending.spool.seek(0)
            with write_errors(self.target.name):
                output = self._begin()
                while rows := pending.spool.read(_MAX_SPOOL_BYTES):
                    output.write(rows)
                output.sync()
            self.rows += pending.rows
            self._pending.pop(outcome.project).spool.close()
        length = 0 if self._output is None else self._output.length
        return {"length": length, "rows": self.rows, "format": self.format_options}

    def finish(self) -> None:
        """Write the file of an export without rows.

        Raises:
            WriteError: It cannot be written.
        """
        with write_errors(self.target.name):
            self._begin().sync()

    def _begin(self) -> Output:
        if self._output is None:
            self._output = open_regular(self.target)
            self._output.write(self.header)
        return self._output

    def left_over(self) -> Mapping[ProjectRef, int]:
        """Return the number of rows that are not in the file, of each project."""
        return {project: pending.rows for project, pending in self._pending.items()}

    def close(self) -> None:
        """Close the file and discard the rows of incomplete projects."""
        for pending in self._pending.values():
            pending.spool.close()
        if self._output is not None:
            self._output.discard()
