"""Waiting for an object to reach a state, by fetching it again and again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from harness_async.errors import DeadlineExceededError, HarnessError
from harness_async.validation import check_seconds

T = TypeVar("T")


async def wait_until(
    fetch: Callable[[], Awaitable[T]],
    is_finished: Callable[[T], bool],
    *,
    name: str,
    status: Callable[[T], str],
    timeout: float | None,  # noqa: ASYNC109 - part of the message, not only a limit
    poll_interval: float,
) -> T:
    """Fetch an object every `poll_interval` seconds until it is finished, and return it.

    Raises:
        DeadlineExceededError: It is not finished after `timeout` seconds (None: no limit).
    """
    check_seconds("timeout", timeout, optional=True)
    check_seconds("poll_interval", poll_interval)
    last: T | None = None
    try:
        async with asyncio.timeout(timeout):
            while True:
                last = await fetch()
                if is_finished(last):
                    return last
                await asyncio.sleep(poll_interval)
    except TimeoutError as error:
        if isinstance(error, HarnessError):
            raise
        seen = "no response yet" if last is None else f"status {status(last)!r}"
        raise DeadlineExceededError(f"{name} is not finished after {timeout} s: {seen}") from error
