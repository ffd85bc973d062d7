"""Every request that doctor may send, as data, and the client that sends them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final
from urllib.parse import quote

from attrs import define, field, frozen

from harness_async import (
    Attempt,
    Dialect,
    Event,
    HarnessClient,
    PaginationError,
    RequestSent,
    RetryPolicy,
    Timeouts,
    UnexpectedResponseError,
)

MAX_REQUESTS: Final = 25

PAGE: Final = 100
"""Rows of a page, where a check does not examine just that."""

MISSING: Final = "harness_async_doctor_missing"
"""An identifier that exists in no account."""

_RETRY = RetryPolicy(max_attempts=1)
_DEADLINE = 40.0


@frozen(kw_only=True)
class Probe:
    """A request. Names in braces are filled in when it is sent."""

    path: str = field(kw_only=False)
    why: str = field(kw_only=False)
    params: Mapping[str, str | int] = field(factory=dict)
    method: str = "GET"
    dialect: Dialect | None = None
    """How the list is paged, where the account is in the query and the rows are in an envelope."""

    json: Mapping[str, Any] | None = None
    times: int = 1
    """How often it is sent at most."""

    @property
    def target(self) -> str:
        """The path and the query, with names in braces."""
        params = dict(self.params)
        if self.dialect is not None:
            scope = {} if self.json is None else {"orgIdentifier": "{org}", "projectIdentifier": "{project}"}
            params = {"accountIdentifier": "{account}", **scope, **params}
        return self.path + "?" * bool(params) + "&".join(f"{name}={value}" for name, value in params.items())


_IACM = "/iacm/api/orgs/{org}/projects/{project}"
_RUNS = "/pipeline/api/pipelines/execution/summary"
# Without totals: a page far behind them is not an incomplete list.
_NG = Dialect(page="pageIndex", size="pageSize", scope="query", rows="data.content")
_PIPELINE = Dialect(size="size", max_limit=1000, scope="query", rows="data.content")
_EVERYTHING = {"filterType": "PipelineExecution", "executionModeFilter": "ALL"}

ORGS = Probe("/v1/orgs", "Is the service there, and does it accept the key?", params={"page": 0, "limit": 100})
PROJECTS = Probe(
    "/ng/api/projects",
    "Are the projects of all organizations listed at once?",
    params={"pageIndex": 0, "pageSize": 100},
    dialect=_NG,
)
ORG_PROJECTS = Probe(
    "/v1/orgs/{org}/projects", "Only if they are not: the projects of one.", params={"page": 0, "limit": 100}
)
EXECUTIONS = Probe(
    f"{_IACM}/executions",
    "Order and totals of a project that has executions; up to three are tried.",
    params={"page": 1, "limit": 100},
    times=3,
)
REPEAT = Probe(f"{_IACM}/executions", "Does the order stay the same?", params={"page": 1, "limit": 100})
SECOND = Probe(f"{_IACM}/executions", "Does page 2 follow page 1?", params={"page": 2, "limit": 1})
LAST = Probe(f"{_IACM}/executions", "Do totals agree with rows?", params={"page": "{last}", "limit": 100})
PAST_END = Probe(f"{_IACM}/executions", "What follows the last page?", params={"page": "{last + 1}", "limit": 100})
LARGE = Probe(
    f"{_IACM}/executions", "Is a page above the maximum refused or clipped?", params={"page": 1, "limit": 101}
)
FROM_TIME = Probe(
    f"{_IACM}/executions",
    "Does start_time filter on created, and inclusively?",
    params={"page": 1, "limit": 100, "start_time": "{created}", "end_time": "{created + 1}"},
)
TO_TIME = Probe(
    f"{_IACM}/executions",
    "Does end_time filter on created, and inclusively?",
    params={"page": 1, "limit": 100, "start_time": "{created - 1}", "end_time": "{created}"},
)
STATUSES = Probe(
    f"{_IACM}/executions",
    "Are several statuses separated by a comma?",
    params={"page": 1, "limit": 100, "status": "success,failure"},
)
MISSING_PROJECT = Probe(
    "/iacm/api/orgs/{missing}/projects/{missing}/executions",
    "Which status and code has a missing project in IaCM?",
    params={"page": 1, "limit": 1},
)
ACTIVITIES = Probe(f"{_IACM}/activities", "One activity, for the next request.", params={"page": 1, "limit": 1})
ACTIVITIES_TIME = Probe(
    f"{_IACM}/activities",
    "Are the times of activities milliseconds?",
    params={"page": 1, "limit": 100, "start_time": "{created - 1}", "end_time": "{created + 1}"},
)
SORTED_ORGS = Probe(
    "/v1/orgs",
    "Does v1 have pages of 1000, and sort by time of creation?",
    params={"page": 0, "limit": 1000, "sort": "created", "order": "ASC"},
)
LARGE_ORGS = Probe(
    "/v1/orgs", "Is a page above the maximum of v1 refused or clipped?", params={"page": 0, "limit": 1001}
)
SECOND_ORGS = Probe("/v1/orgs", "Is 0 the first page of v1?", params={"page": 1, "limit": 100})
MISSING_ORG = Probe("/v1/orgs/{missing}", "Which status and code has a missing organization?")
MISSING_ORG_PROJECTS = Probe(
    "/v1/orgs/{missing}/projects",
    "Which projects has a missing organization?",
    params={"page": 0, "limit": 1},
)
RUNS = Probe(
    _RUNS,
    "Are executions of pipelines sorted by their start?",
    params={"page": 0, "size": 10, "sort": "startTs,ASC", "showAllExecutions": "true"},
    method="POST",
    dialect=_PIPELINE,
    json=_EVERYTHING,
)
LARGE_RUNS = Probe(
    _RUNS,
    "Do they have pages of 1000? (Of a pipeline that does not exist.)",
    params={"page": 0, "size": 1000, "pipelineIdentifier": "{missing}"},
    method="POST",
    dialect=_PIPELINE,
    json=_EVERYTHING,
)
FAR_RUNS = Probe(
    _RUNS,
    "Are rows behind position 10,000 refused?",
    params={"page": 10_000, "size": 1},
    method="POST",
    dialect=_PIPELINE,
    json=_EVERYTHING,
)

PROBES: Final = (
    *(ORGS, PROJECTS, ORG_PROJECTS, EXECUTIONS),
    *(SORTED_ORGS, LARGE_ORGS, SECOND_ORGS, MISSING_ORG, MISSING_ORG_PROJECTS),
    *(MISSING_PROJECT, REPEAT, SECOND, LAST, PAST_END, LARGE, FROM_TIME, TO_TIME, STATUSES),
    *(ACTIVITIES, ACTIVITIES_TIME, RUNS, LARGE_RUNS, FAR_RUNS),
)
"""All requests, in their order."""


class BudgetSpentError(Exception):
    """The largest number of requests was sent."""


@frozen(kw_only=True)
class Listing:
    """A page of a list."""

    rows: Sequence[Mapping[str, Any]]
    headers: Mapping[str, str] = field(factory=dict)
    attempts: Sequence[Attempt] = ()

    def total(self, header: str) -> int | None:
        """Return a total of a header, None if it is missing or not a number."""
        text = self.headers.get(header, "").strip()
        return int(text) if text.isascii() and text.isdecimal() else None


@define(init=False)
class Prober:
    """Sends probes, each once, and never more than the largest number."""

    client: HarnessClient
    requests: int
    """Requests sent."""

    def __init__(self, client: HarnessClient, deadline: float | None = None) -> None:
        timeouts = Timeouts(deadline=deadline or _DEADLINE)
        self.client = client.with_options(retry=_RETRY, timeouts=timeouts, on_event=self._count)
        self.requests = 0

    def _count(self, event: Event) -> None:
        self.requests += isinstance(event, RequestSent)

    async def send(self, probe: Probe, *, org: str = MISSING, project: str = MISSING, **params: str | int) -> Listing:
        """Send a request and return the rows of its response.

        Raises:
            BudgetSpentError: Too many requests were sent before.
            RequestError: The request failed.
        """
        if self.requests >= MAX_REQUESTS:
            raise BudgetSpentError
        params = {**probe.params, **params}
        if probe.dialect is not None:
            return await self._read_page(probe, probe.dialect, params, org, project)
        path = probe.path.format(org=quote(org, safe=""), project=quote(project, safe=""), missing=MISSING)
        response = await self.client.request(probe.method, path, params=params)
        body = response.json()
        rows = [] if body is None else body
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise UnexpectedResponseError("The response is not a list of objects", status=response.status)
        return Listing(rows=rows, headers=response.headers, attempts=response.attempts)

    async def _read_page(
        self, probe: Probe, dialect: Dialect, params: dict[str, str | int], org: str, project: str
    ) -> Listing:
        number, size = int(params.pop(dialect.page)), int(params.pop(dialect.size))
        in_project = probe.json is not None
        pager = self.client.paginate(
            probe.path,
            dialect=dialect,
            method=probe.method,
            params={name: MISSING if value == "{missing}" else value for name, value in params.items()},
            json=probe.json,
            org=org if in_project else None,
            project=project if in_project else None,
            limit=size,
            first_page=number,
        )
        async with aclosing(pager.pages()) as pages:
            try:
                page = await anext(pages)
            except PaginationError as error:
                raise UnexpectedResponseError(str(error)) from error
        return Listing(rows=page.items)
