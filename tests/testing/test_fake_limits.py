from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness_async.testing import Bucket, FakeHarness, FixedWindow, Limiter, SlidingCounter, SlidingWindow

TIMES = st.lists(st.integers(0, 400), max_size=60).map(lambda ticks: [tick / 8 for tick in sorted(ticks)])


def allowed(limit: Limiter, times: list[float]) -> list[float]:
    return [now for now in times if limit.allow(now)]


@pytest.mark.parametrize(
    ("limit", "times", "expected"),
    [
        (FixedWindow(2, per=10, phase=5), [0, 1, 2, 4.9, 5, 6, 7, 15], [0, 1, 5, 6, 15]),
        (SlidingWindow(2, per=10), [0, 1, 9.9, 10, 10.5, 11], [0, 1, 10, 11]),
        (SlidingWindow(1, per=10, count_refused=True), [0, 6, 12, 18, 28], [0, 28]),
        (SlidingWindow(1, per=1, ban=10), [0, 0.5, 5, 10.4, 10.5], [0, 10.5]),
        (SlidingCounter(4, per=10), [1, 2, 3, 4, 10, 12.5, 15, 15.1], [1, 2, 3, 4, 12.5, 15]),
        (SlidingCounter(1, per=10), [1, 31], [1, 31]),
        (Bucket(60, per=60, capacity=2), [0, 0, 0, 0.5, 1, 1.5, 9, 9, 9], [0, 0, 1, 9, 9]),
        (Bucket(5, per=60), [0.0] * 9, [0.0] * 5),
    ],
    ids=["fixed", "sliding", "counts refusals", "ban", "counter", "idle counter", "bucket", "burst"],
)
def test_limits(limit: Limiter, times: list[float], expected: list[float]) -> None:
    """Each kind of limit allows the requests that its window, its refusals and its bans leave room for."""
    assert allowed(limit, times) == expected


@given(TIMES, st.integers(1, 5))
def test_no_window_is_exceeded(times: list[float], limit: int) -> None:
    """No sliding and no fixed window ever allows more than its limit."""
    passed = allowed(SlidingWindow(limit, per=8), times)
    assert all(sum(start <= now < start + 8 for now in passed) <= limit for start in passed)
    passed = allowed(FixedWindow(limit, per=8), times)
    assert all(sum(now // 8 == window for now in passed) <= limit for window in {now // 8 for now in passed})


async def test_over_the_limit(fake: FakeHarness, get: Any) -> None:
    """Over the limit the server responds with the edge's 429, until its rate clock advances."""
    now = 0.0
    fake.rate_limit = FixedWindow(2)
    fake.rate_clock = lambda: now
    assert [(await get("/v1/orgs")).status for _ in range(3)] == [200, 200, 429]
    response = await get("/v1/orgs")
    assert response.headers["Content-Type"] == "text/html"
    assert "Retry-After" not in response.headers
    now = 60.0
    assert (await get("/v1/orgs")).status == 200
    assert [request.status for request in fake.requests] == [200, 200, 429, 429, 200]
