"""Checks of arguments: identifiers, numbers, times, paths, headers.

Every check runs before anything is sent. Its error names the argument, the value and what is accepted.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from math import inf
from urllib.parse import quote

MAX_IDENTIFIER = 128
"""Characters; the one limit that every identifier of the API shares."""

MAX_LIMIT = 100
"""Rows of the largest page that the API reference allows."""

REPEATABLE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
"""Methods that have the same effect when they are sent twice."""

METHODS: frozenset[str] = REPEATABLE_METHODS | {"POST", "PATCH"}

MAX_SECONDS = 1e9
"""Thirty years: a longer time is a mistake."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CLIENT_HEADERS = frozenset({"x-api-key", "harness-account", "host", "content-length", "transfer-encoding"})
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\U0010ffff]*")
_SURROGATE = re.compile("[\ud800-\udfff]")


def check_type(name: str, value: object, kind: type | tuple[type, ...], *, optional: bool = False) -> None:
    """Refuse an argument of another type.

    Raises:
        TypeError: It has another type; the message names the expected one.
    """
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if (value is None and optional) or isinstance(value, kinds):
        return
    expected = " or ".join(each.__name__ for each in kinds)
    raise TypeError(f"{name} must be a {expected}{' or None' if optional else ''}, not {type(value).__name__}")


def check_callable(name: str, value: object) -> None:
    """Refuse an argument that is neither a function nor None.

    Raises:
        TypeError: It is something else.
    """
    if value is not None and not callable(value):
        raise TypeError(f"{name} must be a function or None, not {type(value).__name__}")


def check_text(name: str, value: object) -> str:
    """Return a text that is not empty.

    Raises:
        TypeError: The value is not a str.
        ValueError: It is empty, or has a lone surrogate, which no encoding can carry.
    """
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {type(value).__name__}")
    if not value:
        raise ValueError(f"{name} must not be empty")
    if _SURROGATE.search(value):
        raise ValueError(f"{name} has a lone surrogate and cannot be encoded: {value!r}")
    return value


def check_identifier(name: str, value: object) -> str:
    """Return an identifier that can stand in a path.

    Only what would break the request is refused; patterns and reserved words are checked by the server.

    Raises:
        TypeError: The value is not a str.
        ValueError: It is empty, longer than 128 characters, or would change the path.
    """
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {type(value).__name__}")
    if not 1 <= len(value) <= MAX_IDENTIFIER:
        raise ValueError(f"{name} must have 1 to {MAX_IDENTIFIER} characters, not {len(value)}")
    if value in {".", ".."}:
        raise ValueError(f"{name} must not be {value!r}: it would change the path of the request")
    if _SURROGATE.search(value):
        raise ValueError(f"{name} has a lone surrogate and cannot be encoded: {value!r}")
    return value


