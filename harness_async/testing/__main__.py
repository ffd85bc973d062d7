"""`python -m harness_async.testing` runs a seeded `FakeHarness` until it is interrupted."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
from typing import TYPE_CHECKING, get_args

from harness_async.testing.data.account import Totals
from harness_async.testing.data.table import Order
from harness_async.testing.faults import Delay
from harness_async.testing.limits import FixedWindow
from harness_async.testing.server import FakeHarness

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the server until it is interrupted. Return 0, or 1 if the port is taken."""
    options = _parser().parse_args(arguments)
    fake = FakeHarness.seeded(
        options.projects,
        options.executions,
        options.seed,
        host=options.host,
        port=options.port,
        order=options.order,
        totals=options.totals,
    )
    # A server that runs for days must not keep all its requests.
    fake.before_request = lambda _request: fake.requests.clear()
    if options.latency:
        fake.faults.add(Delay(options.latency))
    if options.requests_per_minute:
        fake.rate_limit = FixedWindow(options.requests_per_minute)
    try:
        asyncio.run(_serve(fake))
    except OSError as error:
        sys.stderr.write(f"cannot listen on {options.host}:{options.port}: {error.strerror or error}\n")
        return 1
    except KeyboardInterrupt:  # where the event loop cannot handle signals
        pass
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m harness_async.testing", description="Run a fake Harness API.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=int, default=8080, help="port to listen on, 0 for any free one (%(default)s)")
    parser.add_argument("--projects", type=int, default=20, help="number of projects (%(default)s)")
    parser.add_argument("--executions", type=int, default=500, help="number of IaCM executions in total (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the data (%(default)s)")
    parser.add_argument("--order", choices=get_args(Order), default="newest", help="order of lists (%(default)s)")
    parser.add_argument("--totals", choices=get_args(Totals), default="iacm", help="headers with totals (%(default)s)")
    parser.add_argument(
        "--latency", type=float, default=0.0, metavar="SECONDS", help="delay of responses (%(default)s)"
    )
    parser.add_argument("--requests-per-minute", type=int, metavar="N", help="respond with 429 to more requests")
    return parser


async def _serve(fake: FakeHarness) -> None:
    """Run the server until SIGINT or SIGTERM, after printing its address."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    async with fake:
        with contextlib.suppress(NotImplementedError):  # Windows
            loop.add_signal_handler(signal.SIGINT, stop.set)
            loop.add_signal_handler(signal.SIGTERM, stop.set)
        sys.stdout.write(
            f"{len(fake.projects)} projects, {len(fake.all_executions())} executions at {fake.url}\n"
            f"key {fake.api_key}, account {fake.account_id}; press Ctrl-C to stop\n\n"
            f"export HARNESS_BASE_URL={fake.url}\n"
            f"export HARNESS_API_KEY={fake.api_key}\n"
            f"export HARNESS_ACCOUNT_ID={fake.account_id}\n"
        )
        sys.stdout.flush()
        await stop.wait()


if __name__ == "__main__":
    sys.exit(main())
