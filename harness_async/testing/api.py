"""From a recorded request to its answer: who asks, what for, and is it well formed. No network here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import attrs

from harness_async.testing import executions, v1
from harness_async.testing.lists import Call
from harness_async.testing.responses import JSON, FakeResponse, HTTPError, goa_error, legacy_error, v1_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness_async.testing.account import Account
    from harness_async.testing.recorded import RecordedRequest

_MAX_ID = 128  # characters in any identifier of a path
_KEY_PARTS = 3  # a key has at least kind, account and token id

_EXECUTIONS = "/iacm/api/orgs/{org}/projects/{project}/executions"
_ROUTES: dict[str, dict[str, Callable[..., FakeResponse]]] = {
    "/v1/orgs": {"GET": v1.list_organizations, "POST": v1.create_organization},
    "/v1/orgs/{org}": {
        "GET": v1.show_organization,
        "PUT": v1.replace_organization,
        "DELETE": v1.delete_organization,
    },
    "/v1/orgs/{org}/projects": {"GET": v1.list_projects, "POST": v1.create_project},
    "/v1/orgs/{org}/projects/{project}": {
        "GET": v1.show_project,
        "PUT": v1.replace_project,
        "DELETE": v1.delete_project,
    },
    _EXECUTIONS: {"GET": executions.list_executions, "POST": executions.create_execution},
    _EXECUTIONS + "/{pipeline_execution_id}/{pipeline_stage_id}": {"GET": executions.show_execution},
}


def is_iacm(path: str) -> bool:
    """Say whether a path (below the prefix) belongs to IaCM, which has an error envelope of its own."""
    return path.startswith("/iacm/")


def authenticate(account: Account, request: RecordedRequest, path: str) -> FakeResponse | None:
    """Return what is wrong with key and account of a request, None when nothing is.

    A key that is absent or no key at all is refused by the gateway in the legacy envelope, one that only is
    not valid by the service behind it. IaCM requires the account header, v1 does not.
    """
    key = request.headers.get("x-api-key", "")
    parts = key.split(".")
    if key != account.api_key:
        malformed = parts[0].lower() not in {"pat", "sat"} or len(parts) < _KEY_PARTS
        if malformed or not is_iacm(path):
            return legacy_error(401, "Token is not valid.")
        return goa_error(401, "invalid api key")
    account_id = request.headers.get("Harness-Account")
    if account_id is None:
        return goa_error(400, "Harness-Account is missing from header") if is_iacm(path) else None
    if account_id != account.account_id:
        return _refusals(path)(404, "account not found")
    return None


def respond(account: Account, request: RecordedRequest, path: str, clip: int | None = None) -> FakeResponse:
    """Return an authenticated request.

    *path* is its path below the prefix, *clip* the most rows a page may hold.
    """
    try:
        segments = [unquote(segment, errors="strict") for segment in path.split("/")[1:]]
        return _dispatch(Call(account, request, _refusals(path), clip), segments)
    except UnicodeDecodeError:
        return _refusals(path)(400, "path is not UTF-8")
    except HTTPError as error:
        return error.response


def _dispatch(call: Call, segments: list[str]) -> FakeResponse:
    """Find the operation, check what all operations want alike, and run it."""
    operations, ids = _route(segments)
    if not operations:
        return legacy_error(404, f"No such resource: {call.request.path}")
    if any(len(text) > _MAX_ID for text in ids.values()):
        raise call.refused(400, f"identifiers have at most {_MAX_ID} characters")
    operation = operations.get(call.request.method)
    if operation is None:
        refusal = legacy_error(405, f"{call.request.method} is not allowed here")
        return attrs.evolve(refusal, headers={"Allow": ", ".join(operations)})
    if call.request.method in {"POST", "PUT"}:
        ids["body"] = _body(call)
    return operation(call, **ids)


def _route(segments: list[str]) -> tuple[dict[str, Callable[..., FakeResponse]], dict[str, Any]]:
    """Find the operations of a path by method, and the ids in it; nothing for an unknown path."""
    for pattern, operations in _ROUTES.items():
        parts = pattern.split("/")[1:]
        if len(parts) == len(segments) and all(map(_fits, parts, segments)):
            pairs = zip(parts, segments, strict=True)
            return operations, {part[1:-1]: segment for part, segment in pairs if part.startswith("{")}
    return {}, {}


def _fits(part: str, segment: str) -> bool:
    return segment != "" if part.startswith("{") else part == segment


def _body(call: Call) -> object:
    """Decode the body of a write, which must say that it is JSON and be it."""
    content_type = call.request.headers.get("Content-Type", "").split(";")[0].strip().lower()
    if content_type != JSON:
        message = f"content type {content_type or 'none'} is not supported"
        # The v1 generation leaves this error to the older framework below it.
        raise HTTPError((goa_error if call.refuse is goa_error else legacy_error)(415, message))
    try:
        return call.request.json
    except ValueError:
        raise call.refused(400, "body is not valid JSON") from None


def _refusals(path: str) -> Callable[[int, str], FakeResponse]:
    return goa_error if is_iacm(path) else v1_error
