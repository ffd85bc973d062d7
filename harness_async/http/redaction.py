"""Redaction of the key, in any form in which a server or a proxy may echo it."""

from __future__ import annotations

import re
from functools import lru_cache

_ENTITIES = {"&": "amp", "<": "lt", ">": "gt", '"': "quot", "'": "apos"}

REDACTED = "***"


@lru_cache(8)
def _pattern(key: str) -> str:
    r"""Return a pattern of the key in which each character may be plain or escaped.

    The escapes: JSON and JavaScript (`\\u0041`, `\\x41`, `\\/`), URLs (`%41`), HTML (`&#65;`, `&#x41;`, `&amp;`), and
    the zero bytes of UTF-16 and UTF-32 between characters.
    """
    characters: list[str] = []
    for character in key:
        code = ord(character)
        number = f"{code:02x}"
        forms = [
            re.escape(character),
            rf"\\{re.escape(character)}",
            rf"\\[uU]0*(?i:{number})",
            rf"\\[xX](?i:{number})",
            f"%(?i:{number})",
            f"%25(?i:{number})",
            f"&#0*{code};",
            f"&#[xX]0*(?i:{number});",
        ]
        if character in _ENTITIES:
            forms.append(f"&{_ENTITIES[character]};")
        characters.append(f"(?:{'|'.join(forms)})")
    return r"\x00{0,3}".join(characters)


@lru_cache(8)
def _text_regex(key: str) -> re.Pattern[str]:
    return re.compile(_pattern(key))


@lru_cache(8)
def _bytes_regex(key: str) -> re.Pattern[bytes]:
    return re.compile(_pattern(key).encode())


def redact_text(text: str, key: str) -> str:
    """Return a text without the key."""
    return _text_regex(key).sub(REDACTED, text)


def redact_bytes(content: bytes, key: str) -> bytes:
    """Return bytes without the key."""
    return _bytes_regex(key).sub(REDACTED.encode(), content)


def drop_tracebacks(error: BaseException | None) -> None:
    """Remove the tracebacks of an error and of all that led to it: their frames hold the headers of a request."""
    seen: set[int] = set()
    pending = [error]
    while pending:
        each = pending.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            each.__traceback__ = None
            pending += [each.__cause__, each.__context__]
