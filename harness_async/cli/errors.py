"""From exceptions to messages with advice, and exit codes."""

from __future__ import annotations

import errno
import logging
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from traceback import extract_tb

import aiohttp
from attrs import frozen

from harness_async import (
    APIStatusError,
    AuthenticationError,
    BudgetError,
    CheckpointError,
    ConfigurationError,
    DeadlineExceededError,
    DecodeError,
    HarnessError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    RequestError,
    RequestTimeoutError,
    ServerError,
    TransportError,
    UnexpectedResponseError,
)
from harness_async.cli.console import format_count, print_error
from harness_async.config import KEY_VARIABLES
from harness_async.http.redaction import redact_text

logger: logging.Logger = logging.getLogger("harness_async.cli")

COMPLETE, INCOMPLETE, USAGE, KEY_REJECTED = range(4)
INTERRUPTED = 130  # 128 + SIGINT, as in a shell
STDOUT_CLOSED = 141  # 128 + SIGPIPE, the status of a program whose reader has closed the pipe


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
        raise CommandError(f"{name_options(str(error))}.", "See the command's --help.") from error


@frozen
class ErrorReport:
    """What is printed about an error, and the exit code."""

    message: str
    advice: str
    code: int
    is_fault: bool = False
    """Whether the exception is a fault of the command itself."""


def print_report(error: Exception) -> int:
    """Print an exception that ends a command. Return the exit code."""
    report = report_error(error)
    print_error(report.message, report.advice)
    if report.is_fault:
        places = (f"{frame.filename}:{frame.lineno} {frame.name}" for frame in extract_tb(error.__traceback__))
        logger.debug("raised at %s", ", ".join(places))
    return report.code


def report_error(error: Exception) -> ErrorReport:
    """Return what to print about an exception that ends a command. Notes of the exception replace the advice."""
    advice = " ".join(getattr(error, "__notes__", ()))
    match error:
        case CommandError():
            return ErrorReport(str(error), error.hint, error.code)
        case ConfigurationError() | CheckpointError():
            return ErrorReport(name_options(str(error)), advice, USAGE)
        case BudgetError():
            return ErrorReport(name_options(str(error)), advice_for(error), USAGE)
        case HarnessError():
            code = KEY_REJECTED if isinstance(error, AuthenticationError) else INCOMPLETE
            return ErrorReport(name_options(describe(error)), advice or advice_for(error), code)
        case OSError():
            return ErrorReport(describe_os_error(error), OS_ADVICE.get(error.errno or 0, ""), INCOMPLETE)
        case _:
            return ErrorReport(
                f"unexpected {type(error).__name__}: {_redact(str(error))}",
                "This is a fault of harness-async. Run the command again with -vv, and report what it prints.",
                INCOMPLETE,
                is_fault=True,
            )


def describe(error: BaseException) -> str:
    """Return what failed, without the request: `-vv` shows it."""
    cause = error.__cause__
    if isinstance(error, DeadlineExceededError) and isinstance(cause, RequestError):
        number = len(error.attempts)
        return f"{describe(cause)} ({format_count(number, 'attempt')} within --timeout)"
    text = str(error)
    if isinstance(error, RequestError):
        request = f" ({error.method} {error.url}"
        before, found, after = text.partition(request)
        _, _, fields = after.partition(")")
        text = before + fields if found else text
    # What the advice says in the words of the command.
    if isinstance(error, AuthenticationError):
        text = text.partition(" (the key ")[0]
    elif isinstance(error, TransportError):
        text = text.partition("; for a private certificate authority")[0]
    if isinstance(error, APIStatusError) and error.correlation_id:
        text += f" (correlation id {error.correlation_id})"
    return text


def describe_os_error(error: OSError) -> str:
    """Return what failed, and the file."""
    reason = error.strerror or str(error) or type(error).__name__
    if error.filename:
        return f"{error.filename}: {reason}."
    return f"Cannot write standard output: {reason}." if error.errno in OS_ADVICE else f"{reason}."


OS_ADVICE = {errno.ENOSPC: "Free space on the disk, then run again.", errno.EDQUOT: "Your disk quota is used up."}
"""Advice for errors that only a write can have. Without a name of a file it was one to stdout."""


def _redact(text: str) -> str:
    """Return a text without the keys of the environment."""
    for name in KEY_VARIABLES:
        if key := os.environ.get(name, "").strip():
            text = redact_text(text, key)
    return text


# -- advice ------------------------------------------------------------------------------------------------------

_URL_SETTINGS = "--base-url or HARNESS_BASE_URL"

_TEMPORARY_STATUSES = frozenset({408, 409, 423, 425, 499})
"""Client errors that do not depend on the request: timeout, conflict, locked, too early, client closed request."""

