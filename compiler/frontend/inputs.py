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
from tilewright.compiler.ir.dims import Dim, Expr, floordiv, substitute, sym, symbols
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
    shapes = [_declared(info, model) for info in infos]
    found: dict[str, Symbol] = {}
    for index, (info, shape) in enumerate(zip(infos, shapes, strict=True)):
        for axis, dim in enumerate(shape):
            if isinstance(dim, int) or (dim and expression(str(dim), {}) is None):
                continue
            text = str(dim) or f"{info.name}_{axis}"
            if text not in names:
                names[text] = fresh(identifier(text), dict.fromkeys(names.values()))
                low, high = _bounds_for(bounds, text, names[text])
                found[names[text]] = Symbol(low, high, ("shape", index, axis))
            shape[axis] = sym(names[text])
    unknown = bounds.keys() - names.keys() - found.keys()
    if unknown:
        name = min(unknown)
        have = ", ".join(found) or "none"
        hint = nearest(name, found) if found else "leave the option out"
        raise UserError(model, f"there is no dimension {name!r}", f"found {have}", hint)
    fixed: dict[str, Dim] = {n: s.low for n, s in found.items() if s.low == s.high}
    fixed.update(equal)
    for name, dim in equal.items():
        _narrow(found, name, dim)
    params = {text: substitute(sym(name), fixed) for text, name in names.items()}
    values: list[Value] = []
    for info, shape in zip(infos, shapes, strict=True):
        dims = []
        for axis, dim in enumerate(shape):
            if not isinstance(dim, int | Expr):
                dim = _expression_dim(str(dim), params, found, (len(values), axis), bounds)
            dims.append(substitute(dim, fixed))
        dtype = element_type(info.type.tensor_type.elem_type, f"{model}: input {info.name!r}")
        values.append(Value(TensorType(dtype, tuple(dims)), info.name))
    kept = {n: s for n, s in found.items() if n not in fixed}
    return Inputs(tuple(values), kept, params)


def _expression_dim(
    text: str,
    params: Mapping[str, Dim],
    found: dict[str, Symbol],
    place: tuple[int, int],
    bounds: Mapping[str, tuple[int, int | None]],
) -> Dim:
    """A dim_param such as `past + 1` over other dimensions, or a symbol of its own."""
    known = expression(text, params)
    if known is not None and symbols(known) <= found.keys():
        return known
    name = identifier(text)
    if name not in found:
        low, high = _bounds_for(bounds, text, name)
        found[name] = Symbol(low, high, ("shape", *place))
    return sym(name)


def expression(text: str, params: Mapping[str, Dim]) -> Dim | None:
    """The dimension written as `text` (names, integers, + - * // and brackets), or None.

    A single name is not an expression here unless `params` knows it.
    """
    if text in params:
        return params[text]
    try:
        tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    if isinstance(tree, ast.Name):
        return None
    return _fold(tree, params)


def _fold(tree: ast.expr, params: Mapping[str, Dim]) -> Dim | None:
    if isinstance(tree, ast.Constant) and type(tree.value) is int:
        return tree.value
    if isinstance(tree, ast.Name):
        return params.get(tree.id) if params else sym(tree.id)
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


def _bounds_for(
    bounds: Mapping[str, tuple[int, int | None]], text: str, name: str
) -> tuple[int, int | None]:
    return bounds.get(text, bounds.get(name, (1, None)))


def _narrow(found: dict[str, Symbol], name: str, dim: Dim) -> None:
    """Give the symbol that replaces `name` the bounds of both."""
    other = next(iter(symbols(dim)), None)
    if name not in found or other not in found or dim != sym(other):
        return
    a, b = found[name], found[other]
    highs = [h for h in (a.high, b.high) if h is not None]
    found[other] = Symbol(max(a.low, b.low), min(highs, default=None), b.source)
