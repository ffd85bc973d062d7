"""When faults happen: rules over requests, in the order they were added."""

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
    """A fault and when it happens; `hits` counts how often it has, `seen` the requests it could have met."""

    fault: Fault
    times: int | None = None
    every: int | None = None
    share: float | None = None
    when: Callable[[RecordedRequest], bool] | None = None
    path: str | None = None
    method: str | None = None
    hits: int = 0
    seen: int = 0

    def fires(self, request: RecordedRequest, rng: random.Random) -> bool:
        """Say whether the fault happens to this request, and count."""
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
    """The faults of a server. Without any, all goes well."""

    def __init__(self) -> None:
        self._rules: list[Rule] = []
        self.seed = 0

    @property
    def seed(self) -> int:
        """The seed of the random shares; setting it starts their draws anew."""
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
        """Let a fault happen to every request that matches, or to fewer.

        *when*, *path* (a glob on the path as it came: still encoded, with the server's prefix) and *method*
        say which requests match. Of those the fault meets the first *times*, every *every*-th, or a random
        *share*. If several faults would take the place of the answer, the first added wins and the others do
        not count.
        """
        rule = Rule(fault, times, every, share, when, path, method)
        self._rules.append(rule)
        return rule

    def clear(self) -> None:
        """Forget all faults; the handles keep their counts."""
        self._rules = []

    def strike(self, request: RecordedRequest) -> tuple[Fault | None, list[Fault]]:
        """Draw what happens to a request: a fault in place of the answer, and those that change it."""
        replacement: Fault | None = None
        changes: list[Fault] = []
        for rule in self._rules:
            if rule.fault.replaces:
                if replacement is None and rule.fires(request, self._rng):
                    replacement = rule.fault
            elif rule.fires(request, self._rng):
                changes.append(rule.fault)
        return replacement, changes
