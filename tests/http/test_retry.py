from __future__ import annotations

import math
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness_async.config import RetryPolicy
from harness_async.http import retry
from harness_async.http.retry import (
    MAX_SUSPECT_RETRIES,
    Failure,
    FailureKind,
    RetryAction,
    RetryDecision,
    RetryState,
    backoff,
    decide,
    is_suspect,
)

POLICY = RetryPolicy()
ALMOST_ONE = math.nextafter(1.0, 0.0)
WILL_PASS = [408, 499, *(status for status in range(500, 600) if status not in {501, 505})]
WILL_NOT = [300, 302, 304, 307, 400, 401, 403, 404, 405, 409, 410, 412, 415, 422, 423, 501, 505]

SITUATIONS: dict[str, list[Failure]] = {
    "nothing was sent: refused, DNS, no connect": [Failure(FailureKind.NOT_SENT)],
    "TLS or certificate refused, bad address": [Failure(FailureKind.UNUSABLE)],
    "connection lost, no answer in time": [Failure(FailureKind.LOST), Failure(FailureKind.READ_TIMEOUT)],
    "answer cut off": [Failure(FailureKind.CUT), Failure(FailureKind.CUT, 200)],
    "success that is not JSON": [Failure(FailureKind.NOT_JSON), Failure(FailureKind.NOT_JSON, 200)],
    "success that is an HTML page": [Failure(FailureKind.HTML), Failure(FailureKind.HTML, 200)],
    "429": [Failure(FailureKind.STATUS, 429), Failure(FailureKind.STATUS, 429, temporary=True, retry_after=7.0)],
    "408, 499, 5xx other than 501 and 505": [
        Failure(FailureKind.STATUS, status, temporary=temporary) for status in WILL_PASS for temporary in (False, True)
    ],
    "answer larger than we hold": [Failure(FailureKind.OVERSIZED), Failure(FailureKind.OVERSIZED, 503)],
    "another status, the body says temporary": [
        Failure(FailureKind.STATUS, status, temporary=True) for status in WILL_NOT
    ],
    "another status": [Failure(FailureKind.STATUS, status) for status in WILL_NOT],
}
"""What the first column of the table in the module's docstring means."""


class Fixed:
    """A source of jitter that always gives the same number."""

    def __init__(self, value: float) -> None:
        self.value = value

    def random(self) -> float:
        """Give the number."""
        return self.value


def make_policy(**settings: Any) -> RetryPolicy:
    return RetryPolicy(**settings)


def read_table() -> dict[str, dict[str, str]]:
    """Read the table of the module's docstring: situation, method, word."""
    assert retry.__doc__ is not None
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in retry.__doc__.splitlines()
        if line.startswith("|")
    ]
    head, ruler, *body = rows
    assert all(set(cell) == {"-"} for cell in ruler)
    methods = [(index, method.strip()) for index, cell in enumerate(head[1:], 1) for method in cell.split(",")]
    return {row[0]: {method: row[index] for index, method in methods} for row in body}


TABLE = read_table()


def test_the_table_is_about_all_four_methods_and_every_situation() -> None:
    """The documented table has a row for each situation here, and a column for each method."""
    assert TABLE.keys() == SITUATIONS.keys()
    assert all(row.keys() == {"GET", "PUT", "DELETE", "POST"} for row in TABLE.values())
    words = {"retry", "retry, 2x", "gate", "ambiguous", "fail"}
    assert {word for row in TABLE.values() for word in row.values()} == words


def test_the_table_is_about_every_trouble() -> None:
    """Whatever can happen has a row in the documented table."""
    assert {failure.kind for failures in SITUATIONS.values() for failure in failures} == set(FailureKind)


@pytest.mark.parametrize(
    ("situation", "method", "word"),
    [(situation, method, word) for situation, row in TABLE.items() for method, word in row.items()],
)
def test_the_table_is_what_happens(situation: str, method: str, word: str) -> None:
    """Each cell of the documented table is the verdict, at first and after two doubtful retries."""
    first, _, counted = word.partition(", ")
    for failure in SITUATIONS[situation]:
        verdicts = [
            decide(failure, POLICY, method=method, repeatable=method != "POST", suspect_failures=suspect_failures)
            for suspect_failures in range(4)
        ]
        later = RetryAction.FAIL if counted else RetryAction(first)
        assert verdicts == [RetryAction(first), RetryAction(first), later, later]
        assert is_suspect(failure, POLICY) or not counted


