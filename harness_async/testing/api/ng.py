"""Projects, services and environments as ng manager lists them, and the services of v1."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness_async.testing.api.dialects import NG, NG_PAGE, V1
from harness_async.testing.api.filters import any_of, module, only, organization, search
from harness_async.testing.api.lists import Get, List
from harness_async.testing.data.table import Ordering, Row
from harness_async.testing.responses import Json

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness_async.testing.data.account import Account

_SORTS = {"name": "name", "identifier": "identifier", "createdAt": "created", "lastModifiedAt": "updated"}
_V1_SORTS = {"name": "name", "identifier": "identifier", "created": "created", "updated": "updated"}
_BY_CREATION = Ordering("created")
_BY_CHANGE = Ordering("updated")


def _project(_account: Account, row: Row) -> Json:
    """Return a project as ng manager does."""
    project = dict(row.wire["project"])
    return {
        "project": {"orgIdentifier": project.pop("org"), **project},
        "createdAt": row.wire["created"],
        "lastModifiedAt": row.wire["updated"],
        "isFavorite": row.wire["isFavorite"],
    }


def _ng_entity(wrapper: str) -> Callable[[Account, Row], Json]:
    """Return the function that wraps a service or an environment as ng manager does."""

    def render(_account: Account, row: Row) -> Json:
        entity = dict(row.wire)
        created, updated = entity.pop("created"), entity.pop("updated")
        scope = {
            "accountId": entity.pop("account"),
            "orgIdentifier": entity.pop("org"),
            "projectIdentifier": entity.pop("project"),
        }
        inner = {**scope, **entity, "deleted": False, "storeType": "INLINE"}
        return {wrapper: inner, "createdAt": created, "lastModifiedAt": updated}

    return render


def _v1_service(_account: Account, row: Row) -> Json:
    """Return a service as v1 does."""
    entity = dict(row.wire)
    created, updated = entity.pop("created"), entity.pop("updated")
    return {"service": {**entity, "harness_version": "0"}, "created": created, "updated": updated}


PROJECTS = List(
    "projects",
    NG,
    default=50,
    maximum=100,
    scope="account",
    filters=(
        organization("orgIdentifier", "project.org"),
        any_of("identifiers", "project.identifier"),
        search("searchTerm", "project.identifier", "project.name", tags="project.tags"),
        module("moduleType", "hasModule", "project.modules"),
        only("onlyFavorites", "isFavorite"),
    ),
    sorts={
        "name": "project.name",
        "identifier": "project.identifier",
        "createdAt": "created",
        "lastModifiedAt": "updated",
    },
    default_sort=_BY_CHANGE,
    render=_project,
)
SERVICES = List(
    "services",
    NG_PAGE,
    default=100,
    maximum=1000,
    scope="optional",
    filters=(
        search("searchTerm", "identifier", "name", tags="tags"),
        any_of("serviceIdentifiers", "identifier"),
    ),
    sorts=_SORTS,
    default_sort=_BY_CREATION,
    render=_ng_entity("service"),
)
SERVICE = Get("services", NG_PAGE, scope="optional", render=_ng_entity("service"))
ENVIRONMENTS = List(
    "environments",
    NG_PAGE,
    default=100,
    maximum=1000,
    scope="optional",
    filters=(
        search("searchTerm", "identifier", "name", tags="tags"),
        any_of("envIdentifiers", "identifier"),
    ),
    sorts=_SORTS,
    default_sort=_BY_CREATION,
    render=_ng_entity("environment"),
)
ENVIRONMENT = Get("environments", NG_PAGE, scope="optional", render=_ng_entity("environment"))
SERVICES_V1 = List(
    "services",
    V1,
    default=20,
    maximum=1000,
    filters=(
        search("search_term", "identifier", "name", tags="tags"),
        any_of("service_ids", "identifier"),
    ),
    sorts=_V1_SORTS,
    default_sort=_BY_CHANGE,
    render=_v1_service,
)
SERVICE_V1 = Get("services", V1, render=_v1_service)
