"""Settings: checked when they are created, immutable afterwards.

| setting | argument of `harness_async.HarnessClient` | environment | default |
| --- | --- | --- | --- |
| key | `api_key` | `HARNESS_PLATFORM_API_KEY`, `HARNESS_API_KEY` | |
| account | `account_id` | `HARNESS_ACCOUNT_ID` | the second part of the key |
| host | `base_url` | `HARNESS_BASE_URL`, `HARNESS_ENDPOINT` | `https://app.harness.io` |
| proxy | `proxy` | `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY` | none |
| certificates | `ssl_context` | `SSL_CERT_FILE`, `SSL_CERT_DIR` | those of the system |

An explicit argument wins over the environment, the environment over the default. An empty variable counts as unset.
Bad values raise `harness_async.ConfigurationError` at construction, with the name of the setting and the fix; values of
a wrong type raise `TypeError`.

`base_url` may have a path, behind which all paths are joined. Plain http is refused unless the host is this machine or
`allow_http` is set, because the key would be readable on the way.

Proxies are those of the environment as in httpx and requests: the variables in either case, with credentials, with or
without a scheme. `NO_PROXY` lists hosts, domains, addresses and networks. `trust_env=False` ignores the environment. An
error of a connection names the proxy that was used, without its credentials.

`harness_async.Timeouts`, `harness_async.RetryPolicy` and `harness_async.RateLimit` are explained in
`harness_async.http`.
"""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
from base64 import b64encode
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from attrs import Attribute, field, frozen
from yarl import URL

from harness_async.errors import ConfigurationError
from harness_async.validation import MAX_SECONDS

DEFAULT_BASE_URL = "https://app.harness.io"
"""The SaaS host of most accounts; vanity and self-managed hosts differ."""

KEY_VARIABLES = ("HARNESS_PLATFORM_API_KEY", "HARNESS_API_KEY")
ACCOUNT_VARIABLES = ("HARNESS_ACCOUNT_ID",)
HOST_VARIABLES = ("HARNESS_BASE_URL", "HARNESS_ENDPOINT")

MAX_INTEGER = 10**9
"""The same for a number of requests or attempts."""

_LABEL = re.compile(r"[A-Za-z0-9_-]{1,63}")

RETRY_STATUSES = frozenset({408, 499, *range(500, 600)} - {501, 505})
"""Timeouts, a cancelled context, and server errors except "not implemented" and "version not supported"."""


def _seconds(*, zero: bool = False, optional: bool = False, infinite: bool = False) -> Any:
    """Create a validator of seconds above zero (or from zero), and of None where the field allows it."""

    def validate(instance: object, attribute: Attribute[float | None], value: object) -> None:
        if value is None and optional:
            return
        name = f"{type(instance).__name__}.{attribute.name}"
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value:  # noqa: PLR0124 - NaN
            raise ConfigurationError(f"{name} must be a number, not {value!r}")
        if value < 0 or (value == 0 and not zero) or (value > MAX_SECONDS and not infinite):
            accepted = "0 or more" if zero else "more than 0"
            raise ConfigurationError(
                f"{name} must be {accepted} seconds{' or None' if optional else ''}, not {value!r}"
            )

    return validate


def _integer(minimum: int, *, optional: bool = False) -> Any:
    """Create a validator of integers from a minimum."""

    def validate(instance: object, attribute: Attribute[int | None], value: object) -> None:
        if value is None and optional:
            return
        if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= MAX_INTEGER:
            name = f"{type(instance).__name__}.{attribute.name}"
            raise ConfigurationError(f"{name} must be an integer of {minimum} or more, not {value!r}")

    return validate


def _statuses(value: Iterable[int]) -> frozenset[int]:
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
    """Time limits in seconds; None means no limit.

    `connect` and `read` end one attempt, which may be retried. `deadline` ends the call: it covers queueing, pacing,
    every attempt with its response body, and every wait between attempts.

    Attributes:
        connect: Time to open a connection: DNS, TCP and TLS.
        read: Longest silence of the server while a response is awaited or read.
        deadline: Time for the whole call.

    Raises:
        ConfigurationError: A value is not a positive number or None.
    """

    connect: float | None = field(default=10.0, validator=_seconds(optional=True))
    read: float | None = field(default=30.0, validator=_seconds(optional=True))
    deadline: float | None = field(default=300.0, validator=_seconds(optional=True))


