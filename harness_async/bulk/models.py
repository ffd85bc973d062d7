"""What a bulk run reports: outcomes, progress and plans. Plain data."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Generic, TypeVar, get_args

from attrs import field, frozen

from harness_async.errors import APIStatusError, BulkError, HarnessError
from harness_async.types import Guarantee, LimitedBy, OutcomeStatus, ProjectRef, TimeWindow

T = TypeVar("T")

_SHOWN_FAILURES = 10


@frozen(kw_only=True)
class ProjectOutcome:
    """The outcome of one project.

    Attributes:
        project: The project.
        status: Its status.
        guarantee: What its walk guarantees, as in `WalkReport`; None until it is complete.
        rows: Rows delivered.
        requests: Requests sent, retries included.
        retries: Requests that were repeated.
        window: The time window that was read.
        error: Why it was not read.
    """

    project: ProjectRef
    status: OutcomeStatus = "pending"
    guarantee: Guarantee | None = None
    rows: int = 0
    requests: int = 0
    retries: int = 0
    window: TimeWindow | None = None
    error: HarnessError | None = None

    @property
    def consistency(self) -> Guarantee | None:
        """Deprecated alias of `guarantee`."""
        warnings.warn("ProjectOutcome.consistency is deprecated; use guarantee", DeprecationWarning, stacklevel=2)
        return self.guarantee


@frozen(kw_only=True)
class Batch(Generic[T]):
    """Rows of one project that arrived together.

    Attributes:
        project: The project as it was requested; rows may spell it in another way.
        items: The rows, in the order of the list.
    """

    project: ProjectRef
    items: Sequence[T]


@frozen(kw_only=True)
class BulkReport:
    """What a run did so far; its `str` is a table for people.

    Attributes:
        outcomes: One for each project that the run knows, in the order in which they became known.
        rows: Rows delivered.
        requests: Requests of the run, those that listed the projects included.
        duplicates: Rows that came again and were not delivered twice.
        elapsed: Seconds since the run began.
        invalid_members: Members of rows that had an unexpected type and count as missing.
        listed: Whether all projects are known: False until they were listed to the end.
        discovery: What the list of projects guarantees, as in `WalkReport`; None where the caller named the
            projects, and until all are known.
        unlisted: Organizations whose projects could not be listed, and why.
    """

    outcomes: Mapping[ProjectRef, ProjectOutcome] = field(repr=lambda outcomes: f"<{len(outcomes)} projects>")
    rows: int
    requests: int
    duplicates: int
    elapsed: float
    invalid_members: int = 0
    listed: bool = True
    discovery: Guarantee | None = None
    unlisted: Mapping[str, HarnessError] = field(factory=dict[str, HarnessError])

    @property
    def failed(self) -> int:
        """Number of projects that ended with an error: failed, denied or not found."""
        return sum(outcome.error is not None for outcome in self.outcomes.values())

    @property
    def complete(self) -> int:
        """Number of projects that were read to the end."""
        return sum(outcome.status == "complete" for outcome in self.outcomes.values())

    @property
    def pending(self) -> int:
        """Number of projects that were not read, or not to the end."""
        return sum(outcome.status == "pending" for outcome in self.outcomes.values())

    def raise_for_failures(self) -> None:
        """Raise `BulkError` with the errors of all failed projects, and for all that was not read."""
        errors = [outcome.error for outcome in self.outcomes.values() if outcome.error is not None]
        errors.extend(self.unlisted.values())
        message = f"{self.failed} of {len(self.outcomes)} projects failed"
        if self.unlisted:
            message += f", {len(self.unlisted)} organizations could not be listed"
        if self.pending or not self.listed:
            missing = f"{self.pending} projects were not read to the end"
            if not self.listed:
                missing += "; not all projects are known"
            errors.append(HarnessError(f"The run ended early: {missing}"))
            message += f", {missing}"
        if errors:
            group = BulkError(message, errors)
            group.report = self
            raise group

    def __str__(self) -> str:
        counts = Counter(outcome.status for outcome in self.outcomes.values())
        words = ", ".join(
            f"{counts[status]} {status.replace('_', ' ')}" for status in get_args(OutcomeStatus) if counts[status]
        )
        lines = [
            f"projects    {len(self.outcomes)}{f' ({words})' if words else ''}",
            f"rows        {self.rows}{f' ({self.duplicates} duplicates dropped)' if self.duplicates else ''}",
            f"requests    {self.requests}",
            f"time        {self.elapsed:.1f} s",
        ]
        if self.invalid_members:
            lines.append(f"members     {self.invalid_members} of unexpected types, taken as missing")
        if self.discovery == "best_effort":
            lines.append("the list of projects changed while it was read: projects may be missing")
        if not self.listed:
            lines.append("not all projects are known: the run ended before they were listed")
        failures = [
            f"  {outcome.project}  {outcome.status.replace('_', ' ')}: {summarize_error(outcome.error)}"
            for outcome in self.outcomes.values()
            if outcome.error is not None
        ]
        unlisted = [f"  {org}/*  projects not listed: {summarize_error(error)}" for org, error in self.unlisted.items()]
        for group in (failures, unlisted):
            lines.extend(group[:_SHOWN_FAILURES])
            if len(group) > _SHOWN_FAILURES:
                lines.append(f"  and {len(group) - _SHOWN_FAILURES} more")
        return "\n".join(lines)


@frozen(kw_only=True)
class Progress:
    """How far a run is.

    Attributes:
        projects_done: Projects that were read.
        projects_total: None while projects are still being listed.
        rows: Rows delivered.
        requests: Requests sent, repeated ones included.
        elapsed: Seconds since the run began.
        eta: Estimated seconds until the end, from the requests that remain, at the rate so far and at most at the
            rate limit; None where it cannot be known.
        projects_planned: Projects whose first page was requested by a plan.
        limited_by: What a faster run would need: a higher limit, the end of a cooldown, a server without failures,
            a faster server, a faster consumer.
    """

    projects_done: int
    projects_total: int | None
    rows: int
    requests: int
    elapsed: float
    eta: float | None
    projects_planned: int = 0
    limited_by: LimitedBy


@frozen(kw_only=True)
class Plan:
    """What a run will take, estimated from the first page of every project; its `str` is a table for people.

    Attributes:
        projects: Projects to read.
        failed: Projects whose first page could not be fetched; their errors become their outcomes.
        rows: Rows of the projects whose total the server reports.
        uncounted: Projects whose total the server does not report.
        requests: Requests of the whole run at least: those already made, and one for each page that remains. Rows
            that change meanwhile, and retries, add to them.
        made: Requests already made, for the list of projects and the first pages. They are not repeated.
        rate: Requests per second that the rate limit allows; None without a known limit.
    """

    projects: int
    failed: int
    rows: int
    uncounted: int
    requests: int
    made: int
    rate: float | None

    @property
    def minutes(self) -> float | None:
        """Minutes that the whole run takes at least, at the rate limit; None without one."""
        return None if self.rate is None else self.requests / self.rate / 60.0

    @property
    def minutes_left(self) -> float | None:
        """Minutes that the rest takes at least, at the rate limit; None without one."""
        return None if self.rate is None else (self.requests - self.made) / self.rate / 60.0

    def __str__(self) -> str:
        lines = [
            f"projects    {self.projects:,}{f' ({self.failed:,} failed)' if self.failed else ''}",
            f"rows        {self.rows:,}{f', more in {self.uncounted:,} projects' if self.uncounted else ''}",
            f"requests    {self.requests:,} ({self.made:,} made)",
        ]
        if self.minutes is not None and self.minutes_left is not None:
            lines.append(f"time        {self.minutes:.1f} min at least ({self.minutes_left:.1f} min left)")
        return "\n".join(lines)


def summarize_error(error: HarnessError) -> str:
    """Return one line that says why something failed."""
    text = f"{error.status} {error.message}" if isinstance(error, APIStatusError) else str(error)
    return " ".join(text.split())
