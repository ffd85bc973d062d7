"""The rows of one list, in any order.

The API promises no order for most lists, so the server offers several. Rows are kept sorted: a page is a slice,
and a row that is added or removed costs a binary search.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import attrs

from harness_async.testing.responses import Json, stable_hash

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Hashable, Iterator

Order = Literal["newest", "oldest", "hash", "random_ties"]
Key = tuple[str, ...]
"""The values that identify a row within its table."""

TIME, NUMBER, HASH = "@time", "@number", "@hash"

_MAX_SORTED = 4  # sort orders kept per table
_MAX_FILTERED = 16  # filter results kept per table; the readers of one list use one or two


@attrs.frozen
class Row:
    """A stored row."""

    wire: Json
    """The members that the API returns. Never modified, only replaced."""
    key: Key
    time: int
    """The time, in milliseconds, that time filters and time orders compare."""
    number: int
    """The position among all rows added to the server. Decides between equal sort values."""
    hidden: Json = attrs.field(factory=dict)
    """Members that only filters and operations of the server use."""


@attrs.frozen
class Ordering:
    """A sort order of a list: a member as in `getter`, and a direction."""

    member: str = TIME
    descending: bool = True
    shuffle_ties: bool = False
    """Whether rows with equal values change places from request to request."""


@attrs.frozen
class View:
    """The rows of a list that a request selects, in order. Requests with equal `name` select the same rows."""

    ordering: Ordering
    keep: Callable[[Row], bool] | None = None
    name: Hashable = None


@cache
def getter(path: str) -> Callable[[Row], Any]:
    """Return a function that reads a value of a row, None if it is missing.

    *path* is a dotted path of members, a hidden member ("@name"), or `TIME`, `NUMBER` or `HASH`.
    """
    if path == TIME:
        return lambda row: row.time
    if path == NUMBER:
        return lambda row: row.number
    if path == HASH:
        return lambda row: stable_hash("/".join(row.key))
    if path.startswith("@"):
        return lambda row: row.hidden.get(path[1:])
    if "." not in path:
        return lambda row: row.wire.get(path)
    return lambda row: read_path(row.wire, path)


def read_path(value: Any, path: str) -> Any:
    """Read a member by its dotted path, None if it is missing."""
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


class Table:
    """Rows by key, and sorted by each member that was requested lately."""

    def __init__(self) -> None:
        self._rows: dict[Key, Row] = {}
        self._sorted: dict[str, list[tuple[Any, int, Row]]] = {}
        self._filtered: dict[Hashable, list[tuple[Any, int, Row]]] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows.values())

    def get(self, key: Key) -> Row | None:
        """Return the row with that key, if any."""
        return self._rows.get(key)

    def put(self, row: Row) -> None:
        """Add a row, or replace the one with the same key."""
        old = self._rows.get(row.key)
        if old is not None:
            self._unsort(old)
        self._rows[row.key] = row
        self._filtered.clear()
        for path, entries in self._sorted.items():
            insort(entries, _entry(path, row), key=_position)

    def remove(self, key: Key) -> Row | None:
        """Remove the row with that key, if any, and return it."""
        row = self._rows.pop(key, None)
        if row is not None:
            self._filtered.clear()
            self._unsort(row)
        return row

    def choose(self, rng: random.Random) -> Row | None:
        """Return a random row, or None if there is none."""
        if not self._rows:
            return None
        entries = self._in_order(TIME)
        return entries[-1 - rng.randrange(len(entries))][2]

    def count(self, view: View) -> int:
        """Return the number of rows of a view."""
        return len(self._rows) if view.keep is None else len(self._entries(view))

    def slice(self, view: View, rng: random.Random, start: int = 0, stop: int | None = None) -> list[Row]:
        """Return the rows of a view from *start* up to *stop*. *rng* shuffles rows with equal sort values."""
        entries = self._entries(view)
        if view.ordering.shuffle_ties:
            entries = sorted(entries, key=lambda entry: (entry[0], rng.random()))
        total = len(entries)
        stop = total if stop is None else min(stop, total)
        if not view.ordering.descending:
            return [entry[2] for entry in entries[start:stop]]
        return [entry[2] for entry in reversed(entries[total - stop : max(total - start, 0)])]

    def _entries(self, view: View) -> list[tuple[Any, int, Row]]:
        """Return the entries of a view in ascending order."""
        if view.keep is None:
            return self._in_order(view.ordering.member)
        name = (view.ordering.member, view.name)
        found = self._filtered.get(name)
        if found is None:
            if len(self._filtered) >= _MAX_FILTERED:
                self._filtered.clear()
            keep = view.keep
            found = [entry for entry in self._in_order(view.ordering.member) if keep(entry[2])]
            self._filtered[name] = found
        return found

    def _in_order(self, path: str) -> list[tuple[Any, int, Row]]:
        entries = self._sorted.get(path)
        if entries is None:
            if len(self._sorted) >= _MAX_SORTED:
                del self._sorted[next(iter(self._sorted))]
            entries = sorted((_entry(path, row) for row in self._rows.values()), key=_position)
            self._sorted[path] = entries
        return entries

    def _unsort(self, row: Row) -> None:
        for path, entries in self._sorted.items():
            del entries[bisect_left(entries, _position(_entry(path, row)), key=_position)]


def _entry(path: str, row: Row) -> tuple[Any, int, Row]:
    value = getter(path)(row)
    # A missing value sorts before all others.
    return (value is not None, value), row.number, row


def _position(entry: tuple[Any, int, Row]) -> tuple[Any, int]:
    return entry[0], entry[1]
