"""Settings: precedence of arguments and environment, and the values that are refused."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from yarl import URL

from harness_async.config import (
    RateLimit,
    RetryPolicy,
    Timeouts,
    account_of,
    check_base_url,
    check_max_in_flight,
    resolve_settings,
)
from harness_async.errors import ConfigurationError

SECRET = "s3cr3t-Zq9"
KEY = f"pat.KeyAccount.650b1c.{SECRET}"
PLAIN_KEY = f"opaque-{SECRET}"
HOST = "https://app.harness.io"
ENVIRON = {
    "HARNESS_PLATFORM_API_KEY": "platform-key",
    "HARNESS_API_KEY": "other-key",
    "HARNESS_ACCOUNT_ID": "EnvAccount",
    "HARNESS_BASE_URL": "https://base.example",
    "HARNESS_ENDPOINT": "https://endpoint.example/gateway",
}


def without(name: str) -> dict[str, str]:
    return {other: value for other, value in ENVIRON.items() if other != name}


@pytest.mark.parametrize(
    ("arguments", "environ", "expected"),
    [
        pytest.param({}, ENVIRON, "platform-key", id="first variable"),
        pytest.param({}, without("HARNESS_PLATFORM_API_KEY"), "other-key", id="second variable"),
        pytest.param({}, {**ENVIRON, "HARNESS_PLATFORM_API_KEY": " \n"}, "other-key", id="empty variable"),
        pytest.param({"api_key": KEY}, ENVIRON, KEY, id="argument over variables"),
        pytest.param({"account_id": "Given"}, ENVIRON, "Given", id="account argument"),
        pytest.param({"api_key": KEY}, ENVIRON, "EnvAccount", id="account variable over the key"),
        pytest.param({"api_key": KEY}, {}, "KeyAccount", id="account of the key"),
        pytest.param({"api_key": PLAIN_KEY, "account_id": "Given"}, {}, "Given", id="key without account"),
        pytest.param({"api_key": KEY}, {}, HOST, id="default host"),
        pytest.param({}, ENVIRON, "https://base.example", id="first host variable"),
        pytest.param({}, without("HARNESS_BASE_URL"), "https://endpoint.example/gateway", id="second host variable"),
        pytest.param({"base_url": "https://mine.example"}, ENVIRON, "https://mine.example", id="host argument"),
        pytest.param({"base_url": URL("https://a.example/x/")}, ENVIRON, "https://a.example/x", id="host as URL"),
        pytest.param({"base_url": "https://ä.example"}, ENVIRON, "https://xn--4ca.example", id="host of any letters"),
    ],
)
def test_precedence(arguments: dict[str, Any], environ: dict[str, str], expected: str) -> None:
    """An argument wins over the environment, the environment over the account in the key and over the defaults."""
    settings = resolve_settings(**{"api_key": None, "account_id": None, "base_url": None, **arguments}, environ=environ)
    values = (settings.credentials.api_key, settings.credentials.account_id, str(settings.base_url))
    assert expected in values


@pytest.mark.parametrize(
    ("account", "keys"),
    [
        (
            "Acc",
            ["pat.Acc.id.secret", "sat.Acc.id.secret", "PAT.Acc.id.secret", "pat.Acc.secret", "pat.Acc.id.sec.ret"],
        ),
        (None, ["pat.Acc", "pat..id.secret", "pat. .id.secret", "xat.Acc.id.secret", "secret", ""]),
    ],
)
def test_account_of_a_key(account: str | None, keys: list[str]) -> None:
    """Only keys of the two documented layouts contain an account."""
    assert {account_of(key) for key in keys} == {account}


REFUSED_TEXTS: list[tuple[Any, str]] = [
    *[(text, "space") for text in (" abc", "abc ")],
    *[(text, "line break") for text in ("abc\r\n", "ab\rc")],
    *[(text, "character") for text in ("ab\tc", "ab\x00c", "ab\x7fc")],
]


@pytest.mark.parametrize(
    ("value", "message"),
    [*REFUSED_TEXTS, ("", "empty"), (" \n", "empty"), (b"abc", "not bytes"), (7, "not int")],
    ids=repr,
)
@pytest.mark.parametrize("argument", ["api_key", "account_id", "base_url"])
def test_refused_arguments(argument: str, value: Any, message: str) -> None:
    """An argument that no header or URL can carry is refused, and the error names it."""
    with pytest.raises(ConfigurationError, match=message) as caught:
        resolve_settings(**{"api_key": KEY, "account_id": "Acc", "base_url": HOST, argument: value}, environ={})
    assert f"({argument})" in str(caught.value)


@pytest.mark.parametrize("argument", ["api_key", "account_id"])
def test_refused_letters(argument: str) -> None:
    """A letter outside ASCII, which no header can carry, is refused."""
    arguments: dict[str, Any] = {"api_key": KEY, "account_id": "Acc", "base_url": HOST, argument: "abç"}
    with pytest.raises(ConfigurationError, match=rf"\({argument}\) has .* character"):
        resolve_settings(**arguments, environ={})


@pytest.mark.parametrize(("value", "message"), REFUSED_TEXTS, ids=repr)
@pytest.mark.parametrize("variable", ENVIRON)
def test_refused_variables(variable: str, value: str, message: str) -> None:
    """A variable with an unusable value is refused by name, not skipped."""
    with pytest.raises(ConfigurationError, match=message) as caught:
        resolve_settings(None if variable.endswith("_KEY") else KEY, None, None, {variable: value})
    assert f"environment variable {variable}" in str(caught.value)


@pytest.mark.parametrize(
    ("key", "account", "message"),
    [
        (None, "Acc", r"api_key.*HARNESS_PLATFORM_API_KEY.*HARNESS_API_KEY"),
        (PLAIN_KEY, None, r"account_id.*HARNESS_ACCOUNT_ID"),
    ],
    ids=["no-key", "no-account"],
)
def test_missing_credentials(key: str | None, account: str | None, message: str) -> None:
    """Without a key or an account the error names the argument and the variables."""
    with pytest.raises(ConfigurationError, match=message):
        resolve_settings(key, account, None, {})


REFUSED_URLS: dict[str, list[str]] = {
    "https://": ["app.harness.io", "ftp://app.harness.io", "file:///etc/passwd", "//app.harness.io", "https:///v1"],
    "name a host": ["https://", "https:app.harness.io"],
    "user": ["https://me@app.harness.io", "https://me:pw@app.harness.io", "https://:pw@app.harness.io"],
    "query": ["https://app.harness.io?x=1"],
    "fragment": ["https://app.harness.io/#top"],
    "not a URL": [
        *("https://app.harness.io:99999", "https://app.harness.io:http", "https://[::1"),
        *("https://app..io", "https://.harness.io", f"https://{'a' * 64}.io", "https://a b.io", "https://a%00b.io"),
    ],
    "allow_http": [
        *("http://app.harness.io", "http://10.0.0.1:8080", "http://0.0.0.0", "http://[::2]", "http://notlocalhost"),
        *("http://localhost.example.com", "http://127.0.0.1.example.com"),
    ],
}


@pytest.mark.parametrize(
    ("value", "message"), [(value, message) for message, values in REFUSED_URLS.items() for value in values]
)
def test_refused_base_urls(value: str, message: str) -> None:
    """A base URL that is not http(s), has more than host and path, or sends the key unencrypted is refused."""
    with pytest.raises(ConfigurationError, match=message):
        resolve_settings(KEY, None, value, {})
    with pytest.raises(ConfigurationError, match=message):
        resolve_settings(KEY, None, None, {"HARNESS_BASE_URL": value})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("https://app.harness.io//", "https://app.harness.io"),
        ("https://app.harness.io/gateway/", "https://app.harness.io/gateway"),
        ("https://a.example/a%2Fb/", "https://a.example/a%2Fb"),
        ("https://a.example:8443/x", "https://a.example:8443/x"),
        ("HTTPS://App.Harness.IO/X", "https://app.harness.io/X"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("http://fake.localhost", "http://fake.localhost"),
    ],
)
def test_base_url(value: str, expected: str) -> None:
    """The path is kept as a prefix without its trailing slash, and plain http is accepted on loopback hosts."""
    for given in (value, URL(value), expected):
        assert str(check_base_url(given, allow_http=False)) == expected


def test_allow_http() -> None:
    """`allow_http` accepts plain http to any host, and neither another scheme nor an empty URL."""
    assert str(check_base_url("http://10.0.0.1:8080/x", allow_http=True)) == "http://10.0.0.1:8080/x"
    for refused in ("ftp://10.0.0.1", URL("")):
        with pytest.raises(ConfigurationError):
            resolve_settings(KEY, None, refused, {}, allow_http=True)


NOT_POSITIVE: list[object] = [math.nan, -1, -0.001, -math.inf, True, False, "10", [1], 1j]

REFUSED_NUMBERS: list[tuple[Callable[..., Any], str, list[object]]] = [
    (Timeouts, "connect", [*NOT_POSITIVE, 0, math.inf]),
    (Timeouts, "read", [*NOT_POSITIVE, 0, math.inf, 10**400]),
    (Timeouts, "deadline", [*NOT_POSITIVE, 0, math.inf]),
    (RetryPolicy, "initial_backoff", [*NOT_POSITIVE, 0, math.inf, None]),
    (RetryPolicy, "max_backoff", [*NOT_POSITIVE, 0, math.inf, None, 10**400]),
    (RetryPolicy, "max_attempts", [*NOT_POSITIVE, 0, math.inf, 1.5]),
    (RetryPolicy, "max_retry_after", [*NOT_POSITIVE, None]),
    (RetryPolicy, "retry_statuses", [[200], [302], [600], [True], ["500"], "500", [500.5], [None], None, 500, [[500]]]),
    (RateLimit, "requests", [*NOT_POSITIVE, 0, math.inf, None, 1.5, 10**400]),
    (RateLimit, "per", [*NOT_POSITIVE, 0, math.inf, None, 10**400]),
    (check_max_in_flight, "value", [*NOT_POSITIVE, 0, math.inf, None, 1.5]),
]


@pytest.mark.parametrize(
    ("cls", "name", "value"),
    [
        pytest.param(cls, name, value, id=f"{cls.__name__}.{name}={value!r:.12}")
        for cls, name, values in REFUSED_NUMBERS
        for value in values
    ],
)
def test_refused_numbers(cls: Callable[..., Any], name: str, value: object) -> None:
    """A setting that is not a usable number of its kind is refused, and the error names it."""
    label = "max_in_flight" if cls is check_max_in_flight else rf"{cls.__name__}\.{name}"
    with pytest.raises(ConfigurationError, match=f"^{label} "):
        cls(**{name: value})


def test_backoff_bounds() -> None:
    """`max_backoff` is at least `initial_backoff`."""
    with pytest.raises(ConfigurationError, match="max_backoff"):
        RetryPolicy(initial_backoff=2.0, max_backoff=1.0)
    assert RetryPolicy(initial_backoff=1.0, max_backoff=1.0).max_backoff == 1.0


@pytest.mark.parametrize(
    ("cls", "arguments"),
    [
        (Timeouts, {"connect": None, "read": None, "deadline": None}),
        (Timeouts, {"connect": 1, "read": 0.001}),
        (RetryPolicy, {"max_attempts": 1, "max_retry_after": 0, "retry_statuses": frozenset()}),
        (RetryPolicy, {"max_retry_after": math.inf, "retry_statuses": (503, 503, 500)}),
        (RateLimit, {"requests": 1, "per": 0.5}),
    ],
    ids=repr,
)
def test_accepted_edges(cls: Callable[..., Any], arguments: dict[str, Any]) -> None:
    """Values at the edge of their range are accepted, and the settings are picklable and hashable."""
    settings = cls(**arguments)
    assert pickle.loads(pickle.dumps(settings)) == settings  # noqa: S301
    assert hash(settings) == hash(cls(**arguments))
    with pytest.raises(ConfigurationError):
        attrs.evolve(settings, **{next(iter(arguments)): -1})
