"""Rate limiting: the schedule of a limit, the gate after a 429, and outages, without clock or tasks."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness_async import RateLimit
from harness_async.http.rate_limit import COOLDOWNS, OUTAGE_FAILURES, OUTAGE_PAUSES, RateLimiter, RateSchedule
from tests.support.virtual import NoJitter


def create_limiter(requests: int = 1000, per: float = 60.0) -> RateLimiter:
    return RateLimiter(RateLimit(requests, per), rng=NoJitter())


def next_slot(limiter: RateLimiter, now: float) -> float:
    slot = limiter.next_slot_at(now)
    assert slot is not None
    return slot


FULL_RATE = RateSchedule.of(RateLimit(1000)).rate


@pytest.mark.parametrize(
    ("requests", "burst", "share"), [(1000, 5, 0.99), (400, 2, 0.99), (100, 1, 0.985), (10, 1, 0.89)]
)
def test_rate_and_burst(requests: int, burst: int, share: float) -> None:
    """The rate stays below the limit and uses 99 % of it at the published limits."""
    schedule = RateSchedule.of(RateLimit(requests, 60.0))
    assert schedule.burst == burst
    assert share <= schedule.rate * 60.0 / requests < 1.0


@given(
    requests=st.integers(1, 2000),
    per=st.floats(0.5, 120.0),
    gaps=st.lists(st.floats(0.0, 5.0), min_size=1, max_size=100),
)
@settings(max_examples=40, deadline=None)
def test_no_window_exceeds_the_limit(requests: int, per: float, gaps: list[float]) -> None:
    """Whatever the demand, no half-open window of the limit's length has more slots than the limit."""
    limiter, now, sent = create_limiter(requests, per), 0.0, list[float]()
    for gap in gaps:
        now = next_slot(limiter, now + gap)
        limiter.acquire(now)
        sent.append(now)
    for index, start in enumerate(sent):
        assert sum(start <= at < start + per for at in sent[index:]) <= requests


def test_burst_after_a_pause() -> None:
    """After an idle time the burst is available, and no more than the burst."""
    limiter = create_limiter()
    limiter.acquire(0.0)
    slots = []
    for _ in range(6):
        slots.append(next_slot(limiter, 100.0))
        limiter.acquire(slots[-1])
    assert slots[:5] == [100.0] * 5
    assert slots[5] == pytest.approx(100.0 + 1 / FULL_RATE)


def test_stale_results_do_not_change_the_gate() -> None:
    """Results of requests that were in flight when the gate closed neither open it nor close it again."""
    limiter = create_limiter()
    first, second, third = (limiter.acquire(0.0) for _ in range(3))
    limiter.record_throttled(first, 1.0)
    assert limiter.next_slot_at(1.0) == 1.0 + COOLDOWNS[0]
    limiter.record_throttled(second, 2.0)
    limiter.record_success(third, 3.0)
    assert limiter.next_slot_at(3.0) == 1.0 + COOLDOWNS[0]
    assert not limiter.is_open


def test_one_probe_after_a_cooldown() -> None:
    """After a cooldown one probe is sent, and its success opens the gate without a burst."""
    limiter = create_limiter()
    limiter.record_throttled(limiter.acquire(0.0), 0.0)
    probe = limiter.acquire(5.0)
    assert probe.probe
    assert limiter.next_slot_at(6.0) is None
    limiter.record_success(probe, 7.0)
    assert limiter.is_open
    assert next_slot(limiter, 7.0) > 7.0


def test_cooldowns_grow() -> None:
    """Each throttled probe lengthens the cooldown, up to a minute."""
    limiter, now, waits = create_limiter(), 0.0, list[float]()
    permit = limiter.acquire(now)
    for _ in range(7):
        limiter.record_throttled(permit, now)
        waits.append(limiter.open_at - now)
        now = limiter.open_at
        permit = limiter.acquire(now)
    assert waits == [*COOLDOWNS, COOLDOWNS[-1], COOLDOWNS[-1]]


def test_released_probe() -> None:
    """A probe that is cancelled makes way for another."""
    limiter = create_limiter()
    limiter.record_throttled(limiter.acquire(0.0), 0.0)
    limiter.release(limiter.acquire(5.0))
    assert limiter.next_slot_at(6.0) == 6.0


