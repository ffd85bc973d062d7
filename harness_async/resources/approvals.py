"""IaCM approvals, for reading (apidocs.harness.io, "Approvals")."""

from __future__ import annotations

from typing import Unpack

from attrs import frozen

from harness_async.bulk.factory import BulkFactory, BulkOptions
from harness_async.bulk.run import BulkRun
from harness_async.http.endpoints import Endpoint, QueryValue
from harness_async.http.session import Session
from harness_async.pagination.dialects import DIALECTS
from harness_async.pagination.pager import ListEndpoint, Pager
from harness_async.serialization.converters import OpenEnum, register_model
from harness_async.serialization.model import Updated
from harness_async.types import Projects

_APPROVALS = "/iacm/api/orgs/{org}/projects/{project}/approvals"
_GET = Endpoint("GET", f"{_APPROVALS}/{{approval}}")


class ApprovalStatus(OpenEnum):
    """The decision. An open enum."""

    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"


@frozen(kw_only=True)
class Approval(Updated):
    """An approval of a stage. Missing members are empty; `get` returns only the decision.

    Attributes:
        account: Identifier of the account.
        org: Identifier of the organization.
        project: Identifier of the project.
        id: Its identifier.
        workspace: Identifier of the workspace.
        pipeline_execution_id: Identifier of the pipeline execution.
        pipeline_stage_id: Identifier of the stage execution.
        status: Its status.
        created: Time of creation: milliseconds since 1970 UTC, as sent; 0 where it is missing.
        updated: Time of the last change: milliseconds since 1970 UTC, as sent; 0 where it is missing.
        actioned_by: Who approved or rejected it.
        actioned_by_email: The email address of that user.
    """

    account: str = ""
    org: str
    project: str
    id: str
    workspace: str = ""
    pipeline_execution_id: str = ""
    pipeline_stage_id: str = ""
    status: ApprovalStatus = ApprovalStatus.PENDING
    created: int = 0
    updated: int = 0
    actioned_by: str = ""
    actioned_by_email: str = ""


register_model(Approval, {"workspace": "workspace_id"})

_LIST = ListEndpoint(path=_APPROVALS, cls=Approval, ids=("id",), dialect=DIALECTS["iacm"])


class ApprovalsAPI:
    """The IaCM approvals of the account. Safe for concurrent use by tasks of one loop."""

    def __init__(self, session: Session, runs: BulkFactory) -> None:
        self._session = session
        self._runs = runs

    def list(
        self,
        org: str,
        project: str,
        *,
        workspace: str | None = None,
        pipeline_execution_id: str | None = None,
        pipeline_stage_id: str | None = None,
        status: ApprovalStatus | str | None = None,
        limit: int = 100,
    ) -> Pager[Approval]:
        """List the approvals of one project.

        Args:
            org: Identifier of the organization.
            project: Identifier of the project.
            workspace: Keep approvals of this workspace.
            pipeline_execution_id: Keep approvals of this pipeline run.
            pipeline_stage_id: Keep approvals of this stage run.
            status: Keep approvals with this status.
            limit: Page size, 1 to 100.
        """
        params = _create_params(workspace, pipeline_execution_id, pipeline_stage_id, status)
        return _LIST.open(self._session, params=params, limit=limit, org=org, project=project)

    def bulk(
        self,
        projects: Projects | None = None,
        *,
        workspace: str | None = None,
        pipeline_execution_id: str | None = None,
        pipeline_stage_id: str | None = None,
        status: ApprovalStatus | str | None = None,
        **options: Unpack[BulkOptions],
    ) -> BulkRun[Approval]:
        """Fetch the approvals of many projects concurrently; see `executions.bulk`."""
        params = _create_params(workspace, pipeline_execution_id, pipeline_stage_id, status)
        return self._runs.bulk(
            lambda ref, _end: _LIST.open(self._session, params=params, org=ref.org, project=ref.project),
            projects,
            filters={"resource": "approvals", **params},
            **options,
        )

    async def get(self, org: str, project: str, approval: str) -> Approval:
        """Fetch the decision of one approval.

        Raises:
            NotFoundError: The project has no approval with this id.
        """
        context = {"org": org, "project": project, "id": approval}
        return await self._session.fetch(_GET, Approval, context=context, org=org, project=project, approval=approval)


def _create_params(
    workspace: str | None,
    pipeline_execution_id: str | None,
    pipeline_stage_id: str | None,
    status: ApprovalStatus | str | None,
) -> dict[str, QueryValue]:
    """Create the query parameters of a list, and check the status."""
    ApprovalStatus.parse_words("status", status)
    return {
        "workspace": workspace,
        "pipeline_execution_id": pipeline_execution_id,
        "pipeline_stage_id": pipeline_stage_id,
        "status_type": status,
    }
