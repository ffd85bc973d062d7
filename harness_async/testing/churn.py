"""Rows that arrive, go away and change while a list is being read."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness_async.testing.account import Account
    from harness_async.testing.recorded import RecordedRequest
    from harness_async.testing.responses import Json

_STATUSES = ("none", "success", "failure")


class Churn:
    """Moves the rows of one project a little with each request; use it as `fake.before_request`.

    Each rate is the mean number of events per request, drawn from a Poisson distribution: *arrivals* of rows
    created now, *late* rows created up to *late_by* seconds ago, *departures* of random rows,
    *status_changes* of random rows. `arrived` and `departed` keep the rows that came and went.
    """

    def __init__(
        self,
        fake: Account,
        org: str,
        project: str,
        *,
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
        self.arrivals = arrivals
        self.departures = departures
        self.late = late
        self.late_by = late_by
        self.status_changes = status_changes
        self.arrived: list[Json] = []
        self.departed: list[Json] = []
        self._rng = random.Random(seed)

    def __call__(self, _request: RecordedRequest) -> None:
        """Let one request's worth of events happen."""
        with self.fake.lock:
            for _ in range(self._draw(self.departures)):
                self._depart()
            for _ in range(self._draw(self.status_changes)):
                self._change()
            for _ in range(self._draw(self.late)):
                self._arrive(self.fake.now() - int(self._rng.uniform(0, self.late_by) * 1000))
            for _ in range(self._draw(self.arrivals)):
                self._arrive(self.fake.now())

    def _arrive(self, created: int) -> None:
        status = self._rng.choice(_STATUSES)
        self.arrived.append(self.fake.add_execution(self.org, self.project, created=created, status=status))

    def _depart(self) -> None:
        row = self.fake.tables[self.org, self.project].pick(self._rng)
        if row is not None:
            self.fake.remove_execution(row.wire)
            self.departed.append(dict(row.wire))

    def _change(self) -> None:
        row = self.fake.tables[self.org, self.project].pick(self._rng)
        if row is not None:
            self.fake.set_status(row.wire, self._rng.choice([s for s in _STATUSES if s != row.wire["status"]]))

    def _draw(self, mean: float) -> int:
        """Draw a Poisson count by multiplying uniforms (Knuth): exact, and fast for small means."""
        threshold, count, product = math.exp(-mean), 0, self._rng.random()
        while product > threshold:
            count += 1
            product *= self._rng.random()
        return count
