from __future__ import annotations

import copy
import inspect
import pickle
import re

import pytest

import harness_async
from harness_async import errors
from harness_async.bulk.models import BulkReport, ProjectOutcome, ProjectRef
from harness_async.errors import (
    APIStatusError,
    Attempt,
    AuthenticationError,
    BadRequestError,
    BudgetError,
    BulkError,
    CheckpointError,
    ConfigurationError,
    ConflictError,
    DeadlineExceededError,
    DecodeError,
    ErrorDetails,
    FieldError,
    HarnessError,
    LockedError,
    NotFoundError,
    PaginationError,
    PermissionDeniedError,
    PreconditionFailedError,
    RateLimitError,
    RequestTimeoutError,
    ServerError,
    TransportError,
    UnexpectedResponseError,
    UnprocessableEntityError,
    UnsupportedMediaTypeError,
    status_error_class,
)
from harness_async.http.responses import Headers

TREE: dict[type[HarnessError], tuple[type[BaseException], ...]] = {
    HarnessError: (Exception,),
    ConfigurationError: (HarnessError, ValueError),
    TransportError: (HarnessError,),
    RequestTimeoutError: (TransportError, TimeoutError),
    DeadlineExceededError: (HarnessError, TimeoutError),
    UnexpectedResponseError: (HarnessError,),
    DecodeError: (UnexpectedResponseError,),
    PaginationError: (HarnessError,),
    CheckpointError: (HarnessError,),
    BudgetError: (HarnessError,),
    BulkError: (HarnessError, ExceptionGroup),
    APIStatusError: (HarnessError,),
    BadRequestError: (APIStatusError,),
    AuthenticationError: (APIStatusError,),
    PermissionDeniedError: (APIStatusError,),
    NotFoundError: (APIStatusError,),
    ConflictError: (APIStatusError,),
    PreconditionFailedError: (APIStatusError,),
    UnsupportedMediaTypeError: (APIStatusError,),
    UnprocessableEntityError: (APIStatusError,),
    LockedError: (APIStatusError,),
    RateLimitError: (APIStatusError,),
    ServerError: (APIStatusError,),
}

STATUSES: dict[int, type[APIStatusError]] = {
    302: APIStatusError,
    400: BadRequestError,
    401: AuthenticationError,
    402: APIStatusError,
    403: PermissionDeniedError,
    404: NotFoundError,
    405: APIStatusError,
    408: APIStatusError,
    409: ConflictError,
    410: APIStatusError,
    412: PreconditionFailedError,
    415: UnsupportedMediaTypeError,
    422: UnprocessableEntityError,
    423: LockedError,
    429: RateLimitError,
    499: APIStatusError,
    500: ServerError,
    501: ServerError,
    502: ServerError,
    503: ServerError,
    504: ServerError,
    599: ServerError,
}

DETAILS = ErrorDetails(
    message="Organization with identifier nope not found",
    code="ENTITY_NOT_FOUND",
    field_errors=(FieldError("org", "no such organization"),),
    correlation_id="5f3f8a0a",
)
URL = "https://app.harness.io/v1/orgs/nope"
ATTEMPTS = (
    Attempt(started=1_700_000_000.0, elapsed=30.0, error="no answer in time"),
    Attempt(started=1_700_000_031.0, elapsed=0.2, status=404, waited=0.8),
)


def make_status_error(cls: type[APIStatusError], status: int) -> APIStatusError:
    return cls(
        DETAILS,
        status=status,
        method="GET",
        url=URL,
        headers=Headers({"Retry-After": "7", "Content-Type": "application/json"}),
        body=b'{"code": "ENTITY_NOT_FOUND"}',
        attempts=ATTEMPTS,
        retry_after=7.0,
    )


def make_report(error: HarnessError) -> BulkReport:
    ref = ProjectRef("default", "payments")
    outcome = ProjectOutcome(project=ref, status="failed", error=error)
    return BulkReport(outcomes={ref: outcome}, rows=3, requests=2, duplicates=0, elapsed=1.5)


def make_error(cls: type[HarnessError]) -> HarnessError:
    """Make an error of a class with everything on it that the class can hold."""
    if issubclass(cls, BulkError):
        return cls("2 of 3 projects failed", [make_error(NotFoundError), make_error(RequestTimeoutError)])
    if issubclass(cls, APIStatusError):
        return make_status_error(cls, next((status for status, own in STATUSES.items() if own is cls), 418))
    if issubclass(cls, DecodeError):
        message = "The answer does not fit: nothing at $[3].org"
        return cls(message, path="$[3].org", method="GET", url=URL, attempts=ATTEMPTS, status=200, body=b"[]")
    if issubclass(cls, UnexpectedResponseError):
        return cls("an HTML page", method="GET", url=URL, attempts=ATTEMPTS, status=200, body=b"<html>")
    if issubclass(cls, TransportError | DeadlineExceededError):
        return cls("no answer in time", method="GET", url=URL, attempts=ATTEMPTS)
    return cls("something is wrong")


def send(error: HarnessError) -> HarnessError:
    """Send an error through pickle, as between processes."""
    other = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert type(other) is type(error)
    return other


