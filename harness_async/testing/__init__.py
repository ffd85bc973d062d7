"""A fake Harness platform API that serves real HTTP on a loopback port, with faults on request.

`FakeHarness` is the server. It checks requests as the API does: keys, accounts, unknown parameters, page sizes. `Churn`
changes its rows while a list is read; faults, distortions and rate limiters simulate what goes wrong. The package does
not import the client, so it can test any client.

```python
import asyncio
from harness_async import HarnessClient
from harness_async.testing import FakeHarness, FixedWindow, Reset, Status

async def main() -> None:
    async with FakeHarness() as fake:
        fake.add_executions("default", "payments", 250, status="success")
        fake.faults.add(Status(503), times=2)
        fake.faults.add(Reset(), every=10)
        fake.rate_limit = FixedWindow(1000, 60.0)
        async with HarnessClient(fake.api_key, base_url=fake.url) as harness:
            assert len(await harness.executions.list("default", "payments").collect()) == 250
        assert fake.requests[0].query["limit"] == ["100"]

asyncio.run(main())
```

With pytest, the fixture `fake_harness` is a running server. `python -m harness_async.testing --port 8080` serves
generated data to any client; `--help` lists its options.

Names are loaded on first access. pytest imports this package in every run for the fixture `fake_harness`, and
must not load a web server that no test uses.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness_async.testing.churn import Churn
    from harness_async.testing.distortions import (
        ChangeJson,
        ChangeResponse,
        Headers,
        Nulls,
        PageTotals,
        SamePage,
        Totals,
    )
    from harness_async.testing.faults import (
        Body,
        ClipPages,
        CompressedZeros,
        CutBody,
        Delay,
        Fault,
        Interim,
        Redirect,
        Reset,
        SignInPage,
        SlowBody,
        SlowHead,
        Status,
        TooManyRequests,
    )
    from harness_async.testing.limits import Bucket, FixedWindow, Limiter, SlidingCounter, SlidingWindow
    from harness_async.testing.recorded import RecordedRequest
    from harness_async.testing.responses import FakeResponse
    from harness_async.testing.rules import Faults, Rule
    from harness_async.testing.server import FakeHarness
    from harness_async.testing.threads import run_in_thread

__all__ = [
    "Body",
    "Bucket",
    "ChangeJson",
    "ChangeResponse",
    "Churn",
    "ClipPages",
    "CompressedZeros",
    "CutBody",
    "Delay",
    "FakeHarness",
    "FakeResponse",
    "Fault",
    "Faults",
    "FixedWindow",
    "Headers",
    "Interim",
    "Limiter",
    "Nulls",
    "PageTotals",
    "RecordedRequest",
    "Redirect",
    "Reset",
    "Rule",
    "SamePage",
    "SignInPage",
    "SlidingCounter",
    "SlidingWindow",
    "SlowBody",
    "SlowHead",
    "Status",
    "TooManyRequests",
    "Totals",
    "run_in_thread",
]

_MODULES = {
    "churn": ("Churn",),
    "distortions": ("ChangeJson", "ChangeResponse", "Headers", "Nulls", "PageTotals", "SamePage", "Totals"),
    "limits": ("Bucket", "FixedWindow", "Limiter", "SlidingCounter", "SlidingWindow"),
    "recorded": ("RecordedRequest",),
    "responses": ("FakeResponse",),
    "rules": ("Faults", "Rule"),
    "server": ("FakeHarness",),
    "threads": ("run_in_thread",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    """Load a public name. Names without another module are defined in `faults`."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_MODULE_OF.get(name, 'faults')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
