"""The time window that a walk reads, frozen at the server's present time."""

from __future__ import annotations

from attrs import frozen

from harness_async.http.transport import ServerClock
from harness_async.types import TimeWindow


@frozen
class Freeze:
    """The time window that a walk reads."""

    window: TimeWindow
    """Requested from the server. Without an end where the server's time is not known."""

    certain_end: int | None
    """The part that no new row can enter ends here; None where that is not known."""

    @property
    def is_frozen(self) -> bool:
        """Whether no new row can enter the window."""
        return self.window.end is not None and self.window.end == self.certain_end

    @classmethod
    def of(cls, window: TimeWindow, clock: ServerClock) -> Freeze:
        """Freeze a window at the server's present time. Before the first response, that is taken for the local one."""
        start, end = window
        certain, latest = clock.certain(), clock.latest()
        if certain is not None or not clock.has_responses:
            end = latest if end is None else min(end, latest)
            # A start in the future makes an empty window, not one that ends before it begins.
            end = max(end, start or 0)
        return cls(TimeWindow(start, end), None if certain is None or end is None else min(end, certain))
