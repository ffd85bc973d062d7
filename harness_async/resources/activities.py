"""IaCM activities: what each execution did, with counts and git data (apidocs.harness.io, "Activities")."""

from __future__ import annotations

from typing import Any, Unpack

from attrs import field, frozen

from harness_async.bulk.factory import BulkFactory, BulkOptions
from harness_async.bulk.run import BulkRun
from harness_async.http.endpoints import Endpoint, QueryValue
from harness_async.http.session import Session
from harness_async.pagination.dialects import DIALECTS
from harness_async.pagination.pager import ListEndpoint, ListPager, Pager, parse_window
from harness_async.serialization.converters import OpenEnum, register_model
from harness_async.serialization.model import Created, Model, field_names
from harness_async.types import Consistency, ProjectRef, Projects, Time, TimeWindow

_ACTIVITIES = "/iacm/api/orgs/{org}/projects/{project}/activities"
_GET = Endpoint("GET", f"{_ACTIVITIES}/{{activity}}")


class ActivityType(OpenEnum):
    """What was done. An open enum."""

    APPLY = "apply"
    DESTROY = "destroy"
    PLAN = "plan"
    DRIFTED = "drifted"
    IMPORT = "import"
    BOOTSTRAP = "bootstrap"
    SYNTH = "synth"
    DEPLOY = "deploy"
    DIFF = "diff"
    DRIFT = "drift"
    ROLLBACK = "rollback"


class ActivityStatus(OpenEnum):
    """The outcome of an activity. An open enum."""

    SUCCESS = "success"
    FAILURE = "failure"
    INCOMPLETE = "incomplete"


_NO_TYPE, _NO_STATUS = ActivityType(""), ActivityStatus("")


@frozen(kw_only=True)
class Counts(Model):
    """How many resources or outputs were added, changed and so on.

    Attributes:
        added: Added.
        changed: Changed.
        deleted: Deleted.
        imported: Imported.
        removed: Removed from the state.
        unchanged: Unchanged.
    """

    added: int = 0
    changed: int = 0
    deleted: int = 0
    imported: int = 0
    removed: int = 0
    unchanged: int = 0


@frozen(kw_only=True)
class Activity(Created):
    """What an execution did to a workspace. Missing members are empty.

    Attributes:
        account: Identifier of the account.
        org: Identifier of the organization.
        project: Identifier of the project.
        id: Its identifier.
        workspace: Identifier of the workspace.
        created: Time of creation: milliseconds since 1970 UTC, as sent; 0 where it is missing.
        type: What ran, such as `plan`, `apply` or `drift`.
        status: Its status.
        pipeline: Identifier of the pipeline.
        pipeline_name: Display name of the pipeline.
        pipeline_execution_id: Together with `pipeline_stage_id` the identity of the `Execution`.
        pipeline_stage_id: Identifier of the stage execution.
        pipeline_execution_number: Sequence number of the pipeline execution.
        git_repo: The Git repository of the code.
        git_branch: Its branch.
        git_commit_sha: The commit that ran.
        git_commit_message: Its message.
        provisioner: The provisioner, such as `terraform` or `opentofu`.
        provisioner_version: The version of the provisioner.
        resource_counts: Resources by kind of change.
        drift_counts: Drifted resources by kind of change.
        output_counts: Outputs by kind of change.
        cost_currency: The currency of the costs.
        cost_total_monthly: A decimal number as text, like the other costs.
        cost_past_total_monthly: Estimated monthly costs before.
        cost_diff_total_monthly: The difference.
    """

    account: str = ""
    org: str
    project: str
    id: str
    workspace: str = ""
    created: int = 0
    type: ActivityType = _NO_TYPE
    status: ActivityStatus = _NO_STATUS
    pipeline: str = ""
    pipeline_name: str = ""
    pipeline_execution_id: str = ""
    pipeline_stage_id: str = ""
    pipeline_execution_number: str = ""
    git_repo: str = ""
    git_branch: str = ""
    git_commit_sha: str = ""
    git_commit_message: str = ""
    provisioner: str = ""
    provisioner_version: str = ""
    resource_counts: Counts = field(factory=Counts)
    drift_counts: Counts = field(factory=Counts)
    output_counts: Counts = field(factory=Counts)
    cost_currency: str = ""
    cost_total_monthly: str = ""
    cost_past_total_monthly: str = ""
    cost_diff_total_monthly: str = ""


