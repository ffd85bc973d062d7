"""What `on_event` is told: frozen records of what the client does, without the key and without bodies."""

from __future__ import annotations

from attrs import frozen


@frozen(kw_only=True)
class Event:
    """The base of all events."""


@frozen(kw_only=True)
class RequestSent(Event):
    """A request left."""

    method: str
    url: str
    attempt: int
    """From 1 on, within one call."""


@frozen(kw_only=True)
class ResponseReceived(Event):
    """An answer was read whole, whatever its status."""

    method: str
    url: str
    attempt: int
    status: int
    elapsed: float
    """Seconds since it was sent."""

    size_bytes: int
    correlation_id: str | None


@frozen(kw_only=True)
class RetryPlanned(Event):
    """An attempt failed and another will follow."""

    method: str
    url: str
    attempt: int
    """The one that failed."""

    reason: str
    wait: float
    """Seconds of backoff; the pace and the gate may add to them."""


@frozen(kw_only=True)
class GateClosed(Event):
    """Nothing leaves for a while: the server refused by rate, or keeps failing."""

    reason: str
    wait: float
    """Seconds until the probe."""


@frozen(kw_only=True)
class GateOpened(Event):
    """The probe was answered; requests flow again."""

    rate: float | None
    """Requests per second from now on; None where no pace is set."""


@frozen(kw_only=True)
class PageRead(Event):
    """A page of a list was read and decoded."""

    url: str
    page: int
    rows: int
    total_items: int | None
