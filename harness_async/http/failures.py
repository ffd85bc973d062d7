"""Failures of the transport: what an exception of aiohttp means for the request."""

from __future__ import annotations

import os
import re
import socket

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from harness_async.config import Proxy
from harness_async.http.retry import FailureKind

_PROXY_UNAVAILABLE = range(500, 600)

_UNKNOWN_AUTHORITY = {18, 19, 20, 21}
"""OpenSSL's codes of a certificate whose authority is not known."""

_PERMANENT_DNS_ERRORS = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}


class TransportFailure(Exception):  # noqa: N818 - internal; the sender turns it into a public error
    """An exchange that brought no usable response."""

    def __init__(self, kind: FailureKind, text: str, *, timed_out: bool = False) -> None:
        super().__init__(text)
        self.kind = kind
        self.timed_out = timed_out


def as_cause(error: Exception) -> Exception | None:
    """Return an error as a cause, unless it holds the request's headers (the key) or quotes the response."""
    quoting = aiohttp.ClientResponseError | aiohttp.ClientPayloadError | HttpProcessingError
    return None if isinstance(error, quoting) else error


def translate(error: Exception, proxy: Proxy | None = None) -> TransportFailure:  # noqa: C901, PLR0911 - a table
    """Classify an error of aiohttp: whether the request was sent, and whether another attempt may help."""
    text = _read_text(error)
    through = f" (through the proxy {proxy})" if proxy is not None else ""
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return TransportFailure(FailureKind.UNUSABLE, _describe_certificate_error(error) + through)
        case aiohttp.ClientSSLError() | aiohttp.ServerFingerprintMismatch():
            return TransportFailure(FailureKind.UNUSABLE, f"the connection is not secure: {text}{through}")
        case aiohttp.ClientHttpProxyError():
            kind = FailureKind.NOT_SENT if error.status in _PROXY_UNAVAILABLE else FailureKind.UNUSABLE
            return TransportFailure(kind, f"the proxy {proxy or ''} refused: {error.status} {error.message}")
        case aiohttp.ClientProxyConnectionError():
            return TransportFailure(
                FailureKind.NOT_SENT, f"cannot connect to the proxy {proxy or ''}: {_describe_os_error(error)}"
            )
        case aiohttp.InvalidURL():
            return TransportFailure(FailureKind.UNUSABLE, text)
        case aiohttp.ClientConnectorDNSError() if getattr(error.os_error, "errno", None) in _PERMANENT_DNS_ERRORS:
            return TransportFailure(
                FailureKind.UNUSABLE, f"the host {error.host} is unknown: {_describe_os_error(error)}{through}"
            )
        case aiohttp.ConnectionTimeoutError():
            return TransportFailure(FailureKind.NOT_SENT, f"no connection in time{through}", timed_out=True)
        case aiohttp.ClientConnectorError():
            reason = f"cannot connect to {error.host}:{error.port}: {_describe_os_error(error)}{through}"
            return TransportFailure(FailureKind.NOT_SENT, reason)
        case TimeoutError():
            return TransportFailure(FailureKind.READ_TIMEOUT, f"no response in time{through}", timed_out=True)
        case aiohttp.ClientPayloadError() if "Not enough data" in text or "not completed" in text:
            return TransportFailure(FailureKind.CUT, f"the response was cut off: {text}{through}")
        case aiohttp.ClientPayloadError() | aiohttp.ClientResponseError() | HttpProcessingError():
            return TransportFailure(FailureKind.GARBLED, f"the response cannot be parsed: {text}{through}")
        case _:
            return TransportFailure(FailureKind.LOST, f"the connection was lost: {text}{through}")


def _read_text(error: Exception) -> str:
    """Return the text of an error. The str of a parse error begins with a status that the server did not send."""
    is_parse_error = isinstance(error, aiohttp.ClientResponseError | HttpProcessingError)
    text = str(getattr(error, "message", "")) if is_parse_error else str(error)
    return " ".join(text.split()) or type(error).__name__


def _describe_os_error(error: aiohttp.ClientConnectorError) -> str:
    """Return why a connection failed. asyncio words it with the address, and joins the texts of several addresses."""
    reason = error.os_error
    codes = {reason.errno} if reason.errno else set(map(int, re.findall(r"\[Errno (\d+)\]", str(reason))))
    if len(codes) == 1 and (code := codes.pop()) > 0:  # those of DNS are negative
        return os.strerror(code)
    return reason.strerror or " ".join(str(reason).split()) or type(reason).__name__


def _describe_certificate_error(error: aiohttp.ClientConnectorCertificateError) -> str:
    cause = error.certificate_error
    reason = getattr(cause, "verify_message", "") or " ".join(str(cause).split())
    text = f"the certificate of {error.host}:{error.port} is not trusted: {reason}"
    if getattr(cause, "verify_code", None) in _UNKNOWN_AUTHORITY:
        text += "; for a private certificate authority, set SSL_CERT_FILE to its PEM file or pass ssl_context"
    return text
