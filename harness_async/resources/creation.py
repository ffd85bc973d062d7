"""Creating an object whose ids the caller chooses: repeated after a lost response, and never done twice."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from harness_async.errors import (
    Attempt,
    ConflictError,
    DeadlineExceededError,
    ErrorDetails,
    HarnessError,
    NotFoundError,
    RequestError,
)

T = TypeVar("T")

_MAX_ATTEMPTS = 3
"""Requests of one create at most, with a look for its effect before each repetition."""


async def create_once(
    create: Callable[[], Awaitable[T]],
    find: Callable[[], Awaitable[T]],
    *,
    max_attempts: int | None,
    is_same: Callable[[T], bool],
    describe: Callable[[T], str],
) -> T:
    """Create an object, and where that is ambiguous, look for it by its ids before it is created again.

    Args:
        create: Sends the request, once.
        find: Fetches the object by its ids.
        max_attempts: Most requests of the retry policy; None for no limit.
        is_same: Whether an object that was found is the one to create.
        describe: Describes an object that is another one, for the message.

    Raises:
        ConflictError: The ids belong to another object.
    """
    attempts: tuple[Attempt, ...] = ()
    most = min(_MAX_ATTEMPTS, max_attempts or _MAX_ATTEMPTS)
    for attempt in range(1, most + 1):
        try:
            return await create()
        except RequestError as error:
            error.attempts = attempts = (*attempts, *error.attempts)
            may_exist = error.ambiguous or (attempt > 1 and isinstance(error, ConflictError))
            if not may_exist or isinstance(error, DeadlineExceededError):
                raise
            try:
                found = await find()
            except NotFoundError:
                if attempt == most:
                    raise error from None
                continue
            except HarnessError:
                raise error from None
            if is_same(found):
                return found
            if isinstance(error, ConflictError):
                raise error from None
            details = ErrorDetails(message=f"the ids belong to {describe(found)}", code="conflict")
            raise ConflictError(
                details, status=409, method=error.method, url=error.url, attempts=error.attempts
            ) from None
    raise AssertionError  # the last attempt returns or raises
