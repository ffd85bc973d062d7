"""Proxies and certificates: which are used, over real connections, and what errors say about them."""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from yarl import URL

from harness_async import ConfigurationError, HarnessClient, TransportError
from harness_async.config import Proxy, resolve_proxy, resolve_ssl_context
from tests.support.http import ORG, Connect, Serve, quick, response

RESPONSE = response(ORG)
CREDENTIALS = base64.b64encode(b"user:p@ss").decode()


class ConnectProxy:
    """An HTTP proxy on a loopback port that tunnels CONNECT and forwards GET."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.credentials: str | None = None
        self.status = 200
        self.url = ""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            method, target, _ = head.split("\r\n")[0].split(" ")
            self.requests.append(f"{method} {target}")
            if self.credentials is not None and f"Proxy-Authorization: Basic {self.credentials}" not in head:
                writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            elif self.status != 200:
                writer.write(f"HTTP/1.1 {self.status} No\r\nContent-Length: 0\r\n\r\n".encode())
            elif method == "CONNECT":
                host, _, port = target.rpartition(":")
                upstream = await asyncio.open_connection(host, int(port))
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                try:
                    await self.relay((reader, writer), upstream)
                finally:
                    upstream[1].close()
            else:
                writer.write(RESPONSE)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client went away, or the test is over
        finally:
            writer.close()

    @staticmethod
    async def relay(*ends: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
        async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
            writer.close()

        (one, two) = ends
        await asyncio.gather(copy(one[0], two[1]), copy(two[0], one[1]), return_exceptions=True)


@pytest.fixture
async def proxy() -> AsyncIterator[ConnectProxy]:
    """A running proxy."""
    proxy = ConnectProxy()
    tasks: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        await proxy.handle(reader, writer)
        tasks.discard(task)

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield proxy
    server.close()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await server.wait_closed()
    for _ in range(3):
        await asyncio.sleep(0)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """A private certificate authority."""
    return trustme.CA()


@pytest.fixture
def authority_file(authority: trustme.CA, tmp_path: Path) -> str:
    """The PEM file of the private certificate authority."""
    path = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


@pytest.fixture
async def secure_url(serve: Serve, authority: trustme.CA) -> str:
    """The URL of a server with a certificate of the private authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return await serve(lambda _: RESPONSE, tls=context)


async def get(client: HarnessClient) -> str:
    return (await client.organizations.get("default")).identifier


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])
async def test_environment(
    connect: Connect,
    secure_url: str,
    proxy: ConnectProxy,
    authority_file: str,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
) -> None:
    """A proxy and a certificate authority of the environment are used without any argument."""
    monkeypatch.setenv(variable, proxy.url)
    monkeypatch.setenv("SSL_CERT_FILE", authority_file)
    assert await get(connect(secure_url)) == "default"
    assert proxy.requests == [f"CONNECT {URL(secure_url).authority}"]


