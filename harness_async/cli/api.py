"""The command `api`: any endpoint of the platform, in the manner of `gh api`."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qsl

import typer
from attrs import frozen

from harness_async import APIStatusError, DialectName, NotFoundError, Pager
from harness_async.cli.connection import Connection, connect, run_command
from harness_async.cli.console import print_data
from harness_async.cli.errors import COMPLETE, CommandError, describe_os_error, usage_errors
from harness_async.cli.writers import json_line


class ApiFormat(StrEnum):
    """Output format of the rows of `api --paginate`."""

    JSON = "json"
    JSONL = "jsonl"


@frozen(kw_only=True)
class _Spec:
    """A request as written on the command line."""

    method: str
    path: str
    params: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes | None


def api(
    *,
    method: Annotated[str, typer.Argument(metavar="METHOD", help="GET, POST, PUT, PATCH, DELETE, HEAD or OPTIONS.")],
    path: Annotated[
        str, typer.Argument(metavar="PATH", help="Path behind the server URL, such as /v1/orgs. It may have a query.")
    ],
    field: Annotated[
        list[str] | None,
        typer.Option("--field", "-f", metavar="NAME=VALUE", help="Add a query parameter. Repeatable."),
    ] = None,
    header: Annotated[
        list[str] | None, typer.Option("--header", "-H", metavar="NAME:VALUE", help="Add a header. Repeatable.")
    ] = None,
    body: Annotated[
        str | None,
        typer.Option("--input", metavar="FILE", help="Send this file as the body, - is stdin. JSON needs no header."),
    ] = None,
    paginate: Annotated[
        bool, typer.Option("--paginate", help="Request all pages of a list and print its rows.")
    ] = False,
    dialect: Annotated[
        DialectName | None, typer.Option("--dialect", help="How the list is paged. Default: by the path.")
    ] = None,
    row_format: Annotated[
        ApiFormat | None, typer.Option("--format", help="With --paginate: a JSON array, or one JSON object per line.")
    ] = None,
    connection: Connection,
) -> None:
    """Send a request to any endpoint and print the response body as received.

    Writes are sent as given: the method decides. An error status is exit code 1 (401: 3); its body is printed, too.
    Paths under /ng/api and /pipeline/api take the account as `-f accountIdentifier=ID`, except with --paginate.
    """
    if not paginate and (dialect is not None or row_format is not None):
        raise CommandError("--dialect and --format require --paginate")
    if paginate and header:
        raise CommandError("--header cannot be combined with --paginate")
    if body == "-" and connection.api_key_file == "-":
        raise CommandError("--input and --api-key-file both read stdin.", "Name a file for one of them.")
    address, _, query = path.partition("?")
    pairs = [*parse_qsl(query, keep_blank_values=True), *(_split("--field", text, "=") for text in field or ())]
    params: dict[str, list[str]] = {}
    for name, value in pairs:
        params.setdefault(name, []).append(value)
    spec = _Spec(
        method=method.upper(),
        path=address if address.startswith("/") else f"/{address}",
        params=params,
        headers={name: value.strip() for name, value in (_split("--header", text, ":") for text in header or ())},
        body=None if body is None else _read_input(body),
    )
    run_command(
        _print_rows(spec, dialect, row_format or ApiFormat.JSON, connection)
        if paginate
        else _print_response(spec, connection)
    )


def _split(option: str, text: str, separator: str) -> tuple[str, str]:
    name, found, value = text.partition(separator)
    if not found or not name.strip():
        raise typer.BadParameter(f"{text!r} has no name; write NAME{separator}VALUE", param_hint=option)
    return name.strip(), value


def _read_input(path: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise typer.BadParameter(describe_os_error(error), param_hint="--input") from error


def _parse_json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError as error:
        raise CommandError(
            f"--input is not JSON: {error}.", "Name its type, such as -H 'Content-Type: application/yaml'."
        ) from error


async def _print_response(spec: _Spec, connection: Connection) -> int:
    headers = dict(spec.headers)
    if spec.body is not None and not any(name.lower() == "content-type" for name in headers):
        _parse_json(spec.body)
        headers["Content-Type"] = "application/json"
    async with connect(connection, quiet=True) as client:
        try:
            with usage_errors():
                response = await client.request(
                    spec.method, spec.path, params=spec.params, headers=headers, content=spec.body
                )
        except APIStatusError as error:
            print_data(error.body)
            if isinstance(error, NotFoundError):
                error.add_note("Check the path and the identifiers in it.")
            raise
    print_data(response.body)
    return COMPLETE


async def _print_rows(spec: _Spec, dialect: DialectName | None, row_format: ApiFormat, connection: Connection) -> int:
    async with connect(connection, quiet=True) as client:
        with usage_errors():
            pager = client.paginate(
                spec.path,
                dialect=dialect,
                method=spec.method,
                params=spec.params,
                json=None if spec.body is None else _parse_json(spec.body),
            )
        return await _write_rows(pager, row_format)


async def _write_rows(pager: Pager[dict[str, Any]], row_format: ApiFormat) -> int:
    out = sys.stdout.buffer
    separator = b"["
    async with pager.walk() as walk:
        async for row in walk:
            if row_format is ApiFormat.JSONL:
                out.write(json_line(row))
            else:
                out.write(separator + json_line(row).rstrip())
                separator = b",\n"
    if row_format is ApiFormat.JSON:
        out.write(b"[]\n" if separator == b"[" else b"]\n")
    sys.stdout.flush()
    return COMPLETE
