"""Settings: checked where they are made, frozen from then on.

What an argument leaves open comes from the environment, what the environment leaves open from the defaults here.
Bad numbers and unusable addresses are refused at construction, with what to do about it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

from attrs import Attribute, field, frozen
from yarl import URL

from harness_async.errors import ConfigurationError

DEFAULT_BASE_URL = "https://app.harness.io"
"""The SaaS host of most accounts; vanity and self-managed hosts differ."""

KEY_VARIABLES = ("HARNESS_PLATFORM_API_KEY", "HARNESS_API_KEY")
ACCOUNT_VARIABLES = ("HARNESS_ACCOUNT_ID",)
HOST_VARIABLES = ("HARNESS_BASE_URL", "HARNESS_ENDPOINT")

MAX_SECONDS = 1e9
"""Thirty years: what is longer is a slip, and for ever is None."""

RETRY_STATUSES = frozenset({408, 499, *range(500, 600)} - {501, 505})
"""Statuses worth another try: time-outs, a cancelled context, and server errors other than "never will"."""


def _number(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:  # noqa: PLR0124 - NaN
        raise ConfigurationError(f"{name} must be a number, not {value!r}")
    return value


def _seconds(*, zero: bool = False, none: bool = False, infinite: bool = False) -> Any:
    """Build a validator for seconds above zero (or from zero), None where the field allows it."""

    def check(instance: object, attribute: Attribute[float | None], value: object) -> None:
        name = f"{type(instance).__name__}.{attribute.name}"
        if value is None and none:
            return
        number = _number(value, name)
        if number < 0 or (number == 0 and not zero) or (number > MAX_SECONDS and not infinite):
            least = "0 or more" if zero else "more than 0"
            raise ConfigurationError(f"{name} must be {least} seconds{' or None' if none else ''}, not {value!r}")

    return check


def _whole(least: int, *, none: bool = False) -> Any:
    """Build a validator for whole numbers from `least` on."""

    def check(instance: object, attribute: Attribute[int | None], value: object) -> None:
        if value is None and none:
            return
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            name = f"{type(instance).__name__}.{attribute.name}"
            raise ConfigurationError(f"{name} must be a whole number from {least} on, not {value!r}")

    return check


def _statuses(value: Iterable[int]) -> frozenset[int]:
    """Take statuses from any iterable."""
    try:
        statuses = frozenset(value)
    except TypeError as error:
        raise ConfigurationError(f"RetryPolicy.retry_statuses takes several statuses, not {value!r}") from error
    wrong = [status for status in statuses if isinstance(status, bool) or status not in range(400, 600)]
    if wrong:
        raise ConfigurationError(f"RetryPolicy.retry_statuses takes statuses from 400 to 599, not {wrong!r}")
    return statuses


@frozen(kw_only=True)
class Timeouts:
    """How long to wait, in seconds; None means for ever.

    A time-out ends one attempt, which may then be retried. The deadline ends the call: it covers queueing, pacing,
    every attempt, reading the answers and every wait in between.
    """

    connect: float | None = field(default=10.0, validator=_seconds(none=True))
    """To reach the server, TLS included."""

    read: float | None = field(default=30.0, validator=_seconds(none=True))
    """For the next bytes of an answer."""

    deadline: float | None = field(default=300.0, validator=_seconds(none=True))
    """For the whole call."""


@frozen(kw_only=True)
class RetryPolicy:
    """When to try again: full jitter between attempts, up to the deadline of the call.

    Before attempt n the wait is drawn from 0 to `min(max_backoff, initial_backoff * 2 ** (n - 2))` seconds.
    """

    initial_backoff: float = field(default=0.5, validator=_seconds())
    max_backoff: float = field(default=20.0, validator=_seconds())
    max_attempts: int | None = field(default=None, validator=_whole(1, none=True))
    """Attempts at most; None leaves it to the deadline, 1 means never try again, not even after a 429."""

    retry_statuses: frozenset[int] = field(
        default=RETRY_STATUSES,
        converter=_statuses,
        repr=lambda value: f"<{len(value)} statuses>",
    )
    max_retry_after: float = field(default=120.0, validator=_seconds(zero=True, infinite=True))
    """The longest `Retry-After` we obey, in seconds; beyond it the error is raised with `retry_after` on it."""

    def __attrs_post_init__(self) -> None:
        if self.max_backoff < self.initial_backoff:
            raise ConfigurationError("RetryPolicy.max_backoff must not be less than initial_backoff")


@frozen
class RateLimit:
    """How many requests the server allows in a window.

    The default is the stricter of the two published limits (400 per minute and key; some keys have 1000).
    """

    requests: int = field(default=400, validator=_whole(1))
    per: float = field(default=60.0, validator=_seconds())
    """The window, in seconds."""


def check_max_in_flight(value: object) -> int:
    """Return a number of requests in flight.

    Raises:
        ConfigurationError: It is no whole number from 1 on.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigurationError(f"max_in_flight must be a whole number from 1 on, not {value!r}")
    return value


