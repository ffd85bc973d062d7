"""Organizations and projects as v1 serves them: enveloped bodies, pages from 0, full replacement."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from harness_async.testing.lists import Call, Query, build_page, v1_headers
from harness_async.testing.responses import FakeResponse, HTTPError, encode_json, legacy_error, v1_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness_async.testing.responses import Json

_LIST = ("page", "limit", "search_term", "sort", "order")
_SORTS = ("name", "identifier", "created", "updated")
_ORDERS = ("ASC", "DESC", "asc", "desc")
_IDENTIFIER = re.compile(r"[a-zA-Z_][0-9a-zA-Z_$]{0,127}")
_NAME = re.compile(r"[a-zA-Z_][0-9a-zA-Z_ -]{0,127}")
_MAX_DESCRIPTION = 1024
_MAX_TAGS = 128
_MAX_MODULES = 1024


def list_organizations(call: Call) -> FakeResponse:
    """Return a page of the account's organizations."""
    query = Query(call, _LIST, repeated=("org",))
    wanted = query.texts("org")
    objects = call.account.organizations
    return _list(call, query, "org", lambda: [o for i, o in objects.items() if not wanted or i in wanted])


def list_projects(call: Call, org: str) -> FakeResponse:
    """Return a page of an organization's projects; refused when the whole organization is denied."""
    status = call.account.denied.get((org, None))
    if status is not None:
        raise HTTPError(legacy_error(status, "Missing permission"))
    _organization(call, org)
    query = Query(call, (*_LIST, "has_module", "module_type", "only_favorites"), repeated=("project",))
    wanted = query.texts("project")
    module = query.text("module_type")
    has_module = query.choice("has_module", ("true", "false")) != "false"
    favorites = query.choice("only_favorites", ("true", "false")) == "true"

    def keep(identifier: str, wire: Json) -> bool:
        return (
            (not wanted or identifier in wanted)
            and (module is None or (module in wire["project"]["modules"]) == has_module)
            and (not favorites or wire["isFavorite"])
        )

    objects = call.account.project_objects
    return _list(call, query, "project", lambda: [p for (o, i), p in objects.items() if o == org and keep(i, p)])


def show_organization(call: Call, org: str) -> FakeResponse:
    """Return one organization."""
    Query(call, ())
    return FakeResponse(200, encode_json(_organization(call, org)))


def show_project(call: Call, org: str, project: str) -> FakeResponse:
    """Return one project."""
    Query(call, ())
    return FakeResponse(200, encode_json(_project(call, org, project)))


def create_organization(call: Call, body: object) -> FakeResponse:
    """Store a new organization and answer it with 201."""
    Query(call, ())
    fields = _checked(body, "org", {"identifier", "name", "description", "tags"})
    if fields["identifier"] in call.account.organizations:
        raise HTTPError(legacy_error(409, f"Organization with identifier {fields['identifier']} already exists"))
    return FakeResponse(201, encode_json(call.account.add_organization(**fields, harness_managed=False)))


def create_project(call: Call, org: str, body: object) -> FakeResponse:
    """Store a new project and answer it with 201."""
    Query(call, ())
    _organization(call, org)
    fields = _project_fields(org, body)
    if (org, fields["identifier"]) in call.account.project_objects:
        raise HTTPError(legacy_error(409, f"Project with identifier {fields['identifier']} already exists"))
    return FakeResponse(201, encode_json(call.account.add_project(org, fields.pop("identifier"), **fields)))


def replace_organization(call: Call, org: str, body: object) -> FakeResponse:
    """Replace an organization: fields left out are lost, the time of creation is kept."""
    Query(call, ())
    before = _organization(call, org)
    fields = _checked(body, "org", {"identifier", "name", "description", "tags"}, identifier=org)
    kept = {"created": before["created"], "harness_managed": before["harness_managed"]}
    return FakeResponse(200, encode_json(call.account.add_organization(**fields, **kept, updated=call.account.now())))


def replace_project(call: Call, org: str, project: str, body: object) -> FakeResponse:
    """Replace a project: fields left out are lost, its executions and the time of creation are kept."""
    Query(call, ())
    before = _project(call, org, project)
    fields = _project_fields(org, body, identifier=project)
    del fields["identifier"]
    kept = {"created": before["created"], "isFavorite": before["isFavorite"]}
    return FakeResponse(
        200, encode_json(call.account.add_project(org, project, **fields, **kept, updated=call.account.now()))
    )


def delete_organization(call: Call, org: str) -> FakeResponse:
    """Delete an organization with everything in it, and answer what it was."""
    Query(call, ())
    before = _organization(call, org)
    call.account.remove_organization(org)
    return FakeResponse(200, encode_json(before))


def delete_project(call: Call, org: str, project: str) -> FakeResponse:
    """Delete a project with its executions, and answer what it was."""
    Query(call, ())
    before = _project(call, org, project)
    call.account.remove_project(org, project)
    return FakeResponse(200, encode_json(before))


def _organization(call: Call, org: str) -> Json:
    found = call.account.organizations.get(org)
    if found is None:
        raise call.refused(404, f"Organization with identifier {org} not found")
    return found


def _project(call: Call, org: str, project: str) -> Json:
    _organization(call, org)
    found = call.account.project_objects.get((org, project))
    if found is None:
        raise call.refused(404, f"Project with identifier {project} not found")
    return found


def _list(call: Call, query: Query, member: str, objects: Callable[[], list[Json]]) -> FakeResponse:
    """Return a page of enveloped objects, searched and sorted as the query asks."""
    page = query.page(first=0)
    term = (query.text("search_term") or "").lower()
    sort = query.choice("sort", _SORTS)
    order = query.choice("order", _ORDERS)

    def found() -> list[Json]:
        kept = [wire for wire in objects() if term in _searched(wire[member])]
        if sort is not None:
            kept.sort(key=lambda wire: wire[sort] if sort in wire else wire[member][sort])
        # Sorted lists go down unless told otherwise, as the documentation has it; others keep creation order.
        descending = order is not None and order.upper() == "DESC"
        return kept[::-1] if descending or (order is None and sort is not None) else kept

    total = len(found())
    headers = {} if call.account.totals == "none" else v1_headers(page, total)
    return build_page(call, page, total, lambda start, stop: found()[start:stop], headers)


def _searched(entity: Json) -> str:
    """Join what a search term is looked for in: identifier, name and tags."""
    tags: dict[str, str] = entity.get("tags", {})
    return "\n".join([entity["identifier"], entity["name"], *tags, *tags.values()]).lower()


def _project_fields(org: str, body: object, identifier: str | None = None) -> dict[str, Any]:
    known = {"identifier", "name", "description", "tags", "color", "modules", "org"}
    fields = _checked(body, "project", known, identifier)
    # Whoever sends back what was fetched sends `org` as well; it must not move the project.
    if fields.pop("org", org) != org:
        raise HTTPError(v1_error(400, "Invalid request", {"org": "does not match the path"}))
    return fields


def _checked(body: object, member: str, known: set[str], identifier: str | None = None) -> dict[str, Any]:
    """Take the object out of its envelope; refuse it with one message per wrong field."""
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
    """Say whether a field holds what the API declares for it."""
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
