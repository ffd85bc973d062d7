"""Entry point of `python -m harness_async` and of the script `harness-async`."""

from __future__ import annotations

import sys

_INSTALL_HINT = "harness-async needs typer and rich, which are not installed: pip install 'harness-async[cli]'\n"

_CLI_DEPENDENCIES = frozenset({"rich", "typer"})

_USAGE = 2
_INTERRUPTED = 130  # 128 + SIGINT, as in a shell


def main() -> None:
    """Run the command line and exit with its code."""
    try:
        from harness_async.cli import run

        sys.exit(run())
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _CLI_DEPENDENCIES:
            raise
        sys.stderr.write(_INSTALL_HINT)
        sys.exit(_USAGE)
    except KeyboardInterrupt:  # during imports; commands handle it themselves
        sys.exit(_INTERRUPTED)


if __name__ == "__main__":
    main()
