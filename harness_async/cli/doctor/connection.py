"""The connection: from the name of the host to a project with executions."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from typing import Any

from attrs import define, field

from harness_async import (
    APIStatusError,
    AuthenticationError,
    HarnessError,
    NotFoundError,
    PermissionDeniedError,
    ProjectRef,
    RateLimitError,
    RequestError,
    ServerError,
    TransportError,
)
from harness_async.cli.console import format_count
from harness_async.cli.doctor import probes
from harness_async.cli.doctor.configuration import Configuration
from harness_async.cli.doctor.probes import Listing, Probe, Prober
from harness_async.cli.doctor.results import Check, Finding, describe_error, differs, failed, ok, unknown
from harness_async.cli.errors import KEY_REJECTED, advice_for
from harness_async.config import account_of

_CONNECT_TIMEOUT = 10.0
_SMALL_SKEW, _LARGE_SKEW = 2.0, 300.0  # seconds; the library does not believe a clock beyond the latter
_UNKNOWN_AUTHORITY = {18, 19, 20, 21}
"""OpenSSL's codes of a certificate whose authority is not known."""

_CANDIDATES = probes.EXECUTIONS.times


class MissingFactError(Exception):
    """A check needs something that was not found."""


@define
class Facts:
    """What the checks have learned so far."""

    configuration: Configuration
    prober: Prober
    project: ProjectRef | None = None
    """The project to examine."""

    orgs: Listing | RequestError | None = None
    """The first response, or why there is none."""

    account_projects: Listing | RequestError | None = None
    """The projects of all organizations."""

    candidates: list[ProjectRef] = field(factory=list)
    executions: Listing | None = None
    """The first page of executions of the project."""

    @property
    def examined(self) -> Listing:
        """The first page of executions of the examined project.

        Raises:
            MissingFactError: There is none, or it is empty.
        """
        if self.executions is None or not self.executions.rows:
            raise MissingFactError("no project with executions")
        return self.executions

    @property
    def page_size(self) -> int:
        """The size of pages of 100 executions in effect: the service may clip them."""
        rows, total = len(self.examined.rows), self.examined.total("x-total-items")
        return rows if total is not None and rows < total else probes.PAGE

    @property
    def last_page(self) -> int:
        """The number of the last page of executions, according to the total."""
        total = self.examined.total("x-total-items")
        total = self.examined.total("x-total-elements") if total is None else total
        return max(1, -(-(total or 0) // self.page_size))

    async def send(self, probe: Probe, **params: str | int) -> Listing:
        """Send a request about the examined project.

        Raises:
            MissingFactError: There is no project.
        """
        if self.project is None:
            raise MissingFactError("no project")
        return await self.prober.send(probe, org=self.project.org, project=self.project.project, **params)

    async def first_response(self) -> Listing | RequestError:
        """Send the first request, once, and return its outcome."""
        if self.orgs is None:
            try:
                self.orgs = await self.prober.send(probes.ORGS)
            except RequestError as error:
                self.orgs = error
        return self.orgs


async def find_dns(facts: Facts) -> Finding:
    """Resolve the host that is connected to: the proxy or the service."""
    proxy = facts.configuration.proxy
    url = facts.configuration.base_url if proxy is None else proxy.url
    host, whose = url.host or "", "" if proxy is None else " of the proxy, which resolves that of the service"
    try:
        return ok(f"not used: {ip_address(host)} is an address{whose}")
    except ValueError:
        pass
    try:
        async with asyncio.timeout(_CONNECT_TIMEOUT):
            found = await asyncio.get_running_loop().getaddrinfo(host, url.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        return failed(
            f"{host} cannot be resolved: {reason}",
            "Check the network and the spelling of the host. Behind a company proxy, set HTTPS_PROXY or --proxy.",
        )
    count = len({each[4][0] for each in found})
    return ok(f"{host} has {count} address{'es' if count > 1 else ''}{whose}")


async def find_proxy(facts: Facts) -> Finding:
    """Connect to the proxy, if there is one, without a request."""
    proxy, source = facts.configuration.proxy, facts.configuration.proxy_source
    if proxy is None:
        return ok("not used")
    try:
        async with asyncio.timeout(_CONNECT_TIMEOUT):
            _, writer = await asyncio.open_connection(proxy.url.host, proxy.url.port)
    except OSError as error:  # TimeoutError is one
        reason = getattr(error, "strerror", None) or "no connection in time"
        return failed(
            f"cannot connect to {proxy}: {reason}",
            f"Check the address in {source} and that the proxy runs, or exclude the host by NO_PROXY.",
        )
    writer.close()
    response = await facts.first_response()
    if isinstance(response, TransportError) and str(response).startswith(f"The proxy {proxy} "):
        return failed(describe_error(response), f"Check user, password and permissions of the proxy in {source}.")
    return ok(f"{proxy} accepts connections")


async def find_tls(facts: Facts) -> Finding:
    """Verify the certificate of the service."""
    if facts.configuration.base_url.scheme == "http":
        return ok("not used: the base URL is plain http")
    response = await facts.first_response()
    if not isinstance(response, TransportError):
        return ok("the certificate is trusted")
    problem = next((cause for cause in _causes(response) if isinstance(cause, ssl.SSLError)), None)
    return unknown("no connection") if problem is None else failed(describe_error(response), _tls_advice(problem))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _tls_advice(problem: ssl.SSLError) -> str:
    code = getattr(problem, "verify_code", None)
    if code in _UNKNOWN_AUTHORITY:
        return "For a private certificate authority, name its PEM file with --ca-bundle or SSL_CERT_FILE."
    if code is not None:
        return "Check the host in the base URL, the clock of this computer, and any proxy in between."
    return "Check that the base URL is that of an https service, and any proxy in between."


async def find_service(facts: Facts) -> Finding:
    """Check that the first response comes from the API."""
    response = await facts.first_response()
    if isinstance(response, Listing):
        return ok(f"responds after {response.attempts[-1].elapsed:.2f} s")
    if isinstance(response, APIStatusError) and not isinstance(response, RateLimitError | ServerError):
        return ok(f"responds: {describe_error(response)}")
    return failed(describe_error(response), advice_for(response))


async def find_clock(facts: Facts) -> Finding:
    """Compare the local clock with the `Date` of the first response."""
    response = await facts.first_response()
    headers: Mapping[str, str] = getattr(response, "headers", {})
    attempt = response.attempts[-1]
    try:
        date = parsedate_to_datetime(headers["Date"]).timestamp()
    except (KeyError, ValueError, OverflowError):
        return unknown("the response has no valid Date")
    if headers.get("Age", "0").strip() != "0":
        return unknown("the response comes from a cache")
    skew = attempt.started - date if date < attempt.started else min(0.0, attempt.started + attempt.elapsed - date)
    detail = f"{abs(skew):,.0f} s {'ahead of' if skew > 0 else 'behind'} that of the service"
    if abs(skew) <= _SMALL_SKEW:
        return ok("as that of the service")
    if abs(skew) <= _LARGE_SKEW:
        return differs(detail, "Set the clock of this computer, for example by NTP.")
    return failed(
        detail, "Set the clock of this computer, for example by NTP. Until then, times such as --since 7d are wrong."
    )


async def find_key(facts: Facts) -> Finding:
    """Check that the key and the account are accepted."""
    response = await facts.first_response()
    key_account = account_of(facts.configuration.api_key)
    other = key_account is not None and key_account != facts.configuration.account_id
    match response:
        case Listing() | PermissionDeniedError():
            return ok("accepted")
        case AuthenticationError():
            advice = advice_for(response)
            if other:
                advice = (
                    "The key is of another account than the one configured. Remove --account and HARNESS_ACCOUNT_ID."
                )
            return failed(f"refused: {describe_error(response)}", advice, KEY_REJECTED)
        case NotFoundError():
            return failed(
                f"not found: {describe_error(response)}",
                "Check the account id, and that the base URL is that of the Harness API. "
                "Without HARNESS_ACCOUNT_ID and --account, the account in the key is used.",
            )
        case HarnessError():
            return failed(f"not accepted: {describe_error(response)}", advice_for(response))


async def find_organizations(facts: Facts) -> Finding:
    """Check that the key sees an organization."""
    response = await facts.first_response()
    if isinstance(response, RequestError):
        return failed(describe_error(response), advice_for(response))
    if not response.rows:
        return failed("the key sees none", "Give the owner of the key the permission to view organizations.")
    return ok(f"the key sees {_at_least(response, 'x-total-elements', 'organization')}")


def _at_least(response: Listing, header: str, noun: str) -> str:
    rows = len(response.rows)
    total = response.total(header) or rows
    return format_count(max(rows, total), noun)


async def find_projects(facts: Facts) -> Finding:
    """Look for projects: in all organizations at once, or else in the first one."""
    try:
        listing = facts.account_projects = await facts.prober.send(probes.PROJECTS)
        rows = [row.get("project") for row in listing.rows]
        where = ""
    except RequestError as error:
        facts.account_projects = error
        org = _organization(facts)
        if org is None:
            return unknown("no organization")
        listing = await facts.prober.send(probes.ORG_PROJECTS, org=org)
        rows = [row.get("project") for row in listing.rows]
        where = " in the first organization"
    projects = [row for row in rows if isinstance(row, Mapping)]
    # Those with the module of executions first; the others keep their order.
    projects.sort(key=lambda row: "IACM" not in (row.get("modules") or ()))
    facts.candidates = [ref for row in projects if (ref := _ref(row)) is not None]
    if where and not facts.candidates:
        return unknown(f"none{where}; name one with --project")
    if not facts.candidates:
        return failed(
            "the key sees none", "Create a project, or give the owner of the key the permission to view projects."
        )
    more = " or more" if len(listing.rows) >= probes.PAGE else ""
    return ok(f"the key sees {format_count(len(listing.rows), 'project')}{more}{where}")


def _organization(facts: Facts) -> str | None:
    rows = facts.orgs.rows if isinstance(facts.orgs, Listing) else ()
    found: Any = next((row.get("org") for row in rows), None)
    return found.get("identifier") if isinstance(found, Mapping) else None


def _ref(row: Mapping[str, Any]) -> ProjectRef | None:
    try:
        return ProjectRef(row.get("orgIdentifier") or row["org"], row["identifier"])
    except (KeyError, TypeError, ValueError):
        return None


async def find_executions(facts: Facts) -> Finding:
    """Look for a project with executions, for the checks of the service."""
    candidates = [facts.project] if facts.project is not None else facts.candidates[:_CANDIDATES]
    if not candidates:
        return unknown("no project")
    error: APIStatusError | None = None
    for ref in candidates:
        try:
            listing = await facts.prober.send(probes.EXECUTIONS, org=ref.org, project=ref.project)
        except (RateLimitError, AuthenticationError):
            raise
        except APIStatusError as caught:
            error = caught
            continue
        if facts.executions is None or len(listing.rows) > len(facts.executions.rows):
            facts.project, facts.executions = ref, listing
        if len(listing.rows) >= probes.PAGE:  # enough for every check
            break
    if facts.executions is not None and facts.executions.rows:
        return ok(f"the project examined has {_at_least(facts.executions, 'x-total-items', 'execution')}")
    if facts.executions is None and error is not None:
        return failed(describe_error(error), advice_for(error))
    return unknown(f"none in {format_count(len(candidates), 'project')}; name one that has some with --project")


NETWORK: tuple[Check[Facts], ...] = (
    Check("DNS", find_dns),
    Check("proxy connection", find_proxy),
    Check("TLS", find_tls),
)
API: tuple[Check[Facts], ...] = (
    Check("service", find_service),
    Check("clock", find_clock, stops=False),
    Check("key and account", find_key),
    Check("organizations", find_organizations, stops=False),
    Check("projects", find_projects, stops=False),
    Check("executions", find_executions, stops=False),
)
