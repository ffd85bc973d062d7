"""The command: runs the checks in order, and prints the report."""

from __future__ import annotations

import json
import os
import platform
import re
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from enum import StrEnum
from importlib.metadata import version
from typing import Annotated, Any, TypeAlias

import typer
from attrs import frozen
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from harness_async import (
    APIStatusError,
    AuthenticationError,
    HarnessClient,
    ProjectRef,
    RateLimitError,
    RequestError,
    __version__,
)
from harness_async.cli.connection import Connection, connect, run_blocking, run_command
from harness_async.cli.console import format_count, print_trimmed, sanitize, stderr_console, stdout_console
from harness_async.cli.doctor.configuration import Configuration, inspect_configuration
from harness_async.cli.doctor.connection import API, NETWORK, Facts, MissingFactError
from harness_async.cli.doctor.habits import HABITS
from harness_async.cli.doctor.probes import MAX_REQUESTS, PROBES, BudgetSpentError, Prober
from harness_async.cli.doctor.results import (
    Check,
    Finding,
    Group,
    Result,
    Verdict,
    describe_error,
    ok,
    skipped,
    unknown,
)
from harness_async.cli.errors import COMPLETE
from harness_async.cli.options import parse_project

_STYLES: dict[Verdict, str] = {"ok": "green", "differs": "yellow", "unknown": "dim", "failed": "bold red"}

_PUBLIC_HOSTS = {
    *("app.harness.io", "app3.harness.io", "accounts.harness.io", "accounts.eu.harness.io"),
    *("localhost", "127.0.0.1", "::1"),
}
"""Hosts that name no account."""

_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")


class ReportFormat(StrEnum):
    """Format of the report."""

    TABLE = "table"
    JSON = "json"


FormatOption: TypeAlias = Annotated[
    ReportFormat,
    typer.Option("--format", help="A table, or JSON to attach to a report, without names and ids of the account."),
]
ProjectOption: TypeAlias = Annotated[
    ProjectRef | None,
    typer.Option(
        "--project",
        "-p",
        metavar="ORG/PROJECT",
        parser=parse_project,
        help="Project to examine. Default: of those that the key sees, one with executions.",
    ),
]
DryRunOption: TypeAlias = Annotated[
    bool, typer.Option("--dry-run", help="Print all requests that the command may send, and send none.")
]


@frozen
class Report:
    """All results, and the number of requests sent."""

    results: Sequence[Result]
    requests: int
    private: Sequence[str] = ()
    """Texts that the JSON hides: the host of the service, which may name the account, and names of files."""

    @property
    def exit_code(self) -> int:
        """The exit code: 0 without failures, else that of the most specific one."""
        failures = (each.finding for each in self.results if each.finding.verdict == "failed")
        return max((finding.exit_code for finding in failures), default=COMPLETE)


def doctor(
    *,
    project: ProjectOption = None,
    dry_run: DryRunOption = False,
    report_format: FormatOption = ReportFormat.TABLE,
    connection: Connection,
) -> None:
    """Check configuration, network, clock and key, and how the service behaves where its documentation is silent.

    Only reads, with at most 25 requests. Exit codes: 0 nothing failed, 1 a check failed, 2 the configuration is
    incomplete, 3 the key was refused.
    """
    if dry_run:
        run_blocking(lambda: _print_probes(report_format))
    run_command(_run(connection, project, report_format))


async def _run(connection: Connection, project: ProjectRef | None, report_format: ReportFormat) -> int:
    report = await examine(connection, project)
    if report_format is ReportFormat.JSON:
        sys.stdout.write(json.dumps(report_to_json(report), indent=2, ensure_ascii=False) + "\n")
        sys.stdout.flush()
    else:
        _print_report(report)
    return report.exit_code


async def examine(connection: Connection, project: ProjectRef | None) -> Report:
    """Run all checks in order."""
    checks: list[tuple[Group, Check[Facts]]]
    checks = [*(("connection", check) for check in (*NETWORK, *API)), *(("service", check) for check in HABITS)]
    if connection.demo:
        finding = ok("generated data of a server in this process; DNS, proxy and TLS are not checked")
        configuration = Configuration(results=[Result("configuration", "demo", finding)])
        checks = checks[len(NETWORK) :]
    else:
        configuration = inspect_configuration(connection, os.environ)
    results = [*configuration.results]
    host = configuration.base_url.host or ""
    private = [text for text in (host, connection.api_key_file, connection.ca_bundle) if text and text != "-"]
    if not configuration.is_complete:
        finding = skipped("the configuration is incomplete")
        return Report([*results, *(Result(group, check.name, finding) for group, check in checks)], 0, private)
    async with _open_client(connection, configuration) as client:
        facts = Facts(configuration, Prober(client, connection.timeout), project)
        obstacle = ""
        with stderr_console().status("Checking…"):
            for group, check in checks:
                finding, obstacle = await _run_check(check, facts, obstacle)
                results.append(Result(group, check.name, finding))
    return Report(results, facts.prober.requests, private)


