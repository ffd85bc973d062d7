"""The log of the library on stderr, for `-v`, and its warnings."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from harness_async.cli.console import sanitize
from harness_async.cli.errors import name_options

logger: logging.Logger = logging.getLogger("harness_async")

_LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)
"""Levels by the number of `-v`."""


class _StderrHandler(logging.Handler):
    """Writes records to the stderr of the moment, which a progress display replaces, one line each."""

    def emit(self, record: logging.LogRecord) -> None:
        time = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            text += f": {type(record.exc_info[1]).__name__}: {record.exc_info[1]}"
        try:
            _print_line(f"{time} {record.levelname} {text}")
        except OSError:  # stderr is closed
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the method of logging
        """Ignore the error: a log line that cannot be written must not end the command."""


@contextmanager
def messages_on_stderr() -> Iterator[None]:
    """Print the log and the warnings of the library to stderr during a block, and what asyncio warns of."""
    handler, level = _StderrHandler(), logger.level
    loggers = (logger, logging.getLogger("asyncio"))
    for each in loggers:
        each.addHandler(handler)
    set_verbosity(0)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("always", category=UserWarning)
            warnings.showwarning = _print_warning
            yield
    finally:
        for each in loggers:
            each.removeHandler(handler)
        logger.setLevel(level)


def set_verbosity(verbosity: int) -> None:
    """Print warnings; with 1 also waits and retries; with 2 also requests."""
    logger.setLevel(_LEVELS[min(verbosity, len(_LEVELS) - 1)])


def _print_warning(message: Warning | str, *_: object, **__: object) -> None:
    """Print a warning without the line of code that it comes from."""
    _print_line(name_options(f"Warning: {message}."))


def _print_line(text: str) -> None:
    """Print a line above the progress display, if there is one. A console of its own would write into the display."""
    print(sanitize(text), file=sys.stderr, flush=True)  # noqa: T201 - the display redirects the stream
