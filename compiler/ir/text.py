"""The lexical layer of the text form: names, literals, tokens and dimension expressions.

name     %x  %3  %"input ids"  @w  @"a b"       (a number is a value without a name of its own)
dim      batch  2*seq + 1  floordiv(seq, 16)    (the inverse of `str(Expr)`; also parentheses)
literal  3  0.5  1e-05  inf  nan  "text"  true  false  none
comment  # to the end of the line
"""

import json
import re
from dataclasses import dataclass
from typing import NoReturn

from tilewright.compiler.errors import ParseError
from tilewright.compiler.ir import dims
from tilewright.compiler.ir.dims import Dim

RESERVED = ("true", "false", "none", "inf", "nan")
"""Words that no symbol may be called: they are literals."""

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_STRING = r'"(?:[^"\\\n]|\\.)*"'
_TOKEN = re.compile(
    rf"""(?P<skip>\s+|\#[^\n]*)
    |(?P<string>{_STRING})
    |(?P<value>%(?:[A-Za-z0-9_][A-Za-z0-9_.]*|{_STRING}))
    |(?P<symbol>@(?:[A-Za-z0-9_][A-Za-z0-9_.]*|{_STRING}))
    |(?P<float>\d+\.\d+(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+)
    |(?P<int>\d+)
    |(?P<word>[A-Za-z_][A-Za-z0-9_.]*)
    |(?P<mark>\.\.|==|<=|[-+*(){{}}\[\],:=])
    """,
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Token:
    """A lexical unit; `kind` is a group of the token pattern or `end`."""

    kind: str
    text: str
    at: int


def quote(text: str) -> str:
    """`text` as a string literal."""
    return json.dumps(text, ensure_ascii=False)


def is_identifier(text: str) -> bool:
    """True when `text` can stand unquoted after `%` or `@` and as a symbol of a dimension."""
    return _IDENTIFIER.fullmatch(text) is not None


def sigil(mark: str, name: str) -> str:
    """A value (`%`) or weight (`@`) name as it is written."""
    return mark + (name if is_identifier(name) else quote(name))


class Tokens:
    """A cursor over the tokens of a text; an error says file, line, column and shows the line."""

    def __init__(self, text: str, file: str) -> None:
        self.text, self.file = text, file
        self.items: list[Token] = []
        at = 0
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None:
                self.fail(f"unexpected character {text[at]!r}", at)
            if match.lastgroup != "skip":
                self.items.append(Token(match.lastgroup or "", match.group(), at))
            at = match.end()
        self.items.append(Token("end", "", len(text)))
        self.next = 0

    def fail(self, what: str, at: int | None = None, hint: str = "") -> NoReturn:
        """Raise `ParseError` that points at offset `at` (the current token when None)."""
        at = self.peek.at if at is None else at
        start = self.text.rfind("\n", 0, at) + 1
        end = self.text.find("\n", start)
        line = self.text[start : end if end >= 0 else len(self.text)]
        row, column = self.text.count("\n", 0, at) + 1, at - start + 1
        # The caret stands below the character; UserError indents the first line by two.
        caret = "".join("\t" if c == "\t" else " " for c in line[: column - 1]) + "^"
        raise ParseError(f"{self.file}:{row}:{column}", what, f"{line}\n  {caret}", hint)

    @property
    def peek(self) -> Token:
        """The current token."""
        return self.items[self.next]

    def take(self) -> Token:
        """The current token, moving on."""
        token = self.items[self.next]
        self.next += 1
        return token

    def at(self, *texts: str) -> bool:
        """True when the current token is one of these marks or words."""
        token = self.peek
        return token.kind in ("mark", "word") and token.text in texts

    def accept(self, text: str) -> bool:
        """Move on and return True when the current token is this mark or word."""
        if not self.at(text):
            return False
        self.next += 1
        return True

    def expect(self, text: str) -> Token:
        """The current token, which must be this mark or word."""
        if not self.at(text):
            self.fail(f"expected {text!r}, found {self.peek.text or 'the end'!r}")
        return self.take()

    def kind(self, kind: str, what: str) -> Token:
        """The current token, which must be of this kind; `what` names it in the error."""
        if self.peek.kind != kind:
            self.fail(f"expected {what}, found {self.peek.text or 'the end'!r}")
        return self.take()

    def string(self) -> str:
        """A string literal's text."""
        return unquote(self.kind("string", "a string").text)

    def integer(self) -> int:
        """An integer with an optional sign."""
        sign = -1 if self.accept("-") else 1
        return sign * int(self.kind("int", "an integer").text)

    def dim(self) -> Dim:
        """A dimension expression: sums of products of integers, symbols and functions."""
        total = self._product()
        while self.at("+", "-"):
            minus = self.take().text == "-"
            term = self._product()
            total = total - term if minus else total + term
        return total

    def _product(self) -> Dim:
        out = self._factor()
        while self.accept("*"):
            out = out * self._factor()
        return out

    def _factor(self) -> Dim:
        if self.accept("-"):
            return self._factor() * -1
        if self.accept("("):
            inner = self.dim()
            self.expect(")")
            return inner
        if self.peek.kind == "int":
            return int(self.take().text)
        start = self.peek
        name = self.kind("word", "a dimension").text
        if not self.at("("):
            if name in RESERVED:
                self.fail(f"expected a dimension, found {name!r}", start.at)
            return dims.sym(name)
        build = dims.FUNCTIONS.get(name)
        if build is None:
            known = ", ".join(dims.FUNCTIONS)
            self.fail(f"unknown dimension function {name!r}; known: {known}", start.at)
        self.expect("(")
        a = self.dim()
        self.expect(",")
        b = self.dim()
        self.expect(")")
        return build(a, b)


def unquote(text: str) -> str:
    """The inverse of `quote`."""
    return str(json.loads(text))


def bare(token: Token) -> str:
    """The name behind the sigil of a value or weight token."""
    name = token.text[1:]
    return unquote(name) if name.startswith('"') else name


def parse_dim(text: str, file: str = "<dim>") -> Dim:
    """The dimension that `text` spells, e.g. `2*seq + 1`; `ParseError` when it is none."""
    tokens = Tokens(text, file)
    out = tokens.dim()
    tokens.kind("end", "the end of the dimension")
    return out
