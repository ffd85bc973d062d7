"""Throttling: the pace of a limit, refusals and outages, as tables: no clock, no tasks."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness_async import RateLimit
from harness_async.http.rate_limit import COOLDOWNS, OUTAGE_FAILURES, OUTAGE_PAUSES, RateLimiter, RateSchedule


class NoJitter:
    """Jitter of nothing."""

    def random(self) -> float:
        return 0.0


def limiter(requests: int = 1000, per: float = 60.0) -> RateLimiter:
    return RateLimiter(RateLimit(requests, per), rng=NoJitter())


# -- the pace ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("requests", "burst", "share"), [(1000, 5, 0.99), (400, 2, 0.99), (100, 1, 0.985), (10, 1, 0.89)]
)
def test_the_pace_leaves_room_for_burst_and_spread(requests: int, burst: int, share: float) -> None:
    """The rate that just fits a limit loses a hundredth of it at the published limits, and never exceeds it."""
    pace = RateSchedule.of(RateLimit(requests, 60.0))
    assert pace.burst == burst
    assert share <= pace.rate * 60.0 / requests < 1.0


@given(
    requests=st.integers(1, 2000),
    per=st.floats(0.5, 120.0),
    gaps=st.lists(st.floats(0.0, 5.0), min_size=1, max_size=200),
)
@settings(max_examples=60, deadline=None)
def test_no_window_sees_more_than_the_limit(requests: int, per: float, gaps: list[float]) -> None:
    """Whatever the demand, no half-open window of the limit's length counts more slots than the limit."""
    machine, now, taken = limiter(requests, per), 0.0, list[float]()
    for gap in gaps:
        now += gap
        next_slot_at = machine.next_slot_at(now)
        assert next_slot_at is not None
        machine.take(next_slot_at)
        taken.append(next_slot_at)
        now = max(now, next_slot_at)
    for index, start_attempt in enumerate(taken):
        assert sum(start_attempt <= at < start_attempt + per for at in taken[index:]) <= requests


def test_a_slot_after_a_quiet_spell_comes_at_once() -> None:
    """Slots are no debt of the past: after a pause the burst is there, and no more than the burst."""
    machine = limiter(1000)
    machine.take(0.0)
    next_slot_at = []
    for _ in range(7):
        at = machine.next_slot_at(100.0)
        assert at is not None
        machine.take(at)
        next_slot_at.append(at)
    assert next_slot_at[:5] == [100.0] * 5
    assert next_slot_at[5] == pytest.approx(100.0 + 1 / machine.rate(0))


# -- refusals ------------------------------------------------------------------------------------------------------


def test_the_first_refusal_closes_the_gate_and_later_ones_of_the_same_moment_change_nothing() -> None:
    """Requests that were under way when the gate closed are old news: they neither reopen nor lengthen it."""
    machine = limiter()
    first, second, third = (machine.take(0.0) for _ in range(3))
    machine.record_throttled(first, 1.0)
    assert machine.next_slot_at(1.0) == 1.0 + COOLDOWNS[0]
    machine.record_throttled(second, 2.0)
    machine.record_success(third, 3.0)
    assert machine.next_slot_at(3.0) == 1.0 + COOLDOWNS[0]
    assert not machine.is_open


def test_after_a_cooldown_one_probe_leaves_and_nothing_else_until_it_is_answered() -> None:
    """The gate is half open for one request; its acceptance opens it."""
    machine = limiter()
    machine.record_throttled(machine.take(0.0), 0.0)
    probe = machine.take(5.0)
    assert probe.probe
    assert machine.next_slot_at(6.0) is None
    machine.record_success(probe, 7.0)
    assert machine.is_open
    next_slot_at = machine.next_slot_at(7.0)
    assert next_slot_at is not None
    assert next_slot_at > 7.0, "no burst right after a refusal"


def test_refused_probes_wait_longer_each_time() -> None:
    """Cooldowns grow to a minute and stay there."""
    machine, now, waits = limiter(), 0.0, list[float]()
    slot = machine.take(now)
    for _ in range(7):
        machine.record_throttled(slot, now)
        waits.append(machine.open_at - now)
        now = machine.open_at
        slot = machine.take(now)
    assert waits == [*COOLDOWNS, COOLDOWNS[-1], COOLDOWNS[-1]]


def test_a_probe_that_is_given_up_lets_another_go() -> None:
    """A cancelled probe does not leave the gate shut for ever."""
    machine = limiter()
    machine.record_throttled(machine.take(0.0), 0.0)
    machine.release(machine.take(5.0))
    assert machine.next_slot_at(6.0) == 6.0