def public_bases(cls: type[BaseException]) -> tuple[type[BaseException], ...]:
    """Find the nearest ancestors that users know: those of the tree and the built-in ones."""
    found: list[type[BaseException]] = []
    for base in cls.__bases__:
        known = base in TREE or base.__module__ == "builtins"
        found.extend([base] if known else public_bases(base))
    return tuple(found)


EVERY = pytest.mark.parametrize("cls", TREE, ids=lambda cls: cls.__name__)
EVERY_STATUS_ERROR = pytest.mark.parametrize(
    "cls", [cls for cls in TREE if issubclass(cls, APIStatusError)], ids=lambda cls: cls.__name__
)


@EVERY
def test_tree(cls: type[HarnessError]) -> None:
    """Each class stands where the documented tree has it, built-in bases included."""
    assert public_bases(cls) == TREE[cls]


def test_tree_is_whole() -> None:
    """The documented tree has every public error of the package and no other."""
    public = {
        value for value in vars(harness_async).values() if inspect.isclass(value) and issubclass(value, BaseException)
    }
    assert public == set(TREE)


def test_every_error_is_under_the_root() -> None:
    """Every exception that the module defines descends from the one root."""
    own = [
        value
        for value in vars(errors).values()
        if inspect.isclass(value) and issubclass(value, BaseException) and value.__module__ == errors.__name__
    ]
    assert len(own) >= len(TREE)
    assert all(issubclass(value, HarnessError) for value in own)


def test_drawn_tree_is_whole() -> None:
    """The tree that the module's docstring draws names each class once, with the statuses of those that have one."""
    assert errors.__doc__ is not None
    drawing = errors.__doc__.split("\n\n")[1]
    names = [name for name in re.findall(r"\w+Error\b", drawing) if name not in {"ValueError", "TimeoutError"}]
    assert sorted(names) == sorted(cls.__name__ for cls in TREE)
    drawn = {int(status): name for name, status in re.findall(r"(\w+Error) (\d{3})", drawing)}
    assert drawn == {status: cls.__name__ for status, cls in errors.STATUS_ERRORS.items()}


@pytest.mark.parametrize(("status", "cls"), STATUSES.items(), ids=map(str, STATUSES))
def test_class_of_a_status(status: int, cls: type[APIStatusError]) -> None:
    """A status has its own class, else that of server errors from 500 on, else the common one."""
    assert status_error_class(status) is cls


@EVERY_STATUS_ERROR
def test_text_of_a_status_error(cls: type[APIStatusError]) -> None:
    """The text says status, code, message, method, URL, correlation id and the refused fields."""
    error = make_error(cls)
    assert isinstance(error, APIStatusError)
    assert str(error) == (
        f"{error.status} ENTITY_NOT_FOUND: Organization with identifier nope not found "
        f"(GET {URL}, correlation id 5f3f8a0a); org: no such organization"
    )


def test_text_without_the_optional_parts() -> None:
    """What the server did not tell leaves no trace in the text."""
    error = ServerError(ErrorDetails(message="an empty answer"), status=502, method="GET", url=URL)
    assert str(error) == f"502: an empty answer (GET {URL})"
    assert (error.code, error.correlation_id, error.field_errors) == (None, None, ())
    assert (dict(error.headers), error.body, error.attempts, error.retry_after) == ({}, b"", (), None)


def test_fields_of_a_status_error() -> None:
    """A status error has the documented fields, those of the answer's envelope among them."""
    error = make_status_error(NotFoundError, 404)
    assert (error.status, error.code, error.message) == (404, DETAILS.code, DETAILS.message)
    assert (error.method, error.url, error.attempts) == ("GET", URL, ATTEMPTS)
    assert (error.field_errors, error.correlation_id) == (DETAILS.field_errors, "5f3f8a0a")
    assert (error.body, error.retry_after) == (b'{"code": "ENTITY_NOT_FOUND"}', 7.0)
    assert error.headers["retry-AFTER"] == "7"


REQUEST_FIELDS = {"method", "url", "attempts"}
ANSWER_FIELDS = {*REQUEST_FIELDS, "status", "body"}
STATUS_FIELDS = {"code", "message", "field_errors", "correlation_id", "headers", "retry_after"}
FIELDS: dict[type[HarnessError], set[str]] = {
    TransportError: REQUEST_FIELDS,
    RequestTimeoutError: REQUEST_FIELDS,
    DeadlineExceededError: REQUEST_FIELDS,
    UnexpectedResponseError: ANSWER_FIELDS,
    DecodeError: {*ANSWER_FIELDS, "path"},
}


@EVERY
def test_errors_hold_plain_data_only(cls: type[HarnessError]) -> None:
    """An error holds its documented fields and nothing else: no live answer, no loop, no key."""
    default = ANSWER_FIELDS | STATUS_FIELDS if issubclass(cls, APIStatusError) else set[str]()
    assert vars(make_error(cls)).keys() == FIELDS.get(cls, default)


