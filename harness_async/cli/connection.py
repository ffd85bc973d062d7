"""From the environment to a client, and from whatever goes wrong to an exit code and a line of text."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, NoReturn

import typer
from attrs import define, field, frozen

from harness_async.cli.console import hint_for, print_error, print_note
from harness_async.client import HarnessClient
from harness_async.config import KEY_VARIABLES, RateLimit
from harness_async.errors import AuthenticationError, BudgetError, CheckpointError, ConfigurationError, HarnessError
from harness_async.events import Event, PageRead, RetryPlanned

COMPLETE, INCOMPLETE, USAGE, KEY_REJECTED = range(4)
INTERRUPTED = 130  # 128 + SIGINT, as shells have it
STDOUT_CLOSED = 141  # 128 + SIGPIPE: what the rest of a pipeline expects of a program whose reader went away
TERMINATED = 143  # 128 + SIGTERM

DEMO_PROJECT = "infrastructure/observability"
"""The busiest project of the demo, for messages that must name one that exists."""

_DEMO_SEED = 1
_DEMO_PROJECTS = 40
_DEMO_EXECUTIONS = 4000
_DEMO_LATENCY = 0.1
"""Seconds for each answer, about what a distant server takes: without any, there would be nothing to see."""


@frozen(kw_only=True)
class Connection:
    """Where to connect to, as far as the command line says; the environment says the rest."""

    account: str | None
    base_url: str | None
    demo: bool


class CommandError(Exception):
    """An end of the command with a message, what to do about it, and an exit code."""

    def __init__(self, message: str, advice: str = "", *, code: int = USAGE) -> None:
        super().__init__(message)
        self.advice = advice
        self.code = code


@contextmanager
def usage_errors() -> Iterator[None]:
    """Turn what the library says of a bad argument into an error of usage."""
    try:
        yield
    except ValueError as error:
        raise CommandError(f"{error}.", "See the command's --help.") from error


@define
class RetryNotifier:
    """Why nothing comes at this moment: the library goes on trying for minutes, and people want to know why."""

    prints_note: bool = True
    """Whether to say so in a note, once; else somebody looks at `reason`."""

    reason: str = ""
    _failures: int = field(default=0, init=False)
    _said: bool = field(default=False, init=False)

    def on_event(self, event: Event) -> None:
        """Take what the client does; a single failure is nothing to speak of."""
        if isinstance(event, PageRead):
            self.reason, self._failures = "", 0
        elif isinstance(event, RetryPlanned):
            self._failures += 1
            if self._failures > 1:
                self.reason = event.reason.partition(f" ({event.method} ")[0]  # the rest names the request
                self._say()

    def _say(self) -> None:
        if self.prints_note and not self._said:
            self._said = True
            print_note(f"Waiting, and trying again: {self.reason}. Ctrl-C ends it.")


@asynccontextmanager
async def connect(
    connection: Connection,
    rate_limit: RateLimit | None = None,
    *,
    patience: RetryNotifier | None = None,
    quiet: bool = False,
) -> AsyncIterator[HarnessClient]:
    """Open a client of the account, or of the demo's."""
    if connection.demo:
        async with _connect_demo(connection, rate_limit, quiet=quiet) as client:
            yield client
        return
    if not any(name in os.environ for name in KEY_VARIABLES):
        raise CommandError(
            f"No API key: set {' or '.join(KEY_VARIABLES)}.", "Or add --demo, to try it on a made-up account."
        )
    async with HarnessClient(
        account_id=connection.account,
        base_url=connection.base_url,
        rate_limit=rate_limit or RateLimit(),
        on_event=(patience or RetryNotifier()).on_event,
    ) as client:
        yield client


@asynccontextmanager
async def _connect_demo(
    connection: Connection, rate_limit: RateLimit | None = None, *, quiet: bool
) -> AsyncIterator[HarnessClient]:
    if connection.account is not None or connection.base_url is not None:
        raise CommandError("--demo has an account and a server of its own: leave out --account and --base-url.")
    from harness_async.testing import FakeHarness
    from harness_async.testing.faults import Delay

    fake = FakeHarness.seeded(_DEMO_PROJECTS, _DEMO_EXECUTIONS, _DEMO_SEED)
    fake.faults.add(Delay(_DEMO_LATENCY))
    if not quiet:
        print_note("Demo: a made-up account served on this machine.")
    async with (
        fake,
        HarnessClient(fake.api_key, fake.account_id, base_url=fake.url, rate_limit=rate_limit) as client,
    ):
        yield client


def run_command(job: Coroutine[Any, Any, int]) -> NoReturn:
    """Run a command's work to its end, whichever it is, and exit with the code for that."""
    try:
        code = asyncio.run(_guard(job))
    except KeyboardInterrupt:
        code = INTERRUPTED
    except asyncio.CancelledError:
        code = TERMINATED
    raise typer.Exit(code)


async def _guard(job: Coroutine[Any, Any, int]) -> int:
    task = asyncio.current_task()
    if task is not None:
        # As Ctrl-C, so that `timeout 60 harness-async ...` leaves the terminal and the file in order too.
        with suppress(NotImplementedError, RuntimeError, ValueError):  # Windows, or not the main thread
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        return await job
    except CommandError as error:
        print_error(str(error), error.advice)
        return error.code
    except (BudgetError, ConfigurationError) as error:
        print_error(_in_options(str(error)), hint_for(error) if isinstance(error, BudgetError) else "")
        return USAGE
    except CheckpointError as error:
        print_error(str(error))
        return USAGE
    except HarnessError as error:
        print_error(str(error), hint_for(error))
        return KEY_REJECTED if isinstance(error, AuthenticationError) else INCOMPLETE
    except BrokenPipeError:
        return STDOUT_CLOSED


_OPTIONS = (
    ("pass account_id", "pass --account"),
    ("(account_id)", "(--account)"),
    ("the key goes into api_key", f"the key goes into {KEY_VARIABLES[0]}"),
    ("; use https, or pass allow_http=True", "; use https"),
    ("(base_url)", "(--base-url)"),
    ("max_requests=", "--max-requests "),
    ("base_url ", "The base URL (--base-url, HARNESS_BASE_URL) "),
)
"""Arguments of the library, and how the same is said on a command line."""


def _in_options(text: str) -> str:
    for argument, option in _OPTIONS:
        text = text.replace(argument, option)
    return text
