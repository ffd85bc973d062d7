from __future__ import annotations

import pickle
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness_async.bulk.models import BulkReport, ProjectOutcome
from harness_async.errors import (
    BulkError,
    DecodeError,
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
NAMES = st.text(min_size=1, max_size=12).filter(lambda name: name not in {".", ".."} and "/" not in name)


class Named:
    """Something of the caller's own that names a project."""

    ref = REF


# -- references ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(REF, id="ref"),
        pytest.param(("default", "payments"), id="pair"),
        pytest.param(["default", "payments"], id="list of two"),
        pytest.param("default/payments", id="text"),
        pytest.param(Project(org="default", identifier="payments"), id="project"),
        pytest.param(Named(), id="anything with a ref"),
    ],
)
def test_forms_of_a_project(value: object) -> None:
    """A project may be given in any of its forms."""
    assert as_ref(value) == REF


@pytest.mark.parametrize(
    ("value", "error"),
    [
        pytest.param("payments", ValueError, id="no slash"),
        pytest.param("a/b/c", ValueError, id="two slashes"),
        pytest.param("", ValueError, id="empty text"),
        pytest.param("/", ValueError, id="slash alone"),
        pytest.param("default/", ValueError, id="no project"),
        pytest.param("/payments", ValueError, id="no organization"),
        pytest.param("default/..", ValueError, id="climbing"),
        pytest.param(f"default/{'x' * 129}", ValueError, id="too long"),
        pytest.param(("default", ""), ValueError, id="empty in a pair"),
        pytest.param(("a", "b", "c"), TypeError, id="three"),
        pytest.param(("a",), TypeError, id="one"),
        pytest.param(("a", 7), TypeError, id="number in a pair"),
        pytest.param(("a", None), TypeError, id="none in a pair"),
        pytest.param({"org": "a", "project": "b"}, TypeError, id="mapping"),
        pytest.param({"a", "b"}, TypeError, id="set"),
        pytest.param(b"a/b", TypeError, id="bytes"),
        pytest.param(None, TypeError, id="none"),
        pytest.param(7, TypeError, id="number"),
    ],
)
def test_refused_forms_of_a_project(value: object, error: type[Exception]) -> None:
    """What names no project, or not one alone, is refused."""
    with pytest.raises(error):
        as_ref(value)


def test_an_identifier_may_have_a_slash() -> None:
    """A slash in an identifier is taken in a pair, where it means nothing else."""
    assert as_ref(("a/b", "c")) == ProjectRef("a/b", "c")


@settings(max_examples=50, deadline=None)
@given(NAMES, NAMES)
def test_references_are_read_as_they_are_written(org: str, project: str) -> None:
    """The text of a reference gives the reference back."""
    ref = ProjectRef(org, project)
    assert ProjectRef.parse(str(ref)) == ref == as_ref((org, project))
    assert (ref.org, ref.project) == (org, project)


def test_references_are_values() -> None:
    """References are checked, frozen, hashable, ordered and picklable."""
    assert {REF: 1}[ProjectRef("default", "payments")] == 1
    assert min(ProjectRef("b", "a"), ProjectRef("a", "c"), ProjectRef("a", "b")) == ProjectRef("a", "b")
    assert pickle.loads(pickle.dumps(REF)) == REF  # noqa: S301
    with pytest.raises(AttributeError):
        REF.org = "other"  # type: ignore[misc]
    with pytest.raises(ValueError, match=r"^project "):
        ProjectRef("default", "")
    with pytest.raises(TypeError, match=r"^org "):
        ProjectRef(None, "payments")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "projects",
    [
        pytest.param(["default/payments", ("default", "web")], id="list"),
        pytest.param(("default/payments", "default/web"), id="tuple"),
        pytest.param([REF, Project(org="default", identifier="web")], id="list of objects"),
    ],
)
def test_collections_of_projects(projects: object) -> None:
    """A collection is made into references, in its order."""
    assert check_projects(projects) == [REF, ProjectRef("default", "web")]


def test_sets_of_projects() -> None:
    """A set is a collection too; an empty collection stays empty."""
    assert check_projects({"default/payments"}) == [REF]
    assert check_projects(frozenset({REF})) == [REF]
    assert check_projects([]) == []


