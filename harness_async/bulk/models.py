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
    """The outcome of one project."""

    project: ProjectRef
    status: OutcomeStatus = "pending"
    guarantee: Guarantee | None = None
    """What its walk guarantees, as in `WalkReport`; None until it is complete."""

    rows: int = 0
    requests: int = 0
    """Requests sent, retries included."""

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
    """Rows of one project that arrived together."""

    project: ProjectRef
    """The project as it was requested; rows may spell it in another way."""

    items: Sequence[T]


@frozen(kw_only=True)
class BulkReport:
    """What a run did so far; its `str` is a table for people."""

    outcomes: Mapping[ProjectRef, ProjectOutcome] = field(repr=lambda outcomes: f"<{len(outcomes)} projects>")
    """One for each project that the run knows, in the order in which they became known."""

    rows: int
    requests: int
    """Requests of the run, those that listed the projects included."""

    duplicates: int
    elapsed: float
    """Seconds since the run began."""

    invalid_members: int = 0
    """Members of rows that had an unexpected type and count as missing."""

    listed: bool = True
    """Whether all projects are known: False until they were listed to the end."""

    discovery: Guarantee | None = None
    """What the list of projects guarantees, as in `WalkReport`; None where the caller named the projects, and until
    all are known."""

    unlisted: Mapping[str, HarnessError] = field(factory=dict[str, HarnessError])
    """Organizations whose projects could not be listed, and why."""

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
    """How far a run is."""

    projects_done: int
    projects_total: int | None
    """None while projects are still being listed."""

    rows: int
    requests: int
    elapsed: float
    """Seconds since the run began."""

    eta: float | None
    """Estimated seconds until the end, from the requests that remain, at the rate so far and at most at the rate limit;
    None where it cannot be known."""

    projects_planned: int = 0
    """Projects whose first page was requested by a plan."""

    limited_by: LimitedBy
    """What a faster run would need: a higher limit, the end of a cooldown, a server without failures, a faster server,
    a faster consumer."""


@frozen(kw_only=True)
class Plan:
    """What a run will take, estimated from the first page of every project; its `str` is a table for people."""

    projects: int
    """Projects to read."""

    failed: int
    """Projects whose first page could not be fetched; their errors become their outcomes."""

    rows: int
    """Rows of the projects whose total the server reports."""

    uncounted: int
    """Projects whose total the server does not report."""

    requests: int
    """Requests of the whole run at least: those already made, and one for each page that remains. Rows that change
    meanwhile, and retries, add to them."""

    made: int
    """Requests already made, for the list of projects and the first pages. They are not repeated."""

    rate: float | None
    """Requests per second that the rate limit allows; None without a known limit."""

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
