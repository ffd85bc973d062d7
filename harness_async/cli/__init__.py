"""The command line `harness-async`, which needs the extra `cli`."""

from harness_async.cli.app import run

__all__ = ["run"]
