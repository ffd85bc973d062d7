"""The retry table: what to do about a failed attempt, and how long to wait. Pure decisions.

Whether a request may be repeated is declared by its endpoint; GET, PUT and DELETE are repeatable by default, POST is
not.

| failure                                          | GET       | PUT, DELETE | POST      |
| ------------------------------------------------ | --------- | ----------- | --------- |
| nothing was sent: refused, DNS, connect timeout  | retry     | retry       | retry     |
| TLS or certificate refused, bad address          | fail      | fail        | fail      |
| connection lost, no response in time             | retry     | retry       | ambiguous |
| response cut off                                 | retry     | retry       | ambiguous |
| response that cannot be parsed or decoded        | retry, 1x | retry, 1x   | ambiguous |
| success that is not JSON                         | retry, 2x | fail        | ambiguous |
| success that is an HTML page                     | fail      | fail        | fail      |
| response larger than the size limit              | fail      | fail        | fail      |
| 429                                              | gate      | gate        | gate      |
| 408, 499, 5xx except 501 and 505                 | retry     | retry       | ambiguous |
| another status, the body says temporary          | retry, 2x | retry, 2x   | fail      |
| 401 after the key was accepted                   | retry, 1x | retry, 1x   | retry, 1x |
| another status                                   | fail      | fail        | fail      |

A 429 comes from in front of the service and proves that nothing happened, so even a POST may be sent again. What is
retried 2x is probably not a passing fault, so it is retried twice at most; a response that cannot be parsed is
permanent when it comes in the same way again. Harness responds with 401 when its token service fails, so a key that was
accepted before is tried once more.
"""

from __future__ import annotations

import enum
from typing import Protocol

from attrs import define, frozen

from harness_async.config import RETRY_STATUSES, RetryPolicy

MAX_SUSPECT_RETRIES = 2
"""Retries of a failure that is probably permanent: a success that is not JSON, an error that claims to be temporary."""

_TOO_MANY_REQUESTS = 429
_UNAUTHORIZED = 401


class FailureKind(enum.Enum):
    """What happened to an attempt without a usable response."""

    NOT_SENT = "nothing was sent"
    UNUSABLE = "TLS refused or bad address"
    LOST = "connection lost"
    READ_TIMEOUT = "no response in time"
    CUT = "response cut off"
    GARBLED = "response that cannot be parsed or decoded"
    NOT_JSON = "success that is not JSON"
    HTML = "success that is an HTML page"
    OVERSIZED = "response larger than the size limit"
    STATUS = "error status"


class RetryAction(enum.Enum):
    """What to do about a failure."""

    RETRY = "retry"
    """Send the request again after a backoff."""

    GATE = "gate"
    """Hold back all requests, then send this one again. It does not count as an attempt."""

    AMBIGUOUS = "ambiguous"
    """Raise: the request may have taken effect and must not be sent again unseen."""

    FAIL = "fail"
    """Raise: another attempt cannot help."""


@frozen
class Failure:
    """The facts about a failed attempt that the decision depends on."""

    kind: FailureKind
    status: int | None = None
    temporary: bool = False
    """Whether the body says that the failure is temporary (`temporary` or `timeout` of goa)."""

    retry_after: float | None = None
    """Seconds that the server requested to wait."""

    detail: str = ""
    """What could not be parsed."""


class Random(Protocol):
    """A source of jitter, such as `random.Random`."""

    def random(self) -> float:
        """Return a number from 0 up to, not including, 1."""
        ...


@frozen
class RetryDecision:
    """What to do next, and after how many seconds."""

    action: RetryAction
    wait: float = 0.0


def decide(
    failure: Failure, policy: RetryPolicy, *, method: str, repeatable: bool, suspect_failures: int = 0
) -> RetryAction:
    """Look a failure up in the retry table.

    `suspect_failures` is the number of suspect failures before it in the same call. Attempts and deadline are not
    considered here.
    """
    match failure.kind:
        case FailureKind.NOT_SENT:
            return RetryAction.RETRY
        case FailureKind.UNUSABLE | FailureKind.HTML | FailureKind.OVERSIZED:
            return RetryAction.FAIL
        case FailureKind.LOST | FailureKind.READ_TIMEOUT | FailureKind.CUT | FailureKind.GARBLED:
            return RetryAction.RETRY if repeatable else RetryAction.AMBIGUOUS
        case FailureKind.NOT_JSON if repeatable:
            may_retry = method == "GET" and suspect_failures < MAX_SUSPECT_RETRIES
            return RetryAction.RETRY if may_retry else RetryAction.FAIL
        case FailureKind.NOT_JSON:
            return RetryAction.AMBIGUOUS
    return _decide_status(failure, policy, repeatable=repeatable, suspect_failures=suspect_failures)


