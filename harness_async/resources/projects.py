"""Projects: what an organization holds (v1 generation of the API; apidocs.harness.io, "Org Project")."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from operator import attrgetter

from attrs import evolve, field, frozen

from harness_async.bulk.models import ProjectRef
from harness_async.errors import HarnessError, NotFoundError
from harness_async.http.protocol import Endpoint, QueryValue, as_str_tuple, check_order, from_milliseconds
from harness_async.http.session import Session
from harness_async.pagination.chained import ChainPager
from harness_async.pagination.pager import ListPager, ListSpec, Pager, hashes_by
from harness_async.resources.organizations import OrganizationsAPI, make_body
from harness_async.serialization.converters import register_wrapped

_LIST = Endpoint("GET", "/v1/orgs/{org}/projects", first_page=0)
_CREATE = Endpoint("POST", "/v1/orgs/{org}/projects", repeatable=False)
_GET = Endpoint("GET", "/v1/orgs/{org}/projects/{project}")
_UPDATE = Endpoint("PUT", "/v1/orgs/{org}/projects/{project}")
_DELETE = Endpoint("DELETE", "/v1/orgs/{org}/projects/{project}")


@frozen(kw_only=True)
class Project:
    """A project. What the server leaves out is empty: "", an empty mapping or tuple, 0, False."""

    org: str = ""
    """The organization that holds it; filled in from the request where the server leaves it out."""

    identifier: str
    name: str = ""
    color: str = ""
    modules: tuple[str, ...] = ()
    """Modules in use, such as `CD`; the documented words are not all there are (`IACM` is missing)."""

    description: str = ""
    tags: Mapping[str, str] = field(factory=dict[str, str], hash=False)
    created: int = 0
    """Milliseconds since 1970 UTC, as sent."""

    updated: int = 0
    """Milliseconds since 1970 UTC, as sent."""

    is_favorite: bool = False

    @property
    def ref(self) -> ProjectRef:
        """What names it in a bulk run."""
        return ProjectRef(self.org, self.identifier)

    @property
    def created_at(self) -> datetime | None:
        """When it was created, in UTC; None where `created` fits no calendar."""
        return from_milliseconds(self.created)

    @property
    def updated_at(self) -> datetime | None:
        """When it was last changed, in UTC; None where `updated` fits no calendar."""
        return from_milliseconds(self.updated)


register_wrapped(Project, "project", {"created": "created", "updated": "updated", "isFavorite": "is_favorite"})


def _placed(org: str) -> Callable[[Project], Project]:
    """Make the filler of `org`, which the API does not promise to repeat."""
    return lambda project: project if project.org else evolve(project, org=org)


class ProjectsAPI:
    """The projects of the account. Safe for any number of tasks of one loop."""

    def __init__(self, session: Session, organizations: OrganizationsAPI) -> None:
        self._session = session
        self._organizations = organizations

    def list(
        self,
        org: str,
        *,
        project: str | Sequence[str] | None = None,
        has_module: bool | None = None,
        module_type: str | None = None,
        search_term: str | None = None,
        sort: str | None = None,
        order: str | None = None,
        limit: int = 100,
    ) -> Pager[Project]:
        """List the projects of one organization, page by page.

        Args:
            org: The organization.
            project: Keep these identifiers: one, or several.
            has_module: With `module_type`: keep projects that have the module, or that lack it.
            module_type: A module, such as `CD` or `IACM`.
            search_term: Free text.
            sort: A field: `name`, `identifier`, `created` or `updated`.
            order: `ASC` or `DESC`, in any case.
            limit: Page size, 1 to 100.
        """
        return self._list(
            org,
            {
                "project": as_str_tuple("project", project),
                "has_module": has_module,
                "module_type": module_type,
                "search_term": search_term,
                "sort": sort,
                "order": check_order(order),
            },
            limit,
        )

    def _list(self, org: str, params: Mapping[str, QueryValue], limit: int = 100, prefetch: int = 0) -> Pager[Project]:
        source = self._session.source(_LIST, Project, params, finish=_placed(org), org=org)
        hashes = hashes_by(attrgetter("identifier"))
        return ListPager(ListSpec(source=source, hashes=hashes, limit=limit, prefetch=prefetch))

    def list_all(self, *, orgs: Sequence[str] | None = None) -> Pager[Project]:
        """List the projects of every organization, or of these, one organization after the other.

        A few organizations are asked at a time. One that disappears meanwhile is passed over; any other failure is
        raised. `first` and `count` of this pager take a request for each organization they need.
        """
        return self.walk_all(orgs, lambda _org, error: isinstance(error, NotFoundError) and orgs is None)

    def walk_all(self, orgs: Sequence[str] | None, skip: Callable[[str, HarnessError], bool]) -> Pager[Project]:
        """List the projects of every organization, leaving out those whose failure `skip` accepts."""
        names = as_str_tuple("orgs", orgs)
        if names is not None:
            return ChainPager(names, lambda org: self._list(org, {}, prefetch=1), skip)
        return ChainPager(
            self._organizations.list(),
            lambda org: self._list(org.identifier, {}, prefetch=1),
            lambda org, error: skip(org.identifier, error),
        )

    async def get(self, org: str, project: str) -> Project:
        """Fetch one project; `NotFoundError` if the organization has none of that identifier."""
        return _placed(org)(await self._session.fetch(_GET, Project, org=org, project=project))

    async def create(
        self,
        org: str,
        identifier: str,
        name: str,
        *,
        color: str | None = None,
        modules: Sequence[str] | None = None,
        description: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> Project:
        """Create a project.

        Never sent twice: after a failure with `ambiguous` set, look whether it is there.

        Raises:
            ConflictError: The identifier is taken (some servers say `BadRequestError`).
        """
        body = make_body(identifier, name, color=color, modules=modules, description=description, tags=tags)
        made = await self._session.fetch(_CREATE, Project, json={"project": body}, org=org)
        return _placed(org)(made)

    async def update(
        self,
        org: str,
        project: str,
        *,
        name: str,
        color: str | None = None,
        modules: Sequence[str] | None = None,
        description: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> Project:
        """Replace a project: what is left out here is removed there, so pass all that is to stay."""
        body = make_body(project, name, color=color, modules=modules, description=description, tags=tags)
        made = await self._session.fetch(_UPDATE, Project, json={"project": body}, org=org, project=project)
        return _placed(org)(made)

    async def delete(self, org: str, project: str) -> Project | None:
        """Delete a project and all in it, and return what it was.

        None where the server does not tell, or where a repeated request found it gone.
        """
        gone = await self._session.delete(_DELETE, Project, org=org, project=project)
        return None if gone is None else _placed(org)(gone)
