"""Resource changes and cost changes of an IaCM execution (apidocs.harness.io, "Executions")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

from harness_async.serialization.converters import OpenEnum, register_model
from harness_async.serialization.model import Model


class ChangeType(OpenEnum):
    """What happens to a resource. An open enum."""

    ADDED = "added"
    CHANGED = "changed"
    DELETED = "deleted"
    UNCHANGED = "unchanged"
    IMPORTED = "imported"
    REMOVED = "removed"


_NO_CHANGE = ChangeType("")


@frozen(kw_only=True)
class ResourceChange(Model):
    """A planned change of a resource, or a drift. Missing members are empty.

    Attributes:
        name: Name of the resource.
        type: Type of the resource, such as `aws_instance`.
        module: Its module.
        provider: Its provider.
        change: What is changed.
        change_count: Number of changed attributes.
        drift: Whether the change was found by drift detection rather than planned.
        changes: By attribute: `change`, `drift`, `old`, `new` and `sensitive`, as sent.
    """

    name: str = ""
    type: str = ""
    module: str = ""
    provider: str = ""
    change: ChangeType = _NO_CHANGE
    change_count: int = 0
    drift: bool = False
    changes: Mapping[str, Any] = field(factory=dict[str, Any], hash=False)


@frozen(kw_only=True)
class ResourceChanges(Model):
    """The response: planned changes, and drifts."""

    planned_changes: tuple[ResourceChange, ...] = ()
    drift_changes: tuple[ResourceChange, ...] = ()


@frozen(kw_only=True)
class CostChanges(Model):
    """The difference of costs between the plan and the last applied state. Amounts are decimal numbers as text.

    Attributes:
        currency: The currency of the costs, such as `USD`.
        total_monthly_cost: Estimated monthly costs afterwards.
        past_total_monthly_cost: Estimated monthly costs before.
        diff_total_monthly_cost: The difference.
        percentage_change_total_monthly_cost: The difference in percent.
        workspace: Identifier of the workspace.
        stage: Identifier of the stage.
        diff: By type of resource, as sent.
    """

    currency: str = ""
    total_monthly_cost: str = ""
    past_total_monthly_cost: str = ""
    diff_total_monthly_cost: str = ""
    percentage_change_total_monthly_cost: int = 0
    workspace: str = ""
    stage: str = ""
    diff: Mapping[str, Any] = field(factory=dict[str, Any], hash=False)


register_model(ResourceChange)
register_model(ResourceChanges)
register_model(CostChanges, {"workspace": "workspace_id", "stage": "stage_id"})
