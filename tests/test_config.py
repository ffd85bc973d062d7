from __future__ import annotations

import math
import pickle
import string
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from yarl import URL

from harness_async import HarnessClient
from harness_async.config import (
    RETRY_STATUSES,
    Credentials,
    RateLimit,
    RetryPolicy,
    Settings,
    Timeouts,
    account_of,
    check_base_url,
    check_max_in_flight,
    resolve,
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


def without(*names: str) -> dict[str, str]:
    return {name: value for name, value in ENVIRON.items() if name not in names}


def resolved(
    api_key: str | None = None,
    account_id: str | None = None,
    base_url: str | URL | None = None,
    environ: dict[str, str] | None = None,
) -> tuple[str, str, str]:
    """Resolve, and give key, account and host."""
    made = resolve(api_key, account_id, base_url, environ or {})
    return made.credentials.api_key, made.credentials.account_id, str(made.base_url)


@pytest.mark.parametrize(
    ("arguments", "environ", "expected"),
    [
        pytest.param((None, None, None), ENVIRON, "platform-key", id="first variable"),
        pytest.param((None, None, None), without("HARNESS_PLATFORM_API_KEY"), "other-key", id="second variable"),
        pytest.param((KEY, None, None), ENVIRON, KEY, id="argument"),
        pytest.param((KEY, None, None), {}, KEY, id="argument alone"),
    ],
)
def test_precedence_of_the_key(
    arguments: tuple[str | None, None, None], environ: dict[str, str], expected: str
) -> None:
    """The key is the argument, else HARNESS_PLATFORM_API_KEY, else HARNESS_API_KEY."""
    assert resolved(*arguments, environ)[0] == expected


@pytest.mark.parametrize(
    ("key", "account", "environ", "expected"),
    [
        pytest.param(KEY, "Given", ENVIRON, "Given", id="argument over all"),
        pytest.param(KEY, None, ENVIRON, "EnvAccount", id="variable over the key"),
        pytest.param(KEY, None, {}, "KeyAccount", id="from a pat key"),
        pytest.param("sat.Service.a.b", None, {}, "Service", id="from a sat key"),
        pytest.param(None, None, {"HARNESS_API_KEY": KEY}, "KeyAccount", id="from the key of the environment"),
        pytest.param(PLAIN_KEY, "Given", {}, "Given", id="argument where the key has none"),
    ],
)
def test_precedence_of_the_account(
    key: str | None, account: str | None, environ: dict[str, str], expected: str
) -> None:
    """The account is the argument, else HARNESS_ACCOUNT_ID, else what the key carries."""
    assert resolved(key, account, environ=environ)[1] == expected


@pytest.mark.parametrize(
    ("base_url", "environ", "expected"),
    [
        pytest.param(None, {}, HOST, id="default"),
        pytest.param(None, ENVIRON, "https://base.example", id="first variable"),
        pytest.param(None, without("HARNESS_BASE_URL"), "https://endpoint.example/gateway", id="second variable"),
        pytest.param("https://mine.example", ENVIRON, "https://mine.example", id="argument"),
        pytest.param(URL("https://mine.example/x/"), ENVIRON, "https://mine.example/x", id="argument as URL"),
    ],
)
def test_precedence_of_the_host(base_url: str | URL | None, environ: dict[str, str], expected: str) -> None:
    """The host is the argument, else HARNESS_BASE_URL, else HARNESS_ENDPOINT, else the SaaS host."""
    assert resolved(KEY, None, base_url, environ)[2] == expected


@pytest.mark.parametrize(
    ("key", "account"),
    [
        pytest.param("pat.Acc.id.secret", "Acc", id="pat"),
        pytest.param("sat.Acc.id.secret", "Acc", id="sat"),
        pytest.param("PAT.Acc.id.secret", "Acc", id="upper case"),
        pytest.param("pat.Acc.secret", "Acc", id="three parts"),
        pytest.param("pat.Acc.id.sec.ret", "Acc", id="five parts"),
        pytest.param("pat.Acc", None, id="two parts"),
        pytest.param("pat..id.secret", None, id="empty part"),
        pytest.param("pat. .id.secret", None, id="blank part"),
        pytest.param("xat.Acc.id.secret", None, id="another prefix"),
        pytest.param("secret", None, id="no dots"),
        pytest.param("", None, id="empty"),
    ],
)
def test_account_of_a_key(key: str, account: str | None) -> None:
    """Only keys of the two documented layouts carry an account."""
    assert account_of(key) == account


REFUSED_TEXTS = [
    pytest.param("", "empty", id="empty"),
    pytest.param("  ", "empty", id="blank"),
    pytest.param("\n", "empty", id="line break only"),
    pytest.param(" abc", "space", id="space before"),
    pytest.param("abc ", "space", id="space behind"),
    pytest.param("abc\n", "line break", id="line end"),
    pytest.param("abc\r\n", "line break", id="windows line end"),
    pytest.param("ab\rc", "line break", id="carriage return inside"),
    pytest.param("ab\tc", "character", id="tab inside"),
    pytest.param("ab\x00c", "character", id="null inside"),
    pytest.param("ab\x7fc", "character", id="delete inside"),
    pytest.param("abç", "character", id="not ASCII"),
    pytest.param(b"abc", "must be a str, not bytes", id="bytes"),
    pytest.param(7, "must be a str, not int", id="number"),
]


@pytest.mark.parametrize(("value", "message"), REFUSED_TEXTS)
@pytest.mark.parametrize("place", ["api_key", "account_id", "base_url"])
def test_refused_arguments(place: str, value: Any, message: str) -> None:
    """An argument that no header or URL can carry is refused, by its name."""
    arguments = {"api_key": KEY, "account_id": "Acc", "base_url": HOST, place: value}
    with pytest.raises(ConfigurationError, match=message) as caught:
        resolve(**arguments, environ={})
    assert f"({place})" in str(caught.value)


@pytest.mark.parametrize(("value", "message"), REFUSED_TEXTS[:-2])
@pytest.mark.parametrize("variable", ENVIRON)
def test_refused_variables(variable: str, value: str, message: str) -> None:
    """A variable that is set to what cannot work is refused by its name, not passed over."""
    environ = {variable: value}
    if not variable.endswith("_KEY"):
        environ["HARNESS_API_KEY"] = KEY
    with pytest.raises(ConfigurationError, match=message) as caught:
        resolve(None, None, None, environ)
    assert f"environment variable {variable}" in str(caught.value)


def test_no_key() -> None:
    """Without a key the error names the argument and both variables."""
    with pytest.raises(ConfigurationError, match=r"api_key.*HARNESS_PLATFORM_API_KEY.*HARNESS_API_KEY"):
        resolve(None, "Acc", None, {})


def test_no_account() -> None:
    """Without an account the error names the argument and the variable."""
    with pytest.raises(ConfigurationError, match=r"account_id.*HARNESS_ACCOUNT_ID"):
        resolve(PLAIN_KEY, None, None, {})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        pytest.param("app.harness.io", "https://", id="no scheme"),
        pytest.param("ftp://app.harness.io", "https://", id="ftp"),
        pytest.param("file:///etc/passwd", "https://", id="file"),
        pytest.param("wss://app.harness.io", "https://", id="websocket"),
        pytest.param("//app.harness.io", "https://", id="scheme left out"),
        pytest.param("https:app.harness.io", "https://", id="no slashes"),
        pytest.param("https:///v1", "https://", id="no host"),
        pytest.param("https://", "name a host", id="nothing but a scheme"),
        pytest.param("https://me@app.harness.io", "user", id="user"),
        pytest.param("https://me:pw@app.harness.io", "user", id="user and password"),
        pytest.param("https://:pw@app.harness.io", "user", id="password"),
        pytest.param("https://app.harness.io?x=1", "query", id="query"),
        pytest.param("https://app.harness.io/#top", "fragment", id="fragment"),
        pytest.param("https://app.harness.io:99999", "not a URL", id="port too large"),
        pytest.param("https://app.harness.io:http", "not a URL", id="port no number"),
        pytest.param("https://[::1", "not a URL", id="bracket left open"),
        pytest.param("http://app.harness.io", "allow_http", id="http"),
        pytest.param("http://10.0.0.1:8080", "allow_http", id="http to a private network"),
        pytest.param("http://0.0.0.0", "allow_http", id="http to any address"),
        pytest.param("http://localhost.example.com", "allow_http", id="http to a name like localhost"),
        pytest.param("http://127.0.0.1.example.com", "allow_http", id="http to a name like loopback"),
        pytest.param("http://[::2]", "allow_http", id="http to another v6 address"),
    ],
)
def test_refused_addresses(value: str, message: str) -> None:
    """An address that is not http(s), carries more than host and path, or would bare the key is refused."""
    with pytest.raises(ConfigurationError, match=message):
        resolve(KEY, None, value, {})
    with pytest.raises(ConfigurationError, match=message):
        resolve(KEY, None, None, {"HARNESS_BASE_URL": value})