@given(
    st.lists(
        st.tuples(st.sampled_from(["throttled", "retry_after", "pause", "probe", "success"]), st.floats(0, 30)),
        max_size=40,
    )
)
@settings(max_examples=60, deadline=None)
def test_the_opening_only_moves_later(steps: list[tuple[str, float]]) -> None:
    """No event makes the gate open earlier than announced."""
    limiter, now = create_limiter(), 0.0
    permit = limiter.acquire(now)
    latest = limiter.open_at
    for step, seconds in steps:
        now += seconds
        slot = limiter.next_slot_at(now)
        match step:
            case "throttled":
                limiter.record_throttled(permit, now)
            case "retry_after":
                limiter.record_throttled(permit, now, seconds)
            case "pause":
                limiter.pause(seconds, now)
            case "probe" if slot is not None:
                permit = limiter.acquire(max(now, slot))
            case "success":
                limiter.record_success(permit, now)
        assert limiter.open_at >= latest
        latest = limiter.open_at


def test_retry_after() -> None:
    """A Retry-After lengthens the cooldown, whichever request it came with."""
    limiter = create_limiter()
    first, second = limiter.acquire(0.0), limiter.acquire(0.0)
    limiter.record_throttled(first, 0.0, 30.0)
    assert limiter.open_at == 30.0
    limiter.record_throttled(second, 1.0, 60.0)
    assert limiter.open_at == 61.0


def test_decreased_rate() -> None:
    """After a 429 the rate is 90 % of what the server accepted in the window, and then recovers to the limit."""
    limiter = create_limiter()
    for second in range(60):
        for _ in range(5):
            limiter.record_success(limiter.acquire(float(second), waited=True), float(second))
    limiter.record_throttled(limiter.acquire(59.0, waited=True), 59.0)
    limiter.record_success(limiter.acquire(64.0), 64.0)
    assert limiter.rate(64.0) == pytest.approx(0.9 * 300 / 60, rel=0.02)
    assert limiter.rate(64.0) < limiter.rate(100.0) < limiter.rate(10_000.0) == FULL_RATE


@pytest.mark.parametrize("minutes", [0, 10])
def test_decreased_rate_of_few_requests(minutes: int) -> None:
    """A 429 after few requests halves the rate instead of reducing it to what was sent."""
    limiter = create_limiter()
    for minute in range(minutes):
        limiter.record_success(limiter.acquire(minute * 60.0), minute * 60.0)
    now = minutes * 60.0
    limiter.record_throttled(limiter.acquire(now), now + 0.1)
    limiter.record_success(limiter.acquire(now + 6.0), now + 6.0)
    assert limiter.rate(now + 6.0) == pytest.approx(0.45 * FULL_RATE)


def test_outages_are_a_ratio() -> None:
    """One failure in ten never closes the gate; sixteen of the latest twenty do."""
    limiter = create_limiter(100_000, 1.0)
    for index in range(500):
        permit = limiter.acquire(0.0)
        (limiter.record_failure if index % 10 == 0 else limiter.record_success)(permit, float(index))
    assert limiter.is_open
    for _ in range(OUTAGE_FAILURES):
        limiter.record_failure(limiter.acquire(500.0), 500.0)
    assert not limiter.is_open
    assert limiter.open_at == 500.0 + OUTAGE_PAUSES[0]


def test_outages_keep_the_rate() -> None:
    """After an outage requests are sent at the configured rate: an outage does not indicate a limit."""
    limiter = create_limiter()
    for _ in range(OUTAGE_FAILURES):
        limiter.record_failure(limiter.acquire(0.0), 0.0)
    limiter.record_success(limiter.acquire(2.0), 2.0)
    assert limiter.rate(2.0) == FULL_RATE


def test_without_a_limit() -> None:
    """Without a limit nothing is paced, but a 429 still closes the gate."""
    limiter = RateLimiter(None, rng=NoJitter())
    for _ in range(1000):
        assert limiter.next_slot_at(0.0) == 0.0
        limiter.acquire(0.0)
    limiter.record_throttled(limiter.acquire(0.0), 0.0)
    assert limiter.next_slot_at(0.0) == COOLDOWNS[0]
