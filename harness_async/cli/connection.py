"""From the options of a command to an open client, and from its errors to messages and exit codes."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, NoReturn

import typer
from attrs import define, field, frozen

from harness_async import (
    AuthenticationError,
    BudgetError,
    CheckpointError,
    ConfigurationError,
    Event,
    HarnessClient,
    HarnessError,
    PageRead,
    RateLimit,
    RetryPlanned,
)
from harness_async.cli.console import hint_for, print_error, print_note
from harness_async.config import KEY_VARIABLES

COMPLETE, INCOMPLETE, USAGE, KEY_REJECTED = range(4)
INTERRUPTED = 130  # 128 + SIGINT, as in a shell
STDOUT_CLOSED = 141  # 128 + SIGPIPE, the status of a program whose reader has closed the pipe
TERMINATED = 143  # 128 + SIGTERM

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

    account: str | None
    base_url: str | None
    demo: bool


class CommandError(Exception):
    """Ends a command with a message, a hint at the fix, and an exit code."""

    def __init__(self, message: str, hint: str = "", *, code: int = USAGE) -> None:
        super().__init__(message)
        self.hint = hint
        self.code = code


@contextmanager
def usage_errors() -> Iterator[None]:
    """Turn a `ValueError` of the library into a usage error."""
    try:
        yield
    except ValueError as error:
        raise CommandError(f"{error}.", "See the command's --help.") from error


@define
class RetryNotifier:
    """Explains pauses: reports the reason after repeated retries, because the library retries for minutes."""

    prints_note: bool = True
    """Whether to print the first reason to stderr. False if a progress display shows `reason`."""

    reason: str = ""
    """Reason of the latest retry. Empty while requests succeed."""

    _retries: int = field(default=0, init=False)
    _has_printed: bool = field(default=False, init=False)

    def on_event(self, event: Event) -> None:
        """Handle an event of the client. A single retry is not reported."""
        if isinstance(event, PageRead):
            self.reason, self._retries = "", 0
        elif isinstance(event, RetryPlanned):
            self._retries += 1
            if self._retries > 1:
                self.reason = event.reason.partition(f" ({event.method} ")[0]  # without the request
                self._print_once()

    def _print_once(self) -> None:
        if self.prints_note and not self._has_printed:
            self._has_printed = True
            print_note(f"Retrying: {self.reason}. Press Ctrl-C to stop.")


@asynccontextmanager
async def connect(
    connection: Connection,
    rate_limit: RateLimit | None = None,
    *,
    notifier: RetryNotifier | None = None,
    quiet: bool = False,
) -> AsyncIterator[HarnessClient]:
    """Open a client, with `--demo` one of a server in this process."""
    if connection.demo:
        async with _connect_demo(connection, rate_limit, quiet=quiet) as client:
            yield client
        return
    if not any(name in os.environ for name in KEY_VARIABLES):
        raise CommandError(
            f"No API key: set {' or '.join(KEY_VARIABLES)}.", "To try the command on generated data, add --demo."
        )
    async with HarnessClient(
        account_id=connection.account,
        base_url=connection.base_url,
        rate_limit=rate_limit or RateLimit(),
        on_event=(notifier or RetryNotifier()).on_event,
    ) as client:
        yield client


@asynccontextmanager
async def _connect_demo(
    connection: Connection, rate_limit: RateLimit | None, *, quiet: bool
) -> AsyncIterator[HarnessClient]:
    if connection.account is not None or connection.base_url is not None:
        raise CommandError("--demo uses a server of its own: remove --account and --base-url.")
    from harness_async.testing import Delay, FakeHarness

    fake = FakeHarness.seeded(_DEMO_PROJECTS, _DEMO_EXECUTIONS, _DEMO_SEED)
    fake.faults.add(Delay(_DEMO_LATENCY))
    if not quiet:
        print_note("Demo: generated data of a server in this process.")
    async with (
        fake,
        HarnessClient(fake.api_key, fake.account_id, base_url=fake.url, rate_limit=rate_limit) as client,
    ):
        yield client


def run_command(command: Coroutine[Any, Any, int]) -> NoReturn:
    """Run the coroutine of a command to its end and exit with its code."""
    try:
        code = asyncio.run(_exit_code(command))
    except KeyboardInterrupt:
        code = INTERRUPTED
    except asyncio.CancelledError:
        code = TERMINATED
    raise typer.Exit(code)


async def _exit_code(command: Coroutine[Any, Any, int]) -> int:
    """Run a command. Print its error, if any, and return the exit code."""
    task = asyncio.current_task()
    if task is not None:
        # Like Ctrl-C, so that `timeout 60 harness-async ...` also restores the terminal and completes the files.
        with suppress(NotImplementedError, RuntimeError, ValueError):  # Windows, or not the main thread
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        return await command
    except CommandError as error:
        print_error(str(error), error.hint)
        return error.code
    except (BudgetError, ConfigurationError) as error:
        print_error(_name_options(str(error)), hint_for(error) if isinstance(error, BudgetError) else "")
        return USAGE
    except CheckpointError as error:
        print_error(str(error))
        return USAGE
    except HarnessError as error:
        print_error(str(error), hint_for(error))
        return KEY_REJECTED if isinstance(error, AuthenticationError) else INCOMPLETE
    except BrokenPipeError:
        return STDOUT_CLOSED


_OPTIONS_BY_ARGUMENT = (
    (re.compile(r",? or pass allow_http=True"), ""),
    (re.compile(r"\bmax_requests="), "--max-requests "),
    (re.compile(r"\baccount_id\b"), "--account"),
    (re.compile(r"\bbase_url\b"), "--base-url or HARNESS_BASE_URL"),
    (re.compile(r"\bapi_key\b"), KEY_VARIABLES[0]),
)
"""Arguments in messages of the library, and the options or variables that set them here."""


def _name_options(text: str) -> str:
    for argument, option in _OPTIONS_BY_ARGUMENT:
        text = argument.sub(option, text)
    return text
