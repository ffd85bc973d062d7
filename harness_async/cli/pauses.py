"""Explains why nothing happens for a while: the rate limit, an outage, retries."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from attrs import define, field

from harness_async import Event, GateClosed, GateOpened, PageRead, ResponseReceived, RetryPlanned
from harness_async.cli.console import print_note

_NOTICEABLE = 2.0
"""Seconds without progress from which a pause is explained."""

_SUCCESS = range(200, 300)


def _loop_time() -> float:
    return asyncio.get_running_loop().time()


@define
class PauseNotifier:
    """Follows the events of a client. Prints the reason of each pause once to stderr, or only keeps it."""

    prints: bool = True
    """Whether to print the reason. False if a progress display shows it."""

    clock: Callable[[], float] = _loop_time
    reason: str = field(default="", init=False)
    """Why the client waits. Empty while requests succeed."""

    _since: float | None = field(default=None, init=False)
    """When the first failure of the present pause happened."""

    def on_event(self, event: Event) -> None:
        """Handle an event of the client."""
        match event:
            case PageRead() | GateOpened():
                self._since, self.reason = None, ""
            case ResponseReceived() if event.status in _SUCCESS:
                self._since, self.reason = None, ""
            case GateClosed(reason=reason, wait=wait):
                outage = "most requests fail" if reason == "outage" else "the server limits the rate of requests"
                self._explain(f"Waiting: {outage}", wait)
            case RetryPlanned():
                reason = event.reason.partition(f" ({event.method} ")[0]  # without the request
                self._explain(f"Retrying: {reason}", event.wait)

    def _explain(self, reason: str, wait: float) -> None:
        now = self.clock()
        self._since = now if self._since is None else self._since
        if self.reason or now + wait - self._since < _NOTICEABLE:
            return
        self.reason = reason
        if self.prints:
            print_note(f"{reason}. Press Ctrl-C to stop.")
