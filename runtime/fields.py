"""Reads JSON objects field by field, with messages that name the place."""

from __future__ import annotations

from typing import Any


class FieldError(ValueError):
    """A JSON text that does not fit its schema; the text names the place and both values."""


class Fields:
    """A JSON object whose fields are read by type; `place` is its path for messages.

    Every method raises `error` for a field that is missing or of another type.
    """

    def __init__(self, value: Any, place: str, error: type[FieldError] = FieldError) -> None:
        self.error = error
        if not isinstance(value, dict):
            raise error(f"{place or 'top level'}: expected an object; found {value!r:.40}")
        self.value: dict[str, Any] = value
        self.place = place

    def path(self, key: str) -> str:
        return f"{self.place}.{key}" if self.place else key

    def _get(self, key: str, kind: type, words: str) -> Any:
        if key not in self.value:
            raise self.error(f"{self.path(key)}: missing")
        value = self.value[key]
        if not isinstance(value, kind) or isinstance(value, bool):
            raise self.error(f"{self.path(key)}: expected {words}; found {value!r:.40}")
        return value

    def integer(self, key: str) -> int:
        return int(self._get(key, int, "an integer"))

    def text(self, key: str) -> str:
        return str(self._get(key, str, "a string"))

    def sequence(self, key: str) -> list[Any]:
        return list(self._get(key, list, "a list"))

    def texts(self, key: str) -> list[str]:
        values = self.sequence(key)
        for index, value in enumerate(values):
            if not isinstance(value, str):
                raise self.error(
                    f"{self.path(key)}[{index}]: expected a string; found {value!r:.40}"
                )
        return values

    def child(self, key: str) -> Fields:
        return Fields(self._get(key, dict, "an object"), self.path(key), self.error)

    def children(self, key: str) -> list[Fields]:
        return [
            Fields(value, f"{self.path(key)}[{index}]", self.error)
            for index, value in enumerate(self.sequence(key))
        ]

    def each(self) -> list[tuple[str, Any]]:
        return list(self.value.items())

    def text_items(self) -> list[tuple[str, str]]:
        return [(key, self.text(key)) for key in self.value]
