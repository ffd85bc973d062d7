"""What an execution is, and by what lists of them can be filtered."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TypeAlias

from attrs import frozen

from harness_async.converters import OpenEnum
from harness_async.protocol import QueryValue, from_milliseconds, milliseconds, texts
from harness_async.walking import Bounds


class ExecutionStatus(OpenEnum):
    """The outcome of an execution; an open enum, for the documented words need not be all there are."""

    NONE = "none"
    """No outcome yet, as far as the documentation lets one guess."""

    SUCCESS = "success"
    FAILURE = "failure"


FINISHED = frozenset({ExecutionStatus.SUCCESS, ExecutionStatus.FAILURE})

Status: TypeAlias = ExecutionStatus | str
Time: TypeAlias = datetime | int


@frozen(kw_only=True)
class Execution:
    """One pipeline stage that ran against one workspace.

    The members that identify it are always there; what else the server leaves out is empty: "", 0, `NONE`.
    """

    account: str = ""
    org: str
    project: str
    pipeline: str = ""
    """Identifier of the pipeline (its name, by which lists can be filtered, is another thing)."""

    pipeline_execution_id: str
    pipeline_stage_id: str
    workspace: str = ""
    status: ExecutionStatus = ExecutionStatus.NONE
    created: int = 0
    """Milliseconds since 1970 UTC, as sent, whatever its size; the documentation's samples fit no calendar."""

    @property
    def created_at(self) -> datetime | None:
        """When it was created, in UTC; None where `created` fits no calendar."""
        return from_milliseconds(self.created)

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What tells it from every other execution of the account."""
        return (self.org, self.project, self.pipeline_execution_id, self.pipeline_stage_id)


def hash_keys(rows: Iterable[Execution]) -> list[int]:
    """Hash what tells each execution of one project from the others: 12 us for a page of 100, 25 by way of `key`."""
    return [hash((row.pipeline_execution_id, row.pipeline_stage_id)) for row in rows]


def make_params(
    *,
    workspace: str | None,
    pipeline_execution_id: str | None,
    status: Status | Iterable[Status] | None,
    pipeline_name: str | None,
    start_time: Time | None,
    end_time: Time | None,
) -> dict[str, QueryValue]:
    """Make the query of a list, checking each filter."""
    start, end = milliseconds("start_time", start_time), milliseconds("end_time", end_time)
    if start is not None and end is not None and start > end:
        raise ValueError("start_time must not be later than end_time")
    words = texts("status", status)
    for word in words or ():
        if not word or "," in word:
            raise ValueError(f"a status must not be empty and cannot have a comma, as {word!r} has")
    return {
        "status": None if words is None else ",".join(map(str, words)),
        "workspace": workspace,
        "pipeline_execution_id": pipeline_execution_id,
        "pipeline_name": pipeline_name,
        "start_time": start,
        "end_time": end,
    }


def window_of(params: dict[str, QueryValue]) -> Bounds:
    """Give the window of time filters that `make_params` has checked."""
    start, end = params["start_time"], params["end_time"]
    return (start if isinstance(start, int) else None, end if isinstance(end, int) else None)
