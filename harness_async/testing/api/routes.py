"""The routes of the API, and the way of an authenticated request to its operation. No network."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

import attrs

from harness_async.testing.api import audits, executions, iacm, ng, pipelines, v1
from harness_async.testing.api.call import Call, Family, PageOptions, family_of
from harness_async.testing.responses import FakeResponse, HTTPError, goa_error, legacy_error

if TYPE_CHECKING:
    from harness_async.testing.data.account import Account
    from harness_async.testing.recorded import RecordedRequest

Operation = Callable[..., FakeResponse]
"""Called with the `Call`, and the identifiers of the path by name."""

_MAX_ID = 128  # characters in any identifier of a path
_KEY_PARTS = 3  # a key has at least kind, account and token id

_IACM = "/iacm/api/orgs/{org}/projects/{project}"
_RUN = f"{_IACM}/executions/{{pipeline_execution_id}}"
_V1 = "/v1/orgs/{org}/projects/{project}"

ROUTES: Final[dict[str, Operation]] = {
    "GET /v1/orgs": v1.ORGANIZATIONS,
    "POST /v1/orgs": v1.create_organization,
    "GET /v1/orgs/{org}": v1.get_organization,
    "PUT /v1/orgs/{org}": v1.replace_organization,
    "DELETE /v1/orgs/{org}": v1.delete_organization,
    "GET /v1/orgs/{org}/projects": v1.PROJECTS,
    "POST /v1/orgs/{org}/projects": v1.create_project,
    f"GET {_V1}": v1.get_project,
    f"PUT {_V1}": v1.replace_project,
    f"DELETE {_V1}": v1.delete_project,
    f"GET {_V1}/pipelines": pipelines.PIPELINES,
    f"GET {_V1}/pipelines/{{pipeline}}": pipelines.PIPELINE_DETAIL,
    f"GET {_V1}/services": ng.SERVICES_V1,
    f"GET {_V1}/services/{{service}}": ng.SERVICE_V1,
    f"GET {_IACM}/executions": executions.EXECUTIONS,
    f"POST {_IACM}/executions": executions.create_execution,
    f"GET {_RUN}/resource-changes": executions.resource_changes,
    f"GET {_RUN}/resource-changes-all-stages": executions.resource_changes_all_stages,
    f"GET {_RUN}/cost-changes": executions.cost_changes,
    f"GET {_RUN}/cost-changes-all-stages": executions.cost_changes_all_stages,
    f"GET {_RUN}/{{pipeline_stage_id}}": executions.EXECUTION,
    f"GET {_IACM}/workspaces": iacm.WORKSPACES,
    f"GET {_IACM}/workspaces/{{identifier}}": iacm.WORKSPACE,
    f"GET {_IACM}/workspaces/{{identifier}}/resources": iacm.workspace_resources,
    f"GET {_IACM}/activities": iacm.ACTIVITIES,
    f"GET {_IACM}/activities/{{id}}": iacm.ACTIVITY,
    f"GET {_IACM}/activities/{{id}}/resource-changes": executions.activity_resource_changes,
    f"GET {_IACM}/approvals": iacm.APPROVALS,
    f"GET {_IACM}/approvals/{{id}}": iacm.approval,
    f"GET {_IACM}/costs": iacm.COSTS,
    f"GET {_IACM}/costs/{{workspace}}": iacm.WORKSPACE_COSTS,
    "GET /ng/api/projects": ng.PROJECTS,
    "GET /ng/api/servicesV2": ng.SERVICES,
    "GET /ng/api/servicesV2/{service}": ng.SERVICE,
    "GET /ng/api/environmentsV2": ng.ENVIRONMENTS,
    "GET /ng/api/environmentsV2/{environment}": ng.ENVIRONMENT,
    "POST /pipeline/api/pipelines/execution/summary": pipelines.PIPELINE_EXECUTIONS,
    "GET /pipeline/api/pipelines/execution/v2/{planExecutionId}": pipelines.PIPELINE_EXECUTION,
    "POST /audit/api/audits/list": audits.AUDIT_EVENTS,
}
"""The operation of each method and path. Of two paths that match, the first one is used."""


def _group() -> dict[int, dict[tuple[str, ...], dict[str, Operation]]]:
    """Group the routes by the number of segments in their path, then by path."""
    groups: dict[int, dict[tuple[str, ...], dict[str, Operation]]] = {}
    for route, operation in ROUTES.items():
        method, _, path = route.partition(" ")
        parts = tuple(path.split("/")[1:])
        groups.setdefault(len(parts), {}).setdefault(parts, {})[method] = operation
    return groups


_GROUPS = _group()


def authenticate(account: Account, request: RecordedRequest, path: str) -> FakeResponse | None:
    """Return the error for a request with a wrong key or account, None if both are right.

    The gateway rejects a missing or malformed key in the legacy envelope, the service behind it a key that is
    only invalid. IaCM requires the header for the account. The NextGen services take the account from the query
    if the header is missing, v1 from the key.
    """
    family = family_of(path)
    key = request.headers.get("x-api-key", "")
    parts = key.split(".")
    if key != account.api_key:
        malformed = parts[0].lower() not in {"pat", "sat"} or len(parts) < _KEY_PARTS
        if malformed or family != "iacm":
            return legacy_error(401, "Token is not valid.")
        return goa_error(401, "invalid api key")
    return _check_account(account, request, family)


def _check_account(account: Account, request: RecordedRequest, family: Family) -> FakeResponse | None:
    account_id = request.headers.get("Harness-Account")
    if account_id == account.account_id:
        return None
    if family in {"ng", "pipeline", "audit"}:
        if account_id is None:
            given = "accountIdentifier" in request.query
            return None if given else legacy_error(400, "Account detail is not present in the request")
        return legacy_error(401, "Token is not valid.")
    if account_id is None:
        return goa_error(400, "Harness-Account is missing from header") if family == "iacm" else None
    return Call(account, request, family).error(404, "account not found").response


def respond(account: Account, request: RecordedRequest, path: str, options: PageOptions) -> FakeResponse:
    """Return the response to an authenticated request. *path* is its path without the server's prefix."""
    call = Call(account, request, family_of(path), options)
    try:
        segments = [unquote(segment, errors="strict") for segment in path.split("/")[1:]]
        return _dispatch(call, segments)
    except UnicodeDecodeError:
        return call.error(400, "path is not UTF-8").response
    except HTTPError as error:
        return error.response


def _dispatch(call: Call, segments: list[str]) -> FakeResponse:
    """Find the operation, check the identifiers and call it."""
    operations, ids = _find(segments)
    if not operations:
        return legacy_error(404, f"No such resource: {call.request.path}")
    if any(len(text) > _MAX_ID for text in ids.values()):
        raise call.error(400, f"identifiers have at most {_MAX_ID} characters")
    operation = operations.get(call.request.method)
    if operation is None:
        error = legacy_error(405, f"{call.request.method} is not allowed here")
        return attrs.evolve(error, headers={"Allow": ", ".join(operations)})
    return operation(call, **ids)


def _find(segments: list[str]) -> tuple[dict[str, Operation], dict[str, str]]:
    """Return the operations of a path by method, and the identifiers in it. Empty for an unknown path."""
    for parts, operations in _GROUPS.get(len(segments), {}).items():
        if all(map(_matches, parts, segments)):
            pairs = zip(parts, segments, strict=True)
            return operations, {part[1:-1]: segment for part, segment in pairs if part.startswith("{")}
    return {}, {}


def _matches(part: str, segment: str) -> bool:
    return segment != "" if part.startswith("{") else part == segment