@given(
    st.lists(
        st.tuples(st.sampled_from(["refuse", "refuse_after", "pause", "probe", "accept"]), st.floats(0, 30)),
        max_size=40,
    )
)
@settings(max_examples=100, deadline=None)
def test_a_cooldown_only_ever_moves_later(steps: list[tuple[str, float]]) -> None:
    """Nothing that happens makes the gate open earlier than it was going to."""
    machine, now = limiter(), 0.0
    old = machine.take(now)
    latest = machine.open_at
    for step, amount in steps:
        now += amount
        next_slot_at = machine.next_slot_at(now)
        match step:
            case "refuse":
                machine.record_throttled(old, now)
            case "refuse_after":
                machine.record_throttled(old, now, amount)
            case "pause":
                machine.pause(amount, now)
            case "probe" if next_slot_at is not None:
                old = machine.take(max(now, next_slot_at))
            case "accept":
                machine.record_success(old, now)
        assert machine.open_at >= latest
        latest = machine.open_at


def test_retry_after_is_never_undercut() -> None:
    """A server that says how long is believed, whichever request it said it to."""
    machine = limiter()
    first, second = machine.take(0.0), machine.take(0.0)
    machine.record_throttled(first, 0.0, 30.0)
    assert machine.open_at == 30.0
    machine.record_throttled(second, 1.0, 60.0)
    assert machine.open_at == 61.0


def test_the_learned_rate_comes_from_what_was_accepted_and_climbs_back() -> None:
    """After a refusal the pace is nine tenths of what the server took in the window, then grows to the set one."""
    machine = limiter(1000)
    for second in range(60):
        for _ in range(5):
            machine.record_success(machine.take(float(second), waited=True), float(second))
    machine.record_throttled(machine.take(59.0, waited=True), 59.0)
    machine.record_success(machine.take(64.0), 64.0)
    assert machine.rate(64.0) == pytest.approx(0.9 * 300 / 60, rel=0.02)
    assert machine.rate(64.0) < machine.rate(100.0) < machine.rate(10_000.0)
    assert machine.rate(10_000.0) == RateSchedule.of(RateLimit(1000)).rate


def test_few_answers_are_no_measure_of_the_server() -> None:
    """Who is refused right after beginning, or while sending little, goes on at about half the pace, not at a crawl."""
    machine = limiter(1000)
    machine.record_throttled(machine.take(0.0), 0.3)
    machine.record_success(machine.take(6.0), 6.0)
    assert machine.rate(6.0) == pytest.approx(0.45 * RateSchedule.of(RateLimit(1000)).rate)
    idle = limiter(1000)
    for minute in range(10):
        idle.record_success(idle.take(minute * 60.0), minute * 60.0)
    idle.record_throttled(idle.take(600.0), 600.1)
    assert idle.rate(600.1) == pytest.approx(0.45 * RateSchedule.of(RateLimit(1000)).rate)


# -- outages -------------------------------------------------------------------------------------------------------


def test_an_outage_is_a_ratio_not_a_count() -> None:
    """A tenth of failing answers closes nothing, however long; sixteen of the latest twenty close the gate."""
    machine = limiter(100_000, 1.0)
    for index in range(500):
        slot = machine.take(0.0)
        (machine.record_failure if index % 10 == 0 else machine.record_success)(slot, float(index))
    assert machine.is_open
    for _ in range(OUTAGE_FAILURES):
        machine.record_failure(machine.take(500.0), 500.0)
    assert not machine.is_open
    assert machine.open_at == 500.0 + OUTAGE_PAUSES[0]


def test_an_outage_teaches_no_rate() -> None:
    """When the server is back the set pace is back: an outage says nothing of the limit."""
    machine = limiter()
    for _ in range(OUTAGE_FAILURES):
        machine.record_failure(machine.take(0.0), 0.0)
    machine.record_success(machine.take(2.0), 2.0)
    assert machine.rate(2.0) == RateSchedule.of(RateLimit(1000)).rate


def test_without_a_limit_nothing_waits_but_the_gate_still_closes() -> None:
    """Pacing switched off is no leave to knock on a closed door."""
    machine = RateLimiter(None, rng=NoJitter())
    for _ in range(1000):
        assert machine.next_slot_at(0.0) == 0.0
        machine.take(0.0)
    machine.record_throttled(machine.take(0.0), 0.0)
    assert machine.next_slot_at(0.0) == COOLDOWNS[0]