def test_an_oversized_answer_is_final() -> None:
    """What was too large once will be too large again, for every method."""
    for method, repeatable in (("GET", True), ("PUT", True), ("POST", False)):
        for status in (200, 503):
            action = decide(Failure(FailureKind.OVERSIZED, status), POLICY, method=method, repeatable=repeatable)
            assert action is RetryAction.FAIL


@pytest.mark.parametrize("kind", [FailureKind.LOST, FailureKind.CUT, FailureKind.NOT_JSON])
def test_the_endpoint_has_the_last_word_on_repeating(kind: FailureKind) -> None:
    """A GET that must not be repeated is not, and a POST that may be is."""
    failure = Failure(kind)
    assert decide(failure, POLICY, method="GET", repeatable=False) is RetryAction.AMBIGUOUS
    repeated = decide(failure, POLICY, method="POST", repeatable=True)
    assert repeated is (RetryAction.FAIL if kind is FailureKind.NOT_JSON else RetryAction.RETRY)


@pytest.mark.parametrize(
    ("status", "chosen", "action"),
    [
        pytest.param(500, {503}, RetryAction.FAIL, id="server error left out"),
        pytest.param(503, {503}, RetryAction.RETRY, id="server error chosen"),
        pytest.param(423, {423}, RetryAction.RETRY, id="client error chosen"),
        pytest.param(501, {501}, RetryAction.RETRY, id="501 chosen"),
        pytest.param(429, set(), RetryAction.GATE, id="429 is not the policy's to leave out"),
        pytest.param(429, {429}, RetryAction.GATE, id="429 is not the policy's to choose"),
    ],
)
def test_the_policy_chooses_statuses(status: int, chosen: set[int], action: RetryAction) -> None:
    """Which statuses are retried is the policy's to say, except for 429."""
    policy = make_policy(retry_statuses=chosen)
    assert decide(Failure(FailureKind.STATUS, status), policy, method="GET", repeatable=True) is action


# -- the waits -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("retry_number", "most"),
    [(0, 0.5), (1, 1.0), (2, 2.0), (3, 4.0), (4, 8.0), (5, 16.0), (6, 20.0), (7, 20.0), (64, 20.0), (100_000, 20.0)],
)
def test_backoff_bounds(retry_number: int, most: float) -> None:
    """The wait before a retry goes from 0 to double the one before, up to the cap."""
    assert backoff(retry_number, POLICY, Fixed(0.0)) == 0.0
    assert backoff(retry_number, POLICY, Fixed(0.5)) == most / 2
    assert backoff(retry_number, POLICY, Fixed(ALMOST_ONE)) == pytest.approx(most)
    assert backoff(retry_number, POLICY, Fixed(ALMOST_ONE)) < most


@settings(max_examples=50, deadline=None)
@given(
    st.integers(0, 10_000),
    st.floats(0.001, 1e6),
    st.floats(0.001, 1e6),
    st.floats(0, 1, exclude_max=True),
)
def test_backoff_never_leaves_its_bounds(retry_number: int, first: float, more: float, drawn: float) -> None:
    """For every policy and every draw the wait is between 0 and the cap."""
    policy = RetryPolicy(initial_backoff=first, max_backoff=first + more)
    assert 0 <= backoff(retry_number, policy, Fixed(drawn)) <= policy.max_backoff


# -- the course of a call --------------------------------------------------------------------------------------------

LOST = Failure(FailureKind.READ_TIMEOUT)
GATE = Failure(FailureKind.STATUS, 429)
BUSY = Failure(FailureKind.STATUS, 503)
GARBLED = Failure(FailureKind.NOT_JSON, 200)
PASSING = Failure(FailureKind.STATUS, 409, temporary=True)
MISSING = Failure(FailureKind.STATUS, 404)


