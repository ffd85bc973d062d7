"""Organizations: the top of an account's tree (v1 generation of the API; apidocs.harness.io, "Organization")."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any

from attrs import field, frozen

from harness_async.http.protocol import (
    Endpoint,
    as_str_tuple,
    check_identifier,
    check_order,
    check_text,
    from_milliseconds,
)
from harness_async.http.session import Session
from harness_async.pagination.pager import ListPager, ListSpec, Pager, hashes_by
from harness_async.serialization.converters import register_wrapped

_LIST = Endpoint("GET", "/v1/orgs", first_page=0)
_CREATE = Endpoint("POST", "/v1/orgs", repeatable=False)
_GET = Endpoint("GET", "/v1/orgs/{org}")
_UPDATE = Endpoint("PUT", "/v1/orgs/{org}")
_DELETE = Endpoint("DELETE", "/v1/orgs/{org}")


@frozen(kw_only=True)
class Organization:
    """An organization. What the server leaves out is empty: "", an empty mapping, 0, False."""

    identifier: str
    name: str = ""
    description: str = ""
    tags: Mapping[str, str] = field(factory=dict[str, str], hash=False)
    created: int = 0
    """Milliseconds since 1970 UTC, as sent."""

    updated: int = 0
    """Milliseconds since 1970 UTC, as sent."""

    harness_managed: bool = False

    @property
    def created_at(self) -> datetime | None:
        """When it was created, in UTC; None where `created` fits no calendar."""
        return from_milliseconds(self.created)

    @property
    def updated_at(self) -> datetime | None:
        """When it was last changed, in UTC; None where `updated` fits no calendar."""
        return from_milliseconds(self.updated)


register_wrapped(Organization, "org", {name: name for name in ("created", "updated", "harness_managed")})


def make_body(identifier: str, name: str, **members: object) -> dict[str, Any]:
    """Make the inner object of a create or update: members that are None are left out."""
    body = {
        "identifier": check_identifier("identifier", identifier),
        "name": check_text("name", name),
        **members,
    }
    return {member: value for member, value in body.items() if value is not None}


class OrganizationsAPI:
    """The organizations of the account. Safe for any number of tasks of one loop."""

    def __init__(self, session: Session) -> None:
        self._session = session

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
            org: Keep these identifiers: one, or several.
            search_term: Free text.
            sort: A field: `name`, `identifier`, `created` or `updated`.
            order: `ASC` or `DESC`, in any case.
            limit: Page size, 1 to 100.
        """
        params = {
            "org": as_str_tuple("org", org),
            "search_term": search_term,
            "sort": sort,
            "order": check_order(order),
        }
        source = self._session.source(_LIST, Organization, params)
        return ListPager(ListSpec(source=source, hashes=hashes_by(attrgetter("identifier")), limit=limit))

    async def get(self, org: str) -> Organization:
        """Fetch one organization; `NotFoundError` if there is none of that identifier."""
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

        Never sent twice: after a failure with `ambiguous` set, look whether it is there.

        Raises:
            ConflictError: The identifier is taken (some servers say `BadRequestError`).
        """
        body = make_body(identifier, name, description=description, tags=tags)
        return await self._session.fetch(_CREATE, Organization, json={"org": body})

    async def update(
        self, org: str, *, name: str, description: str | None = None, tags: Mapping[str, str] | None = None
    ) -> Organization:
        """Replace an organization: what is left out here is removed there, so pass all that is to stay."""
        body = make_body(org, name, description=description, tags=tags)
        return await self._session.fetch(_UPDATE, Organization, json={"org": body}, org=org)

    async def delete(self, org: str) -> Organization | None:
        """Delete an organization and all in it, and return what it was.

        None where the server does not tell, or where a repeated request found it gone.
        """
        return await self._session.delete(_DELETE, Organization, org=org)
