"""The wire without I/O: endpoints, URLs, queries, headers, and what an error answer says.

Facts here are those of the Harness API reference (apidocs.harness.io); habits of the server that no document
promises are met with tolerance: both families of total headers, four shapes of error, any content type.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any, TypeAlias
from urllib.parse import quote, urlencode

from attrs import define, field, frozen
from yarl import URL

from harness_async.errors import ErrorDetails, FieldError

QueryValue: TypeAlias = str | int | float | bool | Sequence[str] | None

MAX_IDENTIFIER = 128
"""Characters; the one limit that every identifier of the API shares."""

MAX_LIMIT = 100
"""The largest page the API reference allows."""

_MESSAGE_SIZE = 500
"""Characters of an unstructured answer quoted in a message: enough to recognise a proxy."""


class Headers(Mapping[str, str]):
    """Headers of an answer: names in any case, the first of several values, picklable."""

    __slots__ = ("_values",)

    def __init__(self, headers: Mapping[str, str], redact: Callable[[str], str] = str) -> None:
        """Take the headers, each value through `clean`."""
        self._values: dict[str, str] = {}
        for name, value in headers.items():
            self._values.setdefault(name.lower(), redact(value))

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._values!r})"


def _segments(path: str) -> tuple[tuple[str, str | None], ...]:
    """Split a template into pairs of a text as it stands and the name of the identifier that follows it."""
    parts: list[tuple[str, str | None]] = []
    for chunk in path.split("{"):
        if not parts and "}" not in chunk:
            parts.append((chunk, None))
            continue
        name, _, text = chunk.partition("}")
        parts[-1] = (parts[-1][0], name)
        parts.append((text, None))
    return tuple(parts)


@frozen
class Endpoint:
    """One operation of the API, as data.

    `path` names its identifiers in braces; each becomes one percent-encoded segment. Declared at import, shared
    freely.
    """

    method: str
    path: str
    first_page: int = field(default=1, kw_only=True)
    """The number of the first page: 1 in IaCM, 0 in the v1 generation."""

    repeatable: bool = field(default=True, kw_only=True)
    """Whether sending it twice does what sending it once does."""

    _parts: tuple[tuple[str, str | None], ...] = field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "_parts", _segments(self.path))

    def format(self, **identifiers: str) -> str:
        """Fill in the identifiers and return the encoded path.

        Raises:
            TypeError: An identifier is not text.
            ValueError: It is empty, longer than 128 characters, or would climb the path.
        """
        return "".join(
            text if name is None else text + encode_segment(name, identifiers[name]) for text, name in self._parts
        )


def check_identifier(name: str, value: object) -> str:
    """Return an identifier that can stand in a path, or say what is wrong with it.

    Only what would break the request is refused (CONTRACT of the API: 1 to 128 characters); patterns, reserved
    words and the rest are the server's business.
    """
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {type(value).__name__}")
    if not 1 <= len(value) <= MAX_IDENTIFIER:
        raise ValueError(f"{name} must have 1 to {MAX_IDENTIFIER} characters, not {len(value)}")
    if value in {".", ".."}:
        raise ValueError(f"{name} must not be {value!r}: it would change the path of the request")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError(f"{name} has a lone surrogate and cannot be encoded: {value!r}")
    return value


def encode_segment(name: str, value: object) -> str:
    """Encode an identifier as one path segment: nothing in it can end the segment or the path."""
    return quote(check_identifier(name, value), safe="")


def check_limit(limit: object) -> int:
    """Return a page size the API takes, or raise `ValueError`; nothing is clamped behind the caller's back."""
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MAX_LIMIT:
        raise ValueError(f"limit must be a whole number from 1 to {MAX_LIMIT}, not {limit!r}")
    return limit


