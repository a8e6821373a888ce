"""Evaluates the integer expressions of a manifest: dims, flops and bytes, such as `2*seq*(seq+1)`.

    sum     = product {("+" | "-") product}
    product = unary {("*" | "//" | "%") unary}
    unary   = ["-"] unary | number | name | name "(" sum {"," sum} ")" | "(" sum ")"

Functions: min, max (any number of arguments), mul, floordiv, ceildiv, mod (two). There is no way to
reach anything but the given names: manifests come from files.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

_TOKEN = re.compile(r"\s*(?:(\d{1,30})|([A-Za-z_][\w.]*)|(//|[-+*%(),]))")
_MAX_DEPTH = 50


class ExpressionError(ValueError):
    """Text that is no expression, a name without a value, or a division by zero."""


def _mul(a: int, b: int) -> int:
    return a * b


def _floordiv(a: int, b: int) -> int:
    return a // b


def _ceildiv(a: int, b: int) -> int:
    return -(-a // b)


def _mod(a: int, b: int) -> int:
    return a % b


FUNCTIONS: dict[str, Callable[..., int]] = {
    "min": min,
    "max": max,
    "mul": _mul,
    "floordiv": _floordiv,
    "ceildiv": _ceildiv,
    "mod": _mod,
}


def evaluate(text: str, values: Mapping[str, int]) -> int:
    """The value of `text` with `values` for its names; ExpressionError says what is wrong."""
    reader = _Reader(text, values)
    try:
        result = reader.sum(0)
    except ZeroDivisionError:
        raise ExpressionError(f"{text!r} divides by zero") from None
    reader.end()
    return result


def names(text: str) -> set[str]:
    """The names that `text` uses (ExpressionError when it is no expression)."""
    found = _Names()
    reader = _Reader(text, found)
    reader.sum(0)
    reader.end()
    return found.used


class _Names(dict[str, int]):
    """Gives every name the value 1 and remembers it; 1 divides everything."""

    def __init__(self) -> None:
        super().__init__()
        self.used: set[str] = set()

    def __missing__(self, name: str) -> int:
        self.used.add(name)
        return 1

    def __contains__(self, name: object) -> bool:
        return True


class _Reader:
    def __init__(self, text: str, values: Mapping[str, int]) -> None:
        self.text, self.values = text, values
        self.tokens: list[str] = []
        position, length = 0, len(text.rstrip())
        while position < length:
            match = _TOKEN.match(text, position)
            if match is None:
                raise ExpressionError(f"{text!r} is no expression: {text[position:].strip()!r}")
            self.tokens.append(match.group().strip())
            position = match.end()
        self.next = 0

    def peek(self) -> str:
        return self.tokens[self.next] if self.next < len(self.tokens) else ""

    def take(self, *wanted: str) -> str:
        token = self.peek()
        if token not in wanted or not token:
            return ""
        self.next += 1
        return token

    def end(self) -> None:
        if self.peek():
            raise ExpressionError(f"{self.text!r} is no expression: unexpected {self.peek()!r}")

    def sum(self, depth: int) -> int:
        if depth > _MAX_DEPTH:
            raise ExpressionError(f"an expression is nested deeper than {_MAX_DEPTH}")
        total = self.product(depth)
        while operator := self.take("+", "-"):
            right = self.product(depth)
            total = total + right if operator == "+" else total - right
        return total

    def product(self, depth: int) -> int:
        total = self.unary(depth)
        while operator := self.take("*", "//", "%"):
            right = self.unary(depth)
            if operator == "*":
                total *= right
            else:
                total = total // right if operator == "//" else total % right
        return total

    def unary(self, depth: int) -> int:
        sign = 1
        while self.take("-"):
            sign = -sign
        token = self.peek()
        if token[:1].isdigit():
            self.next += 1
            return sign * int(token)
        if self.take("("):
            value = self.sum(depth + 1)
            self.expect(")")
            return sign * value
        if not token or not (token[0].isalpha() or token[0] == "_"):
            found = repr(token) if token else "its end"
            raise ExpressionError(f"{self.text!r} is no expression: unexpected {found}")
        self.next += 1
        if self.take("("):
            return sign * self.call(token, depth)
        if token not in self.values:
            raise ExpressionError(f"{self.text!r} uses {token!r}, which has no value")
        return sign * self.values[token]

    def call(self, name: str, depth: int) -> int:
        arguments = [self.sum(depth + 1)]
        while self.take(","):
            arguments.append(self.sum(depth + 1))
        self.expect(")")
        function = FUNCTIONS.get(name)
        if function is None:
            raise ExpressionError(f"{self.text!r} calls unknown function {name!r}")
        if len(arguments) != 2 and name not in ("min", "max"):
            raise ExpressionError(f"{self.text!r}: {name} takes 2 values, not {len(arguments)}")
        return function(*arguments) if len(arguments) > 1 else arguments[0]

    def expect(self, token: str) -> None:
        if not self.take(token):
            found = repr(self.peek()) if self.peek() else "its end"
            raise ExpressionError(
                f"{self.text!r} is no expression: expected {token!r}, found {found}"
            )