_OUTSIDE = {"account", "org", "project", "id", "workspace", "created"}
_RENAMED = {"type": "metadata.activity_type", "status": "metadata.activity_status"}

register_model(Counts)

_METADATA = {name: f"metadata.{name}" for name in field_names(Activity) if name not in _OUTSIDE}
register_model(Activity, _METADATA | _RENAMED)

_LIST = ListEndpoint(path=_ACTIVITIES, cls=Activity, ids=("id",), dialect=DIALECTS["iacm"], created="created")


class ActivitiesAPI:
    """The IaCM activities of the account. Safe for concurrent use by tasks of one loop."""

    def __init__(self, session: Session, runs: BulkFactory) -> None:
        self._session = session
        self._runs = runs

    def list(
        self,
        org: str,
        project: str,
        *,
        workspace: str | None = None,
        type: ActivityType | str | None = None,  # noqa: A002 - the API's word
        status: ActivityStatus | str | None = None,
        start_time: Time | None = None,
        end_time: Time | None = None,
        limit: int = 100,
        prefetch: int = 0,
        consistency: Consistency = "live",
    ) -> Pager[Activity]:
        """List the activities of one project.

        Args:
            org: Identifier of the organization.
            project: Identifier of the project.
            workspace: Keep activities of this workspace.
            type: Keep activities of this type.
            status: Keep activities with this status.
            start_time: Keep activities created at or after this time: an aware datetime, or milliseconds since 1970
                UTC.
            end_time: Keep activities created at or before this time.
            limit: Page size, 1 to 100.
            prefetch: Pages to request ahead of the consumer, which are held in memory.
            consistency: As in `executions.list`.
        """
        params = _params(workspace, type, status)
        window = parse_window(start_time, end_time)
        options = {"limit": limit, "prefetch": prefetch, "consistency": consistency}
        return self._open_list(ProjectRef(org, project), params, window, **options)

    def _open_list(
        self, ref: ProjectRef, params: dict[str, QueryValue], window: TimeWindow, **options: Any
    ) -> ListPager[Activity]:
        return _LIST.open(
            self._session,
            params=params | {"start_time": window.start, "end_time": window.end},
            window=window,
            volatile=params["activity_status"] is not None,
            org=ref.org,
            project=ref.project,
            **options,
        )

    def bulk(
        self,
        projects: Projects | None = None,
        *,
        workspace: str | None = None,
        type: ActivityType | str | None = None,  # noqa: A002 - the API's word
        status: ActivityStatus | str | None = None,
        start_time: Time | None = None,
        end_time: Time | None = None,
        consistency: Consistency = "checked",
        **options: Unpack[BulkOptions],
    ) -> BulkRun[Activity]:
        """Fetch the activities of many projects concurrently; see `executions.bulk`."""
        params = _params(workspace, type, status)
        window = parse_window(start_time, end_time)
        return self._runs.bulk_window(
            lambda ref, each: self._open_list(ref, params, each, consistency=consistency),
            projects,
            window,
            consistency=consistency,
            filters={"resource": "activities", **params},
            **options,
        )

    async def get(self, org: str, project: str, activity: str) -> Activity:
        """Fetch one activity.

        Raises:
            NotFoundError: The project has no activity with this id.
        """
        context = {"org": org, "project": project, "id": activity}
        return await self._session.fetch(_GET, Activity, context=context, org=org, project=project, activity=activity)


def _params(workspace: str | None, kind: str | None, status: str | None) -> dict[str, QueryValue]:
    for enum, name, word in ((ActivityType, "type", kind), (ActivityStatus, "status", status)):
        enum.parse_words(name, word)
    return {"workspace": workspace, "activity_type": kind, "activity_status": status}
