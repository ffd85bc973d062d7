"""The collections of the fake server, described as data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

import attrs

from harness_async.testing.data.table import Key, read_path

Scope = tuple[str | None, str | None]
"""The organization and the project that own a table; both None for the account."""


@attrs.frozen
class Collection:
    """Rows of one kind: the members that identify, date and describe them."""

    name: str
    noun: str
    """What error messages call a row."""
    identity: tuple[str, ...]
    """The members that identify a row within its scope."""
    time: str = "created"
    """The member that holds the time of a row."""
    time_unit: int = 1
    """Milliseconds per unit of that member."""
    scope: tuple[str, str] | None = ("org", "project")
    """The members that hold organization and project, or None for rows of the account."""
    updated: str | None = None
    """The member that holds the time of the last change."""
    status: str | None = None
    """The member that holds the status."""
    statuses: tuple[str, ...] = ()
    """Known statuses."""

    def key(self, row: Mapping[str, Any]) -> Key:
        """Return the values that identify a row."""
        return tuple(read_path(row, path) for path in self.identity)

    def scope_of(self, row: Mapping[str, Any]) -> Scope:
        """Return the scope that owns a row."""
        return (None, None) if self.scope is None else (row[self.scope[0]], row[self.scope[1]])

    def time_of(self, row: Mapping[str, Any]) -> int:
        """Return the time of a row in milliseconds."""
        return int(row[self.time]) * self.time_unit


CollectionName = Literal[
    "organizations",
    "projects",
    "executions",
    "workspaces",
    "activities",
    "approvals",
    "costs",
    "workspace_costs",
    "pipelines",
    "pipeline_executions",
    "services",
    "environments",
    "audit_events",
]

_STAGE = ("pipeline_execution_id", "pipeline_stage_id")

COLLECTIONS: Final[Mapping[str, Collection]] = {
    collection.name: collection
    for collection in (
        Collection("organizations", "organization", ("org.identifier",), scope=None, updated="updated"),
        Collection("projects", "project", ("project.org", "project.identifier"), scope=None, updated="updated"),
        Collection("executions", "execution", _STAGE, status="status", statuses=("none", "success", "failure")),
        Collection(
            "workspaces",
            "workspace",
            ("identifier",),
            updated="updated",
            status="status",
            statuses=("active", "inactive", "provisioning", "destroying", "failed", "drifted"),
        ),
        Collection(
            "activities",
            "activity",
            ("id",),
            status="metadata.activity_status",
            statuses=("success", "failure", "incomplete"),
        ),
        Collection(
            "approvals",
            "approval",
            ("id",),
            updated="updated",
            status="status",
            statuses=("pending", "approved", "rejected"),
        ),
        # The documented samples of `created` are seconds.
        Collection("costs", "cost", _STAGE, time_unit=1000),
        Collection("workspace_costs", "cost", ("workspace_id",), time_unit=1000),
        Collection("pipelines", "pipeline", ("identifier",), updated="updated"),
        Collection(
            "pipeline_executions",
            "pipeline execution",
            ("planExecutionId",),
            time="startTs",
            scope=("orgIdentifier", "projectIdentifier"),
            status="status",
            statuses=("Running", "Success", "Failed", "Aborted", "ApprovalWaiting"),
        ),
        Collection("services", "service", ("identifier",), updated="updated"),
        Collection("environments", "environment", ("identifier",), updated="updated"),
        Collection("audit_events", "audit event", ("insertId",), time="timestamp", scope=None),
    )
}


def with_member(value: Mapping[str, Any], path: str, new: object) -> dict[str, Any]:
    """Return a copy of an object with a member replaced, given by its dotted path."""
    name, _, rest = path.partition(".")
    return {**value, name: with_member(value.get(name) or {}, rest, new) if rest else new}


def copy_json(value: Any) -> Any:
    """Copy decoded JSON."""
    # Most values are scalars: they cost no call.
    if isinstance(value, dict):
        return {name: copy_json(item) if isinstance(item, (dict, list)) else item for name, item in value.items()}
    if isinstance(value, list):
        return [copy_json(item) if isinstance(item, (dict, list)) else item for item in value]
    return value
