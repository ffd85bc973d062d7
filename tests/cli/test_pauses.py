"""The reasons of pauses."""

from __future__ import annotations

import pytest

from harness_async import Event, GateClosed, GateOpened, PageRead, RetryPlanned
from harness_async.cli.pauses import PauseNotifier

RETRY = RetryPlanned(method="GET", url="https://x", attempt=1, reason="503: down (GET https://x)", wait=1.5)
PAGE = PageRead(url="https://x", page=1, rows=0, total_items=None)


@pytest.mark.parametrize(
    ("events", "printed"),
    [
        ([RETRY], []),
        ([RETRY, PAGE, RETRY], []),
        ([RETRY, RETRY, RETRY], ["Retrying: 503: down."]),
        ([RETRY, RETRY, PAGE, RETRY, RETRY], ["Retrying: 503: down."] * 2),
        (
            [GateClosed(reason="rate limited by the server", wait=5)],
            ["Waiting: the server limits the rate of requests."],
        ),
        (
            [GateClosed(reason="outage", wait=5), RETRY, GateOpened(rate=None), GateClosed(reason="outage", wait=5)],
            ["Waiting: most requests fail."] * 2,
        ),
    ],
    ids=["short", "in between", "retries", "two pauses", "rate limit", "outages"],
)
def test_pauses(capsys: pytest.CaptureFixture[str], events: list[Event], printed: list[str]) -> None:
    """A pause of two seconds or more is explained once, without the request."""
    now = iter(range(100))
    notifier = PauseNotifier(clock=lambda: float(next(now)))
    silent = PauseNotifier(prints=False, clock=lambda: 0.0)
    for event in events:
        notifier.on_event(event)
        silent.on_event(event)
    assert capsys.readouterr().err.splitlines() == [f"{line} Press Ctrl-C to stop." for line in printed]
    silent.on_event(PAGE)
    assert silent.reason == ""
