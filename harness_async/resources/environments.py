"""Environments of a project (NextGen API; apidocs.harness.io, "Environments")."""

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
from harness_async.resources.services import BY_CREATION, ENTITY, TIMES
from harness_async.serialization.converters import OpenEnum, register_model
from harness_async.serialization.model import Updated, field_names, parse_tags
from harness_async.types import Projects

_GET = Endpoint("GET", "/ng/api/environmentsV2/{environment}")


class EnvironmentType(OpenEnum):
    """The type of an environment. An open enum."""

    PRODUCTION = "Production"
    PRE_PRODUCTION = "PreProduction"


_NO_TYPE = EnvironmentType("")


@frozen(kw_only=True)
class Environment(Updated):
    """An environment. Missing members are empty.

    Attributes:
        org: Identifier of the organization.
        project: Identifier of the project.
        identifier: Its identifier.
        name: Its display name.
        type: `PreProduction` or `Production`.
        description: Its description.
        color: Its color, such as `#0063f7`.
        tags: Its tags; a tag without a value has the value "".
        yaml: Its YAML, as stored.
        created: Time of creation: milliseconds since 1970 UTC, as sent; 0 where it is missing.
        updated: Time of the last change: milliseconds since 1970 UTC, as sent; 0 where it is missing.
    """

    org: str
    project: str
    identifier: str
    name: str = ""
    type: EnvironmentType = _NO_TYPE
    description: str = ""
    color: str = ""
    tags: Mapping[str, str] = field(factory=dict[str, str], hash=False)
    yaml: str = ""
    created: int = 0
    updated: int = 0


_PATHS = {name: f"environment.{ENTITY.get(name, name)}" for name in field_names(Environment)}
register_model(Environment, _PATHS | TIMES, {"tags": parse_tags})

_LIST = ListEndpoint(
    path="/ng/api/environmentsV2", cls=Environment, ids=("identifier",), dialect=DIALECTS["ng_page"], created="created"
)


class EnvironmentsAPI:
    """The environments of the account's projects. Safe for concurrent use by tasks of one loop."""

    def __init__(self, session: Session, runs: BulkFactory) -> None:
        self._session = session
        self._runs = runs
        self._largest_page = LargestPage()

    def list(self, org: str, project: str, *, search_term: str | None = None, limit: int = 100) -> Pager[Environment]:
        """List the environments of one project, the newest first.

        Args:
            org: Identifier of the organization.
            project: Identifier of the project.
            search_term: Free text.
            limit: Page size, 1 to 1000.
        """
        return _LIST.open(self._session, params={"searchTerm": search_term}, limit=limit, org=org, project=project)

    def bulk(
        self, projects: Projects | None = None, *, search_term: str | None = None, **options: Unpack[BulkOptions]
    ) -> BulkRun[Environment]:
        """Fetch the environments of many projects concurrently, the oldest first; see `executions.bulk`."""
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
            filters={"resource": "environments", "search_term": search_term},
            **options,
        )

    async def get(self, org: str, project: str, environment: str) -> Environment:
        """Fetch one environment.

        Raises:
            NotFoundError: The project has no environment with this identifier.
        """
        context = {"org": org, "project": project}
        params = scope_params(self._session, context)
        return await self._session.fetch(
            _GET, Environment, params=params, context=context, root="data", environment=environment
        )