def test_an_empty_url_object_is_refused() -> None:
    """An empty URL object is as empty as an empty text, and does not mean the default host."""
    with pytest.raises(ConfigurationError):
        resolve(KEY, None, URL(""), {})


def test_a_password_in_the_address_is_not_repeated() -> None:
    """The refusal of an address with a password does not show the password."""
    with pytest.raises(ConfigurationError) as caught:
        resolve(KEY, None, f"https://me:{SECRET}@app.harness.io?x=1", {})
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [
        "http://127.0.0.1:8080",
        "http://127.8.9.10",
        "http://[::1]:8080",
        "http://localhost:8080",
        "http://LOCALHOST",
        "http://fake.localhost",
    ],
)
def test_plain_http_to_this_machine(value: str) -> None:
    """Plain http is taken where it does not leave the machine."""
    assert resolved(KEY, None, value)[2] == value.lower()


def test_plain_http_elsewhere_when_allowed() -> None:
    """`allow_http` lets plain http go anywhere, and lets nothing else pass."""
    assert str(check_base_url("http://10.0.0.1:8080/x", allow_http=True)) == "http://10.0.0.1:8080/x"
    with pytest.raises(ConfigurationError):
        check_base_url("ftp://10.0.0.1", allow_http=True)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param("https://app.harness.io", "https://app.harness.io", id="bare"),
        pytest.param("https://app.harness.io/", "https://app.harness.io", id="trailing slash"),
        pytest.param("https://app.harness.io//", "https://app.harness.io", id="trailing slashes"),
        pytest.param("https://app.harness.io/gateway", "https://app.harness.io/gateway", id="prefix"),
        pytest.param("https://app.harness.io/gateway/", "https://app.harness.io/gateway", id="prefix with slash"),
        pytest.param("https://a.example/_mock/openapi-merged/", "https://a.example/_mock/openapi-merged", id="mock"),
        pytest.param("https://a.example/a%2Fb/", "https://a.example/a%2Fb", id="encoded slash stays encoded"),
        pytest.param("https://a.example:8443/x", "https://a.example:8443/x", id="port"),
        pytest.param("HTTPS://App.Harness.IO/X", "https://app.harness.io/X", id="case of scheme and host"),
    ],
)
def test_prefixes_stay_and_trailing_slashes_go(value: str, expected: str) -> None:
    """The path of the address is kept as a prefix, without its trailing slash."""
    assert str(check_base_url(value, allow_http=False)) == expected
    assert str(check_base_url(URL(value), allow_http=False)) == expected


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(string.ascii_letters + string.digits + "-_.~", min_size=1), max_size=4))
def test_checking_an_address_twice_changes_nothing(parts: list[str]) -> None:
    """A checked address passes the check again unchanged."""
    once = check_base_url("/".join(["https://app.harness.io", *parts]), allow_http=False)
    assert check_base_url(once, allow_http=False) == once
    assert not str(once).endswith("/")


