"""Pagers: lists as users see them, which are requested when they are iterated; and the lists of the API as data."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Hashable, Mapping, Sequence
from operator import attrgetter
from typing import Any, Generic, TypeVar

import attrs
from attrs import evolve, field, frozen

from harness_async.http.endpoints import Endpoint, QueryValue
from harness_async.http.session import Session
from harness_async.pagination.dialects import Dialect, DialectName, resolve_dialect
from harness_async.pagination.source import EndpointSource, FetchedPage, LargestPage, ListSpec, Page, hash_by
from harness_async.pagination.walk import PageWalk, Walk
from harness_async.serialization.converters import converter
from harness_async.serialization.msgspec_decoder import create_rows_decoder
from harness_async.types import Consistency, Time, TimeWindow
from harness_async.validation import check_identifier, check_int, check_method, check_path, to_milliseconds

T = TypeVar("T")


class Pager(ABC, Generic[T]):
    """A list that is not requested yet. Iterate it, or call one of its methods.

    Each iteration is a walk of its own. Safe to share between tasks.
    """

    @abstractmethod
    def walk(self) -> Walk[T]:
        """Create a walk, an async context manager that is closed for certain and has a report."""

    @property
    def fingerprint(self) -> str | None:
        """A hash of what is requested, and how; None where that is not known."""
        return None

    async def first(self) -> T | None:
        """Fetch the first item, or None where there is none, with as few requests as that takes."""
        items = await self.collect(max_items=1)
        return items[0] if items else None

    @abstractmethod
    async def count(self) -> int | None:
        """Fetch the total, or None where the server does not report it: one request."""

    def __aiter__(self) -> AsyncGenerator[T, None]:
        """Iterate over the items of a new walk. Leaving the loop early ends it soon; `walk` ends it at once."""
        return self.walk().iterate(close=True)

    def pages(self) -> AsyncGenerator[Page[T], None]:
        """Iterate over the pages of a new walk."""
        return self.walk().pages(close=True)

    async def collect(self, max_items: int | None = None) -> Sequence[T]:
        """Fetch the items into a list, at most so many. Pages beyond them are not requested.

        Raises:
            ValueError: `max_items` is negative or not an integer.
        """
        if max_items is not None:
            check_int("max_items", max_items, 0)
        items: list[T] = []
        async with self.walk() as walk:
            while max_items is None or len(items) < max_items:
                page = await walk.read_page()
                if page is None:
                    break
                items.extend(page.items)
        return items if max_items is None else items[:max_items]


class ListPager(Pager[T]):
    """The pager of one page-numbered list."""

    def __init__(self, spec: ListSpec[T]) -> None:
        self._spec = spec

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._spec.source!r}>"

    @property
    def fingerprint(self) -> str | None:
        """A hash of what is requested, and how."""
        spec = self._spec
        text = repr((spec.source.identity, spec.window, spec.consistency))
        return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:16]

    def walk(self) -> PageWalk[T]:
        """Create a walk, an async context manager that is closed for certain and has a report."""
        return PageWalk(self._spec)

    async def first(self) -> T | None:
        """Fetch the first item, or None where there is none: one request."""
        page = await self._fetch_one()
        return page.items[0] if page.items else None

    async def count(self) -> int | None:
        """Fetch the total, or None where the server does not report it: one request."""
        return (await self._fetch_one()).totals.items

    async def _fetch_one(self) -> FetchedPage[T]:
        return await self._spec.source.fetch(self._spec.source.first_page, 1)


@frozen(kw_only=True, eq=False)
class ListEndpoint(Generic[T]):
    """A list of the API, as data: where it is, how it is paged, and what its rows are."""

    path: str
    """The path, with the identifiers in braces."""

    cls: type[T]
    """The model of a row."""

    ids: tuple[str, ...]
    """The fields that identify a row within its list."""

    dialect: Dialect
    method: str = "GET"
    created: str | None = None
    """The field with the time, in milliseconds, by which a time window selects rows."""

    apply_window: Callable[[TimeWindow], tuple[Mapping[str, QueryValue], Mapping[str, object]]] | None = None
    """Returns query parameters and body members of a time window, where it is not `start_time` and `end_time`."""

    fast: bool = False
    """Whether rows may be decoded by msgspec."""

    _endpoint: Endpoint = field(init=False, repr=False)
    _fields: frozenset[str] = field(init=False, repr=False)
    _key: Callable[[T], Any] = field(init=False, repr=False)
    _cls: Any = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "_cls", self.cls)
        object.__setattr__(self, "_endpoint", Endpoint(self.method, self.path))
        object.__setattr__(self, "_fields", frozenset(attribute.name for attribute in attrs.fields(self._cls)))
        object.__setattr__(self, "_key", attrgetter(*self.ids))

    def open(
        self,
        session: Session,
        *,
        params: Mapping[str, QueryValue],
        json: Mapping[str, object] | None = None,
        limit: int | None = None,
        prefetch: int = 0,
        consistency: Consistency = "live",
        window: TimeWindow | None = None,
        volatile: bool = False,
        stable_order: bool = False,
        largest_page: LargestPage | None = None,
        **scope: str,
    ) -> ListPager[T]:
        """Open the list of an organization or a project; see `ListSpec` for the arguments.

        Raises:
            TypeError: An argument has the wrong type.
            ValueError: An argument cannot be used.
        """
        dialect = self.dialect
        is_own: Callable[[Any], bool] | None = None
        if scope.keys() == {"org", "project"} and scope.keys() <= self._fields:
            own = (scope["org"].casefold(), scope["project"].casefold())
            is_own = lambda row: (row.org.casefold(), row.project.casefold()) == own  # noqa: E731 - one of two values

        source = EndpointSource(
            session=session,
            path=self._endpoint.path_for(**scope),
            cls=self.cls,
            dialect=dialect,
            params=params if dialect.scope == "path" else {**scope_params(session, scope), **params},
            method=self.method,
            json=json,
            apply_window=self.apply_window,
            context=scope
            if scope.keys() <= self._fields
            else {each: scope[each] for each in scope.keys() & self._fields},
            is_own=is_own,
            decoder=create_rows_decoder(self._cls) if self.fast else None,
        )
        return ListPager(
            ListSpec(
                source=source,
                hash_keys=self._hash_keys,
                created=None if self.created is None else attrgetter(self.created),
                window=window or TimeWindow(),
                volatile=volatile,
                stable_order=stable_order,
                limit=dialect.default_limit if limit is None else limit,
                max_limit=dialect.max_limit,
                ceiling=dialect.ceiling,
                largest_page=largest_page,
                prefetch=prefetch,
                consistency="checked" if stable_order else consistency,
            )
        )

    def _hash_keys(self, rows: Sequence[T]) -> Sequence[int]:
        return [*map(hash, map(self._key, rows))]


def parse_window(start_time: Time | None, end_time: Time | None) -> TimeWindow:
    """Convert the time filters of a list.

    Raises:
        TypeError: A time is neither a datetime nor an int.
        ValueError: A datetime is naive, or `start_time` is later than `end_time`.
    """
    start, end = to_milliseconds("start_time", start_time), to_milliseconds("end_time", end_time)
    if start is not None and end is not None and start > end:
        raise ValueError(f"start_time must not be later than end_time ({start} > {end} ms)")
    return TimeWindow(start, end)


def scope_params(session: Session, scope: Mapping[str, str]) -> Mapping[str, QueryValue]:
    """Return the query parameters of a scope."""
    names = {"org": "orgIdentifier", "project": "projectIdentifier"}
    params = {"accountIdentifier": session.account_id}
    return params | {names[name]: value for name, value in scope.items() if name in names}


def open_list(
    session: Session,
    path: str,
    *,
    dialect: DialectName | Dialect | None,
    method: str,
    params: Mapping[str, QueryValue],
    json: Mapping[str, Any] | None,
    scope: Mapping[str, str | None],
    limit: int | None,
    first_page: int | None,
    cls: type[Any],
    key: Callable[[Any], Hashable] | None,
    prefetch: int,
) -> ListPager[Any]:
    """Open any list; see `HarnessClient.paginate` for the arguments.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument cannot be used.
    """
    path = check_path(path)
    found = resolve_dialect(path, dialect, first_page)
    try:
        converter.get_structure_hook(cls)
    except Exception as error:
        raise TypeError(f"into must be an attrs class, or None for plain dicts: {error}") from error
    if key is not None and not callable(key):
        raise TypeError(f"key must be a function of a row, not {type(key).__name__}")
    if not isinstance(params, Mapping):
        raise TypeError(f"params must be a mapping, not {type(params).__name__}")
    if first_page is not None:
        found = evolve(found, first_page=first_page)
    method = check_method(method)
    if method not in {"GET", "POST"}:
        raise ValueError(f"method must be GET or POST, not {method!r}")
    if method == "GET" and json is not None:
        raise ValueError("json requires method='POST': a GET has no body")
    if not {found.page, found.size}.isdisjoint(params):
        raise ValueError(f"params must not contain {found.page} or {found.size}: the pager sets them")
    given = {name: check_identifier(name, value) for name, value in scope.items() if value is not None}
    scoped = scope_params(session, given) if given or found.scope == "query" else {}
    source = EndpointSource(
        session=session, path=path, cls=cls, dialect=found, params={**scoped, **params}, method=method, json=json
    )
    return ListPager(
        ListSpec(
            source=source,
            hash_keys=None if key is None else hash_by(key),
            limit=found.default_limit if limit is None else limit,
            max_limit=found.max_limit,
            ceiling=found.ceiling,
            prefetch=prefetch,
        )
    )
