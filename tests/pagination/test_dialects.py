"""List dialects: which one a path has, what a dialect of the caller may be, and the totals of responses."""

from __future__ import annotations

from typing import Any

import pytest

from harness_async.pagination.dialects import DIALECTS, Dialect, resolve_dialect
from harness_async.pagination.source import PageTotals, parse_page_totals

OWN = Dialect(page="pageNumber", size="per_page", first_page=1)


@pytest.mark.parametrize(
    ("path", "dialect", "first_page", "expected"),
    [
        ("/iacm/api/orgs/o/projects/p/workspaces", None, None, DIALECTS["iacm"]),
        ("/v1/orgs", None, None, DIALECTS["v1"]),
        ("/ng/api/projects", None, None, DIALECTS["ng"]),
        ("/pipeline/api/pipelines/list", None, None, DIALECTS["pipeline"]),
        ("/gateway/iacm/api/modules", None, None, DIALECTS["iacm"]),
        ("/gateway/ng/api/projects", None, None, DIALECTS["ng"]),
        ("/v1/orgs", None, 1, DIALECTS["v1"]),
        ("/v1/orgs", "v1_large", None, DIALECTS["v1_large"]),
        ("/audit/api/audits/list", "ng", 0, DIALECTS["ng"]),
        ("/v1/orgs", OWN, 0, OWN),
        ("/pm/api/v1/evaluations", OWN, None, OWN),
        ("/pm/api/v1/evaluations", None, 0, Dialect()),
        ("/pm/api/v1/evaluations", None, 1, Dialect(first_page=1)),
    ],
)
def test_dialect_of_a_list(path: str, dialect: Any, first_page: int | None, expected: Dialect) -> None:
    """A dialect that is passed wins over that of the path; other paths need at least a first page."""
    assert resolve_dialect(path, dialect, first_page) == expected


@pytest.mark.parametrize(
    ("path", "dialect", "error", "message"),
    [
        ("/audit/api/audits/list", None, ValueError, r"paging of '/audit/.*'ng_page'.* a Dialect\) or first_page"),
        ("/v1orgs", None, ValueError, "pass dialect"),
        ("/V1/orgs", None, ValueError, "pass dialect"),
        ("/v1/orgs", "v2", ValueError, "dialect must be one of 'iacm', 'v1', .* not 'v2'"),
        ("/v1/orgs", "", ValueError, "dialect must be one of"),
        ("/v1/orgs", 1, TypeError, "dialect must be a name or a Dialect, not int"),
        ("/v1/orgs", DIALECTS, TypeError, "dialect must be a name or a Dialect"),
    ],
)
def test_refused_dialects(path: str, dialect: Any, error: type[Exception], message: str) -> None:
    """A path without a dialect, and a dialect that does not exist, are refused with the choices."""
    with pytest.raises(error, match=message):
        resolve_dialect(path, dialect, None)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        *[(name, value, error) for name in ("page", "size") for value, error in (("", ValueError), (None, TypeError))],
        *[("first_page", value, ValueError) for value in (-1, True, "1", None)],
        *[(name, value, ValueError) for name in ("default_limit", "max_limit") for value in (0, 1.5, None)],
        *[("scope", value, ValueError) for value in ("body", "", None)],
        *[(name, 5, TypeError) for name in ("rows", "total_items", "total_pages")],
        *[("ceiling", value, ValueError) for value in (0, "10000")],
    ],
)
def test_refused_members(name: str, value: Any, error: type[Exception]) -> None:
    """A member of a dialect with a wrong type or value is refused, and the error names it."""
    with pytest.raises(error, match=name):
        Dialect(**{name: value})


@pytest.mark.parametrize(
    ("headers", "totals"),
    [
        ((None, None, None, None), PageTotals()),
        (("95", None, "4", "30"), PageTotals(95, 4, 30)),
        ((None, "95", None, "30"), PageTotals(95, None, 30)),
        ((" 7 ", None, "1", None), PageTotals(7, 1)),
        (("5", "9", None, None), PageTotals(5)),
        (("many", "9", None, None), PageTotals(9)),
        (("0", None, "0", "0"), PageTotals(0, 0)),
        *[
            ((text, None, text, text), PageTotals())
            for text in ("-1", "0x1", "+1", "1.0", "1e3", "1_000", "1,000", "", "null", "٣", "9" * 30, "9" * 5000)
        ],
    ],
)
def test_totals(headers: tuple[str | None, ...], totals: PageTotals) -> None:
    """Both families of total headers are read; a missing or unreadable value is None."""
    assert parse_page_totals(*headers) == totals
