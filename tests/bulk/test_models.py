"""References to projects, and reports of bulk runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from harness_async.bulk.models import BulkReport, ProjectOutcome
from harness_async.errors import (
    BulkError,
    ErrorDetails,
    HarnessError,
    NotFoundError,
    PermissionDeniedError,
    RequestTimeoutError,
    ServerError,
)
from harness_async.resources.projects import Project
from harness_async.types import OutcomeStatus, ProjectRef, TimeWindow, as_ref, check_projects

REF = ProjectRef("default", "payments")


class Named:
    """An object of the caller that names a project."""

    ref = REF


def test_forms() -> None:
    """A project may be given in any of its forms. Only a pair may have a slash in a name."""
    project = Project(org="default", identifier="payments")
    for value in (REF, ("default", "payments"), ["default", "payments"], "default/payments", project, Named()):
        assert as_ref(value) == ProjectRef.parse(str(REF)) == REF
    assert as_ref(("a/b", "c")) == ProjectRef("a/b", "c")


@pytest.mark.parametrize(
    ("value", "error"),
    [
        *((text, ValueError) for text in ("payments", "a/b/c", "", "/", "default/", "/payments", "default/..")),
        (f"default/{'x' * 129}", ValueError),
        (("default", ""), ValueError),
        (("a", "b", "c"), TypeError),
        (("a",), TypeError),
        (("a", None), TypeError),
        ({"org": "a", "project": "b"}, TypeError),
        (b"a/b", TypeError),
        (None, TypeError),
        (7, TypeError),
        (SimpleNamespace(ref=7), TypeError),
    ],
    ids=repr,
)
def test_refused_forms(value: object, error: type[Exception]) -> None:
    """What names no project, or more than one, is refused."""
    with pytest.raises(error):
        as_ref(value)


def test_collections() -> None:
    """A collection becomes references in its order, and is checked completely."""
    assert check_projects(["default/payments", ("default", "web")]) == [REF, ProjectRef("default", "web")]
    assert check_projects(frozenset({REF})) == [REF]
    assert check_projects([]) == []
    for bad in (["default/payments", "web"], [None], {"web"}, ("default", "payments")):
        with pytest.raises((TypeError, ValueError)):
            check_projects(bad)


def iterate() -> Iterator[str]:
    raise AssertionError("the iterable was begun")
    yield "default/payments"


async def iterate_later() -> AsyncIterator[str]:
    raise AssertionError("the iterable was begun")
    yield "default/payments"


def test_lazy_iterables() -> None:
    """A lazy iterable, async or not, is returned as it is and not begun."""
    for projects in (iterate(), iterate_later(), map(str, ())):
        assert check_projects(projects) is projects


@pytest.mark.parametrize(
    ("projects", "fix"),
    [
        *((one, "put it in a list") for one in ("default/payments", b"x", REF, {"default": "payments"})),
        *((other, "takes an iterable of projects") for other in (7, Project(org="a", identifier="b"))),
    ],
    ids=["text", "bytes", "ref", "mapping", "number", "project"],
)
def test_what_is_not_a_collection(projects: object, fix: str) -> None:
    """One project, or something that is not iterable, is refused with the way to fix it."""
    with pytest.raises(TypeError, match=fix):
        check_projects(projects)


def status_error(cls: type[NotFoundError | PermissionDeniedError], status: int) -> HarnessError:
    details = ErrorDetails(message="Project not found", code="ENTITY_NOT_FOUND", correlation_id="5f3f8a0a")
    return cls(details, status=status, method="GET", url="https://app.harness.io/x")


ERRORS: dict[OutcomeStatus, HarnessError] = {
    "failed": RequestTimeoutError("no response in 30 s", method="GET", url="https://app.harness.io/y"),
    "denied": status_error(PermissionDeniedError, 403),
    "not_found": status_error(NotFoundError, 404),
}


def outcome(name: str, status: OutcomeStatus, error: HarnessError | None = None) -> ProjectOutcome:
    return ProjectOutcome(
        project=ProjectRef("default", name),
        status=status,
        guarantee="live" if status == "complete" else None,
        rows=5,
        requests=2,
        retries=1,
        window=TimeWindow(None, 1_700_000_000_000),
        error=error or ERRORS.get(status),
    )


def report(*outcomes: ProjectOutcome, **members: Any) -> BulkReport:
    values: dict[str, Any] = {"rows": 1234, "requests": 56, "duplicates": 0, "elapsed": 7.25, **members}
    return BulkReport(outcomes={each.project: each for each in outcomes}, **values)


STATUSES: list[tuple[str, OutcomeStatus]] = [
    ("web", "complete"),
    ("payments", "complete"),
    ("slow", "failed"),
    ("secret", "denied"),
    ("gone", "not_found"),
    ("later", "pending"),
]
MIXED = report(*(outcome(name, status) for name, status in STATUSES), duplicates=3)


def test_the_table() -> None:
    """The text of a report is a table: totals, then a line for each failure and what is not proved."""
    assert (MIXED.complete, MIXED.failed, MIXED.pending, len(MIXED.outcomes)) == (2, 3, 1, 6)
    assert "<6 projects>" in repr(MIXED)
    assert str(MIXED).splitlines() == [
        "projects    6 (2 complete, 1 failed, 1 denied, 1 not found, 1 pending)",
        "rows        1234 (3 duplicates dropped)",
        "requests    56",
        "time        7.2 s",
        "  default/slow  failed: no response in 30 s",
        "  default/secret  denied: 403 Project not found",
        "  default/gone  not found: 404 Project not found",
    ]
    assert str(report()).splitlines() == ["projects    0", "rows        1234", "requests    56", "time        7.2 s"]
    odd = report(invalid_members=3, discovery="best_effort", listed=False, unlisted={"ops": ERRORS["denied"]})
    assert str(odd).splitlines()[4:] == [
        "members     3 of unexpected types, taken as missing",
        "the list of projects changed while it was read: projects may be missing",
        "not all projects are known: the run ended before they were listed",
        "  ops/*  projects not listed: 403 Project not found",
    ]


@pytest.mark.parametrize(("failures", "lines"), [(10, 10), (11, 11), (5000, 11)])
def test_long_tables(failures: int, lines: int) -> None:
    """Ten failures are shown and the rest counted, each on one line."""
    error = ServerError(ErrorDetails(message="upstream\nconnect\nerror"), status=502, method="GET", url="u")
    shown = str(report(*[outcome(f"p{number}", "failed", error) for number in range(failures)])).splitlines()[4:]
    assert len(shown) == lines
    assert (shown[-1] == f"  and {failures - 10} more") == (failures > 10)
    unlisted = report(unlisted={f"org{number}": ERRORS["denied"] for number in range(failures)})
    assert len(str(unlisted).splitlines()) == 4 + lines


def test_failures_are_raised() -> None:
    """The errors of failed projects, unlisted organizations and pending projects are raised as one group."""
    report(outcome("web", "complete")).raise_for_failures()
    with pytest.raises(BulkError, match="3 of 6 projects failed, 1 projects were not read to the end") as caught:
        MIXED.raise_for_failures()
    assert caught.value.exceptions[:-1] == (ERRORS["failed"], ERRORS["denied"], ERRORS["not_found"])
    assert caught.value.report is MIXED
    with pytest.raises(BulkError, match="1 organizations could not be listed") as caught:
        report(outcome("web", "complete"), unlisted={"ops": ERRORS["denied"]}).raise_for_failures()
    assert caught.value.exceptions == (ERRORS["denied"],)
    with pytest.raises(BulkError, match="not all projects are known"):
        report(outcome("web", "complete"), listed=False).raise_for_failures()
