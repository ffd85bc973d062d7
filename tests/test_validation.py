"""Checks of arguments: what is accepted, in which form it is sent, and which errors name what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness_async.validation import (
    as_str_tuple,
    check_choice,
    check_headers,
    check_identifier,
    check_int,
    check_limit,
    check_method,
    check_order,
    check_path,
    check_seconds,
    check_text,
    from_milliseconds,
    to_milliseconds,
)

CALENDAR = st.integers(-62_135_596_800_000, 253_402_300_799_999).filter(bool)
"""The milliseconds that a datetime can hold, except 0, which stands for a missing time."""

ZONES = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))


IDENTIFIER = partial(check_identifier, "pipeline_stage_id")
TEXTS = partial(as_str_tuple, "org")
SECONDS = partial(check_seconds, "timeout")


@pytest.mark.parametrize(
    ("check", "value", "expected"),
    [
        (check_limit, 1, 1),
        (check_limit, 100, 100),
        (partial(check_limit, maximum=1000), 1000, 1000),
        (check_order, None, None),
        (check_order, "asc", "ASC"),
        (check_order, "Desc", "DESC"),
        (IDENTIFIER, "x" * 128, "x" * 128),
        (IDENTIFIER, "...", "..."),
        (TEXTS, None, None),
        (TEXTS, "a", ("a",)),
        (TEXTS, iter("ab"), ("a", "b")),
        (TEXTS, ("",), ("",)),
        (partial(check_text, "name"), " ", " "),
        (SECONDS, 0.1, None),
        (partial(SECONDS, optional=True), None, None),
        (check_method, "get", "GET"),
        (check_path, "/v1/orgs/a b", "/v1/orgs/a%20b"),
        (check_path, "/v1/orgs/a%2Fb", "/v1/orgs/a%2Fb"),
        (check_path, "/v1/orgs/é", "/v1/orgs/%C3%A9"),
        (check_path, "/v1/orgs/a:b@c", "/v1/orgs/a:b@c"),
        (check_path, "/v1/orgs/a\r\nHost: evil", "/v1/orgs/a%0D%0AHost:%20evil"),
    ],
)
def test_accepted_arguments(check: Callable[[Any], object], value: object, expected: object) -> None:
    """An argument in range is returned in the form in which it is sent."""
    assert check(value) == expected


@pytest.mark.parametrize(
    ("check", "value", "error", "message"),
    [
        *[(check_limit, value, ValueError, r"^limit must be from 1 to 100, not ") for value in (0, -1, 101)],
        *[(check_limit, value, ValueError, "^limit must be an integer, not ")
          for value in (1.0, 50.5, True, "10", None, math.nan)],
        (partial(check_int, "prefetch", minimum=0), -1, ValueError, "^prefetch must be 0 or more, not -1$"),
        (partial(check_choice, "on", choices=["a", "b"]), "c", ValueError, "^on must be one of 'a', 'b', not 'c'$"),
        *[(check_order, value, ValueError, "^order must be") for value in ("", "up", "ascending", True, 1)],
        *[(IDENTIFIER, value, ValueError, "^pipeline_stage_id ")
          for value in ("", "x" * 129, ".", "..", "a\ud800", "\udfffa")],
        *[(IDENTIFIER, value, TypeError, "^pipeline_stage_id ") for value in (None, 7, True, b"abc", ["a"])],
        *[(TEXTS, value, ValueError, "^org ") for value in (list[str](), ())],
        *[(TEXTS, value, TypeError, "^org ") for value in ([1], [None], b"a", 5)],
        *[(partial(check_text, "name"), value, ValueError, "^name ") for value in ("", "\ud800")],
        (partial(check_text, "name"), None, TypeError, "^name "),
        *[(SECONDS, value, ValueError, "^timeout ") for value in (0, -1, math.nan, True, "5", None)],
        *[(check_method, value, ValueError, "^method ") for value in ("CONNECT", "TRACE", "GET /", "", None, 1)],
        *[(check_path, path, ValueError, "^path ") for path in (
            "https://elsewhere.example/v1/orgs", "//elsewhere.example/v1/orgs", "/\\elsewhere.example", "v1/orgs", "",
            "/v1/orgs?limit=1", "/v1/orgs#top", "/v1/../gateway", "/v1/%2e%2E/gateway", "/v1/./orgs", "/\ud800",
        )],
        *[(check_path, path, TypeError, "^path ") for path in (None, b"/v1/orgs")],
        *[(check_headers, {name: "a"}, ValueError, "^header ") for name in (
            "X-Api-Key", "harness-account", "Host", "Content-Length", "Transfer-Encoding", "X-No\nte", "",
        )],
        *[(check_headers, {"X-Note": value}, ValueError, "^header 'X-Note' ")
          for value in ("a\r\nb: c", "\x00", "\udfff")],
        *[(check_headers, headers, TypeError, "^headers ") for headers in ({"X-Note": 5}, {5: "a"})],
    ],
)  # fmt: skip
def test_refused_arguments(check: Callable[[Any], object], value: object, error: type[Exception], message: str) -> None:
    """An argument that cannot be sent is refused, not changed, and the error begins with its name."""
    with pytest.raises(error, match=message):
        check(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (0, 0),
        (-1, -1),
        (8261120883995203000, 8261120883995203000),
        (datetime(1970, 1, 1, tzinfo=UTC), 0),
        (datetime(2023, 8, 4, 14, 5, 43, 950_999, timezone(timedelta(hours=2))), 1691150743950),
        (datetime(1969, 12, 31, 23, 59, 59, 999_000, UTC), -1),
        (datetime.max.replace(tzinfo=UTC), 253402300799999),
        (datetime.min.replace(tzinfo=timezone(timedelta(hours=14))), -62135647200000),
    ],
)
def test_to_milliseconds(value: datetime | int | None, expected: int | None) -> None:
    """An aware datetime becomes whole milliseconds since 1970 UTC; an integer is unchanged."""
    assert to_milliseconds("start_time", value) == expected


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (datetime(2024, 1, 1), ValueError),  # noqa: DTZ001 - a naive datetime is the point
        (True, TypeError),
        (1.5, TypeError),
        ("2024-01-01", TypeError),
        (datetime(2024, 1, 1, tzinfo=UTC).date(), TypeError),
    ],
)
def test_refused_times(value: Any, error: type[Exception]) -> None:
    """A value that is not one moment is refused, and the error begins with its parameter."""
    with pytest.raises(error, match=r"^end_time "):
        to_milliseconds("end_time", value)


@settings(max_examples=30, deadline=None)
@given(CALENDAR, ZONES)
def test_times_round_trip(value: int, zone: timezone) -> None:
    """Every millisecond of the calendar converts to a datetime and back unchanged, in any zone."""
    moment = from_milliseconds(value)
    assert moment is not None
    assert moment.utcoffset() == timedelta()
    assert to_milliseconds("t", moment) == value
    try:
        elsewhere = moment.astimezone(zone)
    except OverflowError:  # at either end of the calendar some zones cannot express the moment
        return
    assert to_milliseconds("t", elsewhere) == value


@pytest.mark.parametrize(
    "value", [0, -62_135_596_800_001, 253_402_300_800_000, 8261120883995203000, -(2**63), 2**64, 10**40]
)
def test_times_outside_the_calendar(value: int) -> None:
    """An integer that no datetime can hold, and 0, which stands for a missing time, convert to None."""
    assert from_milliseconds(value) is None