async def test_no_proxy(
    connect: Connect, secure_url: str, proxy: ConnectProxy, authority_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host in NO_PROXY is connected to directly, and so is every host with `trust_env=False`."""
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    context = ssl.create_default_context(cafile=authority_file)
    assert await get(connect(secure_url, trust_env=False, ssl_context=context)) == "default"
    monkeypatch.setenv("NO_PROXY", "example.com, 127.0.0.1")
    assert await get(connect(secure_url, ssl_context=context)) == "default"
    assert proxy.requests == []


async def test_arguments(connect: Connect, secure_url: str, proxy: ConnectProxy, authority_file: str) -> None:
    """A proxy with credentials and a TLS context can be passed as arguments."""
    proxy.credentials = CREDENTIALS
    url = proxy.url.replace("http://", "http://user:p%40ss@")
    context = ssl.create_default_context(cafile=authority_file)
    assert await get(connect(secure_url, proxy=url, ssl_context=context)) == "default"


async def test_plain_http(connect: Connect, proxy: ConnectProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain http request is forwarded by the proxy of HTTP_PROXY."""
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    assert await get(connect("http://127.0.0.1:1")) == "default"
    assert proxy.requests == ["GET http://127.0.0.1:1/v1/orgs/default"]


@pytest.mark.parametrize("scheme", ["https", "http"])
async def test_wrong_credentials(connect: Connect, proxy: ConnectProxy, scheme: str) -> None:
    """A proxy that requires other credentials is named without them, and the request is not repeated."""
    proxy.credentials = "other"
    url = proxy.url.replace("http://", "http://user:secret@")
    with pytest.raises(TransportError, match="407") as caught:
        await get(connect(f"{scheme}://127.0.0.1:1", proxy=url))
    assert proxy.url.removesuffix("/") in str(caught.value)
    assert "secret" not in str(caught.value) + repr(caught.value.__cause__)
    assert len(caught.value.attempts) == len(proxy.requests) == 1


@pytest.mark.parametrize(("status", "requests"), [(502, 3), (403, 1)])
async def test_refused_tunnel(connect: Connect, proxy: ConnectProxy, status: int, requests: int) -> None:
    """A tunnel that the proxy cannot open for now is retried, a forbidden one is not; nothing was sent."""
    proxy.status = status
    with pytest.raises(TransportError, match=f"refused: {status}") as caught:
        await connect("https://127.0.0.1:1", proxy=proxy.url, retry=quick(3)).request("POST", "/v1/orgs", json={})
    assert len(proxy.requests) == requests
    assert not caught.value.ambiguous


@pytest.mark.parametrize(
    ("raw", "requests"),
    [(None, 2), (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", 2), (b"junk\r\nConnection: close\r\n\r\n", 1)],
    ids=["lost", "closed tunnel", "junk"],
)
async def test_proxy_that_breaks(connect: Connect, serve: Serve, raw: bytes | None, requests: int) -> None:
    """A POST is not ambiguous where the proxy fails before it opens a tunnel, because nothing reached the server."""
    client = connect("https://127.0.0.1:9", proxy=await serve(lambda _: raw), retry=quick(2))
    with pytest.raises(TransportError) as caught:
        await client.request("POST", "/v1/orgs")
    assert (caught.value.ambiguous, client.stats.requests) == (False, requests)


async def test_other_host_name(connect: Connect, serve: Serve, authority: trustme.CA, authority_file: str) -> None:
    """A certificate for another host is refused, and no authority is recommended."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("other.example").configure_cert(context)
    url = await serve(lambda _: RESPONSE, tls=context)
    with pytest.raises(TransportError, match="not trusted") as caught:
        await get(connect(url, ssl_context=ssl.create_default_context(cafile=authority_file)))
    assert "SSL_CERT_FILE" not in str(caught.value)


async def test_environment_is_ignored(
    connect: Connect, secure_url: str, authority_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `trust_env=False`, SSL_CERT_FILE is ignored too."""
    monkeypatch.setenv("SSL_CERT_FILE", authority_file)
    with pytest.raises(TransportError, match="not trusted"):
        await get(connect(secure_url, trust_env=False))


HOST = "https://app.harness.io"


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"HTTPS_PROXY": "http://p:3128"}, "http://p:3128"),
        ({"HTTPS_PROXY": "p:3128"}, "http://p:3128"),
        ({"HTTPS_PROXY": "https://p"}, "https://p"),
        ({"HTTPS_PROXY": ""}, None),
        ({"HTTPS_PROXY": "", "ALL_PROXY": "http://all:1"}, "http://all:1"),
        ({"https_proxy": "http://lower:1", "HTTPS_PROXY": "http://upper:1"}, "http://lower:1"),
        ({"HTTP_PROXY": "http://p:1"}, None),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "*"}, None),
        ({"HTTPS_PROXY": "http://p:1", "no_proxy": "harness.io"}, None),
        ({"HTTPS_PROXY": "http://p:1", "no_proxy": ".HARNESS.io"}, None),
        ({"HTTPS_PROXY": "http://p:1", "no_proxy": "app.harness.io:443"}, None),
        ({"HTTPS_PROXY": "http://p:1", "no_proxy": "app.harness.io:8443"}, "http://p:1"),
        ({"HTTPS_PROXY": "http://p:1", "no_proxy": "ness.io, other.io,,"}, "http://p:1"),
        ({"HTTPS_PROXY": "http://p:1", "no_proxy": "*.harness.io"}, None),
        ({"HTTPS_PROXY": "http://p:1", "no_proxy": "other.io harness.io."}, None),
        ({"HTTPS_PROXY": "http://p:1", "no_proxy": f"app.harness.io:{'9' * 5000}"}, "http://p:1"),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "10.0.0.0/8"}, "http://p:1"),
    ],
)
def test_resolve_proxy(environ: dict[str, str], expected: str | None) -> None:
    """The environment selects the proxy by scheme, case and exceptions, which may be addresses and networks."""
    proxy = resolve_proxy(URL(HOST), None, environ)
    assert (None if proxy is None else str(proxy).rstrip("/")) == expected
    for host, no_proxy, bypassed in (
        ("10.1.2.3", "10.0.0.0/8", True),
        ("11.1.2.3", "10.0.0.0/8", False),
        ("[::1]", "::1", True),
        ("[::1]", "[::1]:8443", False),
    ):
        addresses = {"HTTPS_PROXY": "http://p:1", "NO_PROXY": no_proxy}
        assert (resolve_proxy(URL(f"https://{host}"), None, addresses) is None) is bypassed