@asynccontextmanager
async def _open_client(connection: Connection, configuration: Configuration) -> AsyncIterator[HarnessClient]:
    if connection.demo:
        async with connect(connection) as client:
            yield client
        return
    async with HarnessClient(
        api_key=configuration.api_key,
        account_id=configuration.account_id,
        base_url=configuration.base_url,
        proxy=connection.proxy,
        ssl_context=configuration.ssl_context,
        rate_limit=connection.rate_limit,  # a few requests need no pacing
    ) as client:
        yield client


async def _run_check(check: Check[Facts], facts: Facts, obstacle: str) -> tuple[Finding, str]:
    """Run a check unless there is an obstacle. Return its finding, and the obstacle for the following checks."""
    if obstacle:
        return skipped(obstacle), obstacle
    try:
        finding = await check.find(facts)
    except MissingFactError as error:
        finding = unknown(str(error))
    except BudgetSpentError:
        finding = unknown(f"not sent: the limit is {MAX_REQUESTS} requests")
    except RequestError as error:
        finding = unknown(describe_error(error))
        # Other statuses concern the request alone.
        if not isinstance(error, APIStatusError) or isinstance(error, AuthenticationError | RateLimitError):
            obstacle = f"{check.name} received {'an error' if isinstance(error, APIStatusError) else 'no response'}"
    if check.stops and finding.verdict == "failed":
        obstacle = f"{check.name} failed"
    return finding, obstacle


def report_to_json(report: Report) -> dict[str, Any]:
    """Convert a report to plain data, without private texts."""
    checks = [
        {
            "group": each.group,
            "name": each.name,
            "verdict": each.finding.verdict,
            "detail": _anonymize(each.finding.detail, report.private),
            "advice": _anonymize(each.finding.advice, report.private),
        }
        for each in report.results
    ]
    return {
        "harness_async": __version__,
        "python": platform.python_version(),
        "aiohttp": version("aiohttp"),
        "platform": platform.system(),
        "exit_code": report.exit_code,
        "requests": report.requests,
        "checks": checks,
    }


def _anonymize(text: str, private: Sequence[str]) -> str:
    """Hide private texts, and values that messages quote: addresses and paths."""
    text = _QUOTED.sub("'…'", text)
    for each in private:
        if each not in _PUBLIC_HOSTS:
            text = text.replace(each, "…")
    return text


def _print_report(report: Report) -> None:
    console = stdout_console()
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    group = None
    for each in report.results:
        if each.finding.is_skipped:
            continue
        if each.group != group:
            table.add_row(Text(each.group.capitalize(), style="bold"))
            group = each.group
        verdict = each.finding.verdict
        table.add_row(f"  {each.name}", Text(verdict, style=_STYLES[verdict]), sanitize(each.finding.detail))
    if rest := [each.finding for each in report.results if each.finding.is_skipped]:
        text = format_count(len(rest), "further check")
        table.add_row(text, Text(rest[0].verdict, style="dim"), sanitize(rest[0].detail))
    print_trimmed(console, table)
    for each in report.results:
        if each.finding.advice:
            console.print()
            verdict = each.finding.verdict
            console.print(Text.assemble((each.name, _STYLES[verdict]), f" {verdict}: ", sanitize(each.finding.detail)))
            print_trimmed(console, Padding(sanitize(each.finding.advice), (0, 0, 0, 2)))
    console.print()
    console.print(sanitize(_summarize(report)))


def _summarize(report: Report) -> str:
    counts = Counter(each.finding.verdict for each in report.results)
    parts = [f"{verdict}: {counts[verdict]}" for verdict in _STYLES if counts[verdict]]
    text = f"{', '.join(parts)}. {format_count(report.requests, 'request')} sent."
    if any(each.finding.verdict == "differs" and each.group == "service" for each in report.results):
        text += " The library copes with habits that differ; please report them, with the output of --format json."
    return text


def _print_probes(report_format: ReportFormat) -> int:
    if report_format is ReportFormat.JSON:
        rows = [
            {"method": probe.method, "target": probe.target, "times": probe.times, "why": probe.why} for probe in PROBES
        ]
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
        return COMPLETE
    console = stdout_console()
    for probe in PROBES:
        times = f"  (up to {probe.times} times)" if probe.times > 1 else ""
        console.print(Text(f"{probe.method} {probe.target}{times}", overflow="fold"))
        print_trimmed(console, Padding(Text(probe.why, style="dim"), (0, 0, 0, 2)))
    most = sum(probe.times for probe in PROBES)
    console.print(f"\nAt most {format_count(most, 'request')}. Nothing was sent.")
    return COMPLETE
