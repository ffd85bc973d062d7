"""The client: opens the session and hangs the resources on it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Hashable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeVar, overload

from yarl import URL

from harness_async.config import RateLimit, RetryPolicy, Timeouts, check_max_in_flight, resolve
from harness_async.events import Event
from harness_async.http.pacer import Pacer, RatePacer
from harness_async.http.protocol import QueryValue
from harness_async.http.sender import Sender
from harness_async.http.session import Response, Session
from harness_async.http.transport import Transport
from harness_async.pagination.pager import ListPager, ListSpec, Pager, hashes_by
from harness_async.resources.executions import ExecutionsAPI
from harness_async.resources.organizations import OrganizationsAPI
from harness_async.resources.projects import ProjectsAPI
from harness_async.stats import Stats

if TYPE_CHECKING:
    import aiohttp

T = TypeVar("T")


class HarnessClient:
    """A client of one Harness account.

    Use it with `async with`, or `close` it. Connections are made from the first call on, in the loop that runs then;
    the client belongs to that loop, where any number of tasks may use it at once.

    Args:
        api_key: A personal (`pat.`) or service account (`sat.`) token; else `HARNESS_PLATFORM_API_KEY`, then
            `HARNESS_API_KEY` of the environment.
        account_id: The account; else `HARNESS_ACCOUNT_ID`, else the second part of the key.
        base_url: The host, with a path prefix if need be; else `HARNESS_BASE_URL`, then `HARNESS_ENDPOINT`, else
            https://app.harness.io.
        timeouts: Seconds to connect, to read, and for a whole call.
        retry: When to try again.
        rate_limit: What the server allows in a window; None sends as fast as it goes.
        pacer: In place of `rate_limit`: a `RatePacer` shared by the clients of one key in one loop, or a pacer of
            your own that shares a budget among processes.
        max_in_flight: Requests under way at once; the only place where requests queue.
        http_session: A session of yours to send with, for proxies, certificates or tracing: never closed, never
            changed.
        on_event: Told what happens, from the task in which it happens; what it raises is logged.
        allow_http: Allow plain http to a host that is not this machine.

    Raises:
        ConfigurationError: Something is missing, malformed or unsafe; the message says which and how to mend it.
    """

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
        on_event: Callable[[Event], None] | None = None,
        allow_http: bool = False,
    ) -> None:
        settings = resolve(api_key, account_id, base_url, os.environ, allow_http=allow_http)
        sender = Sender(
            transport=Transport(http_session),
            places=asyncio.Semaphore(check_max_in_flight(max_in_flight)),
            max_in_flight=max_in_flight,
            pacer=make_pacer(rate_limit, pacer),
            credentials=settings.credentials,
            timeouts=timeouts,
            retry=retry,
            on_event=on_event,
        )
        self._owner = True
        self._hang(Session(settings.base_url, sender))

    def _hang(self, session: Session) -> None:
        self._session = session
        self.organizations: OrganizationsAPI = OrganizationsAPI(session)
        self.projects: ProjectsAPI = ProjectsAPI(session, self.organizations)
        self.executions: ExecutionsAPI = ExecutionsAPI(session, self.projects)

    def __repr__(self) -> str:
        account = self._session.sender.credentials.account_id
        return f"<{type(self).__name__} {self._session.base_url} account={account!r}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("A HarnessClient cannot be pickled: it holds connections and a key. Make one where it is used")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; calls under way, and later ones, are a `RuntimeError`. May be called twice.

        A client made by `with_options` has none of its own: closing it closes nothing.
        """
        if self._owner:
            await self._session.sender.transport.close()

    def with_options(
        self,
        *,
        timeouts: Timeouts | None = None,
        retry: RetryPolicy | None = None,
        on_event: Callable[[Event], None] | None = None,
    ) -> HarnessClient:
        """Make a client with other options over the same connections, pacer, key and statistics.

        It lives as long as this one and needs no closing.
        """
        other = object.__new__(type(self))
        other._owner = False
        other._hang(self._session.with_options(timeouts, retry, on_event))
        return other

    @property
    def stats(self) -> Stats:
        """What was done so far over these connections."""
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
            path: The path behind the base URL, encoded where identifiers need it: `/v1/orgs/default`.
            params: The query: None is left out, a sequence repeats its key.
            json: The body, if any.
            headers: More headers; those of authentication are set already.
            repeatable: Whether sending it twice does what sending it once does. None: by the method, all but POST
                and PATCH.

        Raises:
            HarnessError: One of the tree in `harness_async.errors`.
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
        """List anything that the platform pages by number, with `page` and `limit`.

        Args:
            path: The path behind the base URL.
            params: Filters; `page` and `limit` are the pager's.
            first_page: The number of the first page: 1 in IaCM, 0 in the v1 generation.
            limit: Page size, 1 to 100.
            into: An attrs class to make of each row, else plain dicts.
            key: Gives a row's identity; rows that come twice are delivered once. None delivers what comes.
        """
        source = self._session.raw_source(path, dict if into is None else into, params or {}, first_page)
        return ListPager(ListSpec(source=source, hashes=None if key is None else hashes_by(key), limit=limit))


def make_pacer(rate_limit: RateLimit | None, pacer: Pacer | None) -> RatePacer:
    """Make the pacer of a client: the caller's own if it is one of ours, else ours around the caller's."""
    if isinstance(pacer, RatePacer):
        return pacer
    return RatePacer(rate_limit) if pacer is None else RatePacer(None, inner=pacer)
