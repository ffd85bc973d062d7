"""Executions of a `FakeHarness`, and what a run delivered of them."""

from __future__ import annotations

from collections import Counter
from typing import Any, TypeAlias

from harness_async import BulkRun, Execution, HarnessClient, RatePacer, RetryPolicy, Timeouts
from harness_async.http.rate_limit import RateLimiter
from harness_async.testing import FakeHarness

Key: TypeAlias = tuple[str, str, str, str]


def connect(fake: FakeHarness, **options: Any) -> HarnessClient:
    """Create a client without a rate limit that waits milliseconds between attempts."""
    pacer = RatePacer(limiter=RateLimiter(None, cooldowns=(0.01,), outage_pauses=(0.01,)))
    retry = RetryPolicy(initial_backoff=0.001, max_backoff=0.002)
    defaults: dict[str, Any] = {"pacer": pacer, "retry": retry, "timeouts": Timeouts(deadline=20.0)}
    return HarnessClient(**{"api_key": fake.api_key, "base_url": fake.url, **defaults, **options})


def served(fake: FakeHarness) -> Counter[Key]:
    """Return the keys of all executions of a server, each once."""
    return Counter(
        (row["org"], row["project"], row["pipeline_execution_id"], row["pipeline_stage_id"])
        for row in fake.all_executions()
    )


async def take(run: BulkRun[Execution], most: int | None = None) -> Counter[Key]:
    """Take the rows of a run, or the first ones, and count their keys."""
    taken: Counter[Key] = Counter()
    async with run:
        async for row in run:
            taken[row.key] += 1
            if most is not None and taken.total() >= most:
                break
    return taken


def listed(fake: FakeHarness) -> set[str]:
    """Return the projects whose executions were requested."""
    paths = [request.path.split("/") for request in fake.requests if request.path.endswith("/executions")]
    return {f"{parts[4]}/{parts[6]}" for parts in paths}