NUMBERS = [
    pytest.param(math.nan, id="nan"),
    pytest.param(-1, id="negative"),
    pytest.param(-0.001, id="negative fraction"),
    pytest.param(-math.inf, id="minus infinity"),
    pytest.param(True, id="bool"),
    pytest.param(False, id="false"),
    pytest.param("10", id="text"),
    pytest.param([1], id="list"),
    pytest.param(1j, id="complex"),
]
ZERO = pytest.param(0, id="zero")
INFINITE = pytest.param(math.inf, id="infinity")
NONE = pytest.param(None, id="none")
FRACTION = pytest.param(1.5, id="fraction")

NUMERIC: list[tuple[Callable[..., Any], str, list[Any]]] = [
    (Timeouts, "connect", [*NUMBERS, ZERO, INFINITE]),
    (Timeouts, "read", [*NUMBERS, ZERO, INFINITE]),
    (Timeouts, "deadline", [*NUMBERS, ZERO, INFINITE]),
    (RetryPolicy, "initial_backoff", [*NUMBERS, ZERO, INFINITE, NONE]),
    (RetryPolicy, "max_backoff", [*NUMBERS, ZERO, INFINITE, NONE]),
    (RetryPolicy, "max_attempts", [*NUMBERS, ZERO, INFINITE, FRACTION]),
    (RetryPolicy, "max_retry_after", [*NUMBERS, NONE]),
    (RateLimit, "requests", [*NUMBERS, ZERO, INFINITE, NONE, FRACTION]),
    (RateLimit, "per", [*NUMBERS, ZERO, INFINITE, NONE]),
]


