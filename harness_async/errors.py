"""Every error of the library, under one root.

    HarnessError
    ├── ConfigurationError (ValueError)        a setting is missing or cannot work; nothing was sent
    ├── TransportError                         no answer came
    │   └── RequestTimeoutError (TimeoutError) no answer came in time
    ├── DeadlineExceededError (TimeoutError)   the whole call, waits and attempts, ran out of time
    ├── UnexpectedResponseError                an answer that is not the API's
    │   └── DecodeError                        JSON that does not fit the model
    ├── PaginationError                        a list that cannot be walked as asked
    ├── CheckpointError                        a checkpoint of another run, or in use
    ├── BudgetError                            a bulk run would take more requests than it may
    ├── BulkError (ExceptionGroup)             the failed projects of a bulk run
    └── APIStatusError                         the API said no
        ├── BadRequestError 400                ├── AuthenticationError 401
        ├── PermissionDeniedError 403          ├── NotFoundError 404
        ├── ConflictError 409                  ├── PreconditionFailedError 412
        ├── UnsupportedMediaTypeError 415      ├── UnprocessableEntityError 422
        ├── LockedError 423                    ├── RateLimitError 429
        └── ServerError 5xx

Errors are plain data: they pickle, they hold no live response, no loop and never the key. Bad arguments that are
the caller's slip are the built-in `ValueError` and `TypeError`, raised before anything is sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

from attrs import field, frozen

if TYPE_CHECKING:
    from harness_async.bulk.models import BulkReport, Plan


@frozen(kw_only=True)
class Attempt:
    """One try of a request: what was sent and what became of it."""

    started: float
    """When it was sent: seconds since 1970, by `time.time`."""

    elapsed: float
    """Seconds from sending until the answer was read whole, or until it failed."""

    status: int | None = None
    """The status that came back; None where no answer came."""

    error: str | None = None
    """What went wrong, in words; None where the answer was taken."""

    waited: float = 0.0
    """Seconds spent before it was sent: backing off, queueing for a place and for the pace."""


@frozen
class FieldError:
    """One field that the API refused."""

    field: str
    message: str


class HarnessError(Exception):
    """The root of all errors of this library."""

    report: BulkReport | None = None
    """The report of the bulk run that this error ended, where it ended one."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions pickle as cls(*args), which keyword-only arguments break.
        return _restore, (type(self), self.args, self.__dict__.copy())


def _restore(cls: type[HarnessError], args: tuple[Any, ...], state: dict[str, Any]) -> HarnessError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class ConfigurationError(HarnessError, ValueError):
    """A setting is missing, malformed or unsafe; the message says which and how to mend it."""


class RequestError(HarnessError):
    """The base of the errors of one call, with what was tried."""

    ambiguous: bool = False
    """Whether the request may have taken effect although it failed: look before sending it again."""

    def __init__(self, message: str, *, method: str = "", url: str = "", attempts: Sequence[Attempt] = ()) -> None:
        super().__init__(message)
        self.method = method
        self.url = url
        self.attempts: tuple[Attempt, ...] = tuple(attempts)


class TransportError(RequestError):
    """No answer came: refused, reset, cut off, or not to be trusted (TLS)."""


class RequestTimeoutError(TransportError, TimeoutError):
    """The server did not connect or did not send within `Timeouts`."""


class DeadlineExceededError(RequestError, TimeoutError):
    """The deadline of the call passed, or a wait that was due could not fit before it."""


class UnexpectedResponseError(RequestError):
    """An answer that is not the API's: an HTML page, a redirect to elsewhere, a cut or oversized body."""

    def __init__(
        self,
        message: str,
        *,
        method: str = "",
        url: str = "",
        attempts: Sequence[Attempt] = (),
        status: int | None = None,
        body: bytes = b"",
    ) -> None:
        super().__init__(message, method=method, url=url, attempts=attempts)
        self.status = status
        self.body = body


class DecodeError(UnexpectedResponseError):
    """JSON that does not fit the model; `path` names the place, `$` being the whole body."""

    def __init__(
        self,
        message: str,
        *,
        path: str = "$",
        method: str = "",
        url: str = "",
        attempts: Sequence[Attempt] = (),
        status: int | None = None,
        body: bytes = b"",
    ) -> None:
        super().__init__(message, method=method, url=url, attempts=attempts, status=status, body=body)
        self.path = path


