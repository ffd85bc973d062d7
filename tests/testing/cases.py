"""Every list of the fake server, as its documentation describes it."""

from __future__ import annotations

from typing import Any

from attrs import field, frozen

from harness_async.testing import FakeHarness
from harness_async.testing.data.collection import CollectionName

ACCOUNT = "Ab1Cd2Ef3Gh4Ij5Kl6Mn7O"
IACM = "/iacm/api/orgs/default/projects/payments"
V1 = "/v1/orgs/default/projects/payments"
IN_ACCOUNT = {"accountIdentifier": ACCOUNT}
IN_PROJECT = {**IN_ACCOUNT, "orgIdentifier": "default", "projectIdentifier": "payments"}


@frozen
class Case:
    """A list: where it is, how it is paged, and how its rows are identified."""

    name: str
    path: str
    collection: CollectionName
    stored: str
    """The member that identifies a stored row."""
    wire: str
    """The member that identifies a row in a response."""
    page: str = "page"
    size: str = "limit"
    first: int = 1
    default: int = 30
    maximum: int = 100
    rows: str = ""
    """The member that holds the rows, empty for an array."""
    total: str = "x-total-items"
    """The header or the member that holds the total."""
    envelope: str = "goa"
    """The envelope of an error for an invalid parameter."""
    params: dict[str, str] = field(factory=dict)
    body: Any = None
    """The body of a list that is read with POST."""
    in_project: bool = True

    def __str__(self) -> str:
        return self.name

    async def fetch(
        self, get: Any, page: int | None = None, size: int | None = None, extra: dict[str, str] | None = None
    ) -> Any:
        """Request a page, counted from 0 in every dialect, with *extra* parameters."""
        params = dict(extra or {})
        params |= {} if page is None else {self.page: str(page + self.first)}
        params |= {} if size is None else {self.size: str(size)}
        if self.body is None:
            return await get(self.path, params={**self.params, **params})
        return await get(self.path, "POST", params={**self.params, **params}, json=self.body)

    async def walk(self, get: Any, size: int) -> list[str]:
        """Read pages until an empty one, and return the identities of the rows."""
        found: list[str] = []
        for page in range(10_000):
            names = self.names(await self.fetch(get, page, size))
            if not names:
                return found
            found += names
        raise AssertionError("the list has no end")

    def names(self, response: Any) -> list[str]:
        """Return the identities of the rows of a response."""
        assert response.status == 200, response.body
        return [read(row, self.wire) for row in read(response.json, self.rows)]

    def total_of(self, response: Any) -> int | None:
        """Return the total of a response, None if it is missing."""
        value = read(response.json, self.total) if self.rows else response.headers.get(self.total)
        return None if value is None else int(value)

    def fill(self, fake: FakeHarness, rows: int) -> list[str]:
        """Add rows until there are so many, a second apart, and return their identities."""
        if self.in_project:
            fake.add_project("default", "payments")
        missing = rows - len(self.identities(fake))
        fake.add_rows(self.collection, "default", "payments", missing, apart=1000)
        return self.identities(fake)

    def identities(self, fake: FakeHarness) -> list[str]:
        """Return the identities of the stored rows."""
        return [read(row, self.stored) for row in fake.rows(self.collection, "default", "payments")]


def read(value: Any, path: str) -> Any:
    """Read a member by its dotted path, None if it is missing."""
    for name in path.split(".") if path else ():
        value = value.get(name)
    return value


def iacm(path: str, collection: CollectionName, identity: str, **options: Any) -> Case:
    return Case(path, f"{IACM}/{path}", collection, identity, identity, **options)


def v1(name: str, path: str, collection: CollectionName, stored: str, wire: str = "", **options: Any) -> Case:
    options = {"first": 0, "total": "X-Total-Elements", "envelope": "v1", **options}
    return Case(name, path, collection, stored, wire or stored, **options)


def nextgen(name: str, path: str, collection: CollectionName, stored: str, wire: str = "", **options: Any) -> Case:
    options = {"rows": "data.content", "total": "data.totalItems", "envelope": "failure", "first": 0, **options}
    return Case(name, path, collection, stored, wire or stored, **options)


OF_ACCOUNT: Any = {"page": "pageIndex", "size": "pageSize", "default": 50, "params": IN_ACCOUNT, "in_project": False}
OF_PROJECT: Any = {"size": "size", "default": 100, "maximum": 1000, "params": IN_PROJECT}
SUMMARY: Any = {**OF_PROJECT, "default": 10, "total": "data.totalElements", "body": {"executionModeFilter": "ALL"}}
SUMMARY_PATH = "/pipeline/api/pipelines/execution/summary"
SERVICE, ENVIRONMENT = "service.identifier", "environment.identifier"

CASES = [
    iacm("executions", "executions", "pipeline_execution_id"),
    iacm("workspaces", "workspaces", "identifier"),
    iacm("activities", "activities", "id"),
    iacm("approvals", "approvals", "id"),
    iacm("costs", "workspace_costs", "workspace_id", rows="workspaces", total="totalItems"),
    iacm("costs/network_prod", "costs", "pipeline_execution_id"),
    v1("organizations", "/v1/orgs", "organizations", "org.identifier", maximum=1000, in_project=False),
    v1("projects", "/v1/orgs/default/projects", "projects", "project.identifier", maximum=1000),
    v1("pipelines", f"{V1}/pipelines", "pipelines", "identifier"),
    v1("services v1", f"{V1}/services", "services", "identifier", SERVICE, default=20, maximum=1000),
    nextgen("projects of the account", "/ng/api/projects", "projects", "project.identifier", **OF_ACCOUNT),
    nextgen("services", "/ng/api/servicesV2", "services", "identifier", SERVICE, **OF_PROJECT),
    nextgen("environments", "/ng/api/environmentsV2", "environments", "identifier", ENVIRONMENT, **OF_PROJECT),
    nextgen("pipeline executions", SUMMARY_PATH, "pipeline_executions", "planExecutionId", **SUMMARY),
    nextgen("audit events", "/audit/api/audits/list", "audit_events", "insertId", body={}, **OF_ACCOUNT),
]

ALL = {str(case): case for case in CASES}
