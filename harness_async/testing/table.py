"""The executions of one project, kept in the order in which lists show them.

The API promises no order, so the server offers several. Whichever is in force, the rows stand sorted at all
times: a page is a slice, and a row that comes or goes costs a binary search instead of a new sort.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import TYPE_CHECKING, Literal

import attrs

from harness_async.testing.responses import Json, stable_hash

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Hashable, Iterator

Order = Literal["newest", "oldest", "hash", "random_ties"]
Key = tuple[str, str]
"""What addresses an execution within its project: pipeline execution and stage."""

_Place = tuple[int, int]
_KEPT_FILTERS = 16  # results of filters kept per table; readers of one list use one or two


@attrs.frozen
class Row:
    """An execution as stored: what goes over the wire, and what only filters see."""

    wire: Json
    pipeline_name: str
    number: int
    """Counts the rows of the server as they are added; settles ties of `created`."""

    @property
    def key(self) -> Key:
        """The two ids that address the row."""
        return self.wire["pipeline_execution_id"], self.wire["pipeline_stage_id"]

    def place(self, order: Order) -> _Place:
        """Say where the row stands in that order; no two rows share a place."""
        created: int = self.wire["created"]
        if order == "oldest":
            return created, self.number
        if order == "hash":
            return stable_hash("/".join(self.key)), self.number
        return -created, -self.number


class Table:
    """Rows by key and in order; a row's wire dict is replaced, never changed."""

    def __init__(self) -> None:
        self._rows: dict[Key, Row] = {}
        self._order: Order | None = None
        self._sorted: list[tuple[_Place, Row]] = []
        self._filtered: dict[Hashable, list[Row]] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows.values())

    def get(self, key: Key) -> Row | None:
        """Look a row up."""
        return self._rows.get(key)

    def put(self, row: Row) -> None:
        """Add a row, or replace the one of the same key."""
        self.drop(row.key)
        self._filtered.clear()
        self._rows[row.key] = row
        if self._order is not None:
            insort(self._sorted, (row.place(self._order), row), key=_place)

    def drop(self, key: Key) -> Row | None:
        """Remove a row if it is there, and return it."""
        self._filtered.clear()
        row = self._rows.pop(key, None)
        if row is not None and self._order is not None:
            del self._sorted[bisect_left(self._sorted, row.place(self._order), key=_place)]
        return row

    def pick(self, rng: random.Random) -> Row | None:
        """Draw a row at random, None when there is none."""
        if not self._rows:
            return None
        entries = self._in_order(self._order or "newest")
        return entries[rng.randrange(len(entries))][1]

    def rows(self, order: Order, rng: random.Random) -> list[Row]:
        """List the rows in that order; *rng* shuffles rows of equal `created` under "random_ties"."""
        rows = [row for _, row in self._in_order(order)]
        if order == "random_ties":
            rows.sort(key=lambda row: (-row.wire["created"], rng.random()))
        return rows

    def slice(self, order: Order, rng: random.Random, start: int, stop: int) -> list[Row]:
        """List the rows from *start* up to *stop* in that order; costs a slice unless ties are drawn."""
        if order == "random_ties":
            return self.rows(order, rng)[start:stop]
        return [row for _, row in self._in_order(order)[start:stop]]

    def matching(self, order: Order, rng: random.Random, name: Hashable, keep: Callable[[Row], bool]) -> list[Row]:
        """List the rows that *keep* keeps, in that order.

        *name* stands for what *keep* does: while no row changes, its next page costs nothing.
        """
        if order == "random_ties":
            return [row for row in self.rows(order, rng) if keep(row)]
        found = self._filtered.get((order, name))
        if found is None:
            if len(self._filtered) >= _KEPT_FILTERS:
                self._filtered.clear()
            found = [row for _, row in self._in_order(order) if keep(row)]
            self._filtered[order, name] = found
        return found

    def _in_order(self, order: Order) -> list[tuple[_Place, Row]]:
        if order != self._order:
            self._order = order
            self._sorted = sorted(((row.place(order), row) for row in self._rows.values()), key=_place)
        return self._sorted


def _place(entry: tuple[_Place, Row]) -> _Place:
    return entry[0]
