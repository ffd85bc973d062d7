"""The habits of the service: what its documentation leaves open, or where its sources differ.

"ok" is what most sources say. The library copes with every habit here; one that differs explains what a user sees.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, TypeAlias

from harness_async import (
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    NotFoundError,
    RateLimitError,
    ServerError,
    UnprocessableEntityError,
)
from harness_async.cli.doctor import probes
from harness_async.cli.doctor.connection import Facts
from harness_async.cli.doctor.probes import PAGE, Listing, Probe
from harness_async.cli.doctor.results import Check, Finding, describe_error, differs, ok, unknown

Row: TypeAlias = Mapping[str, Any]

_NOT_FOUND = 404


# v1


async def find_v1_totals(facts: Facts) -> Finding:
    """Which headers have the totals of v1?"""
    listing = await facts.first_response()
    return _describe_totals(listing, "x-total-elements") if isinstance(listing, Listing) else unknown("no list")


async def find_v1_sorting(facts: Facts) -> Finding:
    """Does v1 have pages of 1000, sorted by time of creation?"""
    try:
        listing = await facts.prober.send(probes.SORTED_ORGS)
    except (BadRequestError, UnprocessableEntityError) as error:
        return differs(f"refused: {describe_error(error)}")
    times = [row.get("created") for row in listing.rows]
    if not _are_comparable(times):
        return ok("accepted; the times of creation do not show the order")
    return ok("accepted, oldest first") if _is_ascending(times) else differs("accepted, but not sorted")


async def find_v1_maximum(facts: Facts) -> Finding:
    """Is a page above the maximum of v1 refused?"""
    try:
        await facts.prober.send(probes.LARGE_ORGS)
    except (BadRequestError, UnprocessableEntityError) as error:
        return ok(f"refused: {describe_error(error)}")
    return differs("accepted: the page is larger, or clipped")


async def find_v1_first_page(facts: Facts) -> Finding:
    """Is 0 the first page of v1?"""
    first = await facts.first_response()
    if not isinstance(first, Listing) or not 0 < len(first.rows) < PAGE:
        return unknown("needs 1 to 99 organizations")
    try:
        second = await facts.prober.send(probes.SECOND_ORGS)
    except (BadRequestError, NotFoundError) as error:
        return ok(f"page 0; one past the end is {describe_error(error)}")
    return differs("page 1 has rows although page 0 has all") if second.rows else ok("page 0")


async def find_missing_organization(facts: Facts) -> Finding:
    """Which status and code has a missing organization?"""
    return await _find_missing(facts, probes.MISSING_ORG)


async def find_missing_organization_projects(facts: Facts) -> Finding:
    """Is the list of projects of a missing organization an error?"""
    return await _find_missing(facts, probes.MISSING_ORG_PROJECTS)


async def _find_missing(facts: Facts, probe: Probe) -> Finding:
    try:
        listing = await facts.prober.send(probe)
    except (AuthenticationError, RateLimitError, ServerError):
        raise
    except APIStatusError as error:
        text = describe_error(error)
        return ok(text) if error.status == _NOT_FOUND else differs(text)
    return differs(f"a list of {len(listing.rows)} rows: a misspelt name is not an error")


# NextGen


async def find_account_wide_projects(facts: Facts) -> Finding:
    """Are the projects of all organizations listed at once?"""
    match facts.account_projects:
        case Listing(rows=rows):
            times = [row.get("lastModifiedAt") for row in rows]
            if not _are_comparable(times):
                return ok("listed; the times do not show the order")
            return ok("listed, last change first") if _is_ascending(times[::-1]) else differs("listed in another order")
        case APIStatusError() as error:
            return differs(describe_error(error))
        case _:
            return unknown("no response")


# IaCM: executions of the examined project


async def find_missing_project(facts: Facts) -> Finding:
    """Which status and code has a missing project in IaCM?"""
    return await _find_missing(facts, probes.MISSING_PROJECT)


async def find_totals(facts: Facts) -> Finding:
    """Which headers have the totals of IaCM?"""
    return _describe_totals(facts.examined, "x-total-items", "x-total-pages")


def _describe_totals(listing: Listing, *expected: str) -> Finding:
    known = ("x-total-items", "x-total-pages", "x-total-elements", "x-page-number", "x-page-size")
    found = [name for name in known if name in listing.headers]
    text = ", ".join(found) or "none"
    totals = {name for name in found if name.startswith("x-total")}
    return ok(text) if totals == set(expected) else differs(text)


async def find_agreement(facts: Facts) -> Finding:
    """Do totals agree with rows?"""
    total, pages = _total(facts.examined), facts.last_page
    if total is None:
        return unknown("no total")
    rows = facts.examined.rows if pages == 1 else (await facts.send(probes.LAST, page=pages)).rows
    expected = total - (pages - 1) * facts.page_size
    if len(rows) != expected:
        return differs(f"the last page has {len(rows)} rows where the total leaves {expected}")
    return ok("the last page has the rows that the total leaves")


async def find_end(facts: Facts) -> Finding:
    """What follows the last page?"""
    if _total(facts.examined) is None and len(facts.examined.rows) == PAGE:
        return unknown("no total: the last page is not known")
    try:
        listing = await facts.send(probes.PAST_END, page=facts.last_page + 1)
    except (BadRequestError, NotFoundError) as error:
        return differs(describe_error(error))
    return differs(f"{len(listing.rows)} rows behind the total") if listing.rows else ok("an empty page")


async def find_page_size(facts: Facts) -> Finding:
    """Does a page of 100 have 100 rows?"""
    total, rows = _total(facts.examined), len(facts.examined.rows)
    size = facts.examined.total("x-page-size")
    if rows == PAGE:
        return ok("100 rows")
    if (total is not None and rows < min(total, PAGE)) or size not in {None, PAGE}:
        return differs(f"{rows} rows, although more follow" if total != rows else f"a page size of {size}")
    return unknown("needs 100 executions") if total is None else ok("all rows")


async def find_maximum(facts: Facts) -> Finding:
    """Is a page above the maximum refused or clipped?"""
    try:
        listing = await facts.send(probes.LARGE)
    except (BadRequestError, UnprocessableEntityError) as error:
        return ok(f"refused: {describe_error(error)}")
    rows, size = len(listing.rows), listing.total("x-page-size")
    if rows <= PAGE and (_total(listing) or 0) > rows:
        return differs(f"clipped to {rows}")
    if rows > PAGE or size == PAGE + 1:
        return differs("accepted: the maximum is higher than 100")
    if size is not None:
        return differs(f"clipped to {size}")
    return unknown("accepted; too few executions to see whether the page is clipped")


async def find_order(facts: Facts) -> Finding:
    """In which order do lists come?"""
    times = [row.get("created") for row in facts.examined.rows]
    if not _are_comparable(times):
        return unknown("needs executions of different times")
    if _is_ascending(times[::-1]):
        return ok("newest first")
    return differs("oldest first" if _is_ascending(times) else "neither newest nor oldest first")


async def find_repeatability(facts: Facts) -> Finding:
    """Is the order of two requests the same?"""
    first, second = (
        [*map(_execution_key, listing.rows)] for listing in (facts.examined, await facts.send(probes.REPEAT))
    )
    if first == second:
        return ok("two requests have the same order")
    if sorted(first) == sorted(second):
        return differs("the same rows in another order")
    known = {row.get("created") for row in facts.examined.rows}
    return (
        differs("rows of equal time change places")
        if len(known) < len(first)
        else unknown("the executions changed meanwhile")
    )


async def find_page_number(facts: Facts) -> Finding:
    """Does page 2 follow page 1?"""
    keys = [*map(_execution_key, facts.examined.rows)]
    if len(keys) < 2:  # noqa: PLR2004 - one row has no order
        return unknown("needs two executions")
    found = [*map(_execution_key, (await facts.send(probes.SECOND)).rows)]
    if len(found) != 1:
        return differs(f"a page of 1 has {len(found)} rows")
    if found[0] == keys[1]:
        return ok("pages count from 1")
    return differs("page 2 is page 1: the number is ignored") if found[0] == keys[0] else unknown("the order changes")


async def find_start_time(facts: Facts) -> Finding:
    """Does `start_time` filter on `created`, and inclusively?"""
    return await _find_time(facts, probes.FROM_TIME)


async def find_end_time(facts: Facts) -> Finding:
    """Does `end_time` filter on `created`, and inclusively?"""
    return await _find_time(facts, probes.TO_TIME)


async def _find_time(facts: Facts, probe: Probe) -> Finding:
    """Request the millisecond before or after an execution, with the one of the execution at the other end."""
    rows = facts.examined.rows
    times = [row.get("created") for row in rows]
    if not _are_comparable(times):
        return unknown("needs executions of different times")
    middle = rows[len(rows) // 2]
    created = middle["created"]
    start = created - (probe is probes.TO_TIME)
    found = (await facts.send(probe, start_time=start, end_time=start + 1)).rows
    if any(not start <= row.get("created", start) <= start + 1 for row in found):
        return differs("ignored: executions of other times come too")
    if any(row.get("created") == created for row in found):
        return ok("filters on created, inclusively")
    return differs("exclusive: the execution of that millisecond does not come")


async def find_statuses(facts: Facts) -> Finding:
    """Are several statuses separated by a comma?"""
    wanted = {"success", "failure"}
    if wanted.isdisjoint(row.get("status") for row in facts.examined.rows):
        return unknown("needs an execution with success or failure")
    try:
        found = {row.get("status") for row in (await facts.send(probes.STATUSES)).rows}
    except (BadRequestError, UnprocessableEntityError) as error:
        return differs(f"refused: {describe_error(error)}")
    if not found:
        return differs("no execution comes: not understood")
    return ok("understood") if found <= wanted else differs("ignored: other statuses come too")


async def find_activity_times(facts: Facts) -> Finding:
    """Are the times of activities milliseconds?"""
    sample = (await facts.send(probes.ACTIVITIES)).rows
    created = sample[0].get("created") if sample else None
    if not isinstance(created, int):
        return unknown("needs an activity")
    found = (await facts.send(probes.ACTIVITIES_TIME, start_time=created - 1, end_time=created + 1)).rows
    if sample[0].get("id") not in {row.get("id") for row in found}:
        return differs("not milliseconds: the activity of that time does not come")
    outside = [row for row in found if abs(row.get("created", created) - created) > 1]
    return differs("ignored: activities of other times come too") if outside else ok("milliseconds")


# Executions of pipelines


async def find_runs_order(facts: Facts) -> Finding:
    """Are executions of pipelines sorted by their start?"""
    times = [row.get("startTs") for row in (await facts.send(probes.RUNS)).rows]
    if not _are_comparable(times):
        return unknown("needs executions of different times")
    return ok("oldest first, as requested") if _is_ascending(times) else differs("not as requested")


async def find_runs_maximum(facts: Facts) -> Finding:
    """Do executions of pipelines have pages of 1000?"""
    try:
        await facts.send(probes.LARGE_RUNS)
    except (BadRequestError, UnprocessableEntityError) as error:
        return differs(f"refused: {describe_error(error)}")
    return ok("accepted")


async def find_ceiling(facts: Facts) -> Finding:
    """Are rows behind position 10,000 refused?"""
    try:
        await facts.send(probes.FAR_RUNS)
    except (BadRequestError, UnprocessableEntityError) as error:
        return ok(f"refused: {describe_error(error)}")
    return differs("accepted")


def _total(listing: Listing) -> int | None:
    total = listing.total("x-total-items")
    return listing.total("x-total-elements") if total is None else total


def _execution_key(row: Row) -> tuple[str, str]:
    return str(row.get("pipeline_execution_id")), str(row.get("pipeline_stage_id"))


def _are_comparable(times: list[Any]) -> bool:
    """Return whether all times are numbers and at least two differ."""
    return all(isinstance(time, int) for time in times) and len(set(times)) > 1


def _is_ascending(times: list[Any]) -> bool:
    return all(one <= other for one, other in pairwise(times))


HABITS: tuple[Check[Facts], ...] = tuple(
    Check(name, find, stops=False)
    for name, find in (
        ("v1: total headers", find_v1_totals),
        ("v1: page of 1000, sorted", find_v1_sorting),
        ("v1: page above 1000", find_v1_maximum),
        ("v1: first page", find_v1_first_page),
        ("v1: missing organization", find_missing_organization),
        ("v1: projects of missing org", find_missing_organization_projects),
        ("ng: account-wide projects", find_account_wide_projects),
        ("iacm: missing project", find_missing_project),
        ("iacm: total headers", find_totals),
        ("iacm: order", find_order),
        ("iacm: stable order", find_repeatability),
        ("iacm: page number", find_page_number),
        ("iacm: page of 100", find_page_size),
        ("iacm: page above 100", find_maximum),
        ("iacm: totals and rows", find_agreement),
        ("iacm: past the last page", find_end),
        ("iacm: start_time", find_start_time),
        ("iacm: end_time", find_end_time),
        ("iacm: several statuses", find_statuses),
        ("iacm: activity times", find_activity_times),
        ("pipelines: order", find_runs_order),
        ("pipelines: page of 1000", find_runs_maximum),
        ("pipelines: past row 10,000", find_ceiling),
    )
)
