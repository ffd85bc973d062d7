"""Lists and single rows of any collection, described as data and served strictly.

A `List` names a collection and a dialect, and what is particular to it:

    List(
        "approvals",
        IACM,
        default=30,
        maximum=100,
        filters=(equal("workspace", "workspace_id"), equal("status_type", "status")),
    )

Everything else is common to all lists: unknown parameters and malformed numbers are rejected, as are sizes
above the maximum; denied projects, the order, totals, clipped pages and the response past the end follow the
options of the account.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import attrs

from harness_async.testing.api.call import Call, enveloped, ok
from harness_async.testing.api.dialects import V1, Dialect, Page
from harness_async.testing.api.filters import Filter, Test, is_equal
from harness_async.testing.api.query import MAX_INTEGER, Query
from harness_async.testing.data.collection import COLLECTIONS, CollectionName
from harness_async.testing.data.table import Ordering, Row, Table, View
from harness_async.testing.responses import FakeResponse, encode_json

if TYPE_CHECKING:
    from harness_async.testing.data.account import Account, OverLimit

Scope = Literal["account", "organization", "project", "optional"]
"""What owns the rows of a list. "optional": account, organization or project, as the query says."""
BodyFilter = Callable[[Query, Any], list[Test]]
"""Derives tests of rows from the decoded body of a POST, None if there is no body."""
Render = Callable[["Account", Row], object]
"""Builds the wire form of a stored row."""

_SCOPE_NAMES: Mapping[Scope, tuple[str, ...]] = {
    "account": ("accountIdentifier",),
    "organization": ("accountIdentifier", "orgIdentifier"),
    "project": ("accountIdentifier", "orgIdentifier", "projectIdentifier"),
    "optional": ("accountIdentifier", "orgIdentifier", "projectIdentifier"),
}


def as_stored(_account: Account, row: Row) -> object:
    """Return a row as it is stored."""
    return row.wire


@attrs.frozen(eq=False, kw_only=True)
class List:
    """A list operation."""

    collection: CollectionName = attrs.field(kw_only=False)
    dialect: Dialect = attrs.field(kw_only=False)
    default: int
    """The default page size."""
    maximum: int | None
    """The maximum page size, None if there is none."""
    scope: Scope = "project"
    filters: tuple[Filter, ...] = ()
    path: Mapping[str, str] = attrs.field(factory=dict)
    """The identifiers in the path, other than the scope, that filter, and the members they are compared with."""
    parameters: tuple[str, ...] = ()
    """Further parameters, which `body` reads."""
    body: BodyFilter | None = None
    """Filters by the body, for a list that is read with POST."""
    sorts: Mapping[str, str] = attrs.field(factory=dict)
    """The members by which a request may sort, and what they are called in stored rows."""
    default_sort: Ordering | None = None
    """The documented order, None if it is undocumented."""
    render: Render = as_stored
    ceiling: bool = False
    """Whether rows behind the ceiling of the account are out of reach."""

    def __call__(self, call: Call, **ids: str) -> FakeResponse:
        """Return a page."""
        account = call.account
        query = self._query(call)
        table, org = resolve(self, call, query, ids)
        page = self._page(call, query)
        view = self._view(call, query, org, ids)
        total = table.count(view)
        if account.between_count_and_rows is not None:
            account.between_count_and_rows(call.request)
        if page.index > 0 and page.start >= total and account.past_end != "empty":
            raise call.error(account.past_end, f"{self.dialect.page} {page.number} is beyond the last page")
        rows = table.slice(view, account.rng, page.start, page.start + page.size)
        if call.options.shuffle:
            account.rng.shuffle(rows)
        wire: list[Any] = [self.render(account, row) for row in rows]
        body, headers = self.dialect.layout(page, wire, total, account.totals)
        return FakeResponse(200, encode_json(body), headers=headers)

    @property
    def paging(self) -> tuple[str, ...]:
        """The parameters that select and sort pages."""
        sorting = (self.dialect.sort, self.dialect.order) if self.sorts else ()
        return (self.dialect.page, self.dialect.size, *(name for name in sorting if name is not None))

    def _query(self, call: Call) -> Query:
        single = {*self.paging, *scope_names(self), *self.parameters}
        single |= {name for entry in self.filters if not entry.repeated for name in entry.names}
        return Query(call, single, (name for entry in self.filters if entry.repeated for name in entry.names))

    def _page(self, call: Call, query: Query) -> Page:
        """Determine the page, and reject one that is out of reach."""
        account, dialect = call.account, self.dialect
        number = query.integer(dialect.page, least=dialect.first)
        number = dialect.first if number is None or call.options.ignore_page else number
        maximum = MAX_INTEGER if self.maximum is None else self.maximum
        over_limit: OverLimit = "refuse"
        if dialect is V1:
            maximum, over_limit = min(maximum, account.v1_max_limit), account.v1_over_limit
        elif call.family == "iacm":
            maximum, over_limit = account.iacm_max_limit, account.iacm_over_limit
        most = MAX_INTEGER if over_limit == "clip" else maximum
        size = query.integer(dialect.size, least=1, most=most) or self.default
        reported = min(size, call.options.clip or size, account.max_page_size or size)
        if call.family == "iacm":  # v1 echoes the requested size
            reported = min(reported, maximum)
        page = Page(dialect.first, number, min(reported, maximum), reported)
        if self.ceiling and account.ceiling is not None and page.start + page.size > account.ceiling:
            # Harness names no code for it; the limit is described in developer-hub, PR #9145.
            raise call.error(400, f"records behind position {account.ceiling} cannot be listed")
        return page

    def _view(self, call: Call, query: Query, org: str | None, ids: Mapping[str, str]) -> View:
        tests = [test for entry in self.filters if (test := entry.build(query)) is not None]
        if self.scope == "organization":
            tests.append(lambda row: row.key[0] == org)
        tests += [is_equal(path, ids[name]) for name, path in self.path.items()]
        if self.body is not None:
            tests += self.body(query, call.json(optional=True))
        path = tuple(ids[name] for name in self.path)
        options = (call.account.end_time, call.account.case_sensitive)
        name = (self, org, path, query.selection(self.paging), call.request.body, options)
        keep = None if not tests else tests[0] if len(tests) == 1 else lambda row: all(test(row) for test in tests)
        return View(self._ordering(call, query), keep, name)

    def _ordering(self, call: Call, query: Query) -> Ordering:
        """Return the requested order, or the default one as the account says."""
        default = call.account.ordering(self.default_sort)
        if not self.sorts or self.dialect.sort is None:
            return default
        if self.dialect.order is None:
            value = query.choice(self.dialect.sort, [f"{name},{way}" for name in self.sorts for way in ("ASC", "DESC")])
            name, _, way = (value or "").partition(",")
        else:
            name = query.choice(self.dialect.sort, tuple(self.sorts)) or ""
            way = (query.choice(self.dialect.order, ("ASC", "DESC", "asc", "desc")) or "").upper()
            if not name:
                return attrs.evolve(default, descending=way == "DESC") if way else default
        if not name:
            return default
        # A list that is sorted without a direction is descending, as documented for v1.
        return Ordering(self.sorts[name], way != "ASC", shuffle_ties=call.account.order == "random_ties")


@attrs.frozen(eq=False, kw_only=True)
class Get:
    """An operation that returns one row. The identifiers in the path, except the scope, are its key."""

    collection: CollectionName = attrs.field(kw_only=False)
    dialect: Dialect = attrs.field(kw_only=False)
    scope: Scope = "project"
    parameters: tuple[str, ...] = ()
    """The parameters that are accepted without effect."""
    render: Render = as_stored

    def __call__(self, call: Call, **ids: str) -> FakeResponse:
        """Return the row, or the error for a missing one."""
        query = Query(call, (*scope_names(self), *self.parameters))
        table, _ = resolve(self, call, query, ids)
        key = tuple(value for name, value in ids.items() if name not in {"org", "project"})
        row = table.get(key)
        if row is None:
            raise call.not_found(f"{COLLECTIONS[self.collection].noun} not found")
        value = self.render(call.account, row)
        return ok(enveloped(value) if self.dialect.scope == "query" else value)


def scope_names(operation: List | Get) -> tuple[str, ...]:
    """Return the parameters of an operation that name its scope."""
    return _SCOPE_NAMES[operation.scope] if operation.dialect.scope == "query" else ()


def resolve(operation: List | Get, call: Call, query: Query, ids: Mapping[str, str]) -> tuple[Table, str | None]:
    """Return the table of the scope of a request and its organization. Raises an error if access is denied."""
    account = call.account
    org, project = ids.get("org"), ids.get("project")
    if operation.dialect.scope == "query":
        if query.required("accountIdentifier") != account.account_id:
            raise call.error(401, "Token is not valid.", code="INVALID_TOKEN")
        org, project = query.text("orgIdentifier"), query.text("projectIdentifier")
    if operation.scope == "account":
        return account.table(operation.collection), None
    if operation.scope == "organization":
        return account.table(operation.collection), call.organization(org or query.required("orgIdentifier"))
    if operation.scope == "project" or project is not None:
        org = org or query.required("orgIdentifier")
        org, project = call.project(org, project or query.required("projectIdentifier"))
    elif org is not None:
        org = call.organization(org)
    return account.table(operation.collection, org, project), org
