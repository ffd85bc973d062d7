"""Projects of an organization (v1 API; apidocs.harness.io, "Org Project")."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from attrs import field, frozen

from harness_async.errors import AuthenticationError, HarnessError, NotFoundError
from harness_async.http.endpoints import Endpoint
from harness_async.http.session import Session
from harness_async.pagination.chained import ChainedPager
from harness_async.pagination.dialects import DIALECTS
from harness_async.pagination.failed import IdentifierError
from harness_async.pagination.pager import ListEndpoint, Pager
from harness_async.pagination.source import LargestPage
from harness_async.resources.organizations import STABLE_ORDER, OrganizationsAPI, build_body
from harness_async.serialization.converters import register_model
from harness_async.serialization.model import Updated
from harness_async.types import ProjectRef
from harness_async.validation import as_str_tuple, check_order

_CREATE = Endpoint("POST", "/v1/orgs/{org}/projects", repeatable=False)
_GET = Endpoint("GET", "/v1/orgs/{org}/projects/{project}")
_UPDATE = Endpoint("PUT", "/v1/orgs/{org}/projects/{project}")
_DELETE = Endpoint("DELETE", "/v1/orgs/{org}/projects/{project}")


@frozen(kw_only=True)
class Project(Updated):
    """A project. Missing members are empty: "", an empty mapping or tuple, 0, False.

    Attributes:
        org: The organization; taken from the request where the server leaves it out.
        identifier: Its identifier.
        name: Its display name.
        color: Its color, such as `#0063f7`.
        modules: Modules in use, such as `CD`; the documented words are not all there are (`IACM` is missing).
        description: Its description.
        tags: Its tags; a tag without a value has the value "".
        created: Time of creation: milliseconds since 1970 UTC, as sent; 0 where it is missing.
        updated: Time of the last change: milliseconds since 1970 UTC, as sent; 0 where it is missing.
        is_favorite: Whether the user of the key marked it.
    """

    org: str = ""
    identifier: str
    name: str = ""
    color: str = ""
    modules: tuple[str, ...] = ()
    description: str = ""
    tags: Mapping[str, str] = field(factory=dict[str, str], hash=False)
    created: int = 0
    updated: int = 0
    is_favorite: bool = False

    @property
    def ref(self) -> ProjectRef:
        """The reference to the project in a bulk run."""
        return ProjectRef.unchecked(self.org, self.identifier)


register_model(
    Project,
    {
        **{
            name: f"project.{name}" for name in ("org", "identifier", "name", "color", "modules", "description", "tags")
        },
        "is_favorite": "isFavorite",  # the one camelCase name of this API
    },
)

_LIST = ListEndpoint(
    path="/v1/orgs/{org}/projects", cls=Project, ids=("identifier",), dialect=DIALECTS["v1_large"], created="created"
)


class ProjectsAPI:
    """The projects of the account. Safe for concurrent use by tasks of one loop."""

    def __init__(self, session: Session, organizations: OrganizationsAPI) -> None:
        self._session = session
        self._organizations = organizations
        self._largest_page = LargestPage()

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
            org: Identifier of the organization.
            project: Keep the project with this identifier, or with one of these.
            has_module: With `module_type`: keep projects that have the module, or those that do not.
            module_type: A module, such as `CD` or `IACM`.
            search_term: Free text.
            sort: A field: `name`, `identifier`, `created` or `updated`.
            order: `ASC` or `DESC`, in any case.
            limit: Page size, 1 to 1000. Only newer versions of the API accept more than 100.
        """
        params = {
            "project": as_str_tuple("project", project),
            "has_module": has_module,
            "module_type": module_type,
            "search_term": search_term,
            "sort": sort,
            "order": check_order(order),
        }
        return _LIST.open(self._session, params=params, limit=limit, org=org)

    def _list_stable(self, org: str) -> Pager[Project]:
        """List the projects of an organization in an order in which a walk can prove that it read all of them."""
        return _LIST.open(
            self._session, params=STABLE_ORDER, prefetch=1, stable_order=True, largest_page=self._largest_page, org=org
        )

    def list_all(self, *, orgs: Sequence[str] | None = None) -> Pager[Project]:
        """List the projects of every organization, or of these, one organization after the other.

        The v1 API takes one request for each thousand projects of an organization, and a few organizations are read at
        a time. The order is by creation, in which a walk can prove that it read all of them: `walk().report.guarantee`.
        `first` and `count` of this pager take one request for each organization they need.

        An organization that disappears meanwhile is skipped, and so is one whose identifier cannot stand in a path;
        any other failure is raised.
        """

        def skip(_org: str, error: HarnessError) -> bool:
            return orgs is None and isinstance(error, NotFoundError | IdentifierError)

        return self.walk_all(orgs, skip)

    def walk_all(self, orgs: Sequence[str] | None, skip: Callable[[str, HarnessError], bool]) -> Pager[Project]:
        """List the projects of every organization, except those whose failure `skip` accepts."""
        names = as_str_tuple("orgs", orgs)
        if names is not None:
            return ChainedPager(names, self._list_stable, skip)
        return ChainedPager(
            self._organizations.list_stable(),
            lambda org: self._list_stable(org.identifier),
            lambda org, error: skip(org.identifier, error),
        )

    def discover(self, unlisted: dict[str, HarnessError]) -> Pager[Project]:
        """List all projects for a bulk run. An organization that cannot be listed is added to `unlisted`."""

        def skip(org: str, error: HarnessError) -> bool:
            if isinstance(error, AuthenticationError):
                return False
            if not isinstance(error, NotFoundError):  # an organization that is gone has no projects
                unlisted[org] = error
            return True

        return self.walk_all(None, skip)

    async def get(self, org: str, project: str) -> Project:
        """Fetch one project.

        Raises:
            NotFoundError: The organization has no project with this identifier.
        """
        return await self._session.fetch(_GET, Project, context={"org": org}, org=org, project=project)

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

        The request is never sent twice. After an error with `ambiguous` set, check whether the project exists.

        Raises:
            ConflictError: The identifier is taken (some servers return `BadRequestError`).
        """
        body = build_body(identifier, name, color=color, modules=modules, description=description, tags=tags)
        return await self._session.fetch(_CREATE, Project, json={"project": body}, context={"org": org}, org=org)

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
        """Replace a project. Members that are left out are removed, so pass everything that should stay."""
        body = build_body(project, name, color=color, modules=modules, description=description, tags=tags)
        return await self._session.fetch(
            _UPDATE, Project, json={"project": body}, context={"org": org}, org=org, project=project
        )

    async def delete(self, org: str, project: str) -> Project | None:
        """Delete a project with everything in it, and return it as it was.

        None where the server returns nothing, or where a repeated request found it gone.
        """
        return await self._session.delete(_DELETE, Project, context={"org": org}, org=org, project=project)