@frozen
class Credentials:
    """Who is asking; neither `repr` nor errors show the key."""

    api_key: str = field(repr=False)
    account_id: str


@frozen
class Settings:
    """What a client is made of, resolved and checked."""

    credentials: Credentials
    base_url: URL


def resolve(
    api_key: str | None,
    account_id: str | None,
    base_url: str | URL | None,
    environ: Mapping[str, str],
    *,
    allow_http: bool = False,
) -> Settings:
    """Put arguments, environment and defaults together, in that order of precedence.

    Raises:
        ConfigurationError: Something is missing, empty, malformed or unsafe.
    """
    key = _first("API key", "api_key", api_key, KEY_VARIABLES, environ)
    if key is None:
        raise ConfigurationError(f"No API key: pass api_key, or set {' or '.join(KEY_VARIABLES)}")
    account = _first("account id", "account_id", account_id, ACCOUNT_VARIABLES, environ) or account_of(key)
    if account is None:
        raise ConfigurationError(
            "No account id: pass account_id, or set HARNESS_ACCOUNT_ID (this key does not carry one)"
        )
    url = base_url if isinstance(base_url, URL) else _first("base URL", "base_url", base_url, HOST_VARIABLES, environ)
    url = DEFAULT_BASE_URL if url is None else url
    return Settings(Credentials(key, account), check_base_url(url, allow_http=allow_http))


def _first(what: str, argument: str, value: object, variables: Iterable[str], environ: Mapping[str, str]) -> str | None:
    """Take the argument, else the first variable that is set; whichever it is must be a proper line of text."""
    if value is not None:
        return _line(what, argument, value)
    for name in variables:
        if name in environ:
            return _line(what, f"environment variable {name}", environ[name])
    return None


def _line(what: str, where: str, value: object) -> str:
    # The value itself stays out of the messages: it may be the key.
    if not isinstance(value, str):
        raise ConfigurationError(f"The {what} ({where}) must be a str, not {type(value).__name__}")
    if not value.strip():
        raise ConfigurationError(f"The {what} ({where}) is empty; pass a value or leave it out")
    if not value.isascii() or not value.isprintable():
        raise ConfigurationError(
            f"The {what} ({where}) has a line break or another character that no header can carry; "
            "was it read from a file with its line end?"
        )
    if value != value.strip():
        raise ConfigurationError(f"The {what} ({where}) begins or ends with a space; strip it")
    return value


def account_of(api_key: str) -> str | None:
    """Read the account id out of a `pat.` or `sat.` key (its second dot-part); None where there is none.

    Harness shows this layout but does not promise it, so an account id that is given always wins.
    """
    parts = api_key.split(".")
    if len(parts) >= 3 and parts[0].lower() in {"pat", "sat"} and parts[1].strip():  # noqa: PLR2004
        return parts[1]
    return None


def check_base_url(value: str | URL, *, allow_http: bool) -> URL:
    """Check an address and drop its trailing slash; a path prefix stays.

    Raises:
        ConfigurationError: It is not http(s), has credentials, a query or a fragment, or is plain http to a host
            that is not this machine.
    """
    try:
        url = URL(value)
        host, _ = url.host, url.port
    except ValueError as error:
        raise ConfigurationError(f"base_url is not a URL: {error}") from error
    if url.user is not None or url.password is not None:
        raise ConfigurationError("base_url must not carry a user or password; the key goes into api_key")
    if url.scheme not in {"http", "https"} or not host:
        raise ConfigurationError(f"base_url must begin with https:// and name a host, not {str(value)!r}")
    if url.query_string or url.fragment:
        raise ConfigurationError(f"base_url must have no query and no fragment, not {str(value)!r}")
    if url.scheme == "http" and not allow_http and not _is_loopback(host):
        raise ConfigurationError(
            f"base_url {str(url)!r} would send the key unencrypted; use https, or pass allow_http=True"
        )
    return url.with_path(url.raw_path.rstrip("/"), encoded=True)


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