def check_int(name: str, value: object, least: int) -> int:
    """Return a whole number from `least` on, or raise `ValueError`; True and False are none."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be a whole number from {least} on, not {value!r}")
    return value


def build_query(params: Mapping[str, QueryValue]) -> str:
    """Encode a query: None is left out, a sequence repeats its key, booleans are lower case.

    Raises:
        TypeError: A value is of a kind that no parameter has.
    """
    pairs: list[tuple[str, str]] = []
    for name, value in params.items():
        if value is None:
            continue
        if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
            pairs.append((name, _text(name, value)))
        else:
            pairs.extend((name, _text(name, item)) for item in value)
    return urlencode(pairs, quote_via=quote, safe="")


def _text(name: str, value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # A plain str even where a str enum comes in, whose str() may differ.
        return str.__str__(value)
    if isinstance(value, int | float):
        return str(value)
    raise TypeError(f"Parameter {name} must be text, a number or a sequence of texts, not {type(value).__name__}")


def merge_headers(headers: Mapping[str, str], more: Mapping[str, str]) -> dict[str, str]:
    """Add headers to others, in place of those of the same name, in whatever case."""
    names = {name.lower() for name in more}
    return {name: value for name, value in headers.items() if name.lower() not in names} | dict(more)


def join_target(base: URL, path: str, query: str = "") -> str:
    """Put an encoded path, and a query, behind the path prefix of a base URL, changing neither."""
    prefix = base.raw_path.rstrip("/")
    return f"{prefix}{path}?{query}" if query else f"{prefix}{path}"


def to_milliseconds(name: str, value: datetime | int | None) -> int | None:
    """Turn a time into the API's integer milliseconds since 1970 UTC.

    Raises:
        TypeError: It is neither a datetime nor an int.
        ValueError: The datetime is naive: it could mean any zone.
    """
    if value is None:
        return None
    if isinstance(value, datetime):
        if value.utcoffset() is None:
            raise ValueError(f"{name} must be an aware datetime: add a zone, as in value.replace(tzinfo=UTC)")
        # Integer arithmetic: float timestamps are off by a millisecond now and then.
        elapsed = value - datetime(1970, 1, 1, tzinfo=UTC)
        return (elapsed.days * 86_400 + elapsed.seconds) * 1000 + elapsed.microseconds // 1000
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an aware datetime or integer milliseconds, not {type(value).__name__}")
    return value


@frozen
class Totals:
    """What the headers of a list say of its size; None for what they leave out or garble."""

    items: int | None = None
    pages: int | None = None
    size: int | None = None
    """The page size in effect, which may be less than what was asked for."""


def read_totals(headers: Mapping[str, str]) -> Totals:
    """Read both families of total headers: `x-total-items` of IaCM, `X-Total-Elements` of the v1 generation.

    `X-Page-Number` is ignored on purpose: its base (0 or 1) is not the one of the `page` parameter.
    """
    get = headers.get
    return _parse_totals(get("x-total-items"), get("X-Total-Elements"), get("x-total-pages"), get("x-page-size"))


@lru_cache(64)  # the pages of a list say the same again and again
def _parse_totals(items: str | None, elements: str | None, pages: str | None, size: str | None) -> Totals:
    total = _count(items)
    return Totals(_count(elements) if total is None else total, _count(pages), _count(size) or None)


def _count(text: str | None) -> int | None:
    text = (text or "").strip()
    # isdecimal alone admits other scripts' digits; the length guards against digit bombs.
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 18 else None  # noqa: PLR2004


def parse_date(text: str | None) -> float | None:
    """Read an HTTP date as seconds since 1970; None where it is missing or no date."""
    try:
        moment = parsedate_to_datetime(text or "")
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


@define(eq=False, repr=False)
class ServerClock:
    """How far the server's clock is from ours, as its `Date` headers tell: whole seconds, read some time on the way.

    Each answer bounds the difference from both sides; as long as no difference at all fits, that is the estimate.
    """

    _low: float = -math.inf
    _high: float = math.inf
    _text: str | None = None

    @property
    def offset(self) -> float:
        """Seconds to add to our clock: none as long as that may be, else so many that we are not ahead of the server.

        A window that is closed a second early leaves out what has just come; one that is closed late is not closed.
        """
        return self._low if self._high < 0.0 else max(0.0, self._low)

    @property
    def known(self) -> bool:
        """Whether any answer has told it."""
        return self._low > -math.inf

    def now(self) -> int:
        """Estimate the server's time, in milliseconds since 1970."""
        return math.floor(1000 * (time.time() + self.offset))

    def learn(self, text: str | None, sent: float, received: float) -> None:
        """Take the `Date` of an answer and when, by our clock, its request left and the answer came."""
        if text == self._text:
            return  # the same second again tells next to nothing, and parsing is not free
        self._text = text
        date = parse_date(text)
        if date is None:
            return
        low, high = date - received, date + 1.0 - sent
        self._low, self._high = max(self._low, low), min(self._high, high)
        if self._low > self._high:  # one of the clocks was set: begin anew
            self._low, self._high = low, high


