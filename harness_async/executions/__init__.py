"""IaCM executions: one row for each pipeline stage that ran against a workspace.

Facts: apidocs.harness.io, "Executions". The list has no sort parameter and its order is not documented; `status`
filters go out as one comma-separated value; times are milliseconds since 1970 UTC.
"""

from harness_async.executions.api import ExecutionsAPI
from harness_async.executions.model import Execution, ExecutionStatus

__all__ = ["Execution", "ExecutionStatus", "ExecutionsAPI"]
