"""Errors: which clause catches which, their texts, and their way through pickle and groups."""

from __future__ import annotations

import copy
import inspect
import pickle
from typing import Any

import pytest

import harness_async
from harness_async import errors
from harness_async.bulk.models import BulkReport, ProjectOutcome
from harness_async.http.responses import Headers
from harness_async.types import ProjectRef

EXPORTED: list[type[BaseException]] = [
    value
    for value in (getattr(harness_async, name) for name in harness_async.__all__)
    if inspect.isclass(value) and issubclass(value, BaseException)
]
EVERY_ERROR = pytest.mark.parametrize("cls", EXPORTED, ids=lambda cls: cls.__name__)

STATUS_CLASSES: dict[type[errors.APIStatusError], tuple[int, ...]] = {
    errors.BadRequestError: (400,), errors.AuthenticationError: (401,), errors.PermissionDeniedError: (403,),
    errors.NotFoundError: (404,), errors.ConflictError: (409,), errors.PreconditionFailedError: (412,),
    errors.UnsupportedMediaTypeError: (415,), errors.UnprocessableEntityError: (422,), errors.LockedError: (423,),
    errors.RateLimitError: (429,), errors.ServerError: (500, 501, 503, 599),
    errors.APIStatusError: (418, 302, 402, 408, 499),
}  # fmt: skip

URL = "https://app.harness.io/v1/orgs/nope"
DETAILS = errors.ErrorDetails(
    message="Organization with identifier nope not found",
    code="ENTITY_NOT_FOUND",
    field_errors=(errors.FieldError("org", "no such organization"),),
    correlation_id="5f3f8a0a",
)
ATTEMPTS = (
    errors.Attempt(started=1_700_000_000.0, elapsed=30.0, error="no response in time"),
    errors.Attempt(started=1_700_000_031.0, elapsed=0.2, status=404, waited=0.8),
)


def create_status_error(cls: type[errors.APIStatusError]) -> errors.APIStatusError:
    return cls(
        DETAILS,
        status=STATUS_CLASSES[cls][0],
        method="GET",
        url=URL,
        headers=Headers({"Retry-After": "7"}),
        body=b"{}",
        attempts=list(ATTEMPTS),
        retry_after=7.0,
    )


def create_error(cls: type[BaseException]) -> errors.HarnessError:
    """Create an error of a class with everything that the class can hold."""
    if issubclass(cls, errors.BulkError):
        return cls(
            "2 of 3 projects failed", [create_error(errors.NotFoundError), create_error(errors.RequestTimeoutError)]
        )
    if issubclass(cls, errors.APIStatusError):
        return create_status_error(cls)
    if issubclass(cls, errors.DecodeError):
        return cls("does not fit", path="$[3].org", method="GET", url=URL, attempts=ATTEMPTS, status=200, body=b"[]")
    if issubclass(cls, errors.UnexpectedResponseError):
        return cls("an HTML page", method="GET", url=URL, attempts=ATTEMPTS, status=200, body=b"<html>")
    if issubclass(cls, errors.RequestError):
        return cls("no response in time", method="GET", url=URL, attempts=ATTEMPTS)
    assert issubclass(cls, errors.HarnessError)
    return cls("something is wrong")


def create_report(error: errors.HarnessError) -> BulkReport:
    ref = ProjectRef("default", "payments")
    outcome = ProjectOutcome(project=ref, status="failed", error=error)
    return BulkReport(outcomes={ref: outcome}, rows=3, requests=2, duplicates=0, elapsed=1.5)


def pickled(error: errors.HarnessError) -> errors.HarnessError:
    """Send an error through pickle, as between processes."""
    other = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert type(other) is type(error)
    return other


def fields(error: BaseException) -> dict[str, object]:
    """Return the fields of an error in a form that compares by value."""
    return {name: dict(value) if isinstance(value, Headers) else value for name, value in vars(error).items()}


@EVERY_ERROR
def test_root(cls: type[BaseException]) -> None:
    """`except HarnessError` catches every exported exception."""
    assert issubclass(cls, errors.HarnessError)


@pytest.mark.parametrize(
    ("cls", "bases"),
    [
        (errors.ConfigurationError, (ValueError,)),
        (errors.RequestTimeoutError, (errors.TransportError, TimeoutError, OSError)),
        (errors.DeadlineExceededError, (TimeoutError, OSError)),
        (errors.DecodeError, (errors.UnexpectedResponseError,)),
        (errors.BulkError, (ExceptionGroup,)),
    ],
)
def test_bases(cls: type[errors.HarnessError], bases: tuple[type[BaseException], ...]) -> None:
    """An error is also caught as its broader class and as the built-in exception of its kind."""
    assert all(issubclass(cls, base) for base in bases)
    assert not issubclass(errors.TransportError, OSError)