@pytest.mark.parametrize(
    ("cls", "name", "value"),
    [
        pytest.param(cls, name, param.values[0], id=f"{cls.__name__}.{name} {param.id}")
        for cls, name, params in NUMERIC
        for param in params
    ],
)
def test_refused_numbers(cls: Callable[..., Any], name: str, value: object) -> None:
    """A setting that no number of its kind can be is refused, by its name."""
    with pytest.raises(ConfigurationError, match=rf"{cls.__name__}\.{name} "):
        cls(**{name: value})


@pytest.mark.parametrize(("cls", "name"), [(Timeouts, "read"), (RetryPolicy, "max_backoff"), (RateLimit, "per")])
def test_refused_giants(cls: Callable[..., Any], name: str) -> None:
    """An integer that no clock can count is refused like infinity."""
    with pytest.raises(ConfigurationError):
        cls(**{name: 10**400})


@pytest.mark.parametrize(
    "value",
    [
        pytest.param([200], id="success"),
        pytest.param([302], id="redirect"),
        pytest.param([600], id="beyond"),
        pytest.param([True], id="bool"),
        pytest.param(["500"], id="text"),
        pytest.param("500", id="one text"),
        pytest.param([500.5], id="fraction"),
        pytest.param([None], id="none inside"),
        pytest.param(None, id="none"),
        pytest.param(
            500,
            id="one number",
        ),
        pytest.param(
            [[500]],
            id="nested",
        ),
    ],
)
def test_refused_retry_statuses(value: Any) -> None:
    """Statuses to retry are error statuses, as numbers."""
    with pytest.raises(ConfigurationError, match=r"RetryPolicy\.retry_statuses"):
        RetryPolicy(retry_statuses=value)


def test_backoff_bounds_must_not_cross() -> None:
    """The longest backoff is not shorter than the first."""
    with pytest.raises(ConfigurationError, match="max_backoff"):
        RetryPolicy(initial_backoff=2.0, max_backoff=1.0)
    assert RetryPolicy(initial_backoff=1.0, max_backoff=1.0).max_backoff == 1.0


def test_defaults() -> None:
    """The defaults are the documented ones."""
    assert Timeouts() == Timeouts(connect=10.0, read=30.0, deadline=300.0)
    assert RateLimit() == RateLimit(requests=400, per=60.0)
    assert RetryPolicy() == RetryPolicy(
        initial_backoff=0.5,
        max_backoff=20.0,
        max_attempts=None,
        retry_statuses=RETRY_STATUSES,
        max_retry_after=120.0,
    )


