"""Settings: precedence of arguments and environment, and the values that are refused."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from yarl import URL

from harness_async import HarnessClient
from harness_async.config import (
    RETRY_STATUSES,
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


# -- credentials and host ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "environ", "expected"),
    [
        pytest.param({}, ENVIRON, "platform-key", id="first variable"),
        pytest.param({}, without("HARNESS_PLATFORM_API_KEY"), "other-key", id="second variable"),
        pytest.param({"api_key": KEY}, ENVIRON, KEY, id="argument over variables"),
        pytest.param({"api_key": KEY}, {}, KEY, id="argument alone"),
        pytest.param({"account_id": "Given"}, ENVIRON, "Given", id="account argument"),
        pytest.param({"api_key": KEY}, ENVIRON, "EnvAccount", id="account variable over the key"),
        pytest.param({"api_key": KEY}, {}, "KeyAccount", id="account of the key"),
        pytest.param({}, {"HARNESS_API_KEY": KEY}, "KeyAccount", id="account of the key in the environment"),
        pytest.param({"api_key": PLAIN_KEY, "account_id": "Given"}, {}, "Given", id="key without account"),
        pytest.param({"api_key": KEY}, {}, HOST, id="default host"),
        pytest.param({}, ENVIRON, "https://base.example", id="first host variable"),
        pytest.param({}, without("HARNESS_BASE_URL"), "https://endpoint.example/gateway", id="second host variable"),
        pytest.param({"base_url": "https://mine.example"}, ENVIRON, "https://mine.example", id="host argument"),
        pytest.param({"base_url": URL("https://a.example/x/")}, ENVIRON, "https://a.example/x", id="host as URL"),
    ],
)
def test_precedence(arguments: dict[str, Any], environ: dict[str, str], expected: str) -> None:
    """An argument wins over the environment, the environment over the account in the key and over the defaults."""
    settings = resolve_settings(**{"api_key": None, "account_id": None, "base_url": None, **arguments}, environ=environ)
    values = (settings.credentials.api_key, settings.credentials.account_id, str(settings.base_url))
    assert expected in values


@pytest.mark.parametrize(
    ("key", "account"),
    [
        ("pat.Acc.id.secret", "Acc"),
        ("sat.Acc.id.secret", "Acc"),
        ("PAT.Acc.id.secret", "Acc"),
        ("pat.Acc.secret", "Acc"),
        ("pat.Acc.id.sec.ret", "Acc"),
        ("pat.Acc", None),
        ("pat..id.secret", None),
        ("pat. .id.secret", None),
        ("xat.Acc.id.secret", None),
        ("secret", None),
        ("", None),
    ],
)
def test_account_of_a_key(key: str, account: str | None) -> None:
    """Only keys of the two documented layouts contain an account."""
    assert account_of(key) == account


REFUSED_TEXTS: list[tuple[Any, str]] = [
    ("", "empty"),
    (" \n", "empty"),
    (" abc", "space"),
    ("abc ", "space"),
    ("abc\r\n", "line break"),
    ("ab\rc", "line break"),
    ("ab\tc", "character"),
    ("ab\x00c", "character"),
    ("ab\x7fc", "character"),
    ("abç", "character"),
]


@pytest.mark.parametrize(("value", "message"), [*REFUSED_TEXTS, (b"abc", "not bytes"), (7, "not int")], ids=repr)
@pytest.mark.parametrize("argument", ["api_key", "account_id", "base_url"])
def test_refused_arguments(argument: str, value: Any, message: str) -> None:
    """An argument that no header or URL can carry is refused, and the error names it."""
    with pytest.raises(ConfigurationError, match=message) as caught:
        resolve_settings(**{"api_key": KEY, "account_id": "Acc", "base_url": HOST, argument: value}, environ={})
    assert f"({argument})" in str(caught.value)


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


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("app.harness.io", "https://"),
        ("ftp://app.harness.io", "https://"),
        ("file:///etc/passwd", "https://"),
        ("//app.harness.io", "https://"),
        ("https:app.harness.io", "https://"),
        ("https:///v1", "https://"),
        ("https://", "name a host"),
        ("https://me@app.harness.io", "user"),
        ("https://me:pw@app.harness.io", "user"),
        ("https://:pw@app.harness.io", "user"),
        ("https://app.harness.io?x=1", "query"),
        ("https://app.harness.io/#top", "fragment"),
        ("https://app.harness.io:99999", "not a URL"),
        ("https://app.harness.io:http", "not a URL"),
        ("https://[::1", "not a URL"),
        ("http://app.harness.io", "allow_http"),
        ("http://10.0.0.1:8080", "allow_http"),
        ("http://0.0.0.0", "allow_http"),
        ("http://localhost.example.com", "allow_http"),
        ("http://notlocalhost", "allow_http"),
        ("http://127.0.0.1.example.com", "allow_http"),
        ("http://[::2]", "allow_http"),
    ],
)
def test_refused_base_urls(value: str, message: str) -> None:
    """A base URL that is not http(s), has more than host and path, or sends the key unencrypted is refused."""
    with pytest.raises(ConfigurationError, match=message):
        resolve_settings(KEY, None, value, {})
    with pytest.raises(ConfigurationError, match=message):
        resolve_settings(KEY, None, None, {"HARNESS_BASE_URL": value})


def test_empty_url_object() -> None:
    """An empty `URL` is refused like an empty text and does not select the default host."""
    with pytest.raises(ConfigurationError):
        resolve_settings(KEY, None, URL(""), {})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("https://app.harness.io//", "https://app.harness.io"),
        ("https://app.harness.io/gateway/", "https://app.harness.io/gateway"),
        ("https://a.example/_mock/openapi-merged/", "https://a.example/_mock/openapi-merged"),
        ("https://a.example/a%2Fb/", "https://a.example/a%2Fb"),
        ("https://a.example:8443/x", "https://a.example:8443/x"),
        ("HTTPS://App.Harness.IO/X", "https://app.harness.io/X"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://127.8.9.10", "http://127.8.9.10"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("http://LOCALHOST", "http://localhost"),
        ("http://fake.localhost", "http://fake.localhost"),
    ],
)
def test_base_url(value: str, expected: str) -> None:
    """The path is kept as a prefix without its trailing slash, and plain http is accepted on loopback hosts."""
    for given in (value, URL(value), expected):
        assert str(check_base_url(given, allow_http=False)) == expected


def test_allow_http() -> None:
    """`allow_http` accepts plain http to any host, and no other scheme."""
    assert str(check_base_url("http://10.0.0.1:8080/x", allow_http=True)) == "http://10.0.0.1:8080/x"
    with pytest.raises(ConfigurationError):
        check_base_url("ftp://10.0.0.1", allow_http=True)


# -- numbers -----------------------------------------------------------------------------------------------------------

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
    (RateLimit, "requests", [*NOT_POSITIVE, 0, math.inf, None, 1.5]),
    (RateLimit, "per", [*NOT_POSITIVE, 0, math.inf, None, 10**400]),
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
    with pytest.raises(ConfigurationError, match=rf"{cls.__name__}\.{name} "):
        cls(**{name: value})


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "8", None, math.inf])
def test_refused_max_in_flight(value: object) -> None:
    """The number of requests in flight is a whole number from 1 on."""
    with pytest.raises(ConfigurationError, match="max_in_flight"):
        check_max_in_flight(value)


def test_backoff_bounds() -> None:
    """`max_backoff` is at least `initial_backoff`."""
    with pytest.raises(ConfigurationError, match="max_backoff"):
        RetryPolicy(initial_backoff=2.0, max_backoff=1.0)
    assert RetryPolicy(initial_backoff=1.0, max_backoff=1.0).max_backoff == 1.0


def test_defaults() -> None:
    """The defaults are the documented ones; 429, 501 and 505 are not among the statuses to retry."""
    assert Timeouts() == Timeouts(connect=10.0, read=30.0, deadline=300.0)
    assert RateLimit() == RateLimit(requests=400, per=60.0)
    assert RetryPolicy() == RetryPolicy(
        initial_backoff=0.5,
        max_backoff=20.0,
        max_attempts=None,
        retry_statuses=RETRY_STATUSES,
        max_retry_after=120.0,
    )
    assert {408, 499, 500, 502, 503, 504, 520, 599} <= RETRY_STATUSES
    assert not {400, 401, 404, 409, 423, 429, 501, 505} & RETRY_STATUSES


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


# -- secrecy -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "create",
    [
        lambda: resolve_settings(KEY, None, None, {}),
        lambda: resolve_settings(KEY, None, None, {}).credentials,
        lambda: HarnessClient(KEY),
        lambda: HarnessClient(KEY).with_options(retry=RetryPolicy(max_attempts=1)),
        lambda: HarnessClient(KEY).executions,
        lambda: HarnessClient(KEY).executions.list("default", "payments"),
        lambda: HarnessClient(KEY).executions.bulk(["default/payments"]),
    ],
    ids=["settings", "credentials", "client", "with-options", "resource", "pager", "bulk-run"],
)
def test_repr_hides_the_key(create: Callable[[], object]) -> None:
    """Settings, clients and what belongs to a client do not show the key in their `repr`."""
    value = create()
    for text in (repr(value), str(value), f"{value}"):
        assert SECRET not in text
