"""All errors of the library, under one root.

    HarnessError
    ├── ConfigurationError (ValueError)            a setting is missing or cannot work; nothing was sent
    ├── PaginationError                            a list cannot be read as requested
    ├── CheckpointError                            a checkpoint of another run, damaged, or in use
    ├── BudgetError                                a bulk run would need more requests than allowed
    ├── BulkError (ExceptionGroup)                 the failed projects of a bulk run
    └── RequestError                               a call failed: method, url, attempts, ambiguous
        ├── TransportError                         no response arrived
        │   └── RequestTimeoutError (TimeoutError) no response arrived in time
        ├── DeadlineExceededError (TimeoutError)   the call ran out of time, waits and attempts included
        ├── UnexpectedResponseError                a response that did not come from the API
        │   └── DecodeError                        JSON that does not fit the model
        └── APIStatusError                         the API returned an error status
            ├── BadRequestError 400                ├── AuthenticationError 401
            ├── PermissionDeniedError 403          ├── NotFoundError 404
            ├── ConflictError 409                  ├── PreconditionFailedError 412
            ├── UnsupportedMediaTypeError 415      ├── UnprocessableEntityError 422
            ├── LockedError 423                    ├── RateLimitError 429
            └── ServerError 5xx

```python
import asyncio
from harness_async import APIStatusError, HarnessClient, NotFoundError, RequestError

async def main() -> None:
    async with HarnessClient() as harness:
        try:
            print(await harness.projects.get("default", "payments"))
        except NotFoundError:
            print("no such project")
        except APIStatusError as error:
            print(error.status, error.code, error.message, error.correlation_id)
        except RequestError as error:
            print(error, len(error.attempts), "attempts")

asyncio.run(main())
```

Errors are plain data: they can be pickled, and hold no live response, no event loop and never the API key. Bad
arguments raise the built-in `ValueError` and `TypeError` before anything is sent.
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
    """One attempt of a call: when the request was sent and what came of it.

    Attributes:
        started: When the request was sent: seconds since 1970, from `time.time`.
        elapsed: Seconds from sending the request to the end of its response, or to its failure.
        status: The status of the response; None where none arrived.
        error: What went wrong; None where the response was accepted.
        waited: Seconds of backoff, queueing and pacing before the request was sent.
    """

    started: float
    elapsed: float
    status: int | None = None
    error: str | None = None
    waited: float = 0.0


@frozen
class FieldError:
    """A field that the API rejected.

    Attributes:
        field: The member that was refused.
        message: Why.
    """

    field: str
    message: str


class HarnessError(Exception):
    """The base of all errors of this library.

    Attributes:
        report: The report of the bulk run that this error ended; None otherwise.
    """

    report: BulkReport | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions pickle as cls(*args), which keyword-only arguments break.
        return _restore, (type(self), self.args, self.__dict__.copy())


def _restore(cls: type[HarnessError], args: tuple[Any, ...], state: dict[str, Any]) -> HarnessError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class ConfigurationError(HarnessError, ValueError):
    """A setting is missing, malformed or unsafe; the message names it and the fix."""


class RequestError(HarnessError):
    """The base of the errors of one call.

    Attributes:
        method: The method of the request.
        url: The URL of the request.
        attempts: The attempts of the call, the last one included.
        ambiguous: Whether the request may have taken effect although it failed. Check the server's state before
            retrying.
    """

    ambiguous: bool = False

    def __init__(self, message: str, *, method: str = "", url: str = "", attempts: Sequence[Attempt] = ()) -> None:
        super().__init__(message)
        self.method = method
        self.url = url
        self.attempts: tuple[Attempt, ...] = tuple(attempts)


class TransportError(RequestError):
    """No response arrived: the connection was refused, reset or not secure."""


class RequestTimeoutError(TransportError, TimeoutError):
    """The server did not accept the connection, or sent nothing, within `Timeouts`."""


class DeadlineExceededError(RequestError, TimeoutError):
    """The deadline of the call passed, or a necessary wait does not fit before it.

    Where the API had responded with errors, the message begins with the last one, which is also the `__cause__`.

    Attributes:
        last_status: The status of the last response; None where none arrived.
    """

    last_status: int | None = None


class UnexpectedResponseError(RequestError):
    """A response that did not come from the API: an HTML page, a redirect to another host, a cut or oversized body.

    Attributes:
        status: The status of the response; None where there is none.
        body: The body of the response, or its beginning.
    """

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
    """JSON that does not fit the model.

    Attributes:
        path: The place in the body, such as `$[3].pipeline_execution_id`. `$` is the whole body.
    """

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
    """A list cannot be read as requested: the server repeats a page, or breaks what `strict` relies on."""


class CheckpointError(HarnessError):
    """A checkpoint belongs to another run or version, is damaged, or is used by another process."""


class BudgetError(HarnessError):
    """A bulk run would need more requests than `max_requests`. No row was delivered.

    Attributes:
        plan: The estimate, as far as it was made when the limit was exceeded.
    """

    plan: Plan | None = None


class BulkError(HarnessError, ExceptionGroup[HarnessError]):
    """The errors of all failed projects of one bulk run; `report` holds the outcomes."""

    def derive(self, excs: Sequence[HarnessError], /) -> Self:  # type: ignore[override]
        """Keep the type and the report when `except*` splits the group."""
        part = type(self)(self.message, excs)
        part.report = self.report
        return part


@frozen(kw_only=True)
class ErrorDetails:
    """The content of an error response, whichever of its shapes the API chose."""

    message: str
    code: str | None = None
    """The API's word for the error: `ENTITY_NOT_FOUND`, `bad_request`."""

    field_errors: tuple[FieldError, ...] = ()
    correlation_id: str | None = None
    """The id to quote to Harness support."""

    temporary: bool = False
    timeout: bool = False
    structured: bool = field(default=True, repr=False)
    """False where the body is not in one of the API's shapes: a gateway or proxy responded."""