def make_course(drawn: float = ALMOST_ONE, *, method: str = "GET", **settings: Any) -> RetryState:
    return RetryState(make_policy(**settings), method, repeatable=method != "POST", rng=Fixed(drawn))


def verdicts(retry_state: RetryState, *failures: Failure) -> list[RetryAction]:
    return [retry_state.decide(failure).action for failure in failures]


def test_waits_double() -> None:
    """Each failure doubles the bound of the wait, without an end to the attempts where none is set."""
    retry_state = make_course()
    waits = [retry_state.decide(LOST).wait for _ in range(8)]
    assert waits == pytest.approx([0.5, 1, 2, 4, 8, 16, 20, 20])
    assert [make_course(0.0).decide(LOST).wait for _ in range(3)] == [0, 0, 0]
    assert retry_state.failures == 8


@pytest.mark.parametrize("drawn", [0.0, 0.5, ALMOST_ONE])
@pytest.mark.parametrize("asked", [0.0, 0.1, 3.0, 119.9, 120.0])
def test_retry_after_is_never_undercut(asked: float, drawn: float) -> None:
    """The wait is at least what the server asked for, and at least what was drawn."""
    decision = make_course(drawn).decide(Failure(FailureKind.STATUS, 503, retry_after=asked))
    assert decision == RetryDecision(RetryAction.RETRY, max(asked, drawn * 0.5))


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("asked", [120.1, 3600.0, math.inf])
def test_a_retry_after_beyond_the_cap_ends_the_call(asked: float, status: int) -> None:
    """What the server asks for beyond the cap is the caller's to plan for."""
    retry_state = make_course()
    assert retry_state.decide(Failure(FailureKind.STATUS, status, retry_after=asked)) == RetryDecision(RetryAction.FAIL)
    assert retry_state.decide(Failure(FailureKind.STATUS, status, retry_after=1.0)).action is not RetryAction.FAIL


def test_the_cap_is_the_policys() -> None:
    """The longest Retry-After obeyed is that of the policy, which may be 0 or endless."""
    asking = Failure(FailureKind.STATUS, 503, retry_after=0.1)
    assert make_course(max_retry_after=0.0).decide(asking).action is RetryAction.FAIL
    assert make_course(max_retry_after=0.0).decide(BUSY).action is RetryAction.RETRY
    for asked in (3600.0, 1e9):
        decision = make_course(max_retry_after=math.inf).decide(Failure(FailureKind.STATUS, 503, retry_after=asked))
        assert decision == RetryDecision(RetryAction.RETRY, asked)


@pytest.mark.parametrize("most", [1, 2, 3, 7])
def test_attempts_are_bounded(most: int) -> None:
    """So many attempts fail before the call does, as the policy says."""
    retry_state = make_course(max_attempts=most)
    assert verdicts(retry_state, *[BUSY] * most) == [RetryAction.RETRY] * (most - 1) + [RetryAction.FAIL]


def test_one_attempt_means_that_nothing_goes_out_twice() -> None:
    """With one attempt allowed, not even a refusal by rate is followed by another request."""
    for failure in (GATE, BUSY, LOST, GARBLED, Failure(FailureKind.NOT_SENT)):
        assert make_course(max_attempts=1).decide(failure) == RetryDecision(RetryAction.FAIL)


def test_refusals_by_rate_are_no_attempts() -> None:
    """A refusal by rate neither counts as an attempt nor lengthens the backoff."""
    retry_state = make_course(max_attempts=2)
    assert verdicts(retry_state, *[GATE] * 50) == [RetryAction.GATE] * 50
    assert retry_state.failures == 0
    assert retry_state.decide(BUSY) == RetryDecision(RetryAction.RETRY, ALMOST_ONE * 0.5)
    assert verdicts(retry_state, GATE, BUSY) == [RetryAction.GATE, RetryAction.FAIL]