def test_credentials_do_not_show() -> None:
    """The credentials of a proxy are decoded, and are in neither its `str` nor its `repr`."""
    proxy = resolve_proxy(URL(HOST), "http://us%3Aer:p%40ss@p:1", {})
    assert proxy == Proxy(URL("http://p:1"), f"Basic {base64.b64encode(b'us:er:p@ss').decode()}")
    assert proxy is not None
    assert str(proxy.authorization) not in repr(proxy) + str(proxy)


@pytest.mark.parametrize(
    "value", ["socks5://user:secret@p:1", "http://", "http://user:secret@p:port", "//", "http://secret@p\nq"]
)
def test_bad_proxy(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """A proxy that cannot be used is refused at construction, without showing its credentials."""
    with pytest.raises(ConfigurationError, match="proxy") as caught:
        HarnessClient("pat.a.b.c", proxy=value)
    assert "secret" not in str(caught.value)
    monkeypatch.setenv("ALL_PROXY", value)
    with pytest.raises(ConfigurationError, match="ALL_PROXY"):
        HarnessClient("pat.a.b.c")


def test_bad_certificate_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """SSL_CERT_FILE has to name a file with certificates, which is checked at construction."""
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing")
    for name, path in (("FILE", empty), ("FILE", tmp_path / "missing.pem"), ("DIR", tmp_path / "missing")):
        with monkeypatch.context() as patch:
            patch.setenv(f"SSL_CERT_{name}", str(path))
            with pytest.raises(ConfigurationError, match="SSL_CERT_FILE"):
                HarnessClient("pat.a.b.c")


@pytest.mark.parametrize("value", ["", " "])
def test_empty_certificate_variables(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """Empty variables count as unset, although OpenSSL by itself would trust no authority then."""
    variables = ("SSL_CERT_FILE", "SSL_CERT_DIR")
    for name in variables:
        monkeypatch.delenv(name, raising=False)
    expected = ssl.create_default_context().get_ca_certs()
    for name in variables:
        monkeypatch.setenv(name, value)
    context = resolve_ssl_context(None, os.environ, trust_env=True)
    assert context is not None
    assert context.get_ca_certs() == expected


async def test_borrowed_session(proxy: ConnectProxy) -> None:
    """Proxy and TLS context belong to a borrowed session."""
    arguments: list[dict[str, Any]] = [{"proxy": proxy.url}, {"ssl_context": ssl.create_default_context()}]
    for argument in arguments:
        with pytest.raises(ConfigurationError, match="http_session"):
            HarnessClient("pat.a.b.c", http_session=object(), **argument)  # type: ignore[arg-type]