def check_int(name: str, value: object, minimum: int, maximum: int | None = None) -> int:
    """Return an integer in a range; booleans are refused.

    Raises:
        ValueError: The value is not an integer, or out of range.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{name} must be an integer, not {value!r}")  # noqa: TRY004 - one class for a bad number
    if value < minimum or (maximum is not None and value > maximum):
        accepted = f"{minimum} or more" if maximum is None else f"from {minimum} to {maximum}"
        raise ValueError(f"{name} must be {accepted}, not {value}")
    return value


def check_limit(value: object, maximum: int = MAX_LIMIT) -> int:
    """Return a page size that the API accepts. Nothing is clipped behind the caller's back.

    Raises:
        ValueError: The value is not an integer, or out of range.
    """
    return check_int("limit", value, 1, maximum)


def check_seconds(name: str, value: object, *, optional: bool = False) -> None:
    """Refuse what is not a positive number of seconds.

    Raises:
        ValueError: The value is not a number above zero (nor None where that is allowed).
    """
    if value is None and optional:
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not (0 < value <= MAX_SECONDS or value == inf):
        raise ValueError(f"{name} must be more than 0 seconds{' or None' if optional else ''}, not {value!r}")


def check_choice(name: str, value: object, choices: Collection[str]) -> None:
    """Refuse what is not among the choices.

    Raises:
        ValueError: The value is another one.
    """
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, not {value!r}")


def check_order(order: object) -> str | None:
    """Return a sort direction in upper case, as the API compares it.

    Raises:
        ValueError: The value is neither ASC nor DESC.
    """
    if order is None:
        return None
    if not isinstance(order, str) or order.upper() not in {"ASC", "DESC"}:
        raise ValueError(f"order must be 'ASC' or 'DESC', not {order!r}")
    return order.upper()


def as_str_tuple(name: str, value: str | Iterable[str] | None) -> tuple[str, ...] | None:
    """Return one text or several as a tuple, None for None.

    Raises:
        TypeError: A value is not a str.
        ValueError: The collection is empty: it could mean everything or nothing.
    """
    if value is None:
        return None
    values = tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else (value,)
    if not values:
        raise ValueError(f"{name} is empty; leave it out to apply no filter")
    for item in values:
        if not isinstance(item, str):
            raise TypeError(f"{name} takes one str or several, not {type(item).__name__}")
    return values


def to_milliseconds(name: str, value: datetime | int | None) -> int | None:
    """Convert a time to the API's integer milliseconds since 1970 UTC.

    Raises:
        TypeError: The value is neither a datetime nor an int.
        ValueError: The datetime is naive, so that its zone is unknown.
    """
    if value is None:
        return None
    if isinstance(value, datetime):
        if value.utcoffset() is None:
            raise ValueError(f"{name} must be an aware datetime; add a zone, as in value.replace(tzinfo=UTC)")
        # Integer arithmetic: float timestamps are off by a millisecond now and then.
        elapsed = value - _EPOCH
        return (elapsed.days * 86_400 + elapsed.seconds) * 1000 + elapsed.microseconds // 1000
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an aware datetime or integer milliseconds, not {type(value).__name__}")
    return value


def from_milliseconds(value: int) -> datetime | None:
    """Convert integer milliseconds since 1970 to an aware UTC time; None for 0 (missing) and beyond any calendar."""
    if not value:
        return None
    try:
        return _EPOCH + timedelta(milliseconds=value)
    except OverflowError:
        return None


def check_method(method: object) -> str:
    """Return an HTTP method in upper case.

    Raises:
        ValueError: The client does not send this method.
    """
    if not isinstance(method, str) or method.upper() not in METHODS:
        raise ValueError(f"method must be one of {', '.join(sorted(METHODS))}, not {method!r}")
    return method.upper()


def check_path(path: object) -> str:
    """Return a path of the API, percent-encoded where it is not encoded yet.

    Raises:
        TypeError: The path is not a str.
        ValueError: It does not begin with one slash, has a query or fragment, or a segment `.` or `..`.
    """
    if not isinstance(path, str):
        raise TypeError(f"path must be a str, not {type(path).__name__}")
    if not path.startswith("/") or path.startswith("//"):
        raise ValueError(f"path must begin with one slash and no host, as in '/v1/orgs', not {path!r}")
    if "?" in path or "#" in path or "\\" in path:
        raise ValueError(f"path must have no query, fragment or backslash (use params), not {path!r}")
    if any(part.lower().replace("%2e", ".") in {".", ".."} for part in path.split("/")):
        raise ValueError(f"path must have no segment '.' or '..', not {path!r}")
    return quote(check_text("path", path), safe="/%:@!$&'()*+,;=~")


def check_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return additional headers.

    Raises:
        TypeError: A name or value is not a str.
        ValueError: The client sets this header itself, or no header can carry the name or value.
    """
    for name, value in headers.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError("headers must map str to str")
        if name.lower() in _CLIENT_HEADERS:
            raise ValueError(f"header {name} is set by the client; leave it out")
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value) or _SURROGATE.search(value):
            raise ValueError(f"header {name!r} has a name or a value that no header can carry")
    return dict(headers)