class APIStatusError(RequestError):
    """The API returned an error.

    The class follows the `code` of the API, then the status. Some errors of the API have the status 200.

    Attributes:
        status: The HTTP status.
        code: The API's word for the error, such as `ENTITY_NOT_FOUND`; None where it sent none.
        message: The texts of the API.
        field_errors: The fields that the API rejected.
        correlation_id: The id to quote to Harness support.
        headers: The header fields of the response.
        body: The body of the response.
        retry_after: Seconds that the server requested to wait; None where it requested nothing.
    """

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
    """400: the API rejects an argument."""


class AuthenticationError(APIStatusError):
    """401: the key is missing, wrong or expired."""


class PermissionDeniedError(APIStatusError):
    """403: the key is valid but lacks the permission."""


class NotFoundError(APIStatusError):
    """404: the object, or its organization, project or account, does not exist."""


class ConflictError(APIStatusError):
    """409: the identifier is taken, or the object was changed by somebody else."""


class PreconditionFailedError(APIStatusError):
    """412: a precondition of the request does not hold."""


class UnsupportedMediaTypeError(APIStatusError):
    """415: the API does not accept this content type."""


class UnprocessableEntityError(APIStatusError):
    """422: the request is well-formed but not acceptable."""


class LockedError(APIStatusError):
    """423: the target is locked."""


class RateLimitError(APIStatusError):
    """429: too many requests; `retry_after` is the wait in seconds that the server requested, or None."""


class ServerError(APIStatusError):
    """5xx: the server, or a gateway in front of it, failed."""


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
"""The class of each status that has one; see `status_error_class`."""

CODE_ERRORS: Mapping[str, type[APIStatusError]] = MappingProxyType(
    {
        **dict.fromkeys(("RESOURCE_NOT_FOUND_EXCEPTION", "RESOURCE_NOT_FOUND", "ENTITY_NOT_FOUND"), NotFoundError),
        **dict.fromkeys(("DUPLICATE_FIELD", "OPTIMISTIC_LOCKING_EXCEPTION"), ConflictError),
        **dict.fromkeys(("INVALID_TOKEN", "EXPIRED_TOKEN", "REVOKED_TOKEN"), AuthenticationError),
        **dict.fromkeys(("ACCESS_DENIED", "NG_ACCESS_DENIED"), PermissionDeniedError),
        "TOO_MANY_REQUESTS": RateLimitError,
    }
)
"""The class of each code that has one, whatever the status: Harness returns several conditions with 400."""

_METHOD_NOT_ALLOWED, _NOT_FOUND = 405, 404

NO_AVAILABLE_DELEGATES = "NO_AVAILABLE_DELEGATES"
"""A code that comes with 404 although nothing is missing."""


def status_error_class(status: int, code: str | None = None) -> type[APIStatusError]:
    """Return the error class of a code, else of a status, else `ServerError` for 5xx, else `APIStatusError`."""
    if code is not None and code in CODE_ERRORS and status != _METHOD_NOT_ALLOWED:
        return CODE_ERRORS[code]
    if code == NO_AVAILABLE_DELEGATES and status == _NOT_FOUND:
        return APIStatusError
    return STATUS_ERRORS.get(status) or (ServerError if status >= 500 else APIStatusError)  # noqa: PLR2004
