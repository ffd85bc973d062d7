"""Realistic rows of the other collections, which match the organizations, projects and executions of an account.

They are drawn from a generator of their own, so that they change nothing about the executions of a seed.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import attrs

from harness_async.testing.data.iacm import managed_resource
from harness_async.testing.data.table import TIME, Ordering, View
from harness_async.testing.responses import Json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness_async.testing.data.account import Account

_ACTIVITY_TYPES = {"provision": "apply", "apply": "apply", "plan": "plan", "destroy": "destroy", "check": "drift"}
_ACTIVITY_STATUSES = {"success": "success", "failure": "failure", "none": "incomplete"}
_WORKSPACE_STATUSES = {"success": "active", "failure": "failed", "none": "provisioning"}
_PIPELINE_STATUSES = {
    "success": ("Success",),
    "failure": ("Failed", "Failed", "Errored", "Aborted", "Expired"),
    "none": ("Running", "ApprovalWaiting", "InterventionWaiting", "Queued"),
}
_PEOPLE = ("jane.roe@example.com", "sam.poe@example.com", "alex.doe@example.com")
_TRIGGERS = ("MANUAL", "WEBHOOK", "SCHEDULER_CRON")
_SERVICES = ("api", "worker", "web", "gateway")
_ENVIRONMENTS = (("dev", "PreProduction"), ("staging", "PreProduction"), ("prod", "Production"))
_RESOURCE_TYPES = ("aws_instance", "aws_subnet", "aws_security_group", "aws_route53_record", "aws_iam_role")
_DAY = 86_400_000  # milliseconds
_DEPLOYMENTS = 0.25  # executions of other pipelines, per IaCM execution
_APPROVALS = 0.3  # share of the executions that change resources
_EVENTS = 0.1  # audit events per IaCM execution


@attrs.frozen
class Profile:
    """The workspaces and pipelines of a project."""

    workspaces: list[str]
    pipelines: list[tuple[str, str]]
    """The identifier and the name of each pipeline."""


def seed_rows(account: Account, profiles: Mapping[tuple[str, str], Profile], *, seed: int) -> None:
    """Add the rows of all projects."""
    rng = random.Random(f"rows of {seed}")
    for (org, project), profile in profiles.items():
        project_rows = _ProjectRows(account, rng, org, project, profile)
        project_rows.add_runs()
        project_rows.add_workspaces()
        project_rows.add_deployments()
        project_rows.add_pipelines()
        project_rows.add_audit_events()


class _ProjectRows:
    """Adds the rows of one project."""

    def __init__(self, account: Account, rng: random.Random, org: str, project: str, profile: Profile) -> None:
        self._account = account
        self._rng = rng
        self._org = org
        self._project = project
        self._profile = profile
        self._created: int = account.table("projects").get((org, project)).wire["created"]  # type: ignore[union-attr]
        view = View(Ordering(TIME, descending=False))
        self._executions = [row.wire for row in account.table("executions", org, project).slice(view, rng)]
        self._recent: dict[str, list[Json]] = {}

    def add_runs(self) -> None:
        """Add the pipeline execution, the activity, the approval and the cost of each IaCM execution."""
        account, rng, org, project = self._account, self._rng, self._org, self._project
        for execution in self._executions:
            stage = {
                "pipeline_execution_id": execution["pipeline_execution_id"],
                "pipeline_stage_id": execution["pipeline_stage_id"],
            }
            pipeline, created, status = execution["pipeline"], execution["created"], execution["status"]
            workspace = execution["workspace"]
            kind = _ACTIVITY_TYPES.get(pipeline.partition("_")[0], "apply")
            run = self._add_run(
                pipeline,
                created - rng.randrange(2_000, 30_000),
                rng.choice(_PIPELINE_STATUSES.get(status, ("Success",))),
                modules=["iacm"],
                plan_execution_id=execution["pipeline_execution_id"],
            )
            account.add_activity(
                org,
                project,
                id=account.draw_uuid(rng),
                workspace=workspace,
                created=created,
                activity_type=kind,
                activity_status=_ACTIVITY_STATUSES.get(status, "incomplete"),
                pipeline=pipeline,
                pipeline_name=run["name"],
                pipeline_execution_number=str(run["runSequence"]),
                git_branch="main",
                git_commit_sha=f"{rng.getrandbits(160):040x}",
                provisioner="opentofu",
                provisioner_version="1.8.0",
                resource_counts={
                    "added": rng.randrange(5),
                    "changed": rng.randrange(5),
                    "deleted": rng.randrange(2),
                    "unchanged": rng.randrange(40),
                },
                **stage,
            )
            if kind in {"apply", "destroy"} and rng.random() < _APPROVALS:
                verdict = {"success": "approved", "none": "pending"}.get(status, "rejected")
                account.add_approval(
                    org,
                    project,
                    id=account.draw_uuid(rng),
                    workspace=workspace,
                    status=verdict,
                    created=created - 1_000,
                    updated=created,
                    actioned_by=None if verdict == "pending" else "Jane Roe",
                    actioned_by_email=None if verdict == "pending" else _PEOPLE[0],
                    **stage,
                )
            if status == "success":
                cost = f"{rng.randrange(100, 90_000) / 100:.2f}"
                account.add_cost(
                    org,
                    project,
                    workspace=workspace,
                    cost=cost,
                    created=created,
                    activity_type=kind,
                    pipeline=pipeline,
                    **stage,
                )

    def add_workspaces(self) -> None:
        """Add the workspaces. Their last execution determines their status, and whether they have a state."""
        last = {execution["workspace"]: execution for execution in self._executions}
        for identifier in self._profile.workspaces:
            execution = last.get(identifier)
            part, _, stage = identifier.rpartition("_")
            self._account.add_workspace(
                self._org,
                self._project,
                identifier,
                name=identifier.replace("_", " "),
                description=f"{part.capitalize()} of {stage}",
                status=_WORKSPACE_STATUSES.get(execution["status"], "unknown") if execution else "inactive",
                created=self._created,
                updated=execution["created"] if execution else self._created,
                tags={"team": self._rng.choice(("platform", "core", "sre")), "stage": stage},
                resources=self._resources(part) if execution and execution["status"] == "success" else None,
            )

    def _resources(self, part: str) -> Json:
        resources = [
            managed_resource(f"{part}_{index}", self._rng.choice(_RESOURCE_TYPES))
            for index in range(self._rng.randrange(1, 12))
        ]
        return {
            "resources": resources,
            "data_sources": [],
            "outputs": [{"name": f"{part}_id", "sensitive": False, "value": f"{part}-0a1b2c3d"}],
            "total_resources": len(resources),
        }

    def add_deployments(self) -> None:
        """Add services and environments, and executions of the pipelines that deploy them.

        Some are rollbacks, runs of child pipelines, or retried.
        """
        account, rng, org, project = self._account, self._rng, self._org, self._project
        for suffix in rng.sample(_SERVICES, rng.randint(2, len(_SERVICES))):
            service = f"{project}_{suffix}"
            account.add_service(
                org,
                project,
                service,
                description=f"The {suffix} of {project}",
                tags={"team": rng.choice(("core", "delivery"))},
                created=self._created,
                updated=self._created + rng.randrange(_DAY),
            )
            self._recent[f"deploy_{service}"] = []
        for identifier, kind in _ENVIRONMENTS:
            account.add_environment(org, project, identifier, type=kind, created=self._created)
        pipelines = list(self._recent)[-2:]
        for execution in self._executions:
            if rng.random() >= _DEPLOYMENTS:
                continue
            draw = rng.random()
            failed = draw < 0.25  # noqa: PLR2004 - a share
            self._add_run(
                rng.choice(pipelines),
                execution["created"] + rng.randrange(60_000),
                "Failed" if failed else "Success",
                modules=["cd"],
                plan_execution_id=account.draw_id(rng),
                execution_mode="POST_EXECUTION_ROLLBACK" if 0.9 < draw < 0.95 else "NORMAL",  # noqa: PLR2004
                parent=execution["pipeline_execution_id"] if draw > 0.95 else None,  # noqa: PLR2004
                superseded=draw < 0.1,  # noqa: PLR2004
            )

    def _add_run(
        self, pipeline: str, start: int, status: str, *, plan_execution_id: str, modules: list[str], **fields: object
    ) -> Json:
        rng = self._rng
        names = dict(self._profile.pipelines)
        run = self._account.add_pipeline_execution(
            self._org,
            self._project,
            plan_execution_id=plan_execution_id,
            status=status,
            start_ts=start,
            end_ts=None,
            pipeline=pipeline,
            name=names.get(pipeline),
            modules=modules,
            stages=rng.randint(1, 4),
            trigger_type=rng.choice(_TRIGGERS),
            triggered_by=rng.choice(_PEOPLE),
            **fields,  # type: ignore[arg-type]
        )
        self._recent.setdefault(pipeline, []).append(run)
        return run

    def add_pipelines(self) -> None:
        """Add the pipelines, with their latest executions."""
        names = dict(self._profile.pipelines)
        for identifier in {**names, **self._recent}:
            runs = self._recent.get(identifier, [])
            infrastructure = identifier in names
            self._account.add_pipeline(
                self._org,
                self._project,
                identifier,
                name=names.get(identifier),
                tags={"kind": "infrastructure" if infrastructure else "deployment"},
                modules=("iacm",) if infrastructure else ("cd",),
                created=self._created,
                updated=self._created + self._rng.randrange(_DAY),
                recent_execution_info=[_recent_execution(run) for run in reversed(runs[-10:])],
            )

    def add_audit_events(self) -> None:
        """Add the audit events of the project and of some executions."""
        account, rng, scope = self._account, self._rng, {"org": self._org, "project": self._project}
        account.add_audit_event(
            **scope,
            timestamp=self._created,
            action="CREATE",
            resource_type="PROJECT",
            resource=self._project,
            insert_id=account.draw_id(rng),
        )
        for execution in self._executions:
            if rng.random() < _EVENTS:
                account.add_audit_event(
                    **scope,
                    timestamp=execution["created"],
                    action=rng.choice(("UPDATE", "START", "END", "CREATE")),
                    module="IACM",
                    resource_type="PIPELINE_EXECUTION",
                    resource=execution["pipeline"],
                    principal=rng.choice(_PEOPLE),
                    insert_id=account.draw_id(rng),
                )


def _recent_execution(run: Json) -> Json:
    """Return an entry of the latest executions of a pipeline, as v1 has it."""
    info = {
        "execution_id": run["planExecutionId"],
        "execution_status": run["status"],
        "run_number": run["runSequence"],
        "started": run["startTs"],
        "ended": run.get("endTs"),
        "executor_info": {
            "email": run["executionTriggerInfo"]["triggeredBy"]["extraInfo"]["email"],
            "username": run["executionTriggerInfo"]["triggeredBy"]["identifier"],
            "trigger_type": run["executionTriggerInfo"]["triggerType"],
        },
    }
    return {name: value for name, value in info.items() if value is not None}
