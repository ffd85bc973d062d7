"""Rows of the platform: pipelines, their executions, services, environments and audit events."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from harness_async.testing.data.collection import copy_json
from harness_async.testing.data.directory import Directory
from harness_async.testing.data.store import display_name
from harness_async.testing.responses import Json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FINISHED = frozenset(
    {
        *("Success", "Failed", "Aborted", "Expired", "Errored"),
        *("AbortedByFreeze", "ApprovalRejected", "IgnoreFailed", "Skipped", "Suspended"),
    }
)
"""The statuses of a pipeline execution that do not change any more."""

_FAILED = frozenset({"Failed", "Errored", "Expired", "Aborted", "AbortedByFreeze", "ApprovalRejected"})
_DURATION = 60_000  # milliseconds, of a finished execution without an end


class PlatformData(Directory):
    """The methods that add rows of the platform. A missing project is added."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._runs: Counter[tuple[str, str, str]] = Counter()

    def add_pipeline(
        self,
        org: str,
        project: str,
        identifier: str | None = None,
        *,
        name: str | None = None,
        description: str = "",
        tags: Mapping[str, str] | None = None,
        modules: Sequence[str] = ("cd",),
        created: int | None = None,
        updated: int | None = None,
        yaml: str | None = None,
        **members: Any,
    ) -> Json:
        """Add a pipeline and return it as stored. The list leaves out `org` and `project`.

        *members* are further members, such as `store_type`, `git_details` or `recent_execution_info`. Raises
        ValueError if the identifier is taken.
        """
        with self.lock:
            self.ensure_project(org, project)
            identifier = identifier or self.next_identifier("pipeline")
            name = name or display_name(identifier)
            wire = {
                "org": org,
                "project": project,
                "identifier": identifier,
                "name": name,
                "description": description,
                "tags": dict(tags or {}),
                **self._times(created, updated),
                "modules": list(modules),
                "store_type": "INLINE",
                "valid": True,
                "yaml_version": "0",
                "recent_execution_info": [],
                **copy_json(members),
            }
            return self._add("pipelines", wire, yaml=yaml or _pipeline_yaml(org, project, identifier, name))

    def add_service(
        self,
        org: str,
        project: str,
        identifier: str | None = None,
        *,
        name: str | None = None,
        description: str = "",
        tags: Mapping[str, str] | None = None,
        created: int | None = None,
        updated: int | None = None,
        yaml: str | None = None,
    ) -> Json:
        """Add a service and return it as stored. The lists of v1 and NextGen wrap it in different ways.

        Raises ValueError if the identifier is taken.
        """
        with self.lock:
            self.ensure_project(org, project)
            identifier = identifier or self.next_identifier("service")
            name = name or display_name(identifier)
            text = f"service:\n  identifier: {identifier}\n  name: {name}\n" if yaml is None else yaml
            wire = {
                **self._entity(org, project, identifier, name),
                "description": description,
                "tags": dict(tags or {}),
                "yaml": text,
                **self._times(created, updated),
            }
            return self._add("services", wire)

    def add_environment(
        self,
        org: str,
        project: str,
        identifier: str | None = None,
        *,
        name: str | None = None,
        type: str = "Production",  # noqa: A002 - the name of the API
        color: str = "#0063F7",
        description: str = "",
        tags: Mapping[str, str] | None = None,
        created: int | None = None,
        updated: int | None = None,
        yaml: str | None = None,
    ) -> Json:
        """Add an environment and return it as stored. Raises ValueError if the identifier is taken."""
        with self.lock:
            self.ensure_project(org, project)
            identifier = identifier or self.next_identifier("environment")
            name = name or display_name(identifier)
            if yaml is None:
                yaml = f"environment:\n  identifier: {identifier}\n  name: {name}\n  type: {type}\n"
            wire = {
                **self._entity(org, project, identifier, name),
                "description": description,
                "tags": dict(tags or {}),
                "type": type,
                "color": color,
                "yaml": yaml,
                **self._times(created, updated),
            }
            return self._add("environments", wire)

    def add_pipeline_execution(
        self,
        org: str,
        project: str,
        *,
        plan_execution_id: str | None = None,
        status: str = "Success",
        start_ts: int | None = None,
        end_ts: int | None = None,
        pipeline: str = "deploy",
        name: str | None = None,
        run_sequence: int | None = None,
        execution_mode: str = "NORMAL",
        parent: str | None = None,
        superseded: bool = False,
        modules: Sequence[str] = ("cd",),
        stages: int = 3,
        trigger_type: str = "MANUAL",
        triggered_by: str = "jane.roe@example.com",
        tags: Mapping[str, str] | None = None,
        **members: Any,
    ) -> Json:
        """Add a pipeline execution and return it as stored. The list adds the graph of its stages.

        *start_ts* is in milliseconds and defaults to now. An execution with a *parent* (a plan execution id) is
        that of a child pipeline, a *superseded* one was retried. *members* replace or add members of the row;
        None leaves a member out. Raises ValueError if the id is taken.
        """
        with self.lock:
            self.ensure_project(org, project)
            run = (org, project, pipeline)
            self._runs[run] = self._runs[run] + 1 if run_sequence is None else run_sequence
            start = self.now() if start_ts is None else start_ts
            if end_ts is None and status in FINISHED:
                end_ts = start + _DURATION
            failed = status in _FAILED
            wire = {
                "orgIdentifier": org,
                "projectIdentifier": project,
                "pipelineIdentifier": pipeline,
                "planExecutionId": plan_execution_id or self.draw_id(),
                "name": name or display_name(pipeline),
                "yamlVersion": "0",
                "status": status,
                "tags": [{"key": key, "value": value} for key, value in tags.items()] if tags else None,
                "executionTriggerInfo": {
                    "triggerType": trigger_type,
                    "triggeredBy": {
                        "uuid": "system",
                        "identifier": triggered_by.partition("@")[0],
                        "extraInfo": {"email": triggered_by},
                    },
                    "isRerun": False,
                },
                "failureInfo": {"message": f"Stage failed: {status}", "failureTypeList": ["APPLICATION"]}
                if failed
                else None,
                "modules": list(modules),
                "startTs": start,
                "endTs": end_ts,
                "createdAt": start - 150,
                "canRetry": failed,
                "canReExecute": True,
                "showRetryHistory": superseded,
                "runSequence": self._runs[run],
                "totalStagesCount": stages,
                "successfulStagesCount": stages if status == "Success" else stages - 1,
                "runningStagesCount": 0 if status in FINISHED else 1,
                "failedStagesCount": 1 if failed else 0,
                "executionMode": execution_mode,
                "storeType": "INLINE",
                "isStagesExecution": False,
                "notesExistForPlanExecutionId": False,
                "parentStageInfo": None if parent is None else _parent_stage(org, project, parent),
                **(copy_json(members) if members else {}),
            }
            # The service leaves empty members out.
            row = {member: value for member, value in wire.items() if value is not None}
            return self._add("pipeline_executions", row, superseded=superseded)

    def add_pipeline_executions(
        self, org: str, project: str, n: int, *, start_ts: int | None = None, apart: int = 1, **fields: Any
    ) -> list[Json]:
        """Add *n* pipeline executions with the same fields, *apart* milliseconds apart and the last one newest.

        *start_ts* is that of the last one and defaults to now.
        """
        with self.lock:
            newest = self.now() if start_ts is None else start_ts
            if n == 0:
                return []
            first = self.add_pipeline_execution(org, project, start_ts=newest - (n - 1) * apart, **fields)
            rows, stored = [first], copy_json(first)
            hidden = {"superseded": fields.get("superseded", False)}
            times: list[str] = [name for name in ("startTs", "endTs", "createdAt") if name in first]
            # Stored rows share their nested members, as do the returned ones: copies would take most of the time.
            for index in range(1, n):
                own: Json = {name: first[name] + index * apart for name in times}
                own |= {"planExecutionId": self.draw_id(), "runSequence": first["runSequence"] + index}
                self._put("pipeline_executions", {**stored, **own}, hidden)
                rows.append({**first, **own})
            self._runs[org, project, first["pipelineIdentifier"]] += n - 1
            return rows

    def add_audit_event(
        self,
        *,
        org: str | None = None,
        project: str | None = None,
        timestamp: int | None = None,
        action: str = "UPDATE",
        module: str = "CORE",
        resource_type: str = "PIPELINE",
        resource: str = "deploy",
        principal_type: str = "USER",
        principal: str = "jane.roe@example.com",
        insert_id: str | None = None,
        **members: Any,
    ) -> Json:
        """Add an audit event of the account, an organization or a project, and return it as the API does."""
        with self.lock:
            scope = {"accountIdentifier": self.account_id, "orgIdentifier": org, "projectIdentifier": project}
            insert_id = insert_id or self.draw_id()
            wire = {
                "auditId": f"audit-{insert_id}",
                "insertId": insert_id,
                "resourceScope": {name: value for name, value in scope.items() if value is not None},
                "httpRequestInfo": {"requestMethod": "PUT"},
                "requestMetadata": {"clientIP": "192.0.2.7"},
                "timestamp": self.now() if timestamp is None else timestamp,
                "authenticationInfo": {"principal": {"type": principal_type, "identifier": principal}, "labels": {}},
                "module": module,
                "resource": {"type": resource_type, "identifier": resource, "labels": {"resourceName": resource}},
                "action": action,
                **copy_json(members),
            }
            return self._add("audit_events", wire)

    def _entity(self, org: str, project: str, identifier: str, name: str) -> Json:
        return {
            "account": self.account_id,
            "org": org,
            "project": project,
            "identifier": identifier,
            "name": name,
        }

    def _times(self, created: int | None, updated: int | None) -> Json:
        created = self.now() if created is None else created
        return {"created": created, "updated": created if updated is None else updated}


def _parent_stage(org: str, project: str, parent: str) -> Json:
    return {
        "hasParentPipeline": True,
        "executionId": parent,
        "identifier": "parent",
        "orgId": org,
        "projectId": project,
        "runSequence": 1,
        "stageNodeId": parent,
    }


def _pipeline_yaml(org: str, project: str, identifier: str, name: str) -> str:
    return (
        f"pipeline:\n  name: {name}\n  identifier: {identifier}\n  projectIdentifier: {project}\n"
        f"  orgIdentifier: {org}\n  tags: {{}}\n  stages: []\n"
    )