_UNKNOWN_AUTHORITY = frozenset({18, 19, 20, 21})
"""OpenSSL's codes of a certificate whose authority is not known."""

_UNREACHABLE = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN})

_ADVICE: tuple[tuple[type[HarnessError], str], ...] = (
    (AuthenticationError, "The key was rejected. Check that it is complete, not expired, and of this account."),
    (PermissionDeniedError, "The key may not read this. Request the view permission."),
    (NotFoundError, "Check the names. List the projects that the key can read with 'harness-async projects'."),
    (RateLimitError, "Too many requests. Run again later, or with a lower --requests-per-minute."),
    (ServerError, "The server failed. Run again later."),
    (APIStatusError, "The API rejected the request. Check the options."),
    (DeadlineExceededError, "The server is slow or failing. Run again later, or with a longer --timeout."),
    (RequestTimeoutError, "No response in time. Run again later; if it fails again, check the network."),
    (TransportError, f"No response. Check the network and the server URL ({_URL_SETTINGS}), then run again."),
    (DecodeError, "The response does not match this version. Install a newer harness-async."),
    (BudgetError, "Increase --max-requests, or select less with --org, --project or --since."),
    (
        UnexpectedResponseError,
        f"The API did not respond itself. Check the server URL ({_URL_SETTINGS}), and that the key is not expired.",
    ),
    (HarnessError, "Run again."),
)
"""Advice by error class. The first that matches is used."""


def advice_for(error: HarnessError) -> str:
    """Return how to fix what led to an error."""
    cause = error.__cause__
    if isinstance(error, DeadlineExceededError) and isinstance(cause, HarnessError):
        return advice_for(cause)
    if isinstance(error, TransportError) and cause is not None and (advice := _network_advice(cause)):
        return advice
    if isinstance(error, APIStatusError) and error.status in _TEMPORARY_STATUSES:
        return "The condition is temporary. Run again later."
    return next(advice for kind, advice in _ADVICE if isinstance(error, kind))


def _network_advice(cause: BaseException) -> str:
    """Return the advice for an error of aiohttp, or an empty string."""
    advice = ""
    match cause:
        case aiohttp.ClientConnectorCertificateError() if (
            getattr(cause.certificate_error, "verify_code", None) in _UNKNOWN_AUTHORITY
        ):
            advice = "For a private authority, name its PEM file with --ca-bundle or SSL_CERT_FILE."
        case aiohttp.ClientConnectorCertificateError():
            advice = f"Check the host in {_URL_SETTINGS}, and the clock of this machine."
        case aiohttp.ClientConnectorSSLError():
            advice = f"The server, or the proxy, does not speak TLS at this port. Check {_URL_SETTINGS}."
        case aiohttp.ClientProxyConnectionError() | aiohttp.ClientHttpProxyError():
            advice = "Check the proxy: its address comes from --proxy, or from HTTPS_PROXY, HTTP_PROXY or ALL_PROXY."
        case aiohttp.ClientConnectorDNSError() if cause.os_error.errno == socket.EAI_AGAIN:
            advice = "No name server responds. Check the network."
        case aiohttp.ClientConnectorDNSError():
            advice = f"Check the host in {_URL_SETTINGS}, and the network."
        case aiohttp.ClientConnectorError() if cause.os_error.errno in _UNREACHABLE:
            advice = "Check the network."
        case aiohttp.ClientConnectorError() if isinstance(cause.os_error, ConnectionRefusedError):
            advice = f"No server listens at this address. Check {_URL_SETTINGS}."
    return advice


_OPTIONS_BY_ARGUMENT = (
    (re.compile(r",? or pass allow_http=True"), ""),
    (re.compile(r"\bor pass ssl_context\b"), "or name it with --ca-bundle"),
    (re.compile(r"\(proxy\)"), "(--proxy)"),
    (
        re.compile(r"\bTimeouts\.deadline must be (more than 0 seconds or None|a number)"),
        "--timeout must be a positive number of seconds",
    ),
    (re.compile(r"\b\w+Status\b"), "status"),
    (re.compile(r"\bmax_requests="), "--max-requests "),
    (re.compile(r"\bstart_time\b"), "--since"),
    (re.compile(r"\bend_time\b"), "--until"),
    (re.compile(r"\baccount_id\b"), "--account"),
    (re.compile(r"\bbase_url\b"), _URL_SETTINGS),
    (re.compile(r"\bapi_key\b"), "--api-key-file"),
)
"""Arguments in messages of the library, and the options or variables that set them here."""


def name_options(text: str) -> str:
    """Return a message of the library with the options of the command in place of arguments."""
    for argument, option in _OPTIONS_BY_ARGUMENT:
        text = argument.sub(option, text)
    return text
