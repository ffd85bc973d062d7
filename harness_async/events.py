"""Events for `on_event`, and the counts behind `HarnessClient.stats`, without the key and without bodies."""

from __future__ import annotations

from attrs import asdict, define, frozen


@frozen(kw_only=True)
class Event:
    """The base of all events."""


@frozen(kw_only=True)
class RequestSent(Event):
    """A request was sent."""

    method: str
    url: str
    attempt: int
    """Number of the attempt within its call, from 1."""


@frozen(kw_only=True)
class ResponseReceived(Event):
    """A response was read to its end, whatever its status."""

    method: str
    url: str
    attempt: int
    status: int
    elapsed: float
    """Seconds since the request was sent."""

    size_bytes: int
    correlation_id: str | None
    """The id to quote to Harness support, where the response has one."""


@frozen(kw_only=True)
class RetryPlanned(Event):
    """An attempt failed, and another will follow."""

    method: str
    url: str
    attempt: int
    """Number of the attempt that failed."""

    reason: str
    wait: float
    """Seconds of backoff; pacing may add to them."""


@frozen(kw_only=True)
class GateClosed(Event):
    """Requests are held back: the server refused by rate, or most responses are failures."""

    reason: str
    wait: float
    """Seconds until one request probes the server."""


@frozen(kw_only=True)
class GateOpened(Event):
    """The probe succeeded; requests flow again."""

    rate: float | None
    """Requests per second from now on; None without a rate limit."""


@frozen(kw_only=True)
class PageRead(Event):
    """A page of a list was read and decoded."""

    url: str
    page: int
    rows: int
    total_items: int | None


@frozen(kw_only=True)
class Stats:
    """What a client did so far; a snapshot. Times are sums over calls, which overlap."""

    requests: int = 0
    """Requests sent, retries and probes included."""

    retries: int = 0
    throttled: int = 0
    """Responses with status 429."""

    pages: int = 0
    rows: int = 0
    bytes_received: int = 0
    """Bytes of response bodies, after decompression."""

    queued: float = 0.0
    """Seconds in which calls waited because `max_in_flight` requests were in flight."""

    paced: float = 0.0
    """Seconds in which calls waited for the rate limit and the gate."""

    network: float = 0.0
    """Seconds from sending a request to the end of its response or its failure."""

    backoff: float = 0.0
    """Seconds in which calls waited before a retry."""

    decoding: float = 0.0
    """Seconds of decoding responses."""


@define(eq=False)
class Counters:
    """The mutable counterpart of `Stats`."""

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
        """Return the counts of this moment."""
        return Stats(**asdict(self))
