"""Strict parsing of queries."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from harness_async.testing.api.call import Call

MAX_INTEGER = 2**63 - 1  # the parameters are declared int64


class Query:
    """The query of a request. Unknown names are rejected, and single values that are given twice."""

    def __init__(self, call: Call, single: Iterable[str], repeated: Iterable[str] = ()) -> None:
        self.call = call
        self._values = call.request.query
        single, repeated = set(single), set(repeated)
        for name, values in self._values.items():
            if name not in single | repeated:
                raise call.error(400, f"{name} is not a parameter of this operation", field=name)
            if name in single and len(values) > 1:
                raise call.error(400, f"{name} is given {len(values)} times", field=name)

    def selection(self, excluded: Iterable[str]) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Return all names and values except the excluded names, for comparison with other queries."""
        excluded = set(excluded)
        return tuple(sorted((name, tuple(values)) for name, values in self._values.items() if name not in excluded))

    def text(self, name: str) -> str | None:
        """Return a single value, None if it is absent."""
        return self._values.get(name, [None])[0]

    def required(self, name: str) -> str:
        """Return a single value that must be present and not empty."""
        text = self.text(name)
        if not text:
            raise self.call.error(400, f"{name} must not be empty", field=name)
        return text

    def texts(self, name: str) -> list[str]:
        """Return a repeated value, empty if it is absent."""
        return self._values.get(name, [])

    def choice(self, name: str, choices: Sequence[str]) -> str | None:
        """Return a value that must be one of the choices."""
        text = self.text(name)
        if text is not None and text not in choices:
            message = f"{name} must be one of {', '.join(choices)} but got value {text!r}"
            raise self.call.error(400, message, field=name)
        return text

    def flag(self, name: str) -> bool | None:
        """Return a boolean, None if it is absent."""
        text = self.choice(name, ("true", "false"))
        return None if text is None else text == "true"

    def integer(self, name: str, *, least: int, most: int | None = MAX_INTEGER) -> int | None:
        """Return an integer between the bounds, None if it is absent."""
        text = self.text(name)
        if text is None:
            return None
        digits = text.removeprefix("-")
        if not (digits.isascii() and digits.isdigit() and len(digits) <= len(str(MAX_INTEGER))):
            raise self.call.error(400, f"{name} must be an integer but got value {text!r}", field=name)
        value = int(text)
        if value < least:
            message = f"{name} must be greater or equal than {least} but got value {value}"
            raise self.call.error(400, message, field=name)
        most = MAX_INTEGER if most is None else most
        if value > most:
            message = f"{name} must be lesser or equal than {most} but got value {value}"
            raise self.call.error(400, message, field=name)
        return value
