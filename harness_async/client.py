"""The client: creates the session and the resources that use it."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Hashable, Mapping
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeVar, Unpack, overload

from yarl import URL

from harness_async.config import RateLimit, RetryPolicy, Timeouts, check_max_in_flight, resolve_settings
from harness_async.errors import ConfigurationError
from harness_async.events import Event, Stats
from harness_async.http.endpoints import QueryValue
from harness_async.http.pacer import Pacer, RatePacer
from harness_async.http.sender import Sender
from harness_async.http.session import Response, Session
from harness_async.http.transport import Transport
from harness_async.validation import check_callable, check_type

if TYPE_CHECKING:
    import aiohttp

    from harness_async.bulk.factory import BulkFactory, BulkOptions
    from harness_async.bulk.run import BulkRun
    from harness_async.pagination.dialects import Dialect, DialectName
    from harness_async.pagination.pager import Pager
    from harness_async.resources.activities import ActivitiesAPI
    from harness_async.resources.approvals import ApprovalsAPI
    from harness_async.resources.audits import AuditsAPI
    from harness_async.resources.environments import EnvironmentsAPI
    from harness_async.resources.executions import ExecutionsAPI
    from harness_async.resources.organizations import OrganizationsAPI
    from harness_async.resources.pipeline_executions import PipelineExecutionsAPI
    from harness_async.resources.pipelines import PipelinesAPI
    from harness_async.resources.projects import ProjectsAPI
    from harness_async.resources.services import ServicesAPI
    from harness_async.resources.workspaces import WorkspacesAPI
    from harness_async.types import ProjectRef, Projects

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
        TypeError: An argument has the wrong type.
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
        trust_env: bool = True,
        proxy: str | URL | None = None,
        ssl_context: ssl.SSLContext | None = None,
        on_event: Callable[[Event], None] | None = None,
        allow_http: bool = False,
    ) -> None:
        for name, value, kinds in (
            ("api_key", api_key, str),
            ("account_id", account_id, str),
            ("base_url", base_url, (str, URL)),
            ("rate_limit", rate_limit, RateLimit),
            ("proxy", proxy, (str, URL)),
            ("ssl_context", ssl_context, ssl.SSLContext),
        ):
            check_type(name, value, kinds, optional=True)
        check_type("timeouts", timeouts, Timeouts)
        check_type("retry", retry, RetryPolicy)
        check_type("trust_env", trust_env, bool)
        check_type("allow_http", allow_http, bool)
        check_callable("on_event", on_event)
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
        self._session = Session(settings.base_url, sender)

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
        check_type("timeouts", timeouts, Timeouts, optional=True)
        check_type("retry", retry, RetryPolicy, optional=True)
        check_callable("on_event", on_event)
        other = object.__new__(type(self))
        other._owns_transport = False
        other._session = self._session.with_options(timeouts, retry, on_event)
        return other

    @cached_property
    def organizations(self) -> OrganizationsAPI:
        """The organizations of the account."""
        from harness_async.resources.organizations import OrganizationsAPI

        return OrganizationsAPI(self._session)

    @cached_property
    def projects(self) -> ProjectsAPI:
        """The projects of the account."""
        from harness_async.resources.projects import ProjectsAPI

        return ProjectsAPI(self._session, self.organizations)

    @cached_property
    def executions(self) -> ExecutionsAPI:
        """The IaCM executions of the account."""
        from harness_async.resources.executions import ExecutionsAPI

        return ExecutionsAPI(self._session, self._runs)

    @cached_property
    def workspaces(self) -> WorkspacesAPI:
        """The IaCM workspaces of the account."""
        from harness_async.resources.workspaces import WorkspacesAPI

        return WorkspacesAPI(self._session, self._runs)

    @cached_property
    def activities(self) -> ActivitiesAPI:
        """The IaCM activities of the account."""
        from harness_async.resources.activities import ActivitiesAPI

        return ActivitiesAPI(self._session, self._runs)

    @cached_property
    def approvals(self) -> ApprovalsAPI:
        """The IaCM approvals of the account."""
        from harness_async.resources.approvals import ApprovalsAPI

        return ApprovalsAPI(self._session, self._runs)

    @cached_property
    def pipelines(self) -> PipelinesAPI:
        """The pipelines of the account."""
        from harness_async.resources.pipelines import PipelinesAPI

        return PipelinesAPI(self._session, self._runs)

    @cached_property
    def pipeline_executions(self) -> PipelineExecutionsAPI:
        """The executions of pipelines."""
        from harness_async.resources.pipeline_executions import PipelineExecutionsAPI

        return PipelineExecutionsAPI(self._session, self._runs)

    @cached_property
    def services(self) -> ServicesAPI:
        """The services of the account's projects."""
        from harness_async.resources.services import ServicesAPI

        return ServicesAPI(self._session, self._runs)

    @cached_property
    def environments(self) -> EnvironmentsAPI:
        """The environments of the account's projects."""
        from harness_async.resources.environments import EnvironmentsAPI

        return EnvironmentsAPI(self._session, self._runs)

    @cached_property
    def audits(self) -> AuditsAPI:
        """The audit trail of the account."""
        from harness_async.resources.audits import AuditsAPI

        return AuditsAPI(self._session)

    @cached_property
    def _runs(self) -> BulkFactory:
        from harness_async.bulk.factory import BulkFactory

        return BulkFactory(self._session, self.projects.discover)

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
        content: bytes | str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the deadline of the call
        repeatable: bool | None = None,
    ) -> Response:
        """Call any endpoint of the platform, with authentication, pacing, retries and typed errors.

        Args:
            method: GET, HEAD, OPTIONS, POST, PUT, PATCH or DELETE.
            path: The path behind the base URL, with encoded identifiers: `/v1/orgs/default`.
            params: The query: None is left out, a sequence repeats its key.
            json: The body, if any.
            headers: Additional headers; those of authentication are set by the client.
            content: A raw body in place of `json`, such as YAML; `headers` names its `Content-Type`.
            timeout: Seconds for this call alone, in place of `Timeouts.deadline`.
            repeatable: Whether sending the request twice has the same effect as sending it once. Default: all methods
                except POST and PATCH.

        Raises:
            RequestError: The call failed; see `harness_async.errors`.
            TypeError: An argument has the wrong type.
            ValueError: An argument cannot be used; nothing was sent.
        """
        return await self._session.request(
            method,
            path,
            params=params,
            json=json,
            headers=headers,
            content=content,
            timeout=timeout,
            repeatable=repeatable,
        )

    @overload
    def paginate(
        self,
        path: str,
        *,
        dialect: DialectName | Dialect | None = None,
        method: str = "GET",
        params: Mapping[str, QueryValue] | None = None,
        json: Mapping[str, Any] | None = None,
        org: str | None = None,
        project: str | None = None,
        limit: int | None = None,
        first_page: int | None = None,
        into: None = None,
        key: Callable[[dict[str, Any]], Hashable] | None = None,
        prefetch: int = 0,
    ) -> Pager[dict[str, Any]]: ...

    @overload
    def paginate(
        self,
        path: str,
        *,
        dialect: DialectName | Dialect | None = None,
        method: str = "GET",
        params: Mapping[str, QueryValue] | None = None,
        json: Mapping[str, Any] | None = None,
        org: str | None = None,
        project: str | None = None,
        limit: int | None = None,
        first_page: int | None = None,
        into: type[T],
        key: Callable[[T], Hashable] | None = None,
        prefetch: int = 0,
    ) -> Pager[T]: ...

    def paginate(
        self,
        path: str,
        *,
        dialect: DialectName | Dialect | None = None,
        method: str = "GET",
        params: Mapping[str, QueryValue] | None = None,
        json: Mapping[str, Any] | None = None,
        org: str | None = None,
        project: str | None = None,
        limit: int | None = None,
        first_page: int | None = None,
        into: type[Any] | None = None,
        key: Callable[[Any], Hashable] | None = None,
        prefetch: int = 0,
    ) -> Pager[Any]:
        """List anything that the platform pages by number.

        Args:
            path: The path behind the base URL, with encoded identifiers.
            dialect: How the list is paged: the name of a `Dialect`, or one of your own. Default: that of the path, for
                paths that begin with `/iacm/`, `/v1/`, `/ng/api/` or `/pipeline/api/`.
            method: GET, or POST for a list that is filtered by a body. Both are repeated freely.
            params: Query parameters, without those of page and size.
            json: The body of a POST.
            org: Sent as `orgIdentifier`.
            project: Sent as `projectIdentifier`.
            limit: Page size. Default and maximum are those of the dialect.
            first_page: Number of the first page, where it differs from that of the dialect.
            into: An attrs class for the rows; None returns plain dicts.
            key: Returns the identity of a row, so that duplicates are recognized. None delivers every row received.
            prefetch: Pages to request ahead of the consumer, which are held in memory.

        Raises:
            TypeError: An argument has the wrong type.
            ValueError: An argument cannot be used; nothing was sent.
        """
        from harness_async.pagination.pager import open_list

        return open_list(
            self._session,
            path,
            dialect=dialect,
            method=method,
            params={} if params is None else params,
            json=json,
            scope={"org": org, "project": project},
            limit=limit,
            first_page=first_page,
            cls=dict if into is None else into,
            key=key,
            prefetch=prefetch,
        )

    def bulk(
        self,
        open_list: Callable[[ProjectRef], Pager[T]],
        projects: Projects | None = None,
        **options: Unpack[BulkOptions],
    ) -> BulkRun[T]:
        """Fetch any list of many projects concurrently.

        Args:
            open_list: Returns the list of a project, such as
                `lambda ref: harness.workspaces.list(ref.org, ref.project)`: the same one whenever it is called.
            projects: As in `executions.bulk`.
            **options: `concurrency`, `on_error`, `checkpoint`, `on_progress` and others; see `BulkOptions`.

        Returns:
            A `BulkRun`. Rows do not have to name their project: `BulkRun.batches` does.

        Raises:
            TypeError: An argument has the wrong type.
            ValueError: An argument cannot be used; nothing was sent.
        """
        return self._runs.bulk_any(open_list, projects, **options)


def _create_pacer(rate_limit: RateLimit | None, pacer: Pacer | None) -> RatePacer:
    methods = (getattr(pacer, "acquire", None), getattr(pacer, "pause", None))
    if pacer is not None and (isinstance(pacer, type) or not all(map(callable, methods))):
        raise TypeError(f"pacer must be a Pacer, with the methods acquire and pause, not {type(pacer).__name__}")
    if isinstance(pacer, RatePacer):
        return pacer
    return RatePacer(rate_limit) if pacer is None else RatePacer(None, inner=pacer)
