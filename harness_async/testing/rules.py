"""Rules that select the requests to which faults apply."""

from __future__ import annotations

import random
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness_async.testing.faults import Fault
    from harness_async.testing.recorded import RecordedRequest


@attrs.define(eq=False)
class Rule:
    """A fault and its conditions. `hits` counts the requests it applied to, `seen` the requests that matched."""

    fault: Fault
    times: int | None = None
    every: int | None = None
    share: float | None = None
    when: Callable[[RecordedRequest], bool] | None = None
    path: str | None = None
    method: str | None = None
    hits: int = 0
    seen: int = 0

    def check(self, request: RecordedRequest, rng: random.Random) -> bool:
        """Return whether the fault applies to this request, and update the counts."""
        if not self._matches(request):
            return False
        self.seen += 1
        if self.times is not None and self.hits >= self.times:
            return False
        if self.every is not None and self.seen % self.every != 0:
            return False
        if self.share is not None and rng.random() >= self.share:
            return False
        self.hits += 1
        return True

    def _matches(self, request: RecordedRequest) -> bool:
        return (
            (self.method is None or self.method.upper() == request.method)
            and (self.path is None or fnmatchcase(request.path, self.path))
            and (self.when is None or self.when(request))
        )


class Faults:
    """The faults of a server."""

    def __init__(self) -> None:
        self._rules: list[Rule] = []
        self.seed = 0

    @property
    def seed(self) -> int:
        """The seed of the random shares. Setting it restarts the random sequence."""
        return self._seed

    @seed.setter
    def seed(self, seed: int) -> None:
        self._seed = seed
        self._rng = random.Random(seed)

    def add(
        self,
        fault: Fault,
        *,
        times: int | None = None,
        every: int | None = None,
        share: float | None = None,
        when: Callable[[RecordedRequest], bool] | None = None,
        path: str | None = None,
        method: str | None = None,
    ) -> Rule:
        """Apply a fault to every request that matches, or to some of them.

        *when*, *path* (a glob on the percent-encoded path with the server's prefix) and *method* select the
        requests. The fault applies to the first *times* of them, to every *every*-th, or to a random *share*.
        If several faults would replace the response, the first one added does, and the others do not count.
        """
        rule = Rule(fault, times, every, share, when, path, method)
        self._rules.append(rule)
        return rule

    def clear(self) -> None:
        """Remove all faults. The returned rules keep their counts."""
        self._rules = []

    def select(self, request: RecordedRequest) -> tuple[Fault | None, list[Fault]]:
        """Return the fault that replaces the response to a request, and the faults that modify it."""
        replacement: Fault | None = None
        modifiers: list[Fault] = []
        for rule in self._rules:
            if rule.fault.replaces:
                if replacement is None and rule.check(request, self._rng):
                    replacement = rule.fault
            elif rule.check(request, self._rng):
                modifiers.append(rule.fault)
        return replacement, modifiers
