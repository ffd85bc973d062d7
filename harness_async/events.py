"""Events for `on_event`, and the counts behind `HarnessClient.stats`, without the key and without bodies."""

from __future__ import annotations

from attrs import asdict, define, frozen


@frozen(kw_only=True)
class Event:
    """The base of all events."""


@frozen(kw_only=True)
class RequestSent(Event):
    """A request was sent.

    Attributes:
        method: The method of the request.
        url: The URL of the request.
        attempt: Number of the attempt within its call, from 1.
    """

    method: str
    url: str
    attempt: int


@frozen(kw_only=True)
class ResponseReceived(Event):
    """A response was read to its end, whatever its status.

    Attributes:
        method: The method of the request.
        url: The URL of the request.
        attempt: Number of the attempt within its call, from 1.
        status: The status of the response.
        elapsed: Seconds since the request was sent.
        size_bytes: Size of the body.
        correlation_id: The id to quote to Harness support, where the response has one.
    """

    method: str
    url: str
    attempt: int
    status: int
    elapsed: float
    size_bytes: int
    correlation_id: str | None


@frozen(kw_only=True)
class RetryPlanned(Event):
    """An attempt failed, and another will follow.

    Attributes:
        method: The method of the request.
        url: The URL of the request.
        attempt: Number of the attempt that failed.
        reason: Why it failed.
        wait: Seconds of backoff; pacing may add to them.
    """

    method: str
    url: str
    attempt: int
    reason: str
    wait: float


@frozen(kw_only=True)
class GateClosed(Event):
    """Requests are held back: the server refused by rate, or most responses are failures.

    Attributes:
        reason: Why requests are held back.
        wait: Seconds until one request probes the server.
    """

    reason: str
    wait: float


@frozen(kw_only=True)
class GateOpened(Event):
    """The probe succeeded; requests flow again.

    Attributes:
        rate: Requests per second from now on; None without a rate limit.
    """

    rate: float | None


@frozen(kw_only=True)
class PageRead(Event):
    """A page of a list was read and decoded.

    Attributes:
        url: The URL of the list.
        page: Number of the page.
        rows: Rows in it.
        total_items: Rows of the whole list, where the server says so.
    """

    url: str
    page: int
    rows: int
    total_items: int | None


@frozen(kw_only=True)
class Stats:
    """What a client did so far; a snapshot. Times are sums over calls, which overlap.

    Attributes:
        requests: Requests sent, retries and probes included.
        retries: Requests that were repeated after a failure.
        throttled: Responses with status 429.
        pages: Pages read.
        rows: Rows decoded.
        bytes_received: Bytes of response bodies, after decompression.
        queued: Seconds in which calls waited because `max_in_flight` requests were in flight.
        paced: Seconds in which calls waited for the rate limit and the gate.
        network: Seconds from sending a request to the end of its response or its failure.
        backoff: Seconds in which calls waited before a retry.
        decoding: Seconds of decoding responses.
    """

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
