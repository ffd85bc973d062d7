"""Organizations and projects in v1: enveloped bodies, pages from 0, replacement of whole objects."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from harness_async.testing.api.call import Call, ok
from harness_async.testing.api.dialects import V1
from harness_async.testing.api.filters import any_of, module, only, search
from harness_async.testing.api.lists import List
from harness_async.testing.api.query import Query
from harness_async.testing.data.table import NUMBER, Ordering
from harness_async.testing.responses import FakeResponse, HTTPError, legacy_error, v1_error

if TYPE_CHECKING:
    from harness_async.testing.responses import Json

_IDENTIFIER = re.compile(r"[a-zA-Z_][0-9a-zA-Z_$]{0,127}")
_NAME = re.compile(r"[a-zA-Z_][0-9a-zA-Z_ -]{0,127}")
_MAX_DESCRIPTION = 1024
_MAX_TAGS = 128
_MAX_MODULES = 1024

_IN_ORDER_OF_ADDITION = Ordering(NUMBER, descending=False)


def _sorts(wrapper: str) -> dict[str, str]:
    return {
        "name": f"{wrapper}.name",
        "identifier": f"{wrapper}.identifier",
        "created": "created",
        "updated": "updated",
    }


ORGANIZATIONS = List(
    "organizations",
    V1,
    default=30,
    maximum=1000,
    scope="account",
    filters=(
        any_of("org", "org.identifier"),
        search("search_term", "org.identifier", "org.name", tags="org.tags"),
    ),
    sorts=_sorts("org"),
    default_sort=_IN_ORDER_OF_ADDITION,
)
PROJECTS = List(
    "projects",
    V1,
    default=30,
    maximum=1000,
    scope="organization",
    filters=(
        any_of("project", "project.identifier"),
        search("search_term", "project.identifier", "project.name", tags="project.tags"),
        module("module_type", "has_module", "project.modules"),
        only("only_favorites", "isFavorite"),
    ),
    sorts=_sorts("project"),
    default_sort=_IN_ORDER_OF_ADDITION,
)


def get_organization(call: Call, org: str) -> FakeResponse:
    """Return an organization."""
    Query(call, ())
    return ok(_organization(call, org))


def get_project(call: Call, org: str, project: str) -> FakeResponse:
    """Return a project."""
    Query(call, ())
    return ok(_project(call, org, project))


def create_organization(call: Call) -> FakeResponse:
    """Store a new organization and return it with status 201."""
    Query(call, ())
    fields = _checked(call.json(), "org", {"identifier", "name", "description", "tags"})
    taken = call.account.spelling(fields["identifier"])
    if call.account.table("organizations").get(taken) is not None:
        raise HTTPError(legacy_error(409, f"Organization with identifier {fields['identifier']} already exists"))
    return ok(call.account.add_organization(**fields, harness_managed=False), 201)


def create_project(call: Call, org: str) -> FakeResponse:
    """Store a new project and return it with status 201."""
    Query(call, ())
    org = _organization(call, org)["org"]["identifier"]
    fields = _project_fields(org, call.json())
    taken = call.account.spelling(org, fields["identifier"])
    if call.account.table("projects").get(taken) is not None:
        raise HTTPError(legacy_error(409, f"Project with identifier {fields['identifier']} already exists"))
    return ok(call.account.add_project(org, fields.pop("identifier"), **fields), 201)


def replace_organization(call: Call, org: str) -> FakeResponse:
    """Replace an organization. Omitted fields are lost, the time of creation stays."""
    Query(call, ())
    old = _organization(call, org)
    fields = _checked(
        call.json(), "org", {"identifier", "name", "description", "tags"}, identifier=old["org"]["identifier"]
    )
    kept = {"created": old["created"], "harness_managed": old["harness_managed"]}
    return ok(call.account.add_organization(**fields, **kept, updated=call.account.now()))


def replace_project(call: Call, org: str, project: str) -> FakeResponse:
    """Replace a project. Omitted fields are lost, its rows and the time of creation stay."""
    Query(call, ())
    old = _project(call, org, project)
    org, project = old["project"]["org"], old["project"]["identifier"]
    fields = _project_fields(org, call.json(), identifier=project)
    del fields["identifier"]
    kept = {"created": old["created"], "isFavorite": old["isFavorite"]}
    return ok(call.account.add_project(org, project, **fields, **kept, updated=call.account.now()))


def delete_organization(call: Call, org: str) -> FakeResponse:
    """Delete an organization with everything in it, and return it."""
    Query(call, ())
    old = _organization(call, org)
    call.account.remove("organizations", old)
    return ok(old)


def delete_project(call: Call, org: str, project: str) -> FakeResponse:
    """Delete a project with its rows, and return it."""
    Query(call, ())
    old = _project(call, org, project)
    call.account.remove("projects", old)
    return ok(old)


def _organization(call: Call, org: str) -> Json:
    row = call.account.table("organizations").get(call.account.spelling(org))
    if row is None:
        raise call.not_found(f"Organization with identifier {org} not found")
    return row.wire


def _project(call: Call, org: str, project: str) -> Json:
    _organization(call, org)
    row = call.account.table("projects").get(call.account.spelling(org, project))
    if row is None:
        raise call.not_found(f"Project with identifier {project} not found")
    return row.wire


def _project_fields(org: str, body: object, identifier: str | None = None) -> dict[str, Any]:
    known = {"identifier", "name", "description", "tags", "color", "modules", "org"}
    fields = _checked(body, "project", known, identifier)
    # A client that sends back a fetched project sends `org` too. It must not move the project.
    if fields.pop("org", org) != org:
        raise HTTPError(v1_error(400, "Invalid request", {"org": "does not match the path"}))
    return fields


def _checked(body: object, member: str, known: set[str], identifier: str | None = None) -> dict[str, Any]:
    """Return the object in the envelope of a body. Reject it with one message per invalid field."""
    fields = body.get(member) if isinstance(body, dict) else None
    if not isinstance(fields, dict):
        raise HTTPError(v1_error(400, "Invalid request", {member: "must be an object"}))
    fields = {name: value for name, value in fields.items() if value is not None}
    wrong = dict.fromkeys(sorted(fields.keys() - known), "is not known")
    for name in ("identifier", "name"):
        wrong |= {name: "must not be empty"} if name not in fields else {}
    for name in fields.keys() & known:
        if not _fits(name, fields[name]):
            wrong[name] = "is malformed or too long"
    if identifier is not None and fields.get("identifier") != identifier:
        wrong["identifier"] = "does not match the path"
    if wrong:
        raise HTTPError(v1_error(400, "Invalid request", wrong))
    return fields


def _fits(name: str, value: object) -> bool:
    """Return whether a field has the type and length that the API declares."""
    match name:
        case "identifier":
            return isinstance(value, str) and _IDENTIFIER.fullmatch(value) is not None
        case "name":
            return isinstance(value, str) and _NAME.fullmatch(value) is not None
        case "description":
            return isinstance(value, str) and len(value) <= _MAX_DESCRIPTION
        case "tags":
            return (
                isinstance(value, dict)
                and len(value) <= _MAX_TAGS
                and all(isinstance(text, str) for text in value.values())
            )
        case "modules":
            return (
                isinstance(value, list) and len(value) <= _MAX_MODULES and all(isinstance(text, str) for text in value)
            )
        case _:
            return isinstance(value, str)
