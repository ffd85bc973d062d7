"""Rows of Infrastructure as Code Management: executions, workspaces, activities, approvals and costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness_async.testing.data.collection import COLLECTIONS, copy_json
from harness_async.testing.data.directory import Directory
from harness_async.testing.data.store import display_name
from harness_async.testing.data.table import Row
from harness_async.testing.responses import Json

if TYPE_CHECKING:
    from collections.abc import Mapping


class IacmData(Directory):
    """The methods that add rows of IaCM. A missing project is added."""

    def add_execution(
        self,
        org: str,
        project: str,
        *,
        created: int | None = None,
        status: str = "success",
        workspace: str = "network_prod",
        pipeline: str = "provision_network",
        pipeline_execution_id: str | None = None,
        pipeline_stage_id: str | None = None,
        pipeline_name: str | None = None,
    ) -> Json:
        """Add an execution and return it as the API does.

        `created` is in milliseconds and defaults to now. Missing ids are random. `pipeline_name`, which the
        filter of that name compares, defaults to `pipeline`. Raises ValueError if the ids are taken.
        """
        with self.lock:
            self.ensure_project(org, project)
            wire = {
                "account": self.account_id,
                "created": self.now() if created is None else created,
                "org": org,
                "pipeline": pipeline,
                "pipeline_execution_id": pipeline_execution_id or self.draw_id(),
                "pipeline_stage_id": pipeline_stage_id or self.draw_id(),
                "project": project,
                "status": status,
                "workspace": workspace,
            }
            return self._add("executions", wire, pipeline_name=pipeline if pipeline_name is None else pipeline_name)

    def set_changes(self, row: Mapping[str, Any], *, resources: Json | None = None, costs: Json | None = None) -> None:
        """Set the resource changes and the cost changes of an execution, in place of generated ones."""
        collection = COLLECTIONS["executions"]
        with self.lock:
            table = self.table("executions", row["org"], row["project"])
            found = table.get(collection.key(row))
            if found is None:
                raise KeyError(collection.key(row))
            given = {"resource_changes": resources, "cost_changes": costs}
            hidden = found.hidden | {name: copy_json(value) for name, value in given.items() if value is not None}
            table.put(Row(found.wire, found.key, found.time, found.number, hidden))

    def add_workspace(
        self,
        org: str,
        project: str,
        identifier: str | None = None,
        *,
        name: str | None = None,
        status: str = "active",
        created: int | None = None,
        updated: int | None = None,
        tags: Mapping[str, str] | None = None,
        resources: Json | None = None,
        **members: Any,
    ) -> Json:
        """Add a workspace and return it as the API does in full.

        *resources* is the object of `workspaces/{identifier}/resources`; without it the workspace has no state.
        *members* are further members of the workspace. Raises ValueError if the identifier is taken.
        """
        with self.lock:
            self.ensure_project(org, project)
            identifier = identifier or self.next_identifier("workspace")
            created = self.now() if created is None else created
            wire = {
                "account": self.account_id,
                "backend_locked": False,
                "cost_estimation_enabled": True,
                "created": created,
                "default_pipelines": {},
                "description": "",
                "environment_variables": {},
                "identifier": identifier,
                "name": name or display_name(identifier),
                "org": org,
                "project": project,
                "provider_connector": "account.aws",
                "provisioner": "opentofu",
                "provisioner_data": "",
                "provisioner_version": "latest",
                "repository": "infrastructure",
                "repository_branch": "main",
                "repository_connector": "account.git",
                "repository_path": identifier,
                "repository_submodules": "false",
                "status": status,
                "tags": dict(tags or {}),
                "terraform_variable_files": [],
                "terraform_variables": {},
                "updated": created if updated is None else updated,
                "variable_sets": [],
                **copy_json(members),
            }
            return self._add("workspaces", wire, resources=copy_json(resources))

    def add_activity(
        self,
        org: str,
        project: str,
        *,
        id: str | None = None,  # noqa: A002 - the name of the API
        workspace: str = "network_prod",
        created: int | None = None,
        activity_type: str = "apply",
        activity_status: str = "success",
        pipeline: str = "provision_network",
        pipeline_execution_id: str | None = None,
        pipeline_stage_id: str | None = None,
        **metadata: Any,
    ) -> Json:
        """Add an activity and return it as the API does. *metadata* are further members of its metadata."""
        with self.lock:
            self.ensure_project(org, project)
            wire = {
                "account": self.account_id,
                "created": self.now() if created is None else created,
                "id": id or self.draw_uuid(),
                "metadata": {
                    "activity_status": activity_status,
                    "activity_type": activity_type,
                    "pipeline": pipeline,
                    "pipeline_execution_id": pipeline_execution_id or self.draw_id(),
                    "pipeline_stage_id": pipeline_stage_id or self.draw_id(),
                    **copy_json(metadata),
                },
                "org": org,
                "project": project,
                "workspace": workspace,
            }
            return self._add("activities", wire)

    def add_approval(
        self,
        org: str,
        project: str,
        *,
        id: str | None = None,  # noqa: A002 - the name of the API
        workspace: str = "network_prod",
        status: str = "pending",
        created: int | None = None,
        updated: int | None = None,
        pipeline_execution_id: str | None = None,
        pipeline_stage_id: str | None = None,
        actioned_by: str | None = None,
        actioned_by_email: str | None = None,
    ) -> Json:
        """Add an approval and return it as the API lists it."""
        with self.lock:
            self.ensure_project(org, project)
            created = self.now() if created is None else created
            actor = {"actioned_by": actioned_by, "actioned_by_email": actioned_by_email}
            wire = {
                "account": self.account_id,
                **{name: value for name, value in actor.items() if value is not None},
                "created": created,
                "id": id or self.draw_uuid(),
                "org": org,
                "pipeline_execution_id": pipeline_execution_id or self.draw_id(),
                "pipeline_stage_id": pipeline_stage_id or self.draw_id(),
                "project": project,
                "status": status,
                "updated": created if updated is None else updated,
                "workspace_id": workspace,
            }
            return self._add("approvals", wire)

    def add_cost(
        self,
        org: str,
        project: str,
        *,
        workspace: str = "network_prod",
        cost: str = "12.13",
        currency: str = "USD",
        created: int | None = None,
        activity_type: str = "apply",
        pipeline: str = "provision_network",
        pipeline_execution_id: str | None = None,
        pipeline_stage_id: str | None = None,
    ) -> Json:
        """Add a cost entry of a workspace and return it as the API does.

        `created` is in milliseconds here and in seconds on the wire. If the entry is the latest of its
        workspace, it is also the row of the workspace in the list of all costs of the project.
        """
        with self.lock:
            self.ensure_project(org, project)
            seconds = (self.now() if created is None else created) // 1000
            wire = {
                "account": self.account_id,
                "activity_type": activity_type,
                "cost": cost,
                "created": seconds,
                "currency": currency,
                "org": org,
                "pipeline": pipeline,
                "pipeline_execution_id": pipeline_execution_id or self.draw_id(),
                "pipeline_stage_id": pipeline_stage_id or self.draw_id(),
                "project": project,
                "workspace": workspace,
            }
            row = self._add("costs", wire)
            latest = self.table("workspace_costs", org, project).get((workspace,))
            if latest is None or latest.wire["created"] <= seconds:
                self.add_workspace_cost(org, project, workspace, cost=cost, currency=currency, created=seconds * 1000)
            return row

    def add_workspace_cost(
        self,
        org: str,
        project: str,
        workspace: str | None = None,
        *,
        name: str | None = None,
        cost: str = "12.13",
        currency: str = "USD",
        created: int | None = None,
    ) -> Json:
        """Set the row of a workspace in the list of all costs of a project, and return it."""
        with self.lock:
            self.ensure_project(org, project)
            workspace = workspace or self.next_identifier("workspace")
            found = self.table("workspaces", org, project).get((workspace,))
            wire = {
                "org": org,
                "project": project,
                "workspace_id": workspace,
                "workspace_name": name or (found.wire["name"] if found else display_name(workspace)),
                "cost": cost,
                "currency": currency,
                "created": (self.now() if created is None else created) // 1000,
            }
            return self._add("workspace_costs", wire, replace=True)


def managed_resource(name: str, kind: str) -> Json:
    """Return a managed resource, as in resource changes and in the resources of a workspace."""
    return {
        "attributes": {"name": name},
        "createdAt": 1_627_590_400,
        "drift_attributes": {},
        "drift_status": "unchanged",
        "lastSyncedAt": 1_627_686_800,
        "mode": "resource",
        "module": "root",
        "monthly_cost": None,
        "monthly_saving": None,
        "name": name,
        "path_id": "",
        "provider": "AWS",
        "recommendation_count": None,
        "resource_id": f"arn:aws:ec2:eu-west-1:000000000000:{kind}/{name}",
        "sensitive_attributes": [],
        "type": kind,
    }
