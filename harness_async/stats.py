"""What a client did so far, counted as it happens."""

from __future__ import annotations

from attrs import asdict, define, frozen


@frozen(kw_only=True)
class Stats:
    """What a client did so far; a snapshot. Times are sums over calls, which overlap."""

    requests: int = 0
    """Every send, resends and probes included."""

    retries: int = 0
    throttled: int = 0
    """Answers with status 429."""

    pages: int = 0
    rows: int = 0
    bytes_received: int = 0
    """Of bodies, after decompression."""

    queued: float = 0.0
    """Seconds that calls waited for a place among the requests in flight."""

    paced: float = 0.0
    """Seconds waited for the pace and the gate."""

    network: float = 0.0
    """Seconds from sending until the answer was read, or the attempt failed."""

    backoff: float = 0.0
    """Seconds slept before retries."""

    decoding: float = 0.0
    """Seconds spent making rows of answers."""


@define(eq=False, repr=False)
class Counters:
    """The same, counting."""

    requests: int = 0
    retries: int = 0
    throttled: int = 0
    pages: int = 0
    rows: int = 0
    bytes_received: int = 0
    queued: float = 0.0
    paced: float = 0.0
    network: float = 0.0
    backoff: float = 0.0
    decoding: float = 0.0

    def snapshot(self) -> Stats:
        """Freeze the counts of this moment."""
        return Stats(**asdict(self))