@frozen(kw_only=True)
class RetryPolicy:
    """Which failures are retried, and how long the client waits before each retry.

    The wait before retry n (from 0) is drawn from 0 to `min(max_backoff, initial_backoff * 2 ** n)` seconds. A call
    is retried until its deadline, or `max_attempts`.

    Attributes:
        initial_backoff: The longest wait before the first retry, in seconds.
        max_backoff: The longest wait before any retry, in seconds.
        max_attempts: Most attempts of a call; None leaves it to the deadline, 1 means no retry at all, not even
            after a 429.
        retry_statuses: The statuses that are retried.
        max_retry_after: Longest `Retry-After` in seconds that is waited for; beyond it the error is raised with
            `retry_after` set.

    Raises:
        ConfigurationError: A value is out of range.
    """

    initial_backoff: float = field(default=0.5, validator=_seconds())
    max_backoff: float = field(default=20.0, validator=_seconds())
    max_attempts: int | None = field(default=None, validator=_integer(1, optional=True))
    retry_statuses: frozenset[int] = field(
        default=RETRY_STATUSES, converter=_statuses, repr=lambda value: f"<{len(value)} statuses>"
    )
    max_retry_after: float = field(default=120.0, validator=_seconds(zero=True, infinite=True))

    def __attrs_post_init__(self) -> None:
        if self.max_backoff < self.initial_backoff:
            raise ConfigurationError("RetryPolicy.max_backoff must not be less than initial_backoff")


@frozen
class RateLimit:
    """How many requests the server allows in a window of time.

    The default is the stricter of the two published limits, 400 per minute and key; some keys have 1,000.

    Attributes:
        requests: Requests in the window.
        per: Length of the window in seconds.

    Raises:
        ConfigurationError: A value is not positive.
    """

    requests: int = field(default=400, validator=_integer(1))
    per: float = field(default=60.0, validator=_seconds())


@frozen
class Credentials:
    """The key and its account. Neither `repr` nor errors show the key."""

    api_key: str = field(repr=False)
    account_id: str


@frozen
class Proxy:
    """An HTTP proxy. Its `str` has no credentials."""

    url: URL
    """The address, without credentials."""

    authorization: str | None = field(default=None, repr=False)
    """The value of the header `Proxy-Authorization`."""

    def __str__(self) -> str:
        return str(self.url).rstrip("/")


@frozen
class Settings:
    """The resolved and checked settings of a client."""

    credentials: Credentials
    base_url: URL
    proxy: Proxy | None = None
    ssl_context: ssl.SSLContext | None = None
    """None uses aiohttp's default, which verifies certificates."""


