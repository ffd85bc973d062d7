"""IaCM workspaces, their resources and their costs (apidocs.harness.io, "Workspaces")."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Unpack

from attrs import evolve, field, frozen

from harness_async.bulk.factory import BulkFactory, BulkOptions
from harness_async.bulk.run import BulkRun
from harness_async.http.endpoints import Endpoint
from harness_async.http.session import Session
from harness_async.pagination.dialects import DIALECTS
from harness_async.pagination.pager import ListEndpoint, Pager, parse_window
from harness_async.serialization.converters import OpenEnum, register_model
from harness_async.serialization.model import Model, Updated, parse_tags
from harness_async.types import Projects, Time
from harness_async.validation import as_str_tuple, from_milliseconds

_WORKSPACES = "/iacm/api/orgs/{org}/projects/{project}/workspaces"
_GET = Endpoint("GET", f"{_WORKSPACES}/{{workspace}}")
_RESOURCES = Endpoint("GET", f"{_WORKSPACES}/{{workspace}}/resources")

_FIRST_MILLISECOND = 100_000_000_000
"""A time below this is in seconds: as milliseconds it would lie in 1973."""


class WorkspaceStatus(OpenEnum):
    """The status of a workspace. An open enum."""

    ACTIVE = "active"
    INACTIVE = "inactive"
    PROVISIONING = "provisioning"
    DESTROYING = "destroying"
    FAILED = "failed"
    UNKNOWN = "unknown"
    ROLLBACK_APPLIED = "rollback_applied"
    DRIFTED = "drifted"
    APPLY_NEEDED = "apply_needed"


@frozen(kw_only=True)
class Workspace(Updated):
    """A workspace. Missing members are empty; a list leaves out all but the first nine.

    Attributes:
        account: Identifier of the account.
        org: Identifier of the organization.
        project: Identifier of the project.
        identifier: Its identifier.
        name: Its display name.
        description: Its description.
        status: Its status.
        created: Time of creation: milliseconds since 1970 UTC, as sent; 0 where it is missing.
        updated: Time of the last change: milliseconds since 1970 UTC, as sent; 0 where it is missing.
        tags: Its tags; a tag without a value has the value "".
        provisioner: `terraform`, `opentofu`, and others.
        provisioner_version: The version of the provisioner.
        provider_connector: Identifier of the connector to the cloud provider.
        repository: The Git repository of the code.
        repository_branch: Its branch.
        repository_commit: Its commit.
        repository_path: The path of the code in the repository.
        repository_connector: Identifier of the connector to the repository.
        cost_estimation_enabled: Whether costs are estimated.
        backend_locked: Whether the state is locked.
        state_checksum: Checksum of the state.
        terraform_variables: Variables of the code, as sent.
        environment_variables: Environment variables, as sent.
        default_pipelines: The pipelines for its actions, as sent.
    """

    account: str = ""
    org: str
    project: str
    identifier: str
    name: str = ""
    description: str = ""
    status: WorkspaceStatus = WorkspaceStatus.UNKNOWN
    created: int = 0
    updated: int = 0
    tags: Mapping[str, str] = field(factory=dict[str, str], hash=False)
    provisioner: str = ""
    provisioner_version: str = ""
    provider_connector: str = ""
    repository: str = ""
    repository_branch: str = ""
    repository_commit: str = ""
    repository_path: str = ""
    repository_connector: str = ""
    cost_estimation_enabled: bool = False
    backend_locked: bool = False
    state_checksum: str = ""
    terraform_variables: Mapping[str, Any] = field(factory=dict[str, Any], hash=False)
    environment_variables: Mapping[str, Any] = field(factory=dict[str, Any], hash=False)
    default_pipelines: Mapping[str, Any] = field(factory=dict[str, Any], hash=False)


@frozen(kw_only=True)
class WorkspaceResources(Model):
    """What a workspace manages. All of it is empty where the workspace has no state.

    Attributes:
        resources: The resources, as sent.
        data_sources: The data sources, as sent.
        outputs: The outputs, as sent.
        total_resources: Number of resources.
    """

    resources: tuple[Mapping[str, Any], ...] = field(default=(), hash=False)
    data_sources: tuple[Mapping[str, Any], ...] = field(default=(), hash=False)
    outputs: tuple[Mapping[str, Any], ...] = field(default=(), hash=False)
    total_resources: int = 0


@frozen(kw_only=True)
class WorkspaceCost(Model):
    """The cost of a workspace.

    Attributes:
        org: Identifier of the organization.
        project: Identifier of the project.
        workspace: Identifier of the workspace.
        name: Display name of the workspace.
        cost: A decimal number as text.
        currency: The currency of the costs, such as `USD`.
        created: As sent: the API's samples are in seconds since 1970 UTC.
    """

    org: str
    project: str
    workspace: str
    name: str = ""
    cost: str = ""
    currency: str = ""
    created: int = 0

    @property
    def created_at(self) -> datetime | None:
        """Time of the entry in UTC; None where `created` is missing or fits no calendar."""
        return from_milliseconds(self.created * 1000 if self.created < _FIRST_MILLISECOND else self.created)


def _parse_amount(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise TypeError(f"expected an amount, not {type(value).__name__}")
    return str(value)


register_model(Workspace, parsers={"tags": parse_tags})
register_model(WorkspaceResources)
register_model(WorkspaceCost, {"workspace": "workspace_id", "name": "workspace_name"}, {"cost": _parse_amount})

_LIST = ListEndpoint(path=_WORKSPACES, cls=Workspace, ids=("identifier",), dialect=DIALECTS["iacm"])
_COSTS = ListEndpoint(
    path="/iacm/api/orgs/{org}/projects/{project}/costs",
    cls=WorkspaceCost,
    ids=("workspace",),
    dialect=evolve(DIALECTS["iacm"], rows="workspaces", total_items="totalItems", total_pages="totalPages"),
)


class WorkspacesAPI:
    """The IaCM workspaces of the account. Safe for concurrent use by tasks of one loop."""

    def __init__(self, session: Session, runs: BulkFactory) -> None:
        self._session = session
        self._runs = runs

    def list(
        self,
        org: str,
        project: str,
        *,
        search_term: str | None = None,
        status: WorkspaceStatus | str | Iterable[WorkspaceStatus | str] | None = None,
        limit: int = 100,
        prefetch: int = 0,
    ) -> Pager[Workspace]:
        """List the workspaces of one project by name.

        Args:
            org: Identifier of the organization.
            project: Identifier of the project.
            search_term: Part of a name.
            status: Keep workspaces with this status, or one of these.
            limit: Page size, 1 to 100.
            prefetch: Pages to request ahead of the consumer, which are held in memory.
        """
        params = {"searchTerm": search_term, "status": WorkspaceStatus.parse_words("status", status)}
        return _LIST.open(self._session, params=params, limit=limit, prefetch=prefetch, org=org, project=project)

    def bulk(
        self,
        projects: Projects | None = None,
        *,
        search_term: str | None = None,
        status: WorkspaceStatus | str | Iterable[WorkspaceStatus | str] | None = None,
        **options: Unpack[BulkOptions],
    ) -> BulkRun[Workspace]:
        """Fetch the workspaces of many projects concurrently; see `executions.bulk`."""
        words = WorkspaceStatus.parse_words("status", status)
        return self._runs.bulk(
            lambda ref, _end: self.list(ref.org, ref.project, search_term=search_term, status=words),
            projects,
            filters={"resource": "workspaces", "search_term": search_term, "status": words},
            **options,
        )

    async def get(self, org: str, project: str, workspace: str) -> Workspace:
        """Fetch one workspace with its configuration.

        Raises:
            NotFoundError: The project has no workspace with this identifier.
        """
        context = {"org": org, "project": project, "identifier": workspace}
        return await self._session.fetch(
            _GET, Workspace, context=context, org=org, project=project, workspace=workspace
        )

    async def resources(self, org: str, project: str, workspace: str) -> WorkspaceResources:
        """Fetch the resources, data sources and outputs of a workspace.

        Raises:
            NotFoundError: The project has no workspace with this identifier.
        """
        return await self._session.fetch(_RESOURCES, WorkspaceResources, org=org, project=project, workspace=workspace)

    def costs(
        self,
        org: str,
        project: str,
        *,
        start_time: Time,
        end_time: Time,
        workspaces: str | Iterable[str] | None = None,
        limit: int = 100,
    ) -> Pager[WorkspaceCost]:
        """List the costs of the workspaces of one project in a range of time.

        Args:
            org: Identifier of the organization.
            project: Identifier of the project.
            start_time: Start of the range: an aware datetime, or milliseconds since 1970 UTC.
            end_time: End of the range.
            workspaces: Keep this workspace, or these.
            limit: Page size, 1 to 100.
        """
        window = parse_window(start_time, end_time)
        params = {
            "start_time": window.start,
            "end_time": window.end,
            "workspaces": as_str_tuple("workspaces", workspaces),
        }
        return _COSTS.open(self._session, params=params, limit=limit, org=org, project=project)
