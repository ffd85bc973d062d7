"""Organizations: the top level of an account (v1 API; apidocs.harness.io, "Organization")."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import field, frozen

from harness_async.http.endpoints import Endpoint
from harness_async.http.session import Session
from harness_async.pagination.dialects import DIALECTS
from harness_async.pagination.pager import ListEndpoint, Pager
from harness_async.pagination.source import LargestPage
from harness_async.serialization.converters import register_model
from harness_async.serialization.model import Updated
from harness_async.validation import as_str_tuple, check_identifier, check_order, check_text

_CREATE = Endpoint("POST", "/v1/orgs", repeatable=False)
_GET = Endpoint("GET", "/v1/orgs/{org}")
_UPDATE = Endpoint("PUT", "/v1/orgs/{org}")
_DELETE = Endpoint("DELETE", "/v1/orgs/{org}")


@frozen(kw_only=True)
class Organization(Updated):
    """An organization. Missing members are empty: "", an empty mapping, 0, False.

    Attributes:
        identifier: Its identifier.
        name: Its display name.
        description: Its description.
        tags: Its tags; a tag without a value has the value "".
        created: Time of creation: milliseconds since 1970 UTC, as sent; 0 where it is missing.
        updated: Time of the last change: milliseconds since 1970 UTC, as sent; 0 where it is missing.
        harness_managed: Whether Harness created it.
    """

    identifier: str
    name: str = ""
    description: str = ""
    tags: Mapping[str, str] = field(factory=dict[str, str], hash=False)
    created: int = 0
    updated: int = 0
    harness_managed: bool = False


register_model(Organization, {name: f"org.{name}" for name in ("identifier", "name", "description", "tags")})

_LIST = ListEndpoint(
    path="/v1/orgs", cls=Organization, ids=("identifier",), dialect=DIALECTS["v1_large"], created="created"
)

STABLE_ORDER = {"sort": "created", "order": "ASC"}
"""New rows come last, and changes move no row. The default of the API is by last change, descending."""


def build_body(identifier: str, name: str, **members: object) -> dict[str, Any]:
    """Build the inner object of a create or update. Members that are None are left out."""
    body = {
        "identifier": check_identifier("identifier", identifier),
        "name": check_text("name", name),
        **members,
    }
    return {member: value for member, value in body.items() if value is not None}


class OrganizationsAPI:
    """The organizations of the account. Safe for concurrent use by tasks of one loop."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._largest_page = LargestPage()

    def list(
        self,
        *,
        org: str | Sequence[str] | None = None,
        search_term: str | None = None,
        sort: str | None = None,
        order: str | None = None,
        limit: int = 100,
    ) -> Pager[Organization]:
        """List organizations, page by page.

        Args:
            org: Keep the organization with this identifier, or with one of these.
            search_term: Free text.
            sort: A field: `name`, `identifier`, `created` or `updated`.
            order: `ASC` or `DESC`, in any case.
            limit: Page size, 1 to 1000. Only newer versions of the API accept more than 100.
        """
        params = {
            "org": as_str_tuple("org", org),
            "search_term": search_term,
            "sort": sort,
            "order": check_order(order),
        }
        return _LIST.open(self._session, params=params, limit=limit)

    def list_stable(self) -> Pager[Organization]:
        """List all organizations in an order in which a walk can prove that it read all of them."""
        return _LIST.open(self._session, params=STABLE_ORDER, stable_order=True, largest_page=self._largest_page)

    async def get(self, org: str) -> Organization:
        """Fetch one organization.

        Raises:
            NotFoundError: There is no organization with this identifier.
        """
        return await self._session.fetch(_GET, Organization, org=org)

    async def create(
        self,
        identifier: str,
        name: str,
        *,
        description: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> Organization:
        """Create an organization.

        The request is never sent twice. After an error with `ambiguous` set, check whether the organization exists.

        Raises:
            ConflictError: The identifier is taken (some servers return `BadRequestError`).
        """
        body = build_body(identifier, name, description=description, tags=tags)
        return await self._session.fetch(_CREATE, Organization, json={"org": body})

    async def update(
        self, org: str, *, name: str, description: str | None = None, tags: Mapping[str, str] | None = None
    ) -> Organization:
        """Replace an organization. Members that are left out are removed, so pass everything that should stay."""
        body = build_body(org, name, description=description, tags=tags)
        return await self._session.fetch(_UPDATE, Organization, json={"org": body}, org=org)

    async def delete(self, org: str) -> Organization | None:
        """Delete an organization with everything in it, and return it as it was.

        None where the server returns nothing, or where a repeated request found it gone.
        """
        return await self._session.delete(_DELETE, Organization, org=org)
