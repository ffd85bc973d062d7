"""The query parameters that filter a list, described as data."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs

from harness_async.testing.api.query import MAX_INTEGER, Query
from harness_async.testing.data.table import Row, getter
from harness_async.testing.responses import FakeResponse, HTTPError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Test = Callable[[Row], bool]
"""Returns whether a row is kept."""


@attrs.frozen
class Filter:
    """The names of some parameters, and the function that derives a test of rows from them, or None."""

    names: tuple[str, ...]
    build: Callable[[Query], Test | None]
    repeated: bool = False
    """Whether the parameters may be given several times."""


def equal(name: str, path: str | None = None, choices: Sequence[str] | None = None) -> Filter:
    """Keep the rows with a given value in a member. *choices* limits the values."""

    def build(query: Query) -> Test | None:
        value = query.text(name) if choices is None else query.choice(name, choices)
        return None if value is None else is_equal(path or name, value)

    return Filter((name,), build)


def is_equal(path: str, value: object) -> Test:
    """Return the test of rows with a given value in a member."""
    read = getter(path)
    return lambda row: read(row) == value


def is_any(path: str, wanted: Iterable[object]) -> Test:
    """Return the test of rows with one of the given values in a member.

    Rows with a list there match by any of its items, rows with a map by a key, or by `key:value`.
    """
    read, values = getter(path), set(wanted)

    def test(row: Row) -> bool:
        value = read(row)
        if isinstance(value, dict):
            return not values.isdisjoint((*value, *(f"{key}:{text}" for key, text in value.items())))
        return not values.isdisjoint(value) if isinstance(value, list) else value in values

    return test


def any_of(name: str, path: str | None = None, *, comma: bool = False, repeated: bool = True) -> Filter:
    """Keep the rows with one of the given values in a member, as `is_any` does.

    Several values are repeated keys or, with *comma*, parts of one value.
    """

    def build(query: Query) -> Test | None:
        values = query.texts(name)
        wanted = {part for value in values for part in (value.split(",") if comma else [value])}
        if "" in wanted:
            raise query.call.error(400, f"{name} must not hold an empty value", field=name)
        return is_any(path or name, wanted) if values else None

    return Filter((name,), build, repeated)


def search(name: str, *paths: str, tags: str | None = None) -> Filter:
    """Keep the rows with a given text, in any case, in one of the members or in the map of tags."""
    reads = [getter(path) for path in paths]
    read_tags = getter(tags) if tags else None

    def build(query: Query) -> Test | None:
        term = (query.text(name) or "").lower()
        if not term:
            return None

        def test(row: Row) -> bool:
            texts = [read(row) for read in reads]
            pairs = (read_tags(row) or {}) if read_tags else {}
            return any(term in text.lower() for text in (*texts, *pairs, *pairs.values()) if text)

        return test

    return Filter((name,), build)


def pattern(name: str, *paths: str) -> Filter:
    """Keep the rows with a match of a case-insensitive regular expression in one of the members.

    The pipeline service responds to an invalid expression with status 200 and no body.
    """
    reads = [getter(path) for path in paths]

    def build(query: Query) -> Test | None:
        text = query.text(name)
        if not text:
            return None
        try:
            expression = re.compile(text, re.IGNORECASE)
        except re.error:
            raise HTTPError(FakeResponse(200, b"", None)) from None
        return lambda row: any(expression.search(str(read(row) or "")) for read in reads)

    return Filter((name,), build)


def time_range(start: str, end: str) -> Filter:
    """Keep the rows within a range of time. The option `end_time` decides about its end."""

    def build(query: Query) -> Test | None:
        return within(
            query,
            query.integer(start, least=-MAX_INTEGER),
            query.integer(end, least=-MAX_INTEGER),
        )

    return Filter((start, end), build)


def within(query: Query, start: int | None, end: int | None) -> Test | None:
    """Return the test of a range of time, None if it keeps everything. The start is always included."""
    mode = query.call.account.end_time
    if mode == "ignored" or (start, end) == (None, None):
        return None
    low = -MAX_INTEGER if start is None else start
    high = MAX_INTEGER if end is None else end - (mode == "exclusive")
    return lambda row: low <= row.time <= high


def module(type_name: str, flag_name: str, path: str) -> Filter:
    """Keep the rows that have, or lack, a given module. The flag alone has no effect, as in the API."""
    read = getter(path)

    def build(query: Query) -> Test | None:
        wanted, present = query.text(type_name), query.flag(flag_name) is not False
        return None if wanted is None else lambda row: (wanted in (read(row) or ())) == present

    return Filter((type_name, flag_name), build)


def only(name: str, path: str) -> Filter:
    """Keep, if the parameter is true, the rows with a true member."""
    read = getter(path)

    def build(query: Query) -> Test | None:
        return (lambda row: bool(read(row))) if query.flag(name) else None

    return Filter((name,), build)


def organization(name: str, path: str) -> Filter:
    """Keep the rows of a given organization."""
    read = getter(path)

    def build(query: Query) -> Test | None:
        value = query.text(name)
        if value is None:
            return None
        (org,) = query.call.account.spelling(value)
        return lambda row: read(row) == org

    return Filter((name,), build)
