"""A Harness platform API of your own: served over real HTTP, on this machine, with faults on request.

`FakeHarness` is the server, `Churn` moves its rows while a list is read, `faults` holds what may go wrong and
`limits` the ways a server counts requests. Nothing here imports the client, so any client can be tested
against it.

Names are loaded when first asked for: pytest imports this package in every run for the sake of the fixture
`fake_harness`, and must not pay for a web server that no test asks for.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness_async.testing.churn import Churn
    from harness_async.testing.faults import (
        Body,
        ClipPages,
        CompressedZeros,
        CutBody,
        Delay,
        Fault,
        Redirect,
        Reset,
        SignInPage,
        SlowBody,
        Status,
        TooManyRequests,
        Totals,
    )
    from harness_async.testing.limits import Bucket, FixedWindow, RateLimit, SlidingCounter, SlidingWindow
    from harness_async.testing.recorded import RecordedRequest
    from harness_async.testing.rules import Faults, Rule
    from harness_async.testing.server import FakeHarness
    from harness_async.testing.threads import run_in_thread

__all__ = [
    "Body",
    "Bucket",
    "Churn",
    "ClipPages",
    "CompressedZeros",
    "CutBody",
    "Delay",
    "FakeHarness",
    "Fault",
    "Faults",
    "FixedWindow",
    "RateLimit",
    "RecordedRequest",
    "Redirect",
    "Reset",
    "Rule",
    "SignInPage",
    "SlidingCounter",
    "SlidingWindow",
    "SlowBody",
    "Status",
    "TooManyRequests",
    "Totals",
    "run_in_thread",
]

_HOMES = {
    "churn": ("Churn",),
    "limits": ("Bucket", "FixedWindow", "RateLimit", "SlidingCounter", "SlidingWindow"),
    "recorded": ("RecordedRequest",),
    "rules": ("Faults", "Rule"),
    "server": ("FakeHarness",),
    "threads": ("run_in_thread",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    """Load a public name from the module that defines it; what has no other home is a fault."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_HOME.get(name, 'faults')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
