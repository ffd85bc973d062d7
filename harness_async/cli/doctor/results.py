"""What a check finds."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Generic, Literal, TypeAlias, TypeVar

from attrs import frozen

from harness_async import APIStatusError, RequestError
from harness_async.cli.errors import name_options

Verdict: TypeAlias = Literal["ok", "differs", "unknown", "failed"]
Group: TypeAlias = Literal["configuration", "connection", "service"]

F = TypeVar("F")

_CODE = re.compile(r"[A-Za-z_]{1,64}")


@frozen
class Finding:
    """The result of a check. Its texts contain no key, no account id and no name of an organization or project."""

    verdict: Verdict
    detail: str
    advice: str = ""
    """What to do about it."""

    exit_code: int = 1
    """The exit code of a failure."""

    is_skipped: bool = False
    """Whether an earlier check made this one pointless."""


@frozen
class Result:
    """A finding with the name of its check."""

    group: Group
    name: str
    finding: Finding


@frozen
class Check(Generic[F]):
    """A function that examines one thing."""

    name: str
    find: Callable[[F], Awaitable[Finding]]
    stops: bool = True
    """Whether the following checks are pointless if this one fails."""


def ok(detail: str) -> Finding:
    """Create the finding of something that is as expected."""
    return Finding("ok", detail)


def differs(detail: str, advice: str = "") -> Finding:
    """Create the finding of something that works, but otherwise than expected."""
    return Finding("differs", detail, advice)


def unknown(detail: str) -> Finding:
    """Create the finding of something that could not be examined."""
    return Finding("unknown", detail)


def skipped(reason: str) -> Finding:
    """Create the finding of something that was not examined because an earlier check made it pointless."""
    return Finding("unknown", f"skipped: {reason}", is_skipped=True)


def failed(detail: str, advice: str, exit_code: int = 1) -> Finding:
    """Create the finding of something that does not work."""
    return Finding("failed", detail, advice, exit_code)


def describe_error(error: RequestError) -> str:
    """Describe an error without the texts of the service, which may contain names: by status and code if it has any."""
    if isinstance(error, APIStatusError):
        code = error.code or ""
        return f"{error.status} {code}" if _CODE.fullmatch(code) else str(error.status)
    return name_options(str(error).partition(f" ({error.method} ")[0])
