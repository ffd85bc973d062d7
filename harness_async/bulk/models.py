"""What a bulk run is told and what it tells: projects in, outcomes, reports and progress out. Plain data."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Mapping, Sequence
from typing import Literal, Protocol, TypeAlias, get_args, runtime_checkable

from attrs import field, frozen

from harness_async.errors import APIStatusError, BulkError, HarnessError
from harness_async.http.protocol import check_identifier
from harness_async.pagination.strategy import Guarantee

OutcomeStatus: TypeAlias = Literal["complete", "failed", "denied", "not_found", "pending"]
LimitedBy: TypeAlias = Literal["rate limit", "cooldown", "latency", "consumer"]


def _check(name: str, value: object) -> None:
    check_identifier(name, value)


@frozen(order=True)
class ProjectRef:
    """What names a project: its organization and its identifier."""

    org: str = field(validator=lambda _, attribute, value: _check(attribute.name, value))
    project: str = field(validator=lambda _, attribute, value: _check(attribute.name, value))

    def __str__(self) -> str:
        return f"{self.org}/{self.project}"

    @classmethod
    def parse(cls, text: str) -> ProjectRef:
        """Read "org/project".

        Raises:
            ValueError: The text has not exactly one slash, or an empty side.
        """
        parts = text.split("/")
        if len(parts) != 2:  # noqa: PLR2004
            raise ValueError(f"a project is written 'org/project', not {text!r}")
        return cls(*parts)


@runtime_checkable
class HasRef(Protocol):
    """Anything that names a project, such as a `Project`."""

    @property
    def ref(self) -> ProjectRef:
        """What names it."""
        ...


ProjectLike: TypeAlias = "ProjectRef | HasRef | tuple[str, str] | str"
Projects: TypeAlias = "Iterable[ProjectLike] | AsyncIterable[ProjectLike]"


def as_ref(value: object) -> ProjectRef:
    """Make a `ProjectRef` of any form in which a project may be given.

    Raises:
        TypeError, ValueError: It is none of the forms.
    """
    match value:
        case ProjectRef():
            return value
        case str():
            return ProjectRef.parse(value)
        case (str() as org, str() as project):
            return ProjectRef(org, project)
        case HasRef():
            return value.ref
    raise TypeError(f"a project is a ProjectRef, (org, project) or 'org/project', not {type(value).__name__}")


def check_projects(projects: object) -> Projects | Sequence[ProjectRef]:
    """Return an iterable of projects; a list or another collection is checked whole, before anything is sent."""
    if isinstance(projects, str | bytes | ProjectRef | Mapping):
        raise TypeError(f"projects takes an iterable of projects, not one {type(projects).__name__}: put it in a list")
    if isinstance(projects, Sequence | set | frozenset):
        return [as_ref(project) for project in projects]
    if isinstance(projects, Iterable | AsyncIterable):
        return projects
    raise TypeError(f"projects takes an iterable of projects, not {type(projects).__name__}")


@frozen(kw_only=True)
class ProjectOutcome:
    """What became of one project."""

    project: ProjectRef
    status: OutcomeStatus = "pending"
    consistency: Guarantee | None = None
    """What its walk guarantees; None as long as it is not complete."""

    rows: int = 0
    requests: int = 0
    """Sends, those of retries included."""

    retries: int = 0
    window: tuple[int | None, int | None] | None = None
    error: HarnessError | None = None


@frozen(kw_only=True)
class BulkReport:
    """What a run did, as of the moment it was asked for; its `str` is a table for people."""

    outcomes: Mapping[ProjectRef, ProjectOutcome] = field(repr=lambda outcomes: f"<{len(outcomes)} projects>")
    """One for each project that the run has met, in the order in which it met them."""

    rows: int
    requests: int
    """All sends of the run, those that listed the projects included."""

    duplicates: int
    elapsed: float
    """Seconds since the run began."""

    unlisted: Mapping[str, HarnessError] = field(factory=dict[str, HarnessError])
    """Organizations whose projects could not be listed, and why."""

    @property
    def failed(self) -> int:
        """How many projects ended with an error: failed, denied or not found."""
        return sum(outcome.error is not None for outcome in self.outcomes.values())

    @property
    def complete(self) -> int:
        """How many projects were read to the end."""
        return sum(outcome.status == "complete" for outcome in self.outcomes.values())

    def raise_for_failures(self) -> None:
        """Raise `BulkError` with the error of each failed project, if there is any."""
        errors = [outcome.error for outcome in self.outcomes.values() if outcome.error is not None]
        errors.extend(self.unlisted.values())
        if errors:
            words = f"{self.failed} of {len(self.outcomes)} projects failed"
            if self.unlisted:
                words += f", {len(self.unlisted)} organizations could not be listed"
            group = BulkError(words, errors)
            group.report = self
            raise group

    def __str__(self) -> str:
        return describe(self)


@frozen(kw_only=True)
class Progress:
    """How far a run is."""

    projects_done: int
    projects_total: int | None
    """None as long as projects are still being listed."""

    rows: int
    requests: int
    elapsed: float
    """Seconds since the run began."""

    eta: float | None
    """Seconds that the rest will take, by the requests still to be made, at the pace so far and no faster than the
    limit; None where nobody can know."""

    projects_planned: int = 0
    """Projects whose first page was asked for by a plan."""

    limited_by: LimitedBy
    """What a faster run would need more of: a higher limit, the end of a cooldown, a faster server or consumer."""


@frozen(kw_only=True)
class Plan:
    """What a run will take, as the first page of every project tells it; its `str` is a table for people."""

    projects: int
    """Projects to be read: those of which something is left to ask for, and those whose first page is all."""

    failed: int
    """Projects whose first page could not be had; their errors will be their outcomes."""

    rows: int
    """Rows of the projects whose total the server tells."""

    uncounted: int
    """Projects whose total it does not tell."""

    requests: int
    """Requests of the whole run, at least: those already made, and one for each page that is left. Rows that come
    and go meanwhile, and retries, cost more."""

    made: int
    """Those already made: for the list of projects and the first pages, which are not asked for again."""

    rate: float | None
    """Requests a second that the limit allows; None where there is none, or it is not ours to know."""

    @property
    def minutes(self) -> float | None:
        """Minutes that the whole run takes at least, at the rate limit; None without one."""
        return None if self.rate is None else self.requests / self.rate / 60.0

    @property
    def minutes_left(self) -> float | None:
        """Minutes that what is left takes at least, at the rate limit; None without one."""
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


_SHOWN = 10
"""Failed projects shown in the table; the rest are counted."""


def describe(report: BulkReport) -> str:
    """Make the short table that a person reads at the end of a run."""
    counts: dict[str, int] = {}
    for outcome in report.outcomes.values():
        counts[outcome.status] = counts.get(outcome.status, 0) + 1
    words = ", ".join(
        f"{counts[status]} {status.replace('_', ' ')}" for status in get_args(OutcomeStatus) if status in counts
    )
    lines = [
        f"projects    {len(report.outcomes)}{f' ({words})' if words else ''}",
        f"rows        {report.rows}{f' ({report.duplicates} duplicates dropped)' if report.duplicates else ''}",
        f"requests    {report.requests}",
        f"time        {report.elapsed:.1f} s",
    ]
    bad = [
        f"  {outcome.project}  {outcome.status.replace('_', ' ')}: {reason(outcome.error)}"
        for outcome in report.outcomes.values()
        if outcome.error is not None
    ]
    unlisted = [f"  {org}/*  projects not listed: {reason(error)}" for org, error in report.unlisted.items()]
    for failures in (bad, unlisted):
        lines.extend(failures[:_SHOWN])
        if len(failures) > _SHOWN:
            lines.append(f"  and {len(failures) - _SHOWN} more")
    return "\n".join(lines)


def reason(error: HarnessError) -> str:
    """Say in one line why something failed."""
    text = f"{error.status} {error.message}" if isinstance(error, APIStatusError) else str(error)
    return " ".join(text.split())
