"""Retry decisions: which failure is retried for which method, after which wait, and how often."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness_async.config import RetryPolicy
from harness_async.http.retry import Failure, FailureKind, RetryAction, RetryDecision, RetryState, decide, draw_backoff

POLICY = RetryPolicy()
ALMOST_ONE = math.nextafter(1.0, 0.0)
TRANSIENT = [408, 499, *(status for status in range(500, 600) if status not in {501, 505})]
PERMANENT = [300, 302, 304, 307, 400, 401, 403, 404, 405, 409, 410, 412, 415, 422, 423, 501, 505]

RETRY, ONCE, TWICE, GATE, AMBIGUOUS, FAIL = "retry", "retry once", "retry twice", "gate", "ambiguous", "fail"
SEQUENCES = {ONCE: [RETRY, FAIL, FAIL, FAIL], TWICE: [RETRY, RETRY, FAIL, FAIL]}

TABLE: list[tuple[list[Failure], str, str, str]] = [
    # what happened, and what follows for GET, for PUT and DELETE, for POST
    ([Failure(FailureKind.NOT_SENT)], RETRY, RETRY, RETRY),
    ([Failure(FailureKind.UNUSABLE)], FAIL, FAIL, FAIL),
    ([Failure(FailureKind.LOST), Failure(FailureKind.READ_TIMEOUT)], RETRY, RETRY, AMBIGUOUS),
    ([Failure(FailureKind.CUT), Failure(FailureKind.CUT, 200)], RETRY, RETRY, AMBIGUOUS),
    ([Failure(FailureKind.GARBLED, detail="a bad header")], ONCE, ONCE, AMBIGUOUS),
    ([Failure(FailureKind.NOT_JSON, 200)], TWICE, FAIL, AMBIGUOUS),
    ([Failure(FailureKind.HTML, 200)], FAIL, FAIL, FAIL),
    ([Failure(FailureKind.OVERSIZED, 200), Failure(FailureKind.OVERSIZED, 503)], FAIL, FAIL, FAIL),
    ([Failure(FailureKind.STATUS, 429), Failure(FailureKind.STATUS, 429, True, 7.0)], GATE, GATE, GATE),
    ([Failure(FailureKind.STATUS, status) for status in TRANSIENT], RETRY, RETRY, AMBIGUOUS),
    ([Failure(FailureKind.STATUS, status, True) for status in TRANSIENT], RETRY, RETRY, AMBIGUOUS),
    ([Failure(FailureKind.STATUS, status, True) for status in PERMANENT], TWICE, TWICE, FAIL),
    ([Failure(FailureKind.STATUS, status) for status in PERMANENT], FAIL, FAIL, FAIL),
]

LOST = Failure(FailureKind.READ_TIMEOUT)
THROTTLED = Failure(FailureKind.STATUS, 429)
BUSY = Failure(FailureKind.STATUS, 503)
UNAUTHORIZED = Failure(FailureKind.STATUS, 401)
NOT_JSON = Failure(FailureKind.NOT_JSON, 200)
TEMPORARY = Failure(FailureKind.STATUS, 409, temporary=True)


class Fixed:
    """A source of jitter that always returns the same number."""

    def __init__(self, value: float) -> None:
        self.value = value

    def random(self) -> float:
        return self.value


def create_state(jitter: float = ALMOST_ONE, *, method: str = "GET", **settings: Any) -> RetryState:
    return RetryState(RetryPolicy(**settings), method, repeatable=method != "POST", rng=Fixed(jitter))


def actions(state: RetryState, *failures: Failure) -> str:
    """Return the actions that follow from failures, one after another, in one call."""
    return " ".join(state.decide(failure).action.value for failure in failures)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row[0][0].kind.name}-{row[0][0].status}-{row[1]}")
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "POST"])
def test_actions(row: tuple[list[Failure], str, str, str], method: str) -> None:
    """A failure is retried, throttles all calls, leaves the effect ambiguous or is final, by kind and method."""
    failures, *columns = row
    action = columns[["GET", "PUT", "POST"].index(method if method != "DELETE" else "PUT")]
    for failure in failures:
        expected = " ".join(SEQUENCES.get(action, [action] * 4))
        assert actions(create_state(method=method), *[failure] * 4) == expected


def test_every_failure_kind_is_in_the_table() -> None:
    """The table of actions covers every kind of failure."""
    assert {failure.kind for failures, *_ in TABLE for failure in failures} == set(FailureKind)


@pytest.mark.parametrize("kind", [FailureKind.LOST, FailureKind.CUT, FailureKind.NOT_JSON])
def test_repeatable_wins_over_the_method(kind: FailureKind) -> None:
    """A GET that is not repeatable is not retried, and a POST that is repeatable is, unless its body is suspect."""
    assert decide(Failure(kind), POLICY, method="GET", repeatable=False) is RetryAction.AMBIGUOUS
    repeated = RetryAction.FAIL if kind is FailureKind.NOT_JSON else RetryAction.RETRY
    assert decide(Failure(kind), POLICY, method="POST", repeatable=True) is repeated


def test_throttled_is_not_an_attempt() -> None:
    """A 429 neither counts as an attempt nor lengthens the backoff, and its wait is left to the gate."""
    state = create_state(max_attempts=2)
    waiting = Failure(FailureKind.STATUS, 429, retry_after=5.0)
    assert [state.decide(waiting) for _ in range(50)] == [RetryDecision(RetryAction.GATE, 0.0)] * 50
    assert state.decide(BUSY) == RetryDecision(RetryAction.RETRY, ALMOST_ONE * 0.5)
    assert actions(state, THROTTLED, BUSY) == f"{GATE} {FAIL}"


def test_suspect_failures_are_counted_together() -> None:
    """Suspect failures of different kinds share two retries, which other failures do not use up."""
    assert actions(create_state(), NOT_JSON, TEMPORARY, NOT_JSON) == f"{RETRY} {RETRY} {FAIL}"
    state = create_state()
    assert actions(state, LOST, THROTTLED, BUSY, LOST) == f"{RETRY} {GATE} {RETRY} {RETRY}"
    assert actions(state, NOT_JSON, LOST, NOT_JSON, NOT_JSON) == f"{RETRY} {RETRY} {RETRY} {FAIL}"


@pytest.mark.parametrize("between", [[], [BUSY], [THROTTLED, LOST]], ids=["nothing", "503", "429 and timeout"])
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_unauthorized_after_the_key_was_accepted(method: str, between: list[Failure]) -> None:
    """A 401 for a key that was accepted before is retried once in a call, whatever else fails in between."""
    failures = [UNAUTHORIZED, *between, UNAUTHORIZED]
    state = create_state(method=method)
    decided = [state.decide(failure, key_was_accepted=True).action.value for failure in failures]
    assert (decided[0], decided[-1]) == (RETRY, FAIL)
    assert FAIL not in decided[:-1]


def test_garbled_responses_that_differ() -> None:
    """Responses that cannot be parsed for different reasons are retried twice, one that comes again is not."""
    first, second, third = (Failure(FailureKind.GARBLED, detail=detail) for detail in ("a", "b", "c"))
    assert actions(create_state(), first, second, third) == f"{RETRY} {RETRY} {FAIL}"
    assert actions(create_state(), first, BUSY, first, first) == f"{RETRY} {RETRY} {RETRY} {FAIL}"


@pytest.mark.parametrize("jitter", [0.0, 0.5, ALMOST_ONE])
def test_backoff(jitter: float) -> None:
    """The backoff doubles with each retry, up to `max_backoff`; the first lost connection is retried at once."""
    assert create_state(jitter).decide(Failure(FailureKind.LOST)) == RetryDecision(RetryAction.RETRY, 0.0)
    state = create_state(jitter)
    waits = [state.decide(LOST).wait for _ in range(8)]
    assert waits == pytest.approx([jitter * bound for bound in (0.5, 1, 2, 4, 8, 16, 20, 20)])
    assert state.failures == 8
    assert draw_backoff(100_000, POLICY, Fixed(jitter)) == jitter * 20.0 < 20.0


@pytest.mark.parametrize("jitter", [0.0, ALMOST_ONE])
@pytest.mark.parametrize("seconds", [0.0, 0.1, 3.0, 120.0])
def test_retry_after(seconds: float, jitter: float) -> None:
    """The wait is the longer of Retry-After and the backoff."""
    decision = create_state(jitter).decide(Failure(FailureKind.STATUS, 503, retry_after=seconds))
    assert decision == RetryDecision(RetryAction.RETRY, max(seconds, jitter * 0.5))


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("seconds", [120.1, 3600.0, math.inf])
def test_retry_after_beyond_the_cap(seconds: float, status: int) -> None:
    """A Retry-After longer than `max_retry_after` ends the call."""
    failure = Failure(FailureKind.STATUS, status, retry_after=seconds)
    assert create_state().decide(failure) == RetryDecision(RetryAction.FAIL)
    assert create_state(max_retry_after=math.inf).decide(failure).action is not RetryAction.FAIL
    none = create_state(max_retry_after=0.0)
    assert none.decide(Failure(FailureKind.STATUS, status, retry_after=0.1)).action is RetryAction.FAIL
    assert none.decide(Failure(FailureKind.STATUS, status)).action is not RetryAction.FAIL


FAILURES = st.builds(
    Failure,
    st.sampled_from(FailureKind),
    st.none() | st.integers(200, 599),
    st.booleans(),
    st.none() | st.floats(0, 500),
)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(FAILURES, max_size=20),
    st.none() | st.integers(1, 5),
    st.sampled_from(["GET", "PUT", "POST", "PATCH"]),
    st.integers(),
)
def test_bounds_of_a_call(failures: list[Failure], attempts: int | None, method: str, seed: int) -> None:
    """Whatever fails, attempts and waits stay within the policy, and only repeatable calls are repeated."""
    policy = RetryPolicy(max_attempts=attempts)
    repeatable = method in {"GET", "PUT"}
    state = RetryState(policy, method, repeatable, random.Random(seed))
    retries = 0
    for failure in failures:
        decision = state.decide(failure)
        retries += decision.action is RetryAction.RETRY
        assert attempts is None or retries < attempts
        if decision.action is RetryAction.RETRY:
            seconds = failure.retry_after or 0.0
            assert seconds <= decision.wait <= max(seconds, policy.max_backoff)
            assert seconds <= policy.max_retry_after
            assert repeatable or failure.kind is FailureKind.NOT_SENT
        else:
            assert decision.wait == 0.0
        assert decision.action is not RetryAction.AMBIGUOUS or not repeatable