def _decide_status(failure: Failure, policy: RetryPolicy, *, repeatable: bool, suspect_failures: int) -> RetryAction:
    if failure.status == _TOO_MANY_REQUESTS:
        return RetryAction.GATE
    if failure.status in policy.retry_statuses:
        return RetryAction.RETRY if repeatable else RetryAction.AMBIGUOUS
    if failure.temporary and repeatable and suspect_failures < MAX_SUSPECT_RETRIES:
        return RetryAction.RETRY
    return RetryAction.FAIL


def is_suspect(failure: Failure, policy: RetryPolicy) -> bool:
    """Return whether the retries of a failure are limited by `MAX_SUSPECT_RETRIES`."""
    if failure.kind is FailureKind.STATUS:
        return failure.status != _TOO_MANY_REQUESTS and failure.status not in policy.retry_statuses
    return failure.kind in {FailureKind.NOT_JSON, FailureKind.GARBLED}


def may_have_taken_effect(failure: Failure) -> bool:
    """Return whether the request may have had its effect: it was sent, and the service did not reject it."""
    if failure.kind is FailureKind.STATUS:
        return failure.status in RETRY_STATUSES
    return failure.kind not in {FailureKind.NOT_SENT, FailureKind.UNUSABLE, FailureKind.HTML}


def draw_backoff(retry: int, policy: RetryPolicy, rng: Random) -> float:
    """Draw the wait before a retry (from 0), in seconds: U(0, min(max_backoff, initial_backoff * 2 ** retry)).

    Full jitter, as in "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015): clients that failed together
    must not come back together.
    """
    # Beyond 2**64 every maximum is reached; the bound keeps the float from overflowing.
    return rng.random() * min(policy.max_backoff, policy.initial_backoff * 2.0 ** min(retry, 64))


@define(eq=False)
class RetryState:
    """The failures of one call, and the decision about each. Used by one task."""

    policy: RetryPolicy
    method: str
    repeatable: bool
    rng: Random
    failures: int = 0
    """Failures so far that count as attempts; a 429 does not."""

    suspect_failures: int = 0
    unauthorized: bool = False
    """Whether a 401 was already retried."""

    last: Failure | None = None
    """The failure before this one."""

    def decide(self, failure: Failure, *, key_was_accepted: bool = False) -> RetryDecision:
        """Count a failure and return what to do about it.

        The wait is never shorter than the server's `Retry-After`. One beyond `max_retry_after` fails the call, so that
        the error reaches a caller who can plan for it.
        """
        action = decide(
            failure,
            self.policy,
            method=self.method,
            repeatable=self.repeatable,
            suspect_failures=self.suspect_failures,
        )
        if failure.status == _UNAUTHORIZED and key_was_accepted and not self.unauthorized:
            self.unauthorized = True
            action = RetryAction.RETRY
        is_permanent = failure == self.last or self.suspect_failures >= MAX_SUSPECT_RETRIES
        if failure.kind is FailureKind.GARBLED and self.repeatable and is_permanent:
            action = RetryAction.FAIL
        self.suspect_failures += is_suspect(failure, self.policy)
        self.last = failure
        if action not in {RetryAction.RETRY, RetryAction.GATE}:
            return RetryDecision(action)
        requested = failure.retry_after or 0.0
        if requested > self.policy.max_retry_after or self._is_last(action):
            return RetryDecision(RetryAction.FAIL)
        if action is RetryAction.GATE:
            return RetryDecision(action)
        # A server closes kept-alive connections whenever it likes, and the next request finds out: no reason to wait.
        is_stale = failure.kind is FailureKind.LOST and self.failures == 0
        wait = requested if is_stale else max(requested, draw_backoff(self.failures, self.policy, self.rng))
        self.failures += 1
        return RetryDecision(action, wait)

    def _is_last(self, action: RetryAction) -> bool:
        limit = self.policy.max_attempts
        if limit is None:
            return False
        # A 429 does not count as an attempt, but a limit of 1 means that nothing is sent twice.
        return limit == 1 if action is RetryAction.GATE else self.failures + 1 >= limit