@EVERY
def test_errors_pickle(cls: type[HarnessError]) -> None:
    """An error comes out of pickle with the same type, text, arguments and fields."""
    error = make_error(cls)
    other = send(error)
    assert (str(other), repr(other)) == (str(error), repr(error))
    if not isinstance(error, BulkError):
        assert other.args == error.args
    ours, theirs = vars(error), vars(other)
    assert ours.keys() == theirs.keys()
    assert {name: value for name, value in theirs.items() if name != "headers"} == {
        name: value for name, value in ours.items() if name != "headers"
    }
    if isinstance(error, APIStatusError):
        assert isinstance(other, APIStatusError)
        assert dict(other.headers) == dict(error.headers)


@EVERY
def test_errors_copy(cls: type[HarnessError]) -> None:
    """A copy of an error has the same type and text."""
    error = make_error(cls)
    for other in (copy.copy(error), copy.deepcopy(error)):
        assert type(other) is cls
        assert str(other) == str(error)


def test_what_is_added_to_an_error_survives_pickling() -> None:
    """Notes, the mark of a doubtful effect and the report of the run it ended go along."""
    error = AuthenticationError(DETAILS, status=401, method="GET", url=URL)
    error.add_note("while exporting")
    error.ambiguous = True
    error.report = make_report(PaginationError("the server repeats a page"))
    other = send(error)
    assert isinstance(other, AuthenticationError)
    assert other.__notes__ == ["while exporting"]
    assert other.ambiguous
    assert other.report is not None
    assert str(other.report) == str(error.report)


def test_an_error_that_is_part_of_its_own_report_pickles() -> None:
    """An error whose report lists that same error comes out of pickle as it went in."""
    error = make_status_error(AuthenticationError, 401)
    error.report = make_report(error)
    other = send(error)
    assert other.report is not None
    (outcome,) = other.report.outcomes.values()
    assert str(outcome.error) == str(error)


@pytest.mark.parametrize("reported", [False, True], ids=["without report", "with report"])
def test_bulk_errors_pickle_with_what_is_in_them(*, reported: bool) -> None:
    """A group comes out of pickle with its errors, their fields, and its report if it has one."""
    group = BulkError("2 of 3 projects failed", [make_error(NotFoundError), make_error(DecodeError)])
    group.report = make_report(group.exceptions[0]) if reported else None  # type: ignore[arg-type]
    other = send(group)
    assert isinstance(other, BulkError)
    assert (other.message, [type(error) for error in other.exceptions]) == (
        "2 of 3 projects failed",
        [NotFoundError, DecodeError],
    )
    missing, unfit = other.exceptions
    assert isinstance(missing, NotFoundError)
    assert (missing.status, missing.attempts, str(missing)) == (404, ATTEMPTS, str(group.exceptions[0]))
    assert isinstance(unfit, DecodeError)
    assert (unfit.path, unfit.status) == ("$[3].org", 200)
    assert (str(other.report) if other.report else None) == (str(group.report) if reported else None)


def test_splitting_a_bulk_error_keeps_type_and_report() -> None:
    """`except*` hands over groups that are still bulk errors and still have the report."""
    group = BulkError("3 of 9 projects failed", [make_error(cls) for cls in (NotFoundError, ServerError, LockedError)])
    group.report = make_report(make_error(LockedError))
    parts: dict[str, BaseExceptionGroup[HarnessError]] = {}
    try:
        raise group
    except* NotFoundError as missing:
        parts["missing"] = missing
    except* APIStatusError as rest:
        parts["rest"] = rest
    assert {name: [type(error) for error in part.exceptions] for name, part in parts.items()} == {
        "missing": [NotFoundError],
        "rest": [ServerError, LockedError],
    }
    for part in parts.values():
        assert isinstance(part, BulkError)
        assert (part.message, part.report) == ("3 of 9 projects failed", group.report)


def test_bulk_errors_are_caught_as_the_root() -> None:
    """`except HarnessError` catches a bulk error whole, and `split` finds what is in it."""
    with pytest.raises(HarnessError) as caught:
        raise make_error(BulkError)
    assert isinstance(caught.value, BulkError)
    matching, rest = caught.value.split(TimeoutError)
    assert isinstance(matching, BulkError)
    assert [type(error) for error in matching.exceptions] == [RequestTimeoutError]
    assert rest is not None
    assert [type(error) for error in rest.exceptions] == [NotFoundError]


def test_built_in_bases_catch() -> None:
    """Time-outs are caught as `TimeoutError`, and so as `OSError`; settings as `ValueError`."""
    for cls in (RequestTimeoutError, DeadlineExceededError):
        assert issubclass(cls, OSError)
        assert str(make_error(cls)) == "no answer in time"
    assert issubclass(ConfigurationError, ValueError)
    assert not issubclass(TransportError, OSError)


def test_attempts_are_frozen_and_equal_by_value() -> None:
    """An attempt is a value: equal by its fields, kept as a tuple whatever sequence it came in."""
    first, second = ATTEMPTS
    assert first == Attempt(started=1_700_000_000.0, elapsed=30.0, error="no answer in time", status=None, waited=0.0)
    assert first != second
    with pytest.raises(AttributeError):
        first.status = 200  # type: ignore[misc]
    assert TransportError("reset", attempts=[first]).attempts == (first,)
