"""The base of all models: rows and objects of the API as frozen attrs classes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Any

import attrs

from harness_async.serialization.converters import unstructure
from harness_async.validation import from_milliseconds


class Model:
    """A row or an object of the API. Immutable, equal by value, and picklable."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the fields under their names as plain JSON data, and the times in ISO 8601.

        Words of enums are text. Properties whose names end with `_at` are included, None where the time is missing.
        """
        fields: Any = type(self)
        data = {field.name: unstructure(getattr(self, field.name)) for field in attrs.fields(fields)}
        for name in _time_names(fields):
            moment: datetime | None = getattr(self, name)
            data[name] = None if moment is None else moment.isoformat()
        return data


class Created(Model):
    """A model with the time of its creation."""

    __slots__ = ()

    created: int

    @property
    def created_at(self) -> datetime | None:
        """Time of creation in UTC; None where `created` is missing or fits no calendar."""
        return from_milliseconds(self.created)


class Updated(Created):
    """A model with the times of its creation and of its last change."""

    __slots__ = ()

    updated: int

    @property
    def updated_at(self) -> datetime | None:
        """Time of the last change in UTC; None where `updated` is missing or fits no calendar."""
        return from_milliseconds(self.updated)


def field_names(cls: type[Any]) -> tuple[str, ...]:
    """Return the names of the fields of a model."""
    return tuple(field.name for field in attrs.fields(cls))


def dict_names(cls: type[Model]) -> tuple[str, ...]:
    """Return the names of the members that `to_dict` returns."""
    model: Any = cls
    return field_names(model) + _time_names(model)


@cache
def _time_names(cls: type) -> tuple[str, ...]:
    return tuple(sorted({name for base in cls.__mro__ for name in vars(base) if name.endswith("_at")}))


def parse_tags(value: object) -> Mapping[str, str]:
    """Parse tags, which are a mapping, or a list of objects with `key` and `value`.

    Raises:
        TypeError: They are something else.
    """
    pairs = value.items() if isinstance(value, dict) else [(each["key"], each.get("value")) for each in value]  # type: ignore[attr-defined]
    return {str(name): "" if text is None else str(text) for name, text in pairs}