@pytest.mark.parametrize(
    "projects",
    [["default/payments", "web"], [None], {"web"}, ("default", "payments")],
    ids=["text without a slash", "none", "set", "a pair outside of a list"],
)
def test_collections_are_checked_whole(projects: object) -> None:
    """One bad entry of a collection is refused before anything is sent."""
    with pytest.raises((TypeError, ValueError)):
        check_projects(projects)


def refuse_to_begin() -> Iterator[str]:
    raise AssertionError("the iterable was begun")
    yield "default/payments"


async def refuse_to_begin_later() -> AsyncIterator[str]:
    raise AssertionError("the iterable was begun")
    yield "default/payments"


@pytest.mark.parametrize(
    "projects", [refuse_to_begin(), refuse_to_begin_later(), map(str, ())], ids=["generator", "async generator", "map"]
)
def test_lazy_iterables_are_left_alone(projects: object) -> None:
    """A lazy iterable, async or not, is handed on as it is and not begun."""
    assert check_projects(projects) is projects


@pytest.mark.parametrize("projects", ["default/payments", b"x", REF, {"default": "payments"}])
def test_one_project_is_no_list_of_projects(projects: object) -> None:
    """What is iterable but no iterable of projects is refused, with the way to mend it."""
    with pytest.raises(TypeError, match="put it in a list"):
        check_projects(projects)


@pytest.mark.parametrize("projects", [7, 1.5, Project(org="a", identifier="b"), len])
def test_what_is_no_iterable_is_refused(projects: object) -> None:
    """Anything else is refused as no iterable of projects."""
    with pytest.raises(TypeError, match="takes an iterable of projects"):
        check_projects(projects)


# -- reports ---------------------------------------------------------------------------------------------------------


def make_status_error(cls: type[NotFoundError | PermissionDeniedError | ServerError], status: int) -> HarnessError:
    details = ErrorDetails(message="Project not found", code="ENTITY_NOT_FOUND", correlation_id="5f3f8a0a")
    return cls(details, status=status, method="GET", url="https://app.harness.io/x")


ERRORS: dict[OutcomeStatus, HarnessError] = {
    "failed": RequestTimeoutError("no answer in 30 s", method="GET", url="https://app.harness.io/y"),
    "denied": make_status_error(PermissionDeniedError, 403),
    "not_found": make_status_error(NotFoundError, 404),
}


def make_outcome(name: str, status: OutcomeStatus, error: HarnessError | None = None) -> ProjectOutcome:
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


def make_report(*outcomes: ProjectOutcome, **members: Any) -> BulkReport:
    values: dict[str, Any] = {"rows": 1234, "requests": 56, "duplicates": 0, "elapsed": 7.25, **members}
    return BulkReport(outcomes={outcome.project: outcome for outcome in outcomes}, **values)


MIXED = make_report(
    make_outcome("web", "complete"),
    make_outcome("payments", "complete"),
    make_outcome("slow", "failed"),
    make_outcome("secret", "denied"),
    make_outcome("gone", "not_found"),
    make_outcome("later", "pending"),
    duplicates=3,
)


def test_counts_of_a_report() -> None:
    """A report counts what was read to the end and what ended with an error; the rest is pending."""
    assert (MIXED.complete, MIXED.failed, len(MIXED.outcomes)) == (2, 3, 6)
    assert (make_report().complete, make_report().failed) == (0, 0)


def test_a_report_as_a_table() -> None:
    """The text of a report is a short table: totals, then a line for each project that went wrong."""
    assert str(MIXED).splitlines() == [
        "projects    6 (2 complete, 1 failed, 1 denied, 1 not found, 1 pending)",
        "rows        1234 (3 duplicates dropped)",
        "requests    56",
        "time        7.2 s",
        "  default/slow  failed: no answer in 30 s",
        "  default/secret  denied: 403 Project not found",
        "  default/gone  not found: 404 Project not found",
    ]


def test_a_report_without_anything_to_tell() -> None:
    """What did not happen is left out of the table."""
    assert str(make_report()).splitlines() == [
        "projects    0",
        "rows        1234",
        "requests    56",
        "time        7.2 s",
    ]
    assert "duplicates" not in str(make_report(make_outcome("web", "complete")))


