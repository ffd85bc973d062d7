"""From the options of a command to an open client, and from its errors to messages and exit codes."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

import typer
from attrs import frozen
from yarl import URL

from harness_async import (
    AuthenticationError,
    HarnessClient,
    NotFoundError,
    PermissionDeniedError,
    RateLimit,
    RequestError,
    Timeouts,
)
from harness_async.cli.console import print_note
from harness_async.cli.errors import (
    INTERRUPTED,
    CommandError,
    describe_os_error,
)
from harness_async.cli.pauses import PauseNotifier
from harness_async.config import ACCOUNT_VARIABLES, KEY_VARIABLES, account_of, create_ssl_context

DEMO_PROJECT = "infrastructure/observability"
"""The demo project with the most executions, for help texts."""

_DEMO_SEED = 1
_DEMO_PROJECTS = 40
_DEMO_EXECUTIONS = 4000
_DEMO_LATENCY = 0.1
"""Seconds per response, about that of a distant server. Without latency the progress would not be visible."""


@frozen(kw_only=True)
class Connection:
    """Connection options of a command. The environment supplies what is None."""

    api_key_file: str | None = None
    """`-` is stdin."""

    account: str | None = None
    base_url: str | None = None
    proxy: str | None = None
    ca_bundle: str | None = None
    timeout: float | None = None
    """Seconds for each call, waits and retries included."""

    requests_per_minute: int | None = None
    demo: bool = False

    @property
    def timeouts(self) -> Timeouts:
        """The time limits of the client."""
        return Timeouts() if self.timeout is None else Timeouts(deadline=self.timeout)

    @property
    def rate_limit(self) -> RateLimit | None:
        """The limit of `--requests-per-minute`, if it is given."""
        return None if self.requests_per_minute is None else RateLimit(self.requests_per_minute, 60.0)

    @property
    def files(self) -> dict[str, str | None]:
        """The files of the options, by option."""
        key_file = None if self.api_key_file == "-" else self.api_key_file
        return {"--api-key-file": key_file, "--ca-bundle": self.ca_bundle}

    def read_key(self) -> str | None:
        """Return the key of the file, or None if none is given.

        Raises:
            CommandError: The file cannot be read, or is empty.
        """
        if self.api_key_file is None:
            return None
        try:
            text = sys.stdin.read() if self.api_key_file == "-" else Path(self.api_key_file).read_text("utf-8-sig")
        except OSError as error:
            raise CommandError(f"--api-key-file: {describe_os_error(error)}") from error
        except UnicodeDecodeError as error:
            raise CommandError(f"--api-key-file: {self.api_key_file} is not a text file.") from error
        if not text.strip():
            raise CommandError(f"--api-key-file: {self.api_key_file} is empty.", "Write the key to it, on one line.")
        return text.strip()

    def explain(self, error: RequestError, key: str, origin: str) -> None:
        """Add advice to an error that comes from the key, the account or the proxy, and name the setting.

        Args:
            error: The error of a call.
            key: The key in use.
            origin: The option or variable that the key comes from.
        """
        if isinstance(error, AuthenticationError | PermissionDeniedError | NotFoundError):
            variable, account = _first_set(ACCOUNT_VARIABLES)
            setting, account = ("--account", self.account) if self.account else (variable, account)
            own = account_of(key)
            if account and own and account != own:
                error.add_note(f"The key belongs to account {own}, but {setting} names account {account}.")
            elif isinstance(error, AuthenticationError):
                checks = f"Check that it is complete, not expired, and of account {account or own}."
                error.add_note(f"The key of {origin} was rejected. {checks}")
            elif isinstance(error, NotFoundError) and "account" in error.message.lower():
                error.add_note(f"Check the account {account or own}: --account or {ACCOUNT_VARIABLES[0]} sets it.")
        if found := _PROXY_FAILURE.search(str(error)):
            scheme = URL(error.url).scheme
            names = (f"{scheme}_proxy", f"{scheme}_proxy".upper(), "all_proxy", "ALL_PROXY")
            setting, proxy = ("--proxy", self.proxy) if self.proxy else _first_set(names)
            check = "Check that it is the right proxy"
            if found["down"]:
                check = "Check that the proxy runs"
            elif found["password"]:
                check = "Check user and password in its URL" if "@" in proxy else "Put user and password into its URL"
            error.add_note(f"{check}: {setting} sets it, NO_PROXY lists hosts without a proxy.")


_PROXY_FAILURE = re.compile(
    r"(?i)(?P<down>cannot connect to the proxy)|the proxy \S+ ((?P<password>requires|refused: 407)|refused)"
)
"""Failures of the proxy itself, in messages of the library."""


def _first_set(names: Sequence[str]) -> tuple[str, str]:
    """Return the name and value of the first variable that is set, or empty strings."""
    values = ((name, os.environ.get(name, "").strip()) for name in names)
    return next((pair for pair in values if pair[1]), ("", ""))


@asynccontextmanager
async def connect(
    connection: Connection, *, notifier: PauseNotifier | None = None, quiet: bool = False
) -> AsyncIterator[HarnessClient]:
    """Open a client, with `--demo` one of a server in this process."""
    if connection.demo:
        async with _connect_demo(connection, quiet=quiet) as client:
            yield client
        return
    file_key = connection.read_key()
    origin, key = _first_set(KEY_VARIABLES) if file_key is None else ("--api-key-file", file_key)
    if not key:
        raise CommandError(
            f"No API key: set {' or '.join(KEY_VARIABLES)}.",
            "--api-key-file reads it from a file. To try the command on generated data, add --demo.",
        )
    ca_bundle = connection.ca_bundle
    async with HarnessClient(
        api_key=file_key,
        account_id=connection.account,
        base_url=connection.base_url,
        proxy=connection.proxy,
        ssl_context=None if ca_bundle is None else create_ssl_context(ca_bundle, None, "--ca-bundle"),
        timeouts=connection.timeouts,
        rate_limit=connection.rate_limit or RateLimit(),
        on_event=(notifier or PauseNotifier()).on_event,
    ) as client:
        try:
            yield client
        except RequestError as error:
            connection.explain(error, key, origin)
            raise


@asynccontextmanager
async def _connect_demo(connection: Connection, *, quiet: bool) -> AsyncIterator[HarnessClient]:
    given = [
        option
        for option, value in (
            ("--api-key-file", connection.api_key_file),
            ("--account", connection.account),
            ("--base-url", connection.base_url),
            ("--proxy", connection.proxy),
            ("--ca-bundle", connection.ca_bundle),
        )
        if value is not None
    ]
    if given:
        raise CommandError(f"--demo uses a server of its own: remove {' and '.join(given)}.")
    from harness_async.testing import Delay, FakeHarness

    fake = FakeHarness.seeded(_DEMO_PROJECTS, _DEMO_EXECUTIONS, _DEMO_SEED)
    fake.faults.add(Delay(_DEMO_LATENCY))
    if not quiet:
        print_note("Demo: generated data of a server in this process.")
    async with (
        fake,
        HarnessClient(
            fake.api_key,
            fake.account_id,
            base_url=fake.url,
            timeouts=connection.timeouts,
            rate_limit=connection.rate_limit,
            trust_env=False,
        ) as client,
    ):
        yield client


def run_blocking(command: Callable[[], int]) -> NoReturn:
    """Run a command that waits only for files, and exit with its code. Ctrl-C ends it at once."""
    try:
        code = command()
    except KeyboardInterrupt:
        code = INTERRUPTED
    raise typer.Exit(code)


def run_command(command: Coroutine[Any, Any, int]) -> NoReturn:
    """Run the coroutine of a command to its end and exit with its code."""
    run_blocking(lambda: asyncio.run(_exit_code(command)))


async def _exit_code(command: Coroutine[Any, Any, int]) -> int:
    """Run a command until it ends, or is ended by a signal. Return the exit code."""
    task = asyncio.current_task()
    received: list[int] = []

    def stop(number: int) -> None:
        received.append(number)
        if task is not None:
            task.cancel()

    # Like Ctrl-C, so that `timeout 60 harness-async ...` or a terminal that is closed also completes the files.
    for name in ("SIGTERM", "SIGHUP"):
        with suppress(AttributeError, NotImplementedError, RuntimeError, ValueError):  # Windows, or another thread
            if signal.getsignal(number := getattr(signal, name)) is signal.SIG_DFL:  # not ignored, as by nohup
                asyncio.get_running_loop().add_signal_handler(number, stop, number)
    try:
        return await command
    except asyncio.CancelledError:
        if not received:  # Ctrl-C
            raise
        return 128 + received[0]
