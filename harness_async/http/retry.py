"""What to do about a failed attempt, and how long to wait: decisions without I/O.

`classify` turns what happened into one of four verdicts. What may be repeated is the endpoint's to say; GET, PUT and
DELETE are by default, POST is not.

| what happened                              | GET       | PUT, DELETE | POST      |
| ------------------------------------------ | --------- | ----------- | --------- |
| nothing was sent: refused, DNS, no connect | retry     | retry       | retry     |
| TLS or certificate refused, bad address    | fail      | fail        | fail      |
| connection lost, no answer in time         | retry     | retry       | ambiguous |
| answer cut off                             | retry     | retry       | ambiguous |
| success that is not JSON                   | retry, 2x | fail        | ambiguous |
| success that is an HTML page               | fail      | fail        | fail      |
| answer larger than we hold                 | fail      | fail        | fail      |
| 429                                        | gate      | gate        | gate      |
| 408, 499, 5xx other than 501 and 505       | retry     | retry       | ambiguous |
| another status, the body says temporary    | retry, 2x | retry, 2x   | fail      |
| another status                             | fail      | fail        | fail      |

A 429 is a refusal before the service and proves that nothing happened, which is why even a POST may go again. The
reads that count 2x give up after two retries: a body that stays garbled is a fault, not an accident.
"""

from __future__ import annotations

import enum
from typing import Protocol

from attrs import define, frozen

from harness_async.config import RETRY_STATUSES, RetryPolicy

MAX_SUSPECT_RETRIES = 2
"""Retries of what is probably no accident: success that is not JSON, a refusal called temporary."""


class FailureKind(enum.Enum):
    """What happened to an attempt that brought no usable answer."""

    NOT_SENT = "nothing was sent"
    UNUSABLE = "TLS refused or bad address"
    LOST = "connection lost"
    READ_TIMEOUT = "no response in time"
    CUT = "answer cut off"
    NOT_JSON = "success that is not JSON"
    HTML = "success that is an HTML page"
    OVERSIZED = "answer larger than we hold"
    STATUS = "error status"


class RetryAction(enum.Enum):
    """What to do about it."""

    RETRY = "retry"
    """Try again after a backoff."""

    GATE = "gate"
    """Refused by rate: hold everyone back, then try again; no attempt of this call."""

    AMBIGUOUS = "ambiguous"
    """It may have taken effect: never send it again unseen, read back instead."""

    FAIL = "fail"
    """Trying again cannot help."""


@frozen
class Failure:
    """A failed attempt, as far as the decision goes."""

    kind: FailureKind
    status: int | None = None
    temporary: bool = False
    """The body says that it will pass (`temporary` or `timeout` of goa)."""

    retry_after: float | None = None
    """Seconds the server asked to wait."""


class Random(Protocol):
    """The source of jitter: `random.Random`, or a test's."""

    def random(self) -> float:
        """Return a number from 0 up to, not including, 1."""
        ...


def decide(
    failure: Failure, policy: RetryPolicy, *, method: str, repeatable: bool, suspect_failures: int = 0
) -> RetryAction:
    """Decide about a failure; `doubts` counts the doubtful ones (`DOUBTFUL_RETRIES`) before it in this call.

    Attempts and deadline are `Course`'s to count: this is about the kind of failure alone.
    """
    match failure.kind:
        case FailureKind.NOT_SENT:
            return RetryAction.RETRY
        case FailureKind.UNUSABLE | FailureKind.HTML | FailureKind.OVERSIZED:
            return RetryAction.FAIL
        case FailureKind.LOST | FailureKind.READ_TIMEOUT | FailureKind.CUT:
            return RetryAction.RETRY if repeatable else RetryAction.AMBIGUOUS
        case FailureKind.NOT_JSON if not repeatable:
            return RetryAction.AMBIGUOUS
        case FailureKind.NOT_JSON:
            return RetryAction.RETRY if method == "GET" and suspect_failures < MAX_SUSPECT_RETRIES else RetryAction.FAIL
    return _decide_status(failure, policy, repeatable=repeatable, suspect_failures=suspect_failures)


def _decide_status(failure: Failure, policy: RetryPolicy, *, repeatable: bool, suspect_failures: int) -> RetryAction:
    if failure.status == 429:  # noqa: PLR2004
        return RetryAction.GATE
    if failure.status in policy.retry_statuses:
        return RetryAction.RETRY if repeatable else RetryAction.AMBIGUOUS
    if failure.temporary and repeatable and suspect_failures < MAX_SUSPECT_RETRIES:
        return RetryAction.RETRY
    return RetryAction.FAIL


def is_suspect(failure: Failure, policy: RetryPolicy) -> bool:
    """Tell the failures whose retries are counted apart (`DOUBTFUL_RETRIES`)."""
    if failure.kind is FailureKind.STATUS:
        return failure.status != 429 and failure.status not in policy.retry_statuses  # noqa: PLR2004
    return failure.kind is FailureKind.NOT_JSON


def may_have_taken_effect(failure: Failure) -> bool:
    """Tell the failures after which the request may have had its effect: it went out, and nobody refused it."""
    if failure.kind is FailureKind.STATUS:
        return failure.status in RETRY_STATUSES
    return failure.kind not in {FailureKind.NOT_SENT, FailureKind.UNUSABLE, FailureKind.HTML}


def backoff(retry: int, policy: RetryPolicy, rng: Random) -> float:
    """Draw the wait before a retry, in seconds: U(0, min(max_backoff, initial_backoff * 2 ** retry)), retry from 0.

    Full jitter, as in "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015): clients that failed together
    must not come back together.
    """
    # Beyond 2**64 every cap is reached; the bound keeps the float from overflowing.
    return rng.random() * min(policy.max_backoff, policy.initial_backoff * 2.0 ** min(retry, 64))


@frozen
class RetryDecision:
    """What to do next, and after how many seconds."""

    action: RetryAction
    wait: float = 0.0


@define(eq=False, repr=False)
class RetryState:
    """The course of one call: counts its failures and decides about each. One per call, used by one task."""

    policy: RetryPolicy
    method: str
    repeatable: bool
    rng: Random
    failures: int = 0
    """Failures so far that count as attempts: refusals by rate do not."""

    suspect_failures: int = 0

    def decide(self, failure: Failure) -> RetryDecision:
        """Count the failure and say what to do about it.

        The server's `Retry-After` is never undercut; one beyond `max_retry_after` turns the verdict to FAIL, so that
        the error reaches a caller who can plan for it.
        """
        action = decide(
            failure, self.policy, method=self.method, repeatable=self.repeatable, suspect_failures=self.suspect_failures
        )
        self.suspect_failures += is_suspect(failure, self.policy)
        if action not in {RetryAction.RETRY, RetryAction.GATE}:
            return RetryDecision(action)
        asked = failure.retry_after or 0.0
        if asked > self.policy.max_retry_after or self._is_last(action):
            return RetryDecision(RetryAction.FAIL)
        if action is RetryAction.GATE:
            return RetryDecision(action)
        # A server closes kept-alive connections whenever it likes, and the next request finds out: no reason to wait.
        is_stale = failure.kind is FailureKind.LOST and self.failures == 0
        wait = asked if is_stale else max(asked, backoff(self.failures, self.policy, self.rng))
        self.failures += 1
        return RetryDecision(action, wait)

    def _is_last(self, action: RetryAction) -> bool:
        most = self.policy.max_attempts
        if most is None:
            return False
        # A refusal by rate is no attempt, but who says "one" means that nothing goes out twice.
        return most == 1 if action is RetryAction.GATE else self.failures + 1 >= most
