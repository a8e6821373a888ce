"""The passes by name: declared with `@graph_pass`, found by walking this folder.

The name of the file is the name of the function and, with hyphens, of the pass. Options are keyword
arguments of the function: `fuse-bias{max-rank=2, verbose=true}`.
"""

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache

from tilewright.compiler.errors import UserError, nearest
from tilewright.compiler.ir.core import Graph

Option = int | float | bool | str
_SPEC = re.compile(r"\s*([a-z][a-z0-9-]*)\s*(?:\{(.*)\})?\s*", re.DOTALL)
_SECTION = re.compile(r"(Requires|Ensures|Leaves alone):")


@dataclass(frozen=True)
class Pass:
    """A registered pass: `run(graph, **options)`; `requires` are passes that must run before it."""

    name: str
    run: Callable[..., Graph]
    options: dict[str, type]
    requires: tuple[str, ...]
    doc: str


_PASSES: dict[str, Pass] = {}


def graph_pass(function: Callable[..., Graph]) -> Callable[..., Graph]:
    """Register `function(graph, *, options...) -> Graph`; its docstring has the three sections."""
    name = function.__name__.replace("_", "-")
    doc = inspect.getdoc(function) or ""
    found = _SECTION.findall(doc)
    assert set(found) == {"Requires", "Ensures", "Leaves alone"}, f"{name}: sections {found}"
    options = {}
    for option in list(inspect.signature(function).parameters.values())[1:]:
        assert option.annotation in (int, float, bool, str), f"{name}: option {option}"
        options[option.name.replace("_", "-")] = option.annotation
    text = doc.split("Requires:", 1)[1]
    required = _SECTION.split(text)[0].strip().rstrip(".")
    requires = () if required == "nothing" else tuple(r.strip() for r in required.split(","))
    _PASSES[name] = Pass(name, function, options, requires, doc)
    return function


@cache
def passes() -> dict[str, Pass]:
    """Every pass by name: imports all modules directly in this folder."""
    package = importlib.import_module("tilewright.passes")
    for module in pkgutil.iter_modules(package.__path__):
        if not module.ispkg:
            importlib.import_module(f"tilewright.passes.{module.name}")
    return dict(sorted(_PASSES.items()))


def parse_pass(spec: str) -> tuple[Pass, dict[str, Option]]:
    """The pass and its options that e.g. `fuse-bias{max-rank=2}` names; `UserError` if none."""
    match = _SPEC.fullmatch(spec)
    if match is None:
        raise UserError(f"pass {spec!r}", "is not of the form name{option=value, ...}")
    name, text = match.groups()
    if name not in passes():
        raise UserError(f"pass {name!r}", "there is no such pass", hint=nearest(name, passes()))
    found = passes()[name]
    options: dict[str, Option] = {}
    for item in filter(None, map(str.strip, (text or "").split(","))):
        key, equals, value = (part.strip() for part in item.partition("="))
        if key not in found.options:
            hint = nearest(key, found.options) if found.options else "it has no options"
            raise UserError(f"pass {name!r}", f"has no option {key!r}", hint=hint)
        kind = found.options[key]
        options[key.replace("-", "_")] = _convert(f"pass {name!r}, option {key}", kind, value)
        if not equals:
            raise UserError(f"pass {name!r}", f"option {key!r} has no value", hint=f"{key}=...")
    return found, options


def _convert(where: str, kind: type, text: str) -> Option:
    if kind is bool and text in ("true", "false"):
        return text == "true"
    try:
        if kind is not bool:
            return kind(text)  # type: ignore[no-any-return]
    except ValueError:
        pass
    raise UserError(where, f"{text!r} is not of type {kind.__name__}")


def split_passes(text: str) -> tuple[str, ...]:
    """The specs in a comma-separated list; commas inside braces belong to options."""
    return tuple(s for part in re.split(r",(?![^{]*\})", text) if (s := part.strip()))


def check_order(specs: Iterable[str]) -> None:
    """Raise `UserError` when a pass runs before one that it requires."""
    done: set[str] = set()
    for spec in specs:
        found, _ = parse_pass(spec)
        late = [r for r in found.requires if r not in done]
        if late:
            raise UserError(
                f"pass {found.name!r}",
                f"must run after {', '.join(late)}",
                hint=f"put {late[0]} before {found.name}",
            )
        done.add(found.name)
