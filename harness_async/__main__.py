"""The command `harness-async`, also `python -m harness_async`."""

from __future__ import annotations

import sys

_INSTALL = "harness-async needs typer and rich, which are not installed: pip install 'harness-async[cli]'\n"

_EXTRA = frozenset({"rich", "typer"})

_USAGE = 2
_INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def main() -> None:
    """Run the command line and exit with its code."""
    try:
        from harness_async.cli import run

        sys.exit(run())
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        sys.stderr.write(_INSTALL)
        sys.exit(_USAGE)
    except KeyboardInterrupt:  # while modules were still loading; from then on the commands see to it
        sys.exit(_INTERRUPTED)


if __name__ == "__main__":
    main()