def check_max_in_flight(value: object) -> int:
    """Return a number of requests in flight.

    Raises:
        ConfigurationError: The value is not an integer of 1 or more.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigurationError(f"max_in_flight must be an integer of 1 or more, not {value!r}")
    return value


def resolve_settings(
    api_key: str | None,
    account_id: str | None,
    base_url: str | URL | None,
    environ: Mapping[str, str],
    *,
    allow_http: bool = False,
    trust_env: bool = True,
    proxy: str | URL | None = None,
    ssl_context: ssl.SSLContext | None = None,
) -> Settings:
    """Combine arguments, environment and defaults, in that order of precedence.

    Raises:
        ConfigurationError: A setting is missing, empty, malformed or unsafe.
    """
    key = _first_set("API key", "api_key", api_key, KEY_VARIABLES, environ)
    if key is None:
        raise ConfigurationError(f"No API key: pass api_key, or set {' or '.join(KEY_VARIABLES)}")
    account = _first_set("account id", "account_id", account_id, ACCOUNT_VARIABLES, environ) or account_of(key)
    if account is None:
        raise ConfigurationError(
            "No account id: pass account_id, or set HARNESS_ACCOUNT_ID (this key does not contain one)"
        )
    url = (
        base_url if isinstance(base_url, URL) else _first_set("base URL", "base_url", base_url, HOST_VARIABLES, environ)
    )
    checked_url = check_base_url(DEFAULT_BASE_URL if url is None else url, allow_http=allow_http)
    return Settings(
        Credentials(key, account),
        checked_url,
        resolve_proxy(checked_url, proxy, environ if trust_env else {}),
        resolve_ssl_context(ssl_context, environ, trust_env=trust_env),
    )


def _first_set(
    what: str, argument: str, value: object, variables: Iterable[str], environ: Mapping[str, str]
) -> str | None:
    """Return the argument, else the first variable that is set; it must be one line of text."""
    if value is not None:
        return _check_line(what, argument, value)
    for name in variables:
        if environ.get(name, "").strip():
            return _check_line(what, f"environment variable {name}", environ[name])
    return None


def _check_line(what: str, where: str, value: object) -> str:
    # The value stays out of the messages: it may be the key.
    if not isinstance(value, str):
        raise ConfigurationError(f"The {what} ({where}) must be a str, not {type(value).__name__}")
    if not value.strip():
        raise ConfigurationError(f"The {what} ({where}) is empty; pass a value or leave it out")
    if not value.isprintable() or not (value.isascii() or what == "base URL"):  # an international host is encoded
        raise ConfigurationError(
            f"The {what} ({where}) has a line break or another character that no header can carry; "
            "was it read from a file with its line end?"
        )
    if value != value.strip():
        raise ConfigurationError(f"The {what} ({where}) begins or ends with a space; strip it")
    return value


def account_of(api_key: str) -> str | None:
    """Return the account id within a `pat.` or `sat.` key (the second of its dot-separated parts), or None.

    Harness documents this layout by example only, so an explicit account id always wins.
    """
    parts = api_key.split(".")
    if len(parts) >= 3 and parts[0].lower() in {"pat", "sat"} and parts[1].strip():  # noqa: PLR2004
        return parts[1]
    return None


def check_base_url(value: str | URL, *, allow_http: bool) -> URL:
    """Return a base URL without its trailing slash; a path prefix stays.

    Raises:
        ConfigurationError: It is not http(s), has credentials, a query or a fragment, or is plain http to a host
            that is not this machine.
    """
    try:
        url = URL(value)
        host, _ = url.host, url.port
        if url.raw_host is not None:
            _check_host(url.raw_host)
    except ValueError as error:
        raise ConfigurationError(f"base_url is not a URL: {error}") from error
    if url.user is not None or url.password is not None:
        raise ConfigurationError("base_url must not contain a user or password; the key goes into api_key")
    if url.scheme not in {"http", "https"} or not host:
        raise ConfigurationError(f"base_url must begin with https:// and name a host, not {str(value)!r}")
    if url.query_string or url.fragment:
        raise ConfigurationError(f"base_url must have no query and no fragment, not {str(value)!r}")
    if url.scheme == "http" and not allow_http and not _is_loopback(host):
        raise ConfigurationError(
            f"base_url {str(url)!r} would send the key unencrypted; use https, or pass allow_http=True"
        )
    return url.with_path(url.raw_path.rstrip("/"), encoded=True)


def _check_host(host: str) -> None:
    """Refuse a name that DNS cannot carry, which the resolver would report as a bare UnicodeError."""
    labels = host.removesuffix(".").split(".")
    if ":" not in host and not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError(f"the host {host!r} has an empty label, one of more than 63 characters, or a wrong character")


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def resolve_proxy(base_url: URL, proxy: str | URL | None, environ: Mapping[str, str]) -> Proxy | None:
    """Return the proxy for a URL: the argument, else that of the environment, as in httpx and requests.

    The variables are `HTTPS_PROXY` or `HTTP_PROXY` (by the scheme of the URL), then `ALL_PROXY`, except for hosts in
    `NO_PROXY`; each in lower or upper case.

    Raises:
        ConfigurationError: The proxy is not an http(s) URL.
    """
    if proxy is not None:
        return _parse_proxy("proxy", str(proxy))
    if _bypasses_proxy(base_url, _variable(environ, "NO_PROXY")[1]):
        return None
    for name in (f"{base_url.scheme}_proxy", "all_proxy"):
        variable, value = _variable(environ, name)
        if value:
            return _parse_proxy(f"environment variable {variable}", value)
    return None


def _variable(environ: Mapping[str, str], name: str) -> tuple[str, str]:
    """Return the name and value of a variable in lower case, else in upper case; "" where it is not set."""
    for variant in (name.lower(), name.upper()):
        if value := environ.get(variant, "").strip():
            return variant, value
    return name, ""


def _parse_proxy(where: str, text: str) -> Proxy:
    # The value stays out of the messages: it may contain a password.
    try:
        url = URL(text if "://" in text else f"http://{text}")
        if text.isprintable() and url.scheme in {"http", "https"} and url.host and url.raw_host:
            _check_host(url.raw_host)
            credentials = f"{url.user or ''}:{url.password or ''}"
            authorization = f"Basic {b64encode(credentials.encode()).decode()}" if credentials != ":" else None
            return Proxy(URL.build(scheme=url.scheme, host=url.host, port=url.port), authorization)
    except ValueError:
        pass
    raise ConfigurationError(
        f"The proxy ({where}) must be an http:// or https:// URL with a host, such as http://proxy.example:8080; "
        "SOCKS proxies are not supported"
    )


def _bypasses_proxy(url: URL, no_proxy: str) -> bool:
    """Return whether a host is excluded from the proxy: by name, domain, address or network, with or without a port."""
    host = (url.host or "").lower().rstrip(".")
    for entry in no_proxy.lower().replace(",", " ").split():
        name, colon, port = entry.rpartition(":")
        if colon and port.isdecimal() and not (":" in name and not name.endswith("]")):
            if port != str(url.port):
                continue
            entry = name  # noqa: PLW2901 - without its port
        entry = entry.strip("[]")  # noqa: PLW2901 - an IPv6 address
        domain = entry.removeprefix("*").strip(".")
        if entry == "*" or (domain and (host == domain or host.endswith(f".{domain}"))):
            return True
        try:
            if ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False):
                return True
        except ValueError:
            continue
    return False


def resolve_ssl_context(
    ssl_context: ssl.SSLContext | None, environ: Mapping[str, str], *, trust_env: bool
) -> ssl.SSLContext | None:
    """Return the TLS context: the argument, else one with the certificates of `SSL_CERT_FILE` or `SSL_CERT_DIR`.

    Raises:
        ConfigurationError: The variable does not name a file or directory with certificates.
    """
    variables = ("SSL_CERT_FILE", "SSL_CERT_DIR")
    if ssl_context is not None or not any(name in environ for name in variables):
        return ssl_context
    file, directory = (environ.get(name, "").strip() or None for name in variables)
    if not trust_env or (file is None and directory is None):  # OpenSSL reads both by itself, empty ones too
        paths = ssl.get_default_verify_paths()
        file = paths.openssl_cafile if Path(paths.openssl_cafile).is_file() else None
        directory = paths.openssl_capath if Path(paths.openssl_capath).is_dir() else None
    return create_ssl_context(file, directory, "environment variable SSL_CERT_FILE or SSL_CERT_DIR")


def create_ssl_context(file: str | None, directory: str | None, where: str) -> ssl.SSLContext:
    """Create a TLS context that trusts the certificate authorities of a file or directory.

    Raises:
        ConfigurationError: There are no certificates; `where` names the setting.
    """
    if directory is not None and not any(map(os.path.isdir, directory.split(os.pathsep))):
        raise ConfigurationError(f"Cannot read certificates from {directory!r} ({where}): it is not a directory")
    try:
        return ssl.create_default_context(cafile=file, capath=directory)
    except OSError as error:  # ssl.SSLError is one
        reason = error.strerror or "it has no PEM certificate"
        raise ConfigurationError(f"Cannot read certificates from {file or directory!r} ({where}): {reason}") from error
