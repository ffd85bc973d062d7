"""Decompression of response bodies, which notices a body that ends too early."""

from __future__ import annotations

import zlib
from typing import Any, Protocol

ACCEPT_ENCODING = "gzip, deflate"
"""The encodings that `create_decompressor` knows."""

_OTHER_ENCODINGS = {"br", "zstd", "compress", "x-compress", "dcb", "dcz", "exi", "pack200-gzip"}


class EncodingError(Exception):
    """A body cannot be decompressed."""


class Decompressor(Protocol):
    """Decompresses a body that arrives in pieces."""

    def feed(self, data: bytes, limit: int) -> bytes:
        """Return what a piece decompresses to; at most one byte more than `limit`.

        Raises:
            EncodingError: The data are not compressed in this way.
        """
        ...

    @property
    def is_complete(self) -> bool:
        """Whether the body may end here."""
        ...


class _Identity:
    """A body that is not compressed."""

    is_complete = True

    def feed(self, data: bytes, limit: int) -> bytes:  # noqa: ARG002 - the caller measures it
        return data


class _Zlib:
    """gzip, with any number of members, or deflate, with or without the header of zlib."""

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding
        self._stream: Any = None
        self._has_data = False

    def feed(self, data: bytes, limit: int) -> bytes:
        pieces: list[bytes] = []
        while data and limit >= 0:
            if self._stream is None:
                if self._has_data and not data.strip(b"\0"):
                    break  # padding behind the last member
                self._stream = zlib.decompressobj(self._window_bits(data))
                self._has_data = True
            try:
                piece = self._stream.decompress(data, limit + 1)
            except zlib.error as error:
                raise EncodingError(f"it is not {self._encoding}: {error}") from error
            pieces.append(piece)
            limit -= len(piece)
            data = self._stream.unconsumed_tail or self._stream.unused_data
            if self._stream.eof:
                self._stream = None
        return b"".join(pieces)

    def _window_bits(self, data: bytes) -> int:
        if self._encoding != "deflate":
            return 16 + zlib.MAX_WBITS
        # The low four bits of the header of zlib are 8; a raw stream does not begin so.
        return zlib.MAX_WBITS if data[0] & 0x0F == 8 else -zlib.MAX_WBITS  # noqa: PLR2004

    @property
    def is_complete(self) -> bool:
        return self._stream is None


def create_decompressor(content_encoding: str) -> Decompressor:
    """Create the decompressor for a `Content-Encoding`.

    Raises:
        EncodingError: The encoding is not supported, or there are several.
    """
    encoding = content_encoding.strip().lower()
    if encoding in {"gzip", "x-gzip", "deflate"}:
        return _Zlib(encoding.removeprefix("x-"))
    if encoding in _OTHER_ENCODINGS or "," in encoding:
        raise EncodingError(f"the content encoding {encoding!r} was not requested")
    return _Identity()  # servers also send "identity", "none" or "utf-8"
