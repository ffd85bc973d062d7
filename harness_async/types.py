"""Plain values that several packages share: projects, time windows, and the words of reports."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

from attrs import Attribute, field, frozen

from harness_async.validation import check_identifier

Consistency: TypeAlias = Literal["live", "checked", "strict"]
"""How a list is read while it changes; `executions.list` says what each means."""

Guarantee: TypeAlias = Literal["live", "exact", "covered", "seek", "best_effort"]
"""What a walk guarantees; `WalkReport.guarantee` says what each means."""

LimitedBy: TypeAlias = Literal["rate limit", "cooldown", "retries", "latency", "consumer"]
"""What a faster run would need: a higher limit, the end of a cooldown, a server without failures, a faster server, a
faster consumer."""

OutcomeStatus: TypeAlias = Literal["complete", "failed", "denied", "not_found", "pending"]
OnError: TypeAlias = Literal["collect", "raise"]


Time: TypeAlias = datetime | int
"""An aware datetime, or milliseconds since 1970 UTC."""


class TimeWindow(NamedTuple):
    """A range of time in milliseconds since 1970 UTC, as the API's filters take it; None is open."""

    start: int | None = None
    end: int | None = None


def _check_identifier(_: object, attribute: Attribute[str], value: object) -> None:
    check_identifier(attribute.name, value)


@frozen(order=True)
class ProjectRef:
    """The organization and the identifier that address a project.

    Attributes:
        org: Identifier of the organization.
        project: Identifier of the project.

    Raises:
        TypeError: A part is not a str.
        ValueError: A part cannot stand in a path.
    """

    org: str = field(validator=_check_identifier)
    project: str = field(validator=_check_identifier)

    def __str__(self) -> str:
        return f"{self.org}/{self.project}"

    @classmethod
    def unchecked(cls, org: str, project: str) -> ProjectRef:
        """Refer to a project as the server names it, even if its identifier cannot stand in a path."""
        ref = cls.__new__(cls)
        object.__setattr__(ref, "org", org)
        object.__setattr__(ref, "project", project)
        return ref

    @classmethod
    def parse(cls, text: str) -> ProjectRef:
        """Parse "org/project".

        Raises:
            ValueError: The text does not have exactly one slash, or a part is empty.
        """
        parts = text.split("/")
        if len(parts) != 2:  # noqa: PLR2004
            raise ValueError(f"not a project: {text!r} (write 'org/project')")
        return cls(*parts)


def check_ref(ref: ProjectRef) -> None:
    """Check a reference that the server named.

    Raises:
        ValueError: A part cannot stand in a path.
    """
    check_identifier("org", ref.org)
    check_identifier("project", ref.project)


def ref_to_text(ref: ProjectRef) -> str:
    """Serialize a reference for a file, whatever the server named the project: "org/project", percent-encoded."""
    return "/".join(part.replace("%", "%25").replace("/", "%2F") for part in (ref.org, ref.project))


def ref_from_text(text: str) -> ProjectRef:
    """Parse the result of `ref_to_text`.

    Raises:
        ValueError: The text is another one.
    """
    parts = [part.replace("%2F", "/").replace("%25", "%") for part in text.split("/")]
    if len(parts) != 2:  # noqa: PLR2004
        raise ValueError(f"not a project: {text!r}")
    return ProjectRef.unchecked(*parts)


@runtime_checkable
class HasRef(Protocol):
    """Anything that refers to a project, such as a `Project`."""

    @property
    def ref(self) -> ProjectRef:
        """The reference."""
        ...


ProjectLike: TypeAlias = ProjectRef | HasRef | tuple[str, str] | str
Projects: TypeAlias = Iterable[ProjectLike] | AsyncIterable[ProjectLike]


def as_ref(value: object) -> ProjectRef:
    """Convert any form in which a project may be given to a `ProjectRef`.

    Raises:
        TypeError: The value has none of the forms.
        ValueError: An identifier cannot stand in a path.
    """
    match value:
        case ProjectRef():
            return value
        case str():
            return ProjectRef.parse(value)
        case (str() as org, str() as project):
            return ProjectRef(org, project)
        case HasRef(ref=ProjectRef() as ref):
            return ref
    raise TypeError(f"a project is a ProjectRef, (org, project) or 'org/project', not {type(value).__name__}")


def check_projects(projects: object) -> Projects | Sequence[ProjectRef]:
    """Return an iterable of projects; a collection is checked completely before anything is sent.

    Raises:
        TypeError: The value is not an iterable of projects.
        ValueError: An identifier cannot stand in a path.
    """
    if isinstance(projects, str | bytes | ProjectRef | Mapping):
        raise TypeError(f"projects takes an iterable of projects, not one {type(projects).__name__}; put it in a list")
    if isinstance(projects, Sequence | set | frozenset):
        return [as_ref(project) for project in projects]
    if isinstance(projects, Iterable | AsyncIterable):
        return projects
    raise TypeError(f"projects takes an iterable of projects, not {type(projects).__name__}")
