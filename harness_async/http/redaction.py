"""Redaction of the key, in any form in which a server or a proxy may echo it."""

from __future__ import annotations

import re
from functools import lru_cache

_ENTITIES = {"&": "amp", "<": "lt", ">": "gt", '"': "quot", "'": "apos"}

REDACTED = "***"


@lru_cache(8)
def _pattern(key: str) -> str:
    r"""Return a pattern of the key in which each character may be plain or escaped, also several times.

    The escapes: JSON and JavaScript (`\u0041`, `\u{41}`, `\x41`, `\101`, `\/`), URLs (`%41`), HTML (`&#65;`, `&#x41;`,
    `&amp;`). Repetitions are bounded, because they would be searched again from each character.
    """
    backslash = r"(?:\\|%5[cC])"
    characters: list[str] = []
    for character in key:
        code = ord(character)
        number = f"{code:02x}"
        forms = [
            rf"{backslash}{{0,4}}{re.escape(character)}",
            rf"{backslash}{{1,4}}[uUxX]\{{?0{{0,6}}(?i:{number})\}}?",
            rf"{backslash}{{1,4}}{code:03o}",
            f"%(?:25){{0,3}}(?i:{number})",
            f"&(?:amp;){{0,3}}#0{{0,6}}{code};",
            f"&(?:amp;){{0,3}}#[xX]0{{0,6}}(?i:{number});",
        ]
        if character in _ENTITIES:
            forms.append(f"&(?:amp;){{0,3}}{_ENTITIES[character]};")
        # The longest first: a plain `&` is also the beginning of `&amp;`.
        characters.append(f"(?:{'|'.join(reversed(forms))})")
    return "".join(characters)


@lru_cache(8)
def _text_regex(key: str) -> re.Pattern[str]:
    return re.compile(_pattern(key))


@lru_cache(8)
def _bytes_regex(key: str) -> re.Pattern[bytes]:
    return re.compile(_pattern(key).encode())


def redact_text(text: str, key: str) -> str:
    """Return a text without the key; also without the zero bytes of UTF-16 and UTF-32 where the key is between them."""
    regex = _text_regex(key)
    if "\0" in text and regex.search(bare := text.replace("\0", "")):
        text = bare
    return regex.sub(REDACTED, text)


def redact_bytes(content: bytes, key: str) -> bytes:
    """Return bytes without the key; see `redact_text`."""
    regex = _bytes_regex(key)
    if b"\0" in content and regex.search(bare := content.replace(b"\0", b"")):
        content = bare
    return regex.sub(REDACTED.encode(), content)


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
