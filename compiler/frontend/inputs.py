"""Graph inputs: element types, symbolic dimensions and the user's `dims` option."""

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from onnx import TypeProto, ValueInfoProto

from tilewright.compiler.errors import UserError, nearest
from tilewright.compiler.frontend.node import Hint
from tilewright.compiler.frontend.tensors import BY_ONNX, element_type
from tilewright.compiler.frontend.unify import fresh, identifier
from tilewright.compiler.ir.core import Symbol, Value
from tilewright.compiler.ir.dims import Dim, floordiv, substitute, sym, symbols
from tilewright.compiler.ir.types import TensorType

DimOption = str | int | tuple[int, int | None]


@dataclass(frozen=True)
class Inputs:
    """The values of the graph's inputs, the symbols in them, and the names of dim_params."""

    values: tuple[Value, ...]
    symbols: dict[str, Symbol]
    params: Mapping[str, Dim]


def parse_dims(options: Mapping[str, DimOption]) -> dict[str, tuple[int, int | None]]:
    """Bounds by name from `4`, `"4"`, `"1..8"`, `"1.."` or `(1, 8)`; UserError for others."""
    out: dict[str, tuple[int, int | None]] = {}
    for name, option in options.items():
        if isinstance(option, str):
            low, dots, high = option.partition("..")
            texts = (low, high) if dots else (low, low)
            bad = not all(t.strip().isdecimal() for t in texts if t.strip() or t is low)
            if bad:
                hint = f"--dim {name}=4 or --dim {name}=1..128"
                raise UserError(f"dimension {name!r}", "not a size or a range", repr(option), hint)
            pair = (int(texts[0]), int(texts[1]) if texts[1].strip() else None)
        else:
            pair = (option, option) if isinstance(option, int) else (option[0], option[1])
        if pair[0] < 0 or (pair[1] is not None and pair[1] < pair[0]):
            raise UserError(f"dimension {name!r}", "an empty or negative range", repr(option))
        out[name] = pair
    return out


def read_inputs(
    infos: Sequence[ValueInfoProto],
    options: Mapping[str, DimOption],
    equal: Mapping[str, Dim],
    model: str,
) -> Inputs:
    """The graph inputs declared by `infos`.

    A dim_param becomes the symbol of that name (as an identifier); a dynamic dimension without a
    name is called `<input>_<axis>`. Symbols are at least 1 unless `options` says otherwise: an
    exporter's dynamic size rarely means empty tensors, and code for them is worse. `equal` holds
    substitutions of symbols. Raises UserError for inputs that are not tensors of known rank.
    """
    bounds = parse_dims(options)
    names: dict[str, str] = {}
    found: dict[str, Symbol] = {}
    shapes = [_declared(info, model) for info in infos]

    def symbol(text: str, source: tuple[str, int, int]) -> Dim:
        if text not in names:
            names[text] = fresh(identifier(text), found)
            low, high = bounds.get(text, bounds.get(names[text], (1, None)))
            found[names[text]] = Symbol(low, high, source)
        return sym(names[text])

    for i, (info, shape) in enumerate(zip(infos, shapes, strict=True)):
        for axis, dim in enumerate(shape):
            if isinstance(dim, str) and expression(dim, None) is None:
                shape[axis] = symbol(dim or f"{info.name}_{axis}", ("shape", i, axis))
    params: dict[str, Dim] = {text: sym(name) for text, name in names.items()}
    for i, shape in enumerate(shapes):
        for axis, dim in enumerate(shape):
            if isinstance(dim, str):  # such as `past + 1`, if `past` is a dimension itself
                known = expression(dim, params)
                shape[axis] = symbol(dim, ("shape", i, axis)) if known is None else known
    unknown = bounds.keys() - names.keys() - found.keys()
    if unknown:
        name = min(unknown)
        have = ", ".join(found) or "none"
        hint = nearest(name, found) if found else "leave the option out"
        raise UserError(model, f"there is no dimension {name!r}", f"found {have}", hint)
    fixed: dict[str, Dim] = {n: s.low for n, s in found.items() if s.low == s.high}
    fixed.update(equal)
    for name, value in equal.items():
        _narrow(found, name, value)
    values: list[Value] = []
    for info, shape in zip(infos, shapes, strict=True):
        dims = tuple(substitute(d, fixed) for d in shape if not isinstance(d, str))
        dtype = element_type(info.type.tensor_type.elem_type, f"{model}: input {info.name!r}")
        values.append(Value(TensorType(dtype, dims), info.name))
    kept = {n: s for n, s in found.items() if n not in fixed}
    return Inputs(
        tuple(values), kept, {text: substitute(sym(n), fixed) for text, n in names.items()}
    )


def expression(text: str, params: Mapping[str, Dim] | None) -> Dim | None:
    """The dimension written as `text` (names, integers, + - * // and brackets), or None.

    Names are those of `params`; with None, any name will do but a single name is no expression.
    """
    if params is not None and text in params:
        return params[text]
    try:
        tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    if isinstance(tree, ast.Name):
        return None
    return _fold(tree, params)


def _fold(tree: ast.expr, params: Mapping[str, Dim] | None) -> Dim | None:
    if isinstance(tree, ast.Constant) and type(tree.value) is int:
        return tree.value
    if isinstance(tree, ast.Name):
        return sym(tree.id) if params is None else params.get(tree.id)
    if isinstance(tree, ast.BinOp):
        a, b = _fold(tree.left, params), _fold(tree.right, params)
        if a is None or b is None:
            return None
        match tree.op:
            case ast.Add():
                return a + b
            case ast.Sub():
                return a - b
            case ast.Mult():
                return a * b
            case ast.FloorDiv() if b != 0:
                return floordiv(a, b)
    return None


def hint_of(proto: TypeProto, params: Mapping[str, Dim]) -> Hint | None:
    """A declared type; None for sequences, maps and the like."""
    if not proto.HasField("tensor_type"):
        return None
    tensor = proto.tensor_type
    dtype = BY_ONNX.get(tensor.elem_type)
    if not tensor.HasField("shape"):
        return Hint(dtype, None)
    dims: list[Dim | None] = []
    for dim in tensor.shape.dim:
        if dim.HasField("dim_value"):
            dims.append(dim.dim_value if dim.dim_value >= 0 else None)
        else:
            dims.append(expression(dim.dim_param, params) if dim.dim_param else None)
    return Hint(dtype, tuple(dims))


def _declared(info: ValueInfoProto, model: str) -> list[Dim | str]:
    where = f"{model}: input {info.name!r}"
    kind = info.type.WhichOneof("value")
    if kind != "tensor_type":
        found = f"found {(kind or 'nothing').removesuffix('_type')}"
        raise UserError(where, "only tensors can be model inputs", found)
    if not info.type.tensor_type.HasField("shape"):
        hint = "export the model with a known number of dimensions for every input"
        raise UserError(where, "the rank is not declared", "", hint)
    out: list[Dim | str] = []
    for dim in info.type.tensor_type.shape.dim:
        known = dim.HasField("dim_value") and dim.dim_value >= 0
        out.append(dim.dim_value if known else dim.dim_param)
    return out


def _narrow(found: dict[str, Symbol], name: str, dim: Dim) -> None:
    """Give the symbol that replaces `name` the bounds of both."""
    other = next(iter(symbols(dim)), None)
    if name not in found or other not in found or dim != sym(other):
        return
    a, b = found[name], found[other]
    highs = [h for h in (a.high, b.high) if h is not None]
    found[other] = Symbol(max(a.low, b.low), min(highs, default=None), b.source)