def test_default_retry_statuses() -> None:
    """Time-outs, cancelled contexts and server errors are worth a retry, except those that will never pass."""
    assert {408, 499, 500, 502, 503, 504, 520, 599} <= RETRY_STATUSES
    assert not {400, 401, 404, 409, 423, 429, 501, 505} & RETRY_STATUSES


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: Timeouts(connect=None, read=None, deadline=None), id="no time-outs"),
        pytest.param(lambda: Timeouts(connect=1, read=0.001), id="whole seconds and tiny ones"),
        pytest.param(lambda: RetryPolicy(max_attempts=1), id="never retry"),
        pytest.param(lambda: RetryPolicy(max_retry_after=0), id="no wait is obeyed"),
        pytest.param(lambda: RetryPolicy(max_retry_after=math.inf), id="any wait is obeyed"),
        pytest.param(lambda: RetryPolicy(retry_statuses=frozenset()), id="no status is retried"),
        pytest.param(lambda: RateLimit(1, 0.5), id="by position"),
    ],
)
def test_accepted_edges(make: Callable[[], object]) -> None:
    """Values at the edge of their range are taken as they are, and survive pickling."""
    made = make()
    assert pickle.loads(pickle.dumps(made)) == made  # noqa: S301


def test_retry_statuses_of_any_iterable() -> None:
    """Statuses may come in any iterable and are kept as a frozen set."""
    statuses: Any = (503, 503, 500)
    policy = RetryPolicy(retry_statuses=statuses)
    assert policy.retry_statuses == frozenset({500, 503})
    assert isinstance(policy.retry_statuses, frozenset)


@pytest.mark.parametrize("value", [Timeouts(), RetryPolicy(), RateLimit()], ids=lambda value: type(value).__name__)
def test_settings_are_frozen(value: Any) -> None:
    """Settings cannot be changed once made, are hashable, and changed copies are checked again."""
    name = attrs.fields(type(value))[0].name
    with pytest.raises(AttributeError):
        setattr(value, name, 1)
    assert hash(value) == hash(type(value)())
    with pytest.raises(ConfigurationError):
        attrs.evolve(value, **{name: -1})


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "8", None, math.inf])
def test_refused_max_in_flight(value: object) -> None:
    """The number of requests in flight is a whole number from 1 on."""
    with pytest.raises(ConfigurationError, match="max_in_flight"):
        check_max_in_flight(value)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: resolve(KEY, None, None, {}), id="settings"),
        pytest.param(lambda: Credentials(KEY, "Acc"), id="credentials"),
        pytest.param(lambda: HarnessClient(KEY), id="client"),
        pytest.param(lambda: HarnessClient(KEY).with_options(retry=RetryPolicy(max_attempts=1)), id="other options"),
        pytest.param(lambda: HarnessClient(KEY).executions, id="resource"),
        pytest.param(lambda: HarnessClient(KEY).executions.list("default", "payments"), id="pager"),
        pytest.param(lambda: HarnessClient(KEY).executions.bulk(["default/payments"]), id="bulk run"),
    ],
)
def test_repr_hides_the_key(make: Callable[[], object]) -> None:
    """Neither settings nor clients nor what hangs on them show the key."""
    value = make()
    for text in (repr(value), str(value), f"{value}"):
        assert SECRET not in text
        assert KEY not in text


def test_repr_of_a_client() -> None:
    """The repr of a client says where it goes and for which account."""
    text = repr(HarnessClient(KEY, "Acc", base_url="https://mine.example/gateway"))
    assert "https://mine.example/gateway" in text
    assert "Acc" in text


@pytest.mark.parametrize(
    "key",
    [f"{KEY}\n", f" {KEY}", f"{KEY}\x00", f"pat.é.{SECRET}", PLAIN_KEY, KEY.encode()],
    ids=["line end", "space", "null", "not ASCII", "without account", "bytes"],
)
def test_refusals_hide_the_key(key: Any) -> None:
    """No refusal repeats the key, in its text, its arguments or its causes."""
    with pytest.raises(ConfigurationError) as caught:
        resolve(key, None, None, {})
    error: BaseException | None = caught.value
    while error is not None:
        assert SECRET not in f"{error}{error.args}{vars(error)}"
        error = error.__cause__ or error.__context__


def test_the_client_reads_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client made without arguments takes key, account and host from the environment of that moment."""
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)
    assert "https://base.example" in repr(HarnessClient())
    assert "EnvAccount" in repr(HarnessClient())
    for name in ENVIRON:
        monkeypatch.delenv(name)
    with pytest.raises(ConfigurationError, match="No API key"):
        HarnessClient()


def test_settings_are_values() -> None:
    """Resolved settings are equal by value."""
    assert resolve(KEY, "A", HOST, {}) == Settings(Credentials(KEY, "A"), URL(HOST))
