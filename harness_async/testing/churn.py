"""Rows that are added, removed and changed while a list is read."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

from harness_async.testing.data.collection import COLLECTIONS, CollectionName
from harness_async.testing.data.table import read_path

if TYPE_CHECKING:
    from harness_async.testing.data.account import Account
    from harness_async.testing.recorded import RecordedRequest
    from harness_async.testing.responses import Json


class Churn:
    """Changes the rows of a list with each request. Assign it to `fake.before_request`.

    *collection* names the rows, by default the IaCM executions of the project. Each rate is the mean number of
    events per request, drawn from a Poisson distribution: *arrivals* of rows created now, *late* rows created
    up to *late_by* seconds ago, *departures* and *status_changes* of random rows. A change also sets the time
    of the last change, where rows have one. `arrived` and `departed` hold the rows that were added and removed.
    """

    def __init__(
        self,
        fake: Account,
        org: str,
        project: str,
        *,
        collection: CollectionName = "executions",
        seed: int = 0,
        arrivals: float = 0.2,
        departures: float = 0.05,
        late: float = 0.0,
        late_by: float = 10.0,
        status_changes: float = 0.0,
    ) -> None:
        self.fake = fake
        self.org = org
        self.project = project
        self.collection: CollectionName = collection
        self.arrivals = arrivals
        self.departures = departures
        self.late = late
        self.late_by = late_by
        self.status_changes = status_changes
        self.arrived: list[Json] = []
        self.departed: list[Json] = []
        self._kind = COLLECTIONS[collection]
        self._rng = random.Random(seed)

    def __call__(self, _request: RecordedRequest) -> None:
        """Perform the events of one request."""
        with self.fake.lock:
            for _ in range(self._draw(self.departures)):
                self._depart()
            for _ in range(self._draw(self.status_changes)):
                self._change()
            for _ in range(self._draw(self.late)):
                self._arrive(self.fake.now() - int(self._rng.uniform(0, self.late_by) * 1000))
            for _ in range(self._draw(self.arrivals)):
                self._arrive(self.fake.now())

    def _arrive(self, time: int) -> None:
        fields: dict[str, str] = {}
        if self._kind.status is not None:
            fields[self._kind.status.rpartition(".")[2]] = self._rng.choice(self._kind.statuses)
        self.arrived.append(self.fake.add_row(self.collection, self.org, self.project, time=time, **fields))

    def _depart(self) -> None:
        row = self.fake.table(self.collection, self.org, self.project).choose(self._rng)
        if row is not None:
            self.fake.remove(self.collection, row.wire)
            self.departed.append(dict(row.wire))

    def _change(self) -> None:
        row = self.fake.table(self.collection, self.org, self.project).choose(self._rng)
        if row is None:
            return
        members: dict[str, object] = {}
        if self._kind.updated is not None:
            members[self._kind.updated] = self.fake.now()
        if self._kind.status is not None:
            current = read_path(row.wire, self._kind.status)
            members[self._kind.status] = self._rng.choice([word for word in self._kind.statuses if word != current])
        self.fake.change(self.collection, row.wire, **members)

    def _draw(self, mean: float) -> int:
        """Draw a Poisson count by multiplying uniform numbers (Knuth): exact, and fast for small means."""
        threshold, count, product = math.exp(-mean), 0, self._rng.random()
        while product > threshold:
            count += 1
            product *= self._rng.random()
        return count