@pytest.mark.parametrize(
    ("code", "status", "cls"),
    [
        *[(code, 400, errors.NotFoundError) for code in ("RESOURCE_NOT_FOUND_EXCEPTION", "ENTITY_NOT_FOUND")],
        *[(code, 400, errors.ConflictError) for code in ("DUPLICATE_FIELD", "OPTIMISTIC_LOCKING_EXCEPTION")],
        *[(code, 400, errors.AuthenticationError) for code in ("INVALID_TOKEN", "EXPIRED_TOKEN", "REVOKED_TOKEN")],
        *[(code, 400, errors.PermissionDeniedError) for code in ("ACCESS_DENIED", "NG_ACCESS_DENIED")],
        ("TOO_MANY_REQUESTS", 400, errors.RateLimitError),
        ("NO_AVAILABLE_DELEGATES", 404, errors.APIStatusError),
        ("RESOURCE_NOT_FOUND_EXCEPTION", 405, errors.APIStatusError),
        ("INVALID_REQUEST", 400, errors.BadRequestError),
        ("not_found", 404, errors.NotFoundError),
    ],
)
def test_class_of_a_code(code: str, status: int, cls: type[errors.APIStatusError]) -> None:
    """A code of the API decides the class of an error before its status does."""
    assert errors.status_error_class(status, code) is cls


def test_status_error() -> None:
    """A status error holds the parsed response, and its text has what a bug report needs."""
    error = create_status_error(errors.NotFoundError)
    assert str(error) == (
        "404 ENTITY_NOT_FOUND: Organization with identifier nope not found "
        f"(GET {URL}, correlation id 5f3f8a0a); org: no such organization"
    )
    assert (error.status, error.code, error.message) == (404, DETAILS.code, DETAILS.message)
    assert (error.method, error.url, error.attempts) == ("GET", URL, ATTEMPTS)
    assert (error.field_errors, error.correlation_id) == (DETAILS.field_errors, "5f3f8a0a")
    assert (error.body, error.retry_after, error.headers["retry-AFTER"]) == (b"{}", 7.0, "7")


def test_status_error_without_details() -> None:
    """The text and the fields omit what the response did not contain."""
    error = errors.ServerError(errors.ErrorDetails(message="an empty response"), status=502, method="GET", url=URL)
    assert str(error) == f"502: an empty response (GET {URL})"
    assert (error.code, error.correlation_id, error.field_errors) == (None, None, ())
    assert (dict(error.headers), error.body, error.attempts, error.retry_after) == ({}, b"", (), None)


@EVERY_ERROR
def test_pickle_and_copy(cls: type[BaseException]) -> None:
    """A pickled or copied error has the same type, text and fields."""
    error = create_error(cls)
    for other in (pickled(error), copy.copy(error), copy.deepcopy(error)):
        assert type(other) is cls
        assert (str(other), repr(other), fields(other)) == (str(error), repr(error), fields(error))


def test_pickle_keeps_additions() -> None:
    """Notes, `ambiguous` and the report of a run survive pickling, even where the report lists the error itself."""
    error = create_status_error(errors.AuthenticationError)
    error.add_note("while exporting")
    error.ambiguous = True
    error.report = create_report(error)
    other = pickled(error)
    assert isinstance(other, errors.AuthenticationError)
    assert other.ambiguous
    assert other.__notes__ == ["while exporting"]
    assert other.report is not None
    assert [str(outcome.error) for outcome in other.report.outcomes.values()] == [str(error)]


@pytest.mark.parametrize("reported", [False, True], ids=["without-report", "with-report"])
def test_pickle_of_a_group(*, reported: bool) -> None:
    """A pickled group has its errors with their fields, and its report if it has one."""
    group = errors.BulkError(
        "2 of 3 projects failed", [create_error(errors.NotFoundError), create_error(errors.DecodeError)]
    )
    group.report = create_report(errors.PaginationError("the server repeats a page")) if reported else None
    other = pickled(group)
    assert isinstance(other, errors.BulkError)
    assert other.message == "2 of 3 projects failed"
    assert [(type(error), fields(error)) for error in other.exceptions] == [
        (type(error), fields(error)) for error in group.exceptions
    ]
    assert (other.report and str(other.report)) == (group.report and str(group.report))


def test_split_keeps_type_and_report() -> None:
    """`except*` and `split` return groups that are bulk errors and have the report."""
    kinds = (errors.NotFoundError, errors.ServerError, errors.RequestTimeoutError)
    group = errors.BulkError("3 of 9 projects failed", [create_error(cls) for cls in kinds])
    group.report = create_report(create_error(errors.LockedError))
    parts: list[BaseExceptionGroup[Any] | None] = []
    try:
        raise group
    except* errors.NotFoundError as missing:
        parts.append(missing)
    except* errors.HarnessError as rest:
        parts += rest.split(TimeoutError)
    assert [[type(error) for error in part.exceptions] for part in parts if part] == [
        [errors.NotFoundError],
        [errors.RequestTimeoutError],
        [errors.ServerError],
    ]
    for part in parts:
        assert isinstance(part, errors.BulkError)
        assert (part.message, part.report) == ("3 of 9 projects failed", group.report)