@pytest.mark.parametrize(("failures", "lines"), [(10, 10), (11, 11), (5000, 11)])
def test_long_lists_of_failures_are_shortened(failures: int, lines: int) -> None:
    """Ten failures are shown and the rest counted, so that the totals stay in sight."""
    report = make_report(*[make_outcome(f"p{number}", "failed") for number in range(failures)])
    shown = str(report).splitlines()[4:]
    assert len(shown) == lines
    assert shown[0].startswith("  default/p0  failed")
    assert (shown[-1] == f"  and {failures - 10} more") == (failures > 10)
    assert f"{failures} failed" in str(report)


def test_long_lists_of_unlisted_organizations_are_shortened() -> None:
    """Organizations that could not be listed do not fill the screen either."""
    report = make_report(unlisted={f"org{number}": ERRORS["denied"] for number in range(500)})
    assert len(str(report).splitlines()) < 30


def test_unlisted_organizations_are_told() -> None:
    """An organization whose projects could not be listed has its line, with the reason."""
    report = make_report(unlisted={"ops": ERRORS["denied"]})
    assert str(report).splitlines()[-1] == "  ops/*  projects not listed: 403 Project not found"


def test_a_failure_takes_one_line() -> None:
    """An error of several lines, such as a proxy's text, does not break the table."""
    error = ServerError(ErrorDetails(message="upstream\nconnect\nerror"), status=502, method="GET", url="u")
    assert len(str(make_report(make_outcome("web", "failed", error))).splitlines()) == 5


def test_a_report_without_failures_raises_nothing() -> None:
    """Complete projects are no failures."""
    make_report().raise_for_failures()
    make_report(make_outcome("web", "complete")).raise_for_failures()


def test_failures_are_raised_together() -> None:
    """The errors of all failed projects come in one group, in their order, with the report."""
    with pytest.raises(BulkError, match="3 of 6 projects failed") as caught:
        MIXED.raise_for_failures()
    assert caught.value.exceptions[:-1] == (ERRORS["failed"], ERRORS["denied"], ERRORS["not_found"])
    assert "1 projects were not read" in str(caught.value.exceptions[-1])
    assert caught.value.report is MIXED


def test_unlisted_organizations_are_raised_too() -> None:
    """A run that could not list an organization has failed, even if every project it met is complete."""
    report = make_report(make_outcome("web", "complete"), unlisted={"ops": ERRORS["denied"]})
    with pytest.raises(BulkError) as caught:
        report.raise_for_failures()
    assert caught.value.exceptions == (ERRORS["denied"],)


def test_the_message_counts_projects() -> None:
    """The message of the group never tells of more failed projects than there are."""
    with pytest.raises(BulkError) as caught:
        make_report(unlisted={"ops": ERRORS["denied"]}).raise_for_failures()
    assert "1 of 0" not in str(caught.value)


def test_reports_pickle() -> None:
    """A report goes through pickle with its outcomes, their errors and what its text says."""
    decode = DecodeError("does not fit at $[3].org", path="$[3].org", status=200, body=b"[]")
    report = make_report(*MIXED.outcomes.values(), make_outcome("odd", "failed", decode), unlisted={"ops": decode})
    other = pickle.loads(pickle.dumps(report))  # noqa: S301
    assert str(other) == str(report)
    assert list(other.outcomes) == list(report.outcomes)
    for ref, outcome in report.outcomes.items():
        twin = other.outcomes[ref]
        assert (twin.project, twin.status, twin.guarantee, twin.window) == (
            outcome.project,
            outcome.status,
            outcome.guarantee,
            outcome.window,
        )
        assert (twin.rows, twin.requests, twin.retries) == (outcome.rows, outcome.requests, outcome.retries)
        assert (type(twin.error), str(twin.error)) == (type(outcome.error), str(outcome.error))
    assert other.outcomes[ProjectRef("default", "odd")].error.path == "$[3].org"


def test_the_repr_of_a_report_is_short() -> None:
    """The repr of a report counts its projects and does not list them."""
    report = make_report(*[make_outcome(f"p{number}", "complete") for number in range(1000)])
    assert "<1000 projects>" in repr(report)
    assert len(repr(report)) < 300


def test_outcomes_are_frozen() -> None:
    """Neither an outcome nor a report can be changed; an outcome begins as pending."""
    with pytest.raises(AttributeError):
        MIXED.rows = 0  # type: ignore[misc]
    assert ProjectOutcome(project=REF) == ProjectOutcome(
        project=REF, status="pending", guarantee=None, rows=0, requests=0, retries=0, window=None, error=None
    )