def parse_retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Read `Retry-After`, in seconds from `now` (seconds since 1970): a number, or a date.

    A date is taken against the server's own `Date` where it sends one, so a wrong clock here does no harm. None
    where the header is missing or says nothing readable.
    """
    text = headers.get("Retry-After", "").strip()
    if not text:
        return None
    if text.isascii() and text.replace(".", "", 1).isdecimal():
        return float(text)
    moment = parse_date(text)
    if moment is None:
        return None
    server_now = parse_date(headers.get("Date"))
    return max(0.0, moment - (now if server_now is None else server_now))


def looks_like_html(headers: Mapping[str, str], body: bytes) -> bool:
    """Tell a page for people from an answer for programs, whatever status it came with."""
    return "html" in headers.get("Content-Type", "").lower() or body[:64].lstrip().startswith(b"<")


def parse_error(status: int, headers: Mapping[str, str], body: bytes) -> ErrorDetails:
    """Read an error answer by its shape, not by its path or media type: gateways answer for services.

    The shapes: goa (`name`, `id`, `message`, three booleans), v1 (`code`, `message`, `errors`), legacy (`status`,
    `code`, `message`, `correlationId`), and whatever an edge sends.
    """
    correlation = headers.get("X-Request-Id") or headers.get("x-harness-correlation-id")
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, Mapping) or not {"message", "code", "name", "error"} & content.keys():
        return ErrorDetails(message=_quote_body(status, headers, body), correlation_id=correlation, structured=False)
    goa = "name" in content
    code = content.get("name") if goa else content.get("code", content.get("error"))
    return ErrorDetails(
        message=_first_text(content, "message", "error", "detailedMessage") or f"no message, status {status}",
        code=None if code is None else str(code),
        field_errors=tuple(_field_errors(content.get("errors"))),
        correlation_id=_first_text(content, *(("id",) if goa else ()), "correlationId") or correlation,
        temporary=content.get("temporary") is True,
        timeout=content.get("timeout") is True,
    )


def _first_text(content: Mapping[str, Any], *names: str) -> str | None:
    return next((value for name in names if isinstance(value := content.get(name), str) and value), None)


def _field_errors(errors: object) -> Iterator[FieldError]:
    for error in errors if isinstance(errors, list) else ():
        if isinstance(error, Mapping) and isinstance(error.get("message"), str):
            yield FieldError(str(error.get("field_name") or error.get("fieldId") or ""), error["message"])


def _quote_body(status: int, headers: Mapping[str, str], body: bytes) -> str:
    if looks_like_html(headers, body):
        return "an HTML page, not an answer of the API: a proxy, a firewall or a sign-in page"
    text = body[: _MESSAGE_SIZE * 4].decode("utf-8", "replace").strip()
    if not text:
        return f"an empty answer with status {status}"
    return text if len(text) <= _MESSAGE_SIZE else f"{text[:_MESSAGE_SIZE]}…"


def from_milliseconds(value: int) -> datetime | None:
    """Turn integer milliseconds since 1970 into an aware UTC time; None where no calendar reaches.

    0 stands for "not told" and is None too: nothing in Harness is that old.
    """
    if not value:
        return None
    try:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=value)
    except OverflowError:
        return None


def check_text(name: str, value: object) -> str:
    """Return a text that is not empty, or say what is wrong with it."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {type(value).__name__}")
    if not value:
        raise ValueError(f"{name} must not be empty")
    return value


def check_seconds(name: str, value: object, *, none: bool = False) -> None:
    """Refuse what is no positive number of seconds."""
    if value is None and none:
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise ValueError(f"{name} must be more than 0 seconds{' or None' if none else ''}, not {value!r}")


def check_order(order: object) -> str | None:
    """Return a sort direction in the case that the API wants, or raise `ValueError`."""
    if order is None:
        return None
    if not isinstance(order, str) or order.upper() not in {"ASC", "DESC"}:
        raise ValueError(f"order must be 'ASC' or 'DESC', not {order!r}")
    return order.upper()


def as_str_tuple(name: str, value: str | Iterable[str] | None) -> tuple[str, ...] | None:
    """Return one text or several as a tuple, None for None; an empty collection is refused.

    An empty filter could mean everything or nothing, and which one the server would choose is not documented.
    """
    if value is None:
        return None
    values = (value,) if isinstance(value, str) else tuple(value)
    if not values:
        raise ValueError(f"{name} is empty: leave it out to have everything")
    for item in values:
        if not isinstance(item, str):
            raise TypeError(f"{name} takes one text or several, not {type(item).__name__}")
    return values
