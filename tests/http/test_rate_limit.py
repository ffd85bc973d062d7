"""Throttling: the pace of a limit, refusals and outages, as tables: no clock, no tasks."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness_async import RateLimit
from harness_async.http.rate_limit import COOLDOWNS, OUTAGE_FAILURES, OUTAGE_PAUSES, Pace, Throttle


class NoJitter:
    """Jitter of nothing."""

    def random(self) -> float:
        return 0.0


def throttle(requests: int = 1000, per: float = 60.0) -> Throttle:
    return Throttle(RateLimit(requests, per), rng=NoJitter())


# -- the pace ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("requests", "burst", "share"), [(1000, 5, 0.99), (400, 2, 0.99), (100, 1, 0.985), (10, 1, 0.89)]
)
def test_the_pace_leaves_room_for_burst_and_spread(requests: int, burst: int, share: float) -> None:
    """The rate that just fits a limit loses a hundredth of it at the published limits, and never exceeds it."""
    pace = Pace.of(RateLimit(requests, 60.0))
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
    machine, now, taken = throttle(requests, per), 0.0, list[float]()
    for gap in gaps:
        now += gap
        due = machine.due(now)
        assert due is not None
        machine.take(due)
        taken.append(due)
        now = max(now, due)
    for index, begin in enumerate(taken):
        assert sum(begin <= at < begin + per for at in taken[index:]) <= requests


def test_a_slot_after_a_quiet_spell_comes_at_once() -> None:
    """Slots are no debt of the past: after a pause the burst is there, and no more than the burst."""
    machine = throttle(1000)
    machine.take(0.0)
    due = []
    for _ in range(7):
        at = machine.due(100.0)
        assert at is not None
        machine.take(at)
        due.append(at)
    assert due[:5] == [100.0] * 5
    assert due[5] == pytest.approx(100.0 + 1 / machine.rate(0))


# -- refusals ------------------------------------------------------------------------------------------------------


def test_the_first_refusal_closes_the_gate_and_later_ones_of_the_same_moment_change_nothing() -> None:
    """Requests that were under way when the gate closed are old news: they neither reopen nor lengthen it."""
    machine = throttle()
    first, second, third = (machine.take(0.0) for _ in range(3))
    machine.refused(first, 1.0)
    assert machine.due(1.0) == 1.0 + COOLDOWNS[0]
    machine.refused(second, 2.0)
    machine.accepted(third, 3.0)
    assert machine.due(3.0) == 1.0 + COOLDOWNS[0]
    assert not machine.is_open


def test_after_a_cooldown_one_probe_leaves_and_nothing_else_until_it_is_answered() -> None:
    """The gate is half open for one request; its acceptance opens it."""
    machine = throttle()
    machine.refused(machine.take(0.0), 0.0)
    probe = machine.take(5.0)
    assert probe.probe
    assert machine.due(6.0) is None
    machine.accepted(probe, 7.0)
    assert machine.is_open
    due = machine.due(7.0)
    assert due is not None
    assert due > 7.0, "no burst right after a refusal"


def test_refused_probes_wait_longer_each_time() -> None:
    """Cooldowns grow to a minute and stay there."""
    machine, now, waits = throttle(), 0.0, list[float]()
    slot = machine.take(now)
    for _ in range(7):
        machine.refused(slot, now)
        waits.append(machine.open_at - now)
        now = machine.open_at
        slot = machine.take(now)
    assert waits == [*COOLDOWNS, COOLDOWNS[-1], COOLDOWNS[-1]]


def test_a_probe_that_is_given_up_lets_another_go() -> None:
    """A cancelled probe does not leave the gate shut for ever."""
    machine = throttle()
    machine.refused(machine.take(0.0), 0.0)
    machine.abandoned(machine.take(5.0))
    assert machine.due(6.0) == 6.0


@given(
    st.lists(
        st.tuples(st.sampled_from(["refuse", "refuse_after", "pause", "probe", "accept"]), st.floats(0, 30)),
        max_size=40,
    )
)
@settings(max_examples=100, deadline=None)
def test_a_cooldown_only_ever_moves_later(steps: list[tuple[str, float]]) -> None:
    """Nothing that happens makes the gate open earlier than it was going to."""
    machine, now = throttle(), 0.0
    old = machine.take(now)
    latest = machine.open_at
    for step, amount in steps:
        now += amount
        due = machine.due(now)
        match step:
            case "refuse":
                machine.refused(old, now)
            case "refuse_after":
                machine.refused(old, now, amount)
            case "pause":
                machine.pause(amount, now)
            case "probe" if due is not None:
                old = machine.take(max(now, due))
            case "accept":
                machine.accepted(old, now)
        assert machine.open_at >= latest
        latest = machine.open_at


def test_retry_after_is_never_undercut() -> None:
    """A server that says how long is believed, whichever request it said it to."""
    machine = throttle()
    first, second = machine.take(0.0), machine.take(0.0)
    machine.refused(first, 0.0, 30.0)
    assert machine.open_at == 30.0
    machine.refused(second, 1.0, 60.0)
    assert machine.open_at == 61.0


def test_the_learned_rate_comes_from_what_was_accepted_and_climbs_back() -> None:
    """After a refusal the pace is nine tenths of what the server took in the window, then grows to the set one."""
    machine = throttle(1000)
    for second in range(60):
        for _ in range(5):
            machine.accepted(machine.take(float(second), waited=True), float(second))
    machine.refused(machine.take(59.0, waited=True), 59.0)
    machine.accepted(machine.take(64.0), 64.0)
    assert machine.rate(64.0) == pytest.approx(0.9 * 300 / 60, rel=0.02)
    assert machine.rate(64.0) < machine.rate(100.0) < machine.rate(10_000.0)
    assert machine.rate(10_000.0) == Pace.of(RateLimit(1000)).rate


def test_few_answers_are_no_measure_of_the_server() -> None:
    """Who is refused right after beginning, or while sending little, goes on at about half the pace, not at a crawl."""
    machine = throttle(1000)
    machine.refused(machine.take(0.0), 0.3)
    machine.accepted(machine.take(6.0), 6.0)
    assert machine.rate(6.0) == pytest.approx(0.45 * Pace.of(RateLimit(1000)).rate)
    idle = throttle(1000)
    for minute in range(10):
        idle.accepted(idle.take(minute * 60.0), minute * 60.0)
    idle.refused(idle.take(600.0), 600.1)
    assert idle.rate(600.1) == pytest.approx(0.45 * Pace.of(RateLimit(1000)).rate)


# -- outages -------------------------------------------------------------------------------------------------------


def test_an_outage_is_a_ratio_not_a_count() -> None:
    """A tenth of failing answers closes nothing, however long; sixteen of the latest twenty close the gate."""
    machine = throttle(100_000, 1.0)
    for index in range(500):
        slot = machine.take(0.0)
        (machine.failed if index % 10 == 0 else machine.accepted)(slot, float(index))
    assert machine.is_open
    for _ in range(OUTAGE_FAILURES):
        machine.failed(machine.take(500.0), 500.0)
    assert not machine.is_open
    assert machine.open_at == 500.0 + OUTAGE_PAUSES[0]


def test_an_outage_teaches_no_rate() -> None:
    """When the server is back the set pace is back: an outage says nothing of the limit."""
    machine = throttle()
    for _ in range(OUTAGE_FAILURES):
        machine.failed(machine.take(0.0), 0.0)
    machine.accepted(machine.take(2.0), 2.0)
    assert machine.rate(2.0) == Pace.of(RateLimit(1000)).rate


def test_without_a_limit_nothing_waits_but_the_gate_still_closes() -> None:
    """Pacing switched off is no leave to knock on a closed door."""
    machine = Throttle(None, rng=NoJitter())
    for _ in range(1000):
        assert machine.due(0.0) == 0.0
        machine.take(0.0)
    machine.refused(machine.take(0.0), 0.0)
    assert machine.due(0.0) == COOLDOWNS[0]
