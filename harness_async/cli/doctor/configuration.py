"""The configuration: what is set, and where. No request is sent, and the key is not shown."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping

from attrs import define, field
from yarl import URL

from harness_async import ConfigurationError
from harness_async.cli.connection import Connection
from harness_async.cli.doctor.results import Finding, Result, differs, failed, ok
from harness_async.cli.errors import USAGE, CommandError, name_options
from harness_async.config import (
    ACCOUNT_VARIABLES,
    DEFAULT_BASE_URL,
    HOST_VARIABLES,
    KEY_VARIABLES,
    Proxy,
    account_of,
    create_ssl_context,
    resolve_proxy,
    resolve_settings,
    resolve_ssl_context,
)

_SHOWN = 4
"""Last characters of the key, and of a long account id, that are shown."""

_LONG = 12

_SET_KEY = (
    "Create a key in Harness under Profile > My API Keys, or for a service account, and set "
    f"{KEY_VARIABLES[0]} to the whole token."
)
_SET_ACCOUNT = "Set HARNESS_ACCOUNT_ID to the account id, which is in the URLs of the Harness UI behind /account/."
_SET_URL = "Set HARNESS_BASE_URL to https:// and the host of the Harness UI, such as https://app.harness.io."


@define
class Configuration:
    """The settings as far as they could be resolved, and what was found about each."""

    api_key: str = ""
    account_id: str = ""
    base_url: URL = field(factory=lambda: URL(DEFAULT_BASE_URL))
    proxy: Proxy | None = None
    proxy_source: str = ""
    ssl_context: ssl.SSLContext | None = None
    results: list[Result] = field(factory=list)

    @property
    def is_complete(self) -> bool:
        """Whether a client can be created."""
        return all(result.finding.verdict != "failed" for result in self.results)


def inspect_configuration(connection: Connection, environ: Mapping[str, str]) -> Configuration:
    """Resolve each setting as the client does, and note where it comes from."""
    found = Configuration()
    for name, inspect, advice in _SETTINGS:
        try:
            finding = inspect(found, connection, environ)
        except CommandError as error:
            finding = failed(str(error), error.hint or advice, USAGE)
        except ConfigurationError as error:
            finding = failed(name_options(str(error)), advice, USAGE)
        found.results.append(Result("configuration", name, finding))
    return found


def _inspect_key(found: Configuration, connection: Connection, environ: Mapping[str, str]) -> Finding:
    given = connection.read_key()
    if given is None and next(_set(environ, KEY_VARIABLES), None) is None:
        raise ConfigurationError(f"neither {' nor '.join(KEY_VARIABLES)} is set")
    settings = resolve_settings(given, "-", None, _only(environ, KEY_VARIABLES), trust_env=False)
    found.api_key = settings.credentials.api_key
    source = _describe_source(environ, KEY_VARIABLES) if given is None else "--api-key-file"
    return ok(f"{mask_key(found.api_key)} from {source}")


def _inspect_account(found: Configuration, connection: Connection, environ: Mapping[str, str]) -> Finding:
    own = account_of(found.api_key)
    given = connection.account is not None or next(_set(environ, ACCOUNT_VARIABLES), None) is not None
    if not given and own is None:
        raise ConfigurationError("HARNESS_ACCOUNT_ID is not set, and the key contains no account id")
    settings = resolve_settings(
        found.api_key or "-", connection.account, None, _only(environ, ACCOUNT_VARIABLES), trust_env=False
    )
    found.account_id = settings.credentials.account_id
    source = "--account" if connection.account is not None else ACCOUNT_VARIABLES[0] if given else "the key"
    text = f"{mask_account(found.account_id)} from {source}"
    if own is not None and own != found.account_id:
        return differs(
            f"{text}; the key is of another account, {mask_account(own)}",
            f"Remove {source} to use the account of the key, unless the service accepts the key below.",
        )
    return ok(text)


def _inspect_base_url(found: Configuration, connection: Connection, environ: Mapping[str, str]) -> Finding:
    settings = resolve_settings("-", "-", connection.base_url, _only(environ, HOST_VARIABLES), trust_env=False)
    found.base_url = settings.base_url
    if connection.base_url is not None:
        return ok(f"{settings.base_url} from --base-url")
    if next(_set(environ, HOST_VARIABLES), None) is None:
        return ok(f"{settings.base_url}, the default")
    return ok(f"{settings.base_url} from {_describe_source(environ, HOST_VARIABLES)}")


def _inspect_proxy(found: Configuration, connection: Connection, environ: Mapping[str, str]) -> Finding:
    names = [variant for name in (f"{found.base_url.scheme}_proxy", "all_proxy") for variant in (name, name.upper())]
    source = next(_set(environ, names), "") if connection.proxy is None else "--proxy"
    found.proxy = resolve_proxy(found.base_url, connection.proxy, environ)
    if found.proxy is None:
        return ok(f"none: NO_PROXY excludes the host from {source}" if source else "none")
    found.proxy_source = source
    credentials = "" if found.proxy.authorization is None else ", with credentials"
    return ok(f"{found.proxy} from {source}{credentials}")


def _inspect_certificates(found: Configuration, connection: Connection, environ: Mapping[str, str]) -> Finding:
    if connection.ca_bundle is not None:
        found.ssl_context = create_ssl_context(connection.ca_bundle, None, "--ca-bundle")
        return ok("those of --ca-bundle")
    found.ssl_context = resolve_ssl_context(None, environ, trust_env=True)
    sources = [name for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if environ.get(name)]
    return ok(f"those of {' and '.join(sources)}" if sources else "those of the system")


_SETTINGS: tuple[tuple[str, Callable[[Configuration, Connection, Mapping[str, str]], Finding], str], ...] = (
    ("key", _inspect_key, _SET_KEY),
    ("account", _inspect_account, _SET_ACCOUNT),
    ("base URL", _inspect_base_url, _SET_URL),
    ("proxy", _inspect_proxy, "Correct the variable, or remove it if there is no proxy."),
    ("certificates", _inspect_certificates, "Correct the variable, or remove it to trust the usual authorities."),
)


def mask_key(key: str) -> str:
    """Return the kind of a key and its last characters."""
    kind = key.partition(".")[0].lower()
    return f"{kind if kind in {'pat', 'sat'} else ''}…{key[-_SHOWN:] if len(key) > _LONG else ''}"


def mask_account(account: str) -> str:
    """Return the last characters of an account id."""
    return f"…{account[-_SHOWN:] if len(account) > _LONG else ''}"


def _set(environ: Mapping[str, str], names: Iterable[str]) -> Iterator[str]:
    """Yield the names of the variables that are set."""
    return (name for name in names if environ.get(name, "").strip())


def _only(environ: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    return {name: environ[name] for name in _set(environ, names)}


def _describe_source(environ: Mapping[str, str], names: Iterable[str]) -> str:
    """Name the variable that is used, and those that have another value and are not."""
    used, *others = _set(environ, names)
    ignored = [name for name in others if environ[name] != environ[used]]
    return used + (f" (before {' and '.join(ignored)}, which differs)" if ignored else "")
