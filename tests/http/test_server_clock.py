"""The server's clock: what `Date` headers prove, and what is certain where they are missing or not credible."""

from __future__ import annotations

import math
from email.utils import formatdate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness_async.http.transport import MAX_CLOCK_SKEW, ServerClock

NOW = 1_700_000_000.0
"""The local time when a clock is created."""


class Local:
    """The clocks of this machine, and a server without latency."""

    def __init__(self) -> None:
        self.elapsed = 0.0
        self.clock = ServerClock(wall=lambda: NOW + 1000.0 * self.elapsed, monotonic=lambda: 50.0 + self.elapsed)

    def observe(self, date: float | str, *, took: float = 0.0, **headers: str) -> None:
        """Receive a response that took so many seconds."""
        sent = 50.0 + self.elapsed
        self.elapsed += took
        self.clock.observe({"Date": date if isinstance(date, str) else formatdate(date, usegmt=True), **headers}, sent)

    def seen(self) -> tuple[float | None, float]:
        """Return what is certain and the latest possible time, in seconds from the local time."""
        certain, latest = self.clock.certain(), self.clock.latest()
        now = NOW + self.elapsed
        return None if certain is None else certain / 1000 - now, latest / 1000 - now


@pytest.fixture
def local() -> Local:
    return Local()


@pytest.mark.parametrize(
    ("date", "took", "offset"),
    [
        (NOW, 0.0, 0.0),
        (NOW, 0.5, 0.0),
        (NOW - 1, 0.5, 0.0),
        (NOW + 10, 0.0, 10.0),
        (NOW + 10, 2.0, 8.0),
        (NOW - 10, 0.0, -10.0),
        (NOW - 10, 2.0, -12.0),
        (NOW + MAX_CLOCK_SKEW, 0.0, MAX_CLOCK_SKEW),
        (NOW - MAX_CLOCK_SKEW - 1, 0.0, -MAX_CLOCK_SKEW - 1),
    ],
)
def test_offset(local: Local, date: float, took: float, offset: float) -> None:
    """The offset is none where that is possible, else the least that is certainly not ahead of the server."""
    assert not local.clock.is_known
    local.observe(date, took=took, Age=" 0 ")
    assert (local.clock.is_known, local.clock.skew) == (True, None)
    assert local.clock.offset == offset
    assert local.seen() == (offset, offset)


@pytest.mark.parametrize(
    "headers", [{}, {"Date": "yesterday"}, {"Date": ""}, {"Date": formatdate(NOW + 9), "Age": "3"}]
)
def test_unknown_time(local: Local, headers: dict[str, str]) -> None:
    """Without a `Date`, or with a malformed one or one from a cache, nothing is certain, and local time is used."""
    assert not local.clock.has_responses
    local.clock.observe(headers, 50.0)
    assert (local.clock.has_responses, local.clock.is_known) == (True, False)
    assert local.seen() == (None, 0.0)


@pytest.mark.parametrize("skew", [MAX_CLOCK_SKEW + 1, 3600.0, -MAX_CLOCK_SKEW - 2, -3600.0, 1e9])
def test_skew(local: Local, caplog: pytest.LogCaptureFixture, skew: float) -> None:
    """Of clocks that differ by more than five minutes neither is believed, which is logged once."""
    for _ in range(3):
        local.observe(NOW + local.elapsed + skew)
        local.elapsed += 1.0
    assert (local.clock.is_known, local.clock.skew) == (False, skew)
    assert local.seen() == (min(0.0, skew), max(0.0, skew))
    (message,) = caplog.messages
    assert f" by {skew:.0f} s" in message


def test_credible_time_after_a_skew(local: Local) -> None:
    """A credible `Date` counts, whether an incredible one came before or after it."""
    for date in (NOW + 3600, NOW + 9, NOW - 3600):
        local.observe(date)
    assert local.seen() == (9.0, 9.0)


def test_local_clock_that_is_changed(local: Local) -> None:
    """The local clock is read once, so that changing it later has no effect: time passes by the monotonic clock."""
    local.observe(NOW)
    local.elapsed = 5.0
    assert local.clock.latest() == local.clock.certain() == 1000 * (NOW + 5)


def test_server_clock_that_is_changed(local: Local) -> None:
    """A `Date` that contradicts earlier ones replaces them."""
    for date in (NOW, NOW + 100, NOW - 100):
        local.observe(date)
        assert local.clock.offset == date - NOW


@settings(max_examples=60, deadline=None)
@given(
    st.floats(-250, 250),
    st.lists(st.tuples(st.floats(0, 3), st.floats(0, 2), st.floats(0, 1)), min_size=1, max_size=20),
)
def test_any_responses(true: float, responses: list[tuple[float, float, float]]) -> None:
    """Whatever the pace and latency of responses, the offset is within a second and a round trip, and never ahead."""
    local, longest = Local(), 0.0
    for pause, took, share in responses:
        local.elapsed += pause
        date = math.floor(NOW + local.elapsed + share * took + true)
        local.observe(float(date), took=took)
        longest = max(longest, took)
        assert abs(local.clock.offset - true) <= 1.0 + longest + 1e-6
        assert local.clock.offset <= max(0.0, true) + 1e-6