def test_the_gate_keeps_the_wait_of_a_refusal_by_rate() -> None:
    """How long to hold everyone back is not the call's to say, whatever the server asked for."""
    assert make_course().decide(Failure(FailureKind.STATUS, 429, retry_after=5.0)) == RetryDecision(
        RetryAction.GATE, 0.0
    )


@pytest.mark.parametrize(
    "failures",
    [
        pytest.param([GARBLED] * 3, id="garbled"),
        pytest.param([PASSING] * 3, id="called temporary"),
        pytest.param([GARBLED, PASSING, GARBLED], id="of both kinds"),
    ],
)
def test_doubtful_failures_are_retried_twice(failures: list[Failure]) -> None:
    """What is probably no accident is retried twice in a call, of whichever kind."""
    assert verdicts(make_course(), *failures) == [RetryAction.RETRY, RetryAction.RETRY, RetryAction.FAIL]
    assert MAX_SUSPECT_RETRIES == 2


def test_accidents_do_not_use_up_the_doubts() -> None:
    """Only doubtful failures count towards their bound."""
    retry_state = make_course()
    assert verdicts(retry_state, LOST, GATE, BUSY, LOST) == [
        RetryAction.RETRY,
        RetryAction.GATE,
        RetryAction.RETRY,
        RetryAction.RETRY,
    ]
    assert retry_state.suspect_failures == 0
    assert verdicts(retry_state, GARBLED, LOST, GARBLED, GARBLED) == [*[RetryAction.RETRY] * 3, RetryAction.FAIL]


@pytest.mark.parametrize(
    ("method", "failure", "action"),
    [
        pytest.param("GET", MISSING, RetryAction.FAIL, id="not found"),
        pytest.param("GET", Failure(FailureKind.HTML), RetryAction.FAIL, id="page"),
        pytest.param("POST", BUSY, RetryAction.AMBIGUOUS, id="create that may have happened"),
        pytest.param("POST", LOST, RetryAction.AMBIGUOUS, id="create without an answer"),
        pytest.param(
            "POST", Failure(FailureKind.STATUS, 503, retry_after=1.0), RetryAction.AMBIGUOUS, id="asked to wait"
        ),
    ],
)
def test_final_verdicts_wait_for_nothing(method: str, failure: Failure, action: RetryAction) -> None:
    """Where nothing is sent again, no wait is drawn and nothing is counted."""
    retry_state = make_course(method=method)
    assert retry_state.decide(failure) == RetryDecision(action, 0.0)
    assert retry_state.failures == 0


def test_a_create_that_was_never_sent_goes_again() -> None:
    """A POST is retried where it certainly had no effect: nothing was sent, or refused by rate."""
    retry_state = make_course(method="POST")
    assert verdicts(retry_state, Failure(FailureKind.NOT_SENT), GATE, LOST) == [
        RetryAction.RETRY,
        RetryAction.GATE,
        RetryAction.AMBIGUOUS,
    ]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.builds(
            Failure,
            st.sampled_from(FailureKind),
            st.none() | st.integers(200, 599),
            st.booleans(),
            st.none() | st.floats(0, 500),
        ),
        max_size=30,
    ),
    st.none() | st.integers(1, 5),
    st.sampled_from(["GET", "PUT", "POST", "PATCH"]),
    st.integers(),
)
def test_courses_keep_their_promises(failures: list[Failure], most: int | None, method: str, seed: int) -> None:
    """Whatever happens in a call, attempts, waits and what may be repeated stay within their bounds."""
    policy = RetryPolicy(max_attempts=most)
    repeatable = method in {"GET", "PUT"}
    retry_state = RetryState(policy, method, repeatable, random.Random(seed))
    retries = 0
    for failure in failures:
        decision = retry_state.decide(failure)
        retries += decision.action is RetryAction.RETRY
        assert most is None or retries < most
        if decision.action is RetryAction.RETRY:
            asked = failure.retry_after or 0.0
            assert asked <= decision.wait <= max(asked, policy.max_backoff)
            assert asked <= policy.max_retry_after
            assert repeatable or failure.kind is FailureKind.NOT_SENT
        else:
            assert decision.wait == 0.0
        assert decision.action is not RetryAction.AMBIGUOUS or not repeatable
