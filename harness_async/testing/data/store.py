"""Storage common to all collections."""

from __future__ import annotations

import base64
import random
import re
import threading
import time
import uuid
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from harness_async.testing.data.collection import COLLECTIONS, CollectionName, Scope, copy_json, with_member
from harness_async.testing.data.table import HASH, TIME, Key, Order, Ordering, Row, Table, View
from harness_async.testing.responses import Json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Store:
    """Rows of all collections, by scope.

    Every method holds a lock, so it may be called from any thread while the server runs in its own. Rows are
    returned as copies: modifying one changes nothing on the server.
    """

    def __init__(self, *, order: Order = "newest", clock: Callable[[], float] = time.time) -> None:
        self.order: Order = order
        self.clock = clock
        self.lock: AbstractContextManager[Any] = threading.RLock()
        self.rng: random.Random = random.Random(0)
        self._tables: dict[str, dict[Scope, Table]] = {name: {} for name in COLLECTIONS}
        self._numbers = 0

    def now(self) -> int:
        """Return the time of `clock` in milliseconds."""
        return int(self.clock() * 1000)

    def draw_id(self, rng: random.Random | None = None) -> str:
        """Return a random id of 22 URL-safe base64 characters.

        One in eight begins with `-` or `_`, as real ones sometimes do. Command lines have to handle them.
        """
        rng = rng or self.rng
        text = base64.urlsafe_b64encode(rng.randbytes(16)).decode().rstrip("=")
        draw = rng.random()
        return text if draw > 1 / 8 else ("-" if draw > 1 / 16 else "_") + text[1:]

    def draw_uuid(self, rng: random.Random | None = None) -> str:
        """Return a random UUID."""
        return str(uuid.UUID(bytes=(rng or self.rng).randbytes(16), version=4))

    def next_identifier(self, prefix: str) -> str:
        """Return an identifier that ends in a new number."""
        self._numbers += 1
        return f"{prefix}_{self._numbers}"

    def table(self, name: CollectionName, org: str | None = None, project: str | None = None) -> Table:
        """Return the table of a scope, empty if it has no rows. For use by the server, while holding the lock."""
        scope = (None, None) if COLLECTIONS[name].scope is None else (org, project)
        tables = self._tables[name]
        if scope not in tables:
            tables[scope] = Table()
        return tables[scope]

    def rows(self, name: CollectionName, org: str | None = None, project: str | None = None) -> list[Json]:
        """Return the stored rows of a scope, sorted by time as `order` says."""
        with self.lock:
            rows = self.table(name, org, project).slice(View(self.ordering()), self.rng)
            return [copy_json(row.wire) for row in rows]

    def remove(self, name: CollectionName, row: Mapping[str, Any]) -> None:
        """Remove the stored row with the identity of *row*. Raises KeyError if there is none."""
        collection = COLLECTIONS[name]
        with self.lock:
            if self.table(name, *collection.scope_of(row)).remove(collection.key(row)) is None:
                raise KeyError(collection.key(row))

    def change(self, name: CollectionName, row: Mapping[str, Any], **members: Any) -> Json:
        """Replace members of the stored row with the identity of *row*, and return the row.

        A name may be a dotted path, such as `**{"metadata.activity_status": "failure"}`. Raises KeyError if
        there is no such row, ValueError if the change would give it another identity.
        """
        collection = COLLECTIONS[name]
        with self.lock:
            table, key = self.table(name, *collection.scope_of(row)), collection.key(row)
            found = table.get(key)
            if found is None:
                raise KeyError(key)
            wire: Json = found.wire
            for path, value in members.items():
                wire = with_member(wire, path, copy_json(value))
            if collection.key(wire) != key or collection.scope_of(wire) != collection.scope_of(found.wire):
                raise ValueError(f"the identity of a row cannot change: {', '.join(members)}")
            table.put(Row(wire, key, collection.time_of(wire), found.number, found.hidden))
            return copy_json(wire)  # type: ignore[no-any-return]

    def ordering(self, default: Ordering | None = None) -> Ordering:
        """Return the sort order that `order` says. *default* replaces "newest first", where it is documented."""
        match self.order:
            case "newest":
                return default or Ordering(TIME)
            case "oldest":
                return Ordering(TIME, descending=False)
            case "hash":
                return Ordering(HASH, descending=False)
            case "random_ties":
                default = default or Ordering(TIME)
                return Ordering(default.member, default.descending, shuffle_ties=True)

    def _add(self, name: CollectionName, wire: Json, *, replace: bool = False, **hidden: Any) -> Json:
        """Store a row and return a copy. Raises ValueError if the identity is taken, unless *replace*."""
        self._put(name, wire, hidden, replace=replace)
        return copy_json(wire)  # type: ignore[no-any-return]

    def _put(self, name: CollectionName, wire: Json, hidden: Json, *, replace: bool = False) -> None:
        """Store a row. Raises ValueError if the identity is taken, unless *replace*."""
        collection = COLLECTIONS[name]
        scope, key = collection.scope_of(wire), collection.key(wire)
        table = self.table(name, *scope)
        found = table.get(key)
        if found is not None and not replace:
            raise ValueError(f"{name} has {_describe(scope, key)} already")
        self._numbers += 1
        number = self._numbers if found is None else found.number
        table.put(Row(wire, key, collection.time_of(wire), number, hidden))


def _describe(scope: Scope, key: Key) -> str:
    return "/".join(part for part in (*scope, *key) if part is not None)


def display_name(identifier: str) -> str:
    """Derive a display name from an identifier, using only characters that the API allows in names."""
    return re.sub(r"[^0-9A-Za-z_ -]", " ", identifier.replace("_", " ")).strip().capitalize() or identifier
