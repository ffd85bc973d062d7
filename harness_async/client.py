"""The client: creates the session and the resources that use it."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Hashable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeVar, overload

from yarl import URL

from harness_async.config import RateLimit, RetryPolicy, Timeouts, check_max_in_flight, resolve_settings
from harness_async.errors import ConfigurationError
from harness_async.events import Event, Stats
from harness_async.http.endpoints import QueryValue
from harness_async.http.pacer import Pacer, RatePacer
from harness_async.http.sender import Sender
from harness_async.http.session import Response, Session
from harness_async.http.transport import Transport
from harness_async.pagination.pager import ListPager, Pager
from harness_async.pagination.source import EndpointSource, ListSpec, hash_by
from harness_async.resources.executions import ExecutionsAPI
from harness_async.resources.organizations import OrganizationsAPI
from harness_async.resources.projects import ProjectsAPI
from harness_async.validation import check_int, check_path

if TYPE_CHECKING:
    import aiohttp

T = TypeVar("T")


class HarnessClient:
    """A client of one Harness account.

    Use it with `async with`, or call `close`. Connections are opened by the first call, in the event loop that runs
    then. The client belongs to that loop, where any number of tasks may use it concurrently.

    Args:
        api_key: A personal (`pat.`) or service account (`sat.`) token. Default: environment variable
            `HARNESS_PLATFORM_API_KEY`, then `HARNESS_API_KEY`.
        account_id: The account. Default: `HARNESS_ACCOUNT_ID`, then the second part of the key.
        base_url: The host, with a path prefix if needed. Default: `HARNESS_BASE_URL`, then `HARNESS_ENDPOINT`, then
            https://app.harness.io.
        timeouts: Seconds to connect, to read, and for a whole call.
        retry: Which failures are retried, and when.
        rate_limit: What the server allows in a window of time; None sends without pacing.
        pacer: In place of `rate_limit`: a `RatePacer` that the clients of one key in one loop share, or another `Pacer`
            that shares a budget among processes.
        max_in_flight: Requests in flight at most. Further ones queue.
        http_session: An `aiohttp.ClientSession` to send with, with its own proxies and certificates. It is never closed
            and never changed.
        trust_env: Follow the environment: proxies (`HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`, in either
            case) and certificate authorities (`SSL_CERT_FILE`, `SSL_CERT_DIR`).
        proxy: The URL of an HTTP proxy, in place of those of the environment.
        ssl_context: A TLS context, for a private certificate authority or client certificates.
        on_event: Called with each `Event` in the task in which it happens. Its exceptions are logged and ignored.
        allow_http: Allow plain http to a host that is not this machine.

    Raises:
        ConfigurationError: A setting is missing, malformed or unsafe; the message names it and the fix.
    """

    organizations: OrganizationsAPI
    """The organizations of the account."""

    projects: ProjectsAPI
    """The projects of the account."""

    executions: ExecutionsAPI
    """The IaCM executions of the account."""

    def __init__(
        self,
        api_key: str | None = None,
        account_id: str | None = None,
        *,
        base_url: str | URL | None = None,
        timeouts: Timeouts = Timeouts(),  # noqa: B008 - frozen
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008 - frozen
        rate_limit: RateLimit | None = RateLimit(),  # noqa: B008 - frozen
        pacer: Pacer | None = None,
        max_in_flight: int = 32,
        http_session: aiohttp.ClientSession | None = None,
        trust_env: bool = True,
        proxy: str | URL | None = None,
        ssl_context: ssl.SSLContext | None = None,
        on_event: Callable[[Event], None] | None = None,
        allow_http: bool = False,
    ) -> None:
        if http_session is not None and (proxy is not None or ssl_context is not None):
            raise ConfigurationError("proxy and ssl_context cannot be combined with http_session; set them there")
        settings = resolve_settings(
            api_key,
            account_id,
            base_url,
            os.environ,
            allow_http=allow_http,
            trust_env=trust_env and http_session is None,
            proxy=proxy,
            ssl_context=ssl_context,
        )
        sender = Sender(
            transport=Transport(http_session, settings.proxy, settings.ssl_context),
            pacer=_create_pacer(rate_limit, pacer),
            credentials=settings.credentials,
            timeouts=timeouts,
            retry=retry,
            on_event=on_event,
            max_in_flight=check_max_in_flight(max_in_flight),
        )
        self._owns_transport = True
        self._set_session(Session(settings.base_url, sender))

    def _set_session(self, session: Session) -> None:
        self._session = session
        self.organizations = OrganizationsAPI(session)
        self.projects = ProjectsAPI(session, self.organizations)
        self.executions = ExecutionsAPI(session, self.projects)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._session.base_url} account={self._session.account_id!r}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "A HarnessClient cannot be pickled: it holds connections and a key. Create one where it is used"
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections. Calls in progress, and later ones, raise `RuntimeError`. May be called twice.

        A client made by `with_options` has no connections of its own: closing it closes nothing.
        """
        if self._owns_transport:
            await self._session.sender.transport.close()

    def with_options(
        self,
        *,
        timeouts: Timeouts | None = None,
        retry: RetryPolicy | None = None,
        on_event: Callable[[Event], None] | None = None,
    ) -> HarnessClient:
        """Return a client with other options over the same connections, pacer, key and statistics.

        It works as long as this one is open, and does not need to be closed.
        """
        other = object.__new__(type(self))
        other._owns_transport = False
        other._set_session(self._session.with_options(timeouts, retry, on_event))
        return other

    @property
    def stats(self) -> Stats:
        """A snapshot of what was done so far over these connections."""
        return self._session.sender.counters.snapshot()

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, QueryValue] | None = None,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
        repeatable: bool | None = None,
    ) -> Response:
        """Call any endpoint of the platform, with authentication, pacing, retries and typed errors.

        Args:
            method: GET, HEAD, OPTIONS, POST, PUT, PATCH or DELETE.
            path: The path behind the base URL, with encoded identifiers: `/v1/orgs/default`.
            params: The query: None is left out, a sequence repeats its key.
            json: The body, if any.
            headers: Additional headers; those of authentication are set by the client.
            repeatable: Whether sending the request twice has the same effect as sending it once. Default: all methods
                except POST and PATCH.

        Raises:
            RequestError: The call failed; see `harness_async.errors`.
            TypeError: An argument has the wrong type.
            ValueError: An argument cannot be used; nothing was sent.
        """
        return await self._session.request(
            method, path, params=params, json=json, headers=headers, repeatable=repeatable
        )

    @overload
    def paginate(
        self,
        path: str,
        *,
        params: Mapping[str, QueryValue] | None = None,
        first_page: int = 1,
        limit: int = 100,
        into: None = None,
        key: Callable[[dict[str, Any]], Hashable] | None = None,
    ) -> Pager[dict[str, Any]]: ...

    @overload
    def paginate(
        self,
        path: str,
        *,
        params: Mapping[str, QueryValue] | None = None,
        first_page: int = 1,
        limit: int = 100,
        into: type[T],
        key: Callable[[T], Hashable] | None = None,
    ) -> Pager[T]: ...

    def paginate(
        self,
        path: str,
        *,
        params: Mapping[str, QueryValue] | None = None,
        first_page: int = 1,
        limit: int = 100,
        into: type[Any] | None = None,
        key: Callable[[Any], Hashable] | None = None,
    ) -> Pager[Any]:
        """List anything that the platform pages by number, with the parameters `page` and `limit`.

        Args:
            path: The path behind the base URL.
            params: Filters, without `page` and `limit`.
            first_page: Number of the first page: 1 in IaCM, 0 in v1.
            limit: Page size, 1 to 100.
            into: An attrs class for the rows; None returns plain dicts.
            key: Returns the identity of a row, so that duplicates are recognized. None delivers every row received.

        Raises:
            TypeError: An argument has the wrong type.
            ValueError: An argument cannot be used; nothing was sent.
        """
        params = {} if params is None else params
        if not {"page", "limit"}.isdisjoint(params):
            raise ValueError("params must not contain page or limit: the pager sets them (first_page, limit)")
        first_page = check_int("first_page", first_page, 0, 1)
        source = EndpointSource(self._session, check_path(path), dict if into is None else into, params, first_page)
        return ListPager(ListSpec(source=source, hash_keys=None if key is None else hash_by(key), limit=limit))


def _create_pacer(rate_limit: RateLimit | None, pacer: Pacer | None) -> RatePacer:
    if isinstance(pacer, RatePacer):
        return pacer
    return RatePacer(rate_limit) if pacer is None else RatePacer(None, inner=pacer)
