"""The lists that `export` and `sync` read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

from attrs import frozen

from harness_async import (
    Activity,
    Environment,
    Execution,
    HarnessClient,
    Pipeline,
    PipelineExecution,
    Service,
    Workspace,
)
from harness_async.cli.errors import CommandError
from harness_async.cli.options import Filters
from harness_async.cli.writers import Row, execution_row
from harness_async.serialization.model import Model, dict_names


class ExportResource(StrEnum):
    """What `export` can read."""

    EXECUTIONS = "executions"
    PIPELINE_EXECUTIONS = "pipeline-executions"
    WORKSPACES = "workspaces"
    ACTIVITIES = "activities"
    PIPELINES = "pipelines"
    SERVICES = "services"
    ENVIRONMENTS = "environments"


class SyncResource(StrEnum):
    """What `sync` can read."""

    EXECUTIONS = "executions"
    PIPELINE_EXECUTIONS = "pipeline-executions"


_OPTIONS: Mapping[str, str] = {
    "status": "--status",
    "workspace": "--workspace",
    "start_time": "--since",
    "end_time": "--until",
}
"""The filters of lists, and their options."""


@frozen(kw_only=True)
class Resource:
    """A list of every project."""

    name: str
    model: type[Model]
    filters: frozenset[str] = frozenset()
    """The filters that the list has."""

    has_one_status: bool = False
    """Whether the list can be filtered by one status only."""

    to_row: Callable[[Any], Row] = Model.to_dict

    @property
    def columns(self) -> tuple[str, ...]:
        """The members of a row."""
        return dict_names(self.model)

    def api(self, client: HarnessClient) -> Any:
        """Return the methods of the list."""
        return getattr(client, self.name.replace("-", "_"))

    def check(self, filters: Filters) -> None:
        """Check that the list has the filters that are used.

        Raises:
            CommandError: It does not.
        """
        used = {name: value for name, value in filters.arguments().items() if value is not None}
        for name in used:
            if name not in self.filters:
                possible = ", ".join(option for each, option in _OPTIONS.items() if each in self.filters)
                hint = f"They can be selected with --org, --project{possible and ', '}{possible}."
                raise CommandError(f"{_OPTIONS[name]} cannot be used for {self.name}.", hint)
        if self.has_one_status and len(used.get("status", ())) > 1:
            raise CommandError(f"--status can be used once for {self.name}.")

    def arguments(self, filters: Filters, now: datetime) -> dict[str, Any]:
        """Return the arguments of `bulk`."""
        found = {name: value for name, value in filters.arguments(now).items() if name in self.filters}
        if self.has_one_status and found["status"]:
            (found["status"],) = found["status"]
        return found


_TIMES = frozenset({"start_time", "end_time"})

RESOURCES: Mapping[str, Resource] = {
    each.name: each
    for each in (
        Resource(
            name="executions",
            model=Execution,
            filters=_TIMES | {"status", "workspace"},
            to_row=execution_row,
        ),
        Resource(name="pipeline-executions", model=PipelineExecution, filters=_TIMES | {"status"}),
        Resource(name="workspaces", model=Workspace, filters=frozenset({"status"})),
        Resource(name="activities", model=Activity, filters=_TIMES | {"status", "workspace"}, has_one_status=True),
        Resource(name="pipelines", model=Pipeline),
        Resource(name="services", model=Service),
        Resource(name="environments", model=Environment),
    )
}
