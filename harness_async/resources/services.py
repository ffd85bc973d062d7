"""Services of a project (NextGen API; apidocs.harness.io, "Services")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Unpack

from attrs import field, frozen

from harness_async.bulk.factory import BulkFactory, BulkOptions
from harness_async.bulk.run import BulkRun
from harness_async.http.endpoints import Endpoint
from harness_async.http.session import Session
from harness_async.pagination.dialects import DIALECTS
from harness_async.pagination.pager import ListEndpoint, Pager, scope_params
from harness_async.pagination.source import LargestPage
from harness_async.serialization.converters import register_model
from harness_async.serialization.model import Updated, field_names, parse_tags
from harness_async.types import Projects

_GET = Endpoint("GET", "/ng/api/servicesV2/{service}")


@frozen(kw_only=True)
class Service(Updated):
    """A service. Missing members are empty.

    Attributes:
        org: Identifier of the organization.
        project: Identifier of the project.
        identifier: Its identifier.
        name: Its display name.
        description: Its description.
        tags: Its tags; a tag without a value has the value "".
        yaml: Its YAML, as stored.
        created: Time of creation: milliseconds since 1970 UTC, as sent; 0 where it is missing.
        updated: Time of the last change: milliseconds since 1970 UTC, as sent; 0 where it is missing.
    """

    org: str
    project: str
    identifier: str
    name: str = ""
    description: str = ""
    tags: Mapping[str, str] = field(factory=dict[str, str], hash=False)
    yaml: str = ""
    created: int = 0
    updated: int = 0


ENTITY = {"org": "orgIdentifier", "project": "projectIdentifier"}
TIMES = {"created": "createdAt", "updated": "lastModifiedAt"}

_PATHS = {name: f"service.{ENTITY.get(name, name)}" for name in field_names(Service)}
register_model(Service, _PATHS | TIMES, {"tags": parse_tags})

_LIST = ListEndpoint(
    path="/ng/api/servicesV2", cls=Service, ids=("identifier",), dialect=DIALECTS["ng_page"], created="created"
)

BY_CREATION = {"sort": "createdAt,ASC"}
"""New rows come last, and changes move no row."""


class ServicesAPI:
    """The services of the account's projects. Safe for concurrent use by tasks of one loop."""

    def __init__(self, session: Session, runs: BulkFactory) -> None:
        self._session = session
        self._runs = runs
        self._largest_page = LargestPage()

    def list(self, org: str, project: str, *, search_term: str | None = None, limit: int = 100) -> Pager[Service]:
        """List the services of one project, the newest first.

        Args:
            org: Identifier of the organization.
            project: Identifier of the project.
            search_term: Free text.
            limit: Page size, 1 to 1000.
        """
        return _LIST.open(self._session, params={"searchTerm": search_term}, limit=limit, org=org, project=project)

    def bulk(
        self, projects: Projects | None = None, *, search_term: str | None = None, **options: Unpack[BulkOptions]
    ) -> BulkRun[Service]:
        """Fetch the services of many projects concurrently, the oldest first; see `executions.bulk`."""
        return self._runs.bulk(
            lambda ref, _end: _LIST.open(
                self._session,
                params={"searchTerm": search_term, **BY_CREATION},
                stable_order=True,
                largest_page=self._largest_page,
                org=ref.org,
                project=ref.project,
            ),
            projects,
            filters={"resource": "services", "search_term": search_term},
            **options,
        )

    async def get(self, org: str, project: str, service: str) -> Service:
        """Fetch one service.

        Raises:
            NotFoundError: The project has no service with this identifier.
        """
        context = {"org": org, "project": project}
        return await self._session.fetch(
            _GET, Service, params=scope_params(self._session, context), context=context, root="data", service=service
        )