class PaginationError(HarnessError):
    """A list that cannot be walked as asked: the server repeats a page, or breaks what `strict` relies on."""


class CheckpointError(HarnessError):
    """A checkpoint that belongs to another run or version, or that another process is using."""


class BudgetError(HarnessError):
    """A bulk run would take more requests than `max_requests`; nothing of it was delivered."""

    plan: Plan | None = None
    """What the run would take, as far as it was planned when that was clear."""


class BulkError(HarnessError, ExceptionGroup[HarnessError]):
    """The errors of all failed projects of one bulk run; `report` has the rest."""

    def derive(self, excs: Sequence[HarnessError], /) -> Self:  # type: ignore[override]
        """Keep the type and the report when `except*` splits the group."""
        part = type(self)(self.message, excs)
        part.report = self.report
        return part


@frozen(kw_only=True)
class ErrorDetails:
    """What an error answer says, whichever of its shapes the API chose."""

    message: str
    code: str | None = None
    """The API's word for the error: `ENTITY_NOT_FOUND`, `bad_request`."""

    field_errors: tuple[FieldError, ...] = ()
    correlation_id: str | None = None
    """What to quote to Harness's support."""

    temporary: bool = False
    timeout: bool = False
    structured: bool = field(default=True, repr=False)
    """False where the body was no envelope of the API's: an edge or proxy answered."""


class APIStatusError(RequestError):
    """The API answered with an error status."""

    def __init__(
        self,
        details: ErrorDetails,
        *,
        status: int,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        attempts: Sequence[Attempt] = (),
        retry_after: float | None = None,
    ) -> None:
        self.status = status
        self.code: str | None = details.code
        self.message: str = details.message
        self.field_errors: tuple[FieldError, ...] = details.field_errors
        self.correlation_id: str | None = details.correlation_id
        self.headers: Mapping[str, str] = {} if headers is None else headers
        self.body = body
        self.retry_after = retry_after
        super().__init__(_describe(details, status, method, url), method=method, url=url, attempts=attempts)


def _describe(details: ErrorDetails, status: int, method: str, url: str) -> str:
    words = [str(status), *([details.code] if details.code else [])]
    text = f"{' '.join(words)}: {details.message} ({method} {url}"
    if details.correlation_id:
        text += f", correlation id {details.correlation_id}"
    text += ")"
    for error in details.field_errors:
        text += f"; {error.field}: {error.message}"
    return text


class BadRequestError(APIStatusError):
    """400: an argument the API does not take."""


class AuthenticationError(APIStatusError):
    """401: the key is missing, wrong or expired."""


class PermissionDeniedError(APIStatusError):
    """403: the key is valid but may not do this here."""


class NotFoundError(APIStatusError):
    """404: no such thing, or no such organization, project or account."""


class ConflictError(APIStatusError):
    """409: the identifier is taken, or the object changed meanwhile."""


class PreconditionFailedError(APIStatusError):
    """412: a precondition of the request does not hold."""


class UnsupportedMediaTypeError(APIStatusError):
    """415: the API does not take this content type."""


class UnprocessableEntityError(APIStatusError):
    """422: well-formed but not acceptable."""


class LockedError(APIStatusError):
    """423: the target is locked."""


class RateLimitError(APIStatusError):
    """429: too many requests; `retry_after` holds the seconds the server asked for, if it did."""


class ServerError(APIStatusError):
    """5xx: the server or something before it failed."""


STATUS_ERRORS: Mapping[int, type[APIStatusError]] = MappingProxyType(
    {
        400: BadRequestError,
        401: AuthenticationError,
        403: PermissionDeniedError,
        404: NotFoundError,
        409: ConflictError,
        412: PreconditionFailedError,
        415: UnsupportedMediaTypeError,
        422: UnprocessableEntityError,
        423: LockedError,
        429: RateLimitError,
    }
)
"""The class of each status that has its own; see `status_error_class`."""


def status_error_class(status: int) -> type[APIStatusError]:
    """Choose the error class of a status: its own, else `ServerError` for 5xx, else `APIStatusError`."""
    return STATUS_ERRORS.get(status) or (ServerError if status >= 500 else APIStatusError)  # noqa: PLR2004
