"""The numpy meaning of a RegionSpec."""

import ml_dtypes
import numpy as np
import scipy.special

from tilewright.backends.llvm.region import dims
from tilewright.backends.llvm.region.spec import (
    Const,
    DimValue,
    Iota,
    Load,
    Op,
    Piece,
    Reduce,
)

DTYPES = {
    "bool": np.dtype(bool), "f16": np.dtype(np.float16), "bf16": np.dtype(ml_dtypes.bfloat16),
    "f8e4m3": np.dtype(ml_dtypes.float8_e4m3fn), "f8e5m2": np.dtype(ml_dtypes.float8_e5m2),
    "f32": np.dtype(np.float32), "f64": np.dtype(np.float64),
} | {
    f"{short}{bits}": np.dtype(f"{long}{bits}")
    for short, long in (("i", "int"), ("u", "uint"))
    for bits in (8, 16, 32, 64)
}  # fmt: skip
NARROW = ("f16", "bf16", "f8e4m3", "f8e5m2")


def _sigmoid(x):
    return scipy.special.expit(x)


def _trunc_div(x, y):
    """Integer quotient towards zero; 0 for a zero divisor."""
    if x.dtype.kind == "f":
        return x / y
    safe = np.where(y == 0, 1, y)
    quotient = x // safe
    floored = (quotient * safe != x) & ((x < 0) != (safe < 0))
    return np.where(y == 0, 0, quotient + floored).astype(x.dtype)


def _shift(name):
    def shift(x, y):
        bits = x.dtype.itemsize * 8
        u = x.view(f"uint{bits}") if x.dtype.kind == "i" else x
        wide = y.astype(np.uint64) >= bits
        moved = getattr(np, name)(u, np.where(wide, 0, y).astype(u.dtype))
        return np.where(wide, 0, moved).astype(u.dtype).view(x.dtype)

    return shift


NUMPY = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": _trunc_div, "pow": np.power,
    "neg": np.negative, "abs": np.abs, "sqrt": np.sqrt, "floor": np.floor, "ceil": np.ceil,
    "round": np.rint, "trunc": np.trunc, "exp": np.exp, "log": np.log, "tanh": np.tanh,
    "sin": np.sin, "cos": np.cos, "erf": scipy.special.erf, "sigmoid": _sigmoid, "sign": np.sign,
    "expm1": np.expm1, "log1p": np.log1p, "atan": np.arctan,
    "gelu_erf": lambda x: x * scipy.special.ndtr(x.astype(np.float64)),
    "silu": lambda x: np.where(x == -np.inf, 0, x * _sigmoid(x)),
    "relu": lambda x: np.where(x < 0, 0, x), "recip": lambda x: 1 / x,
    "rsqrt": lambda x: 1 / np.sqrt(x), "max": np.maximum, "min": np.minimum,
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater,
    "ge": np.greater_equal, "isnan": np.isnan, "isinf": np.isinf, "where": np.where,
    "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor, "not": np.invert,
    "shl": _shift("left_shift"), "shr": _shift("right_shift"), "fma": lambda x, y, z: x * y + z,
    "mod": lambda x, y: np.mod(x, np.where(y == 0, 1, y) if x.dtype.kind in "iu" else y),
    "fmod": lambda x, y: np.fmod(x, np.where(y == 0, 1, y) if x.dtype.kind in "iu" else y),
    "clip": lambda x, low, high: np.minimum(np.maximum(x, low), high),
}  # fmt: skip


def _cast(x, source, dtype):
    if dtype == "bool":
        return x != 0
    if x.dtype.kind == "f" and DTYPES[dtype].kind in "iu":
        info = np.iinfo(DTYPES[dtype])
        clean = np.trunc(np.nan_to_num(x.astype(np.float64), nan=0.0, posinf=1e300, neginf=-1e300))
        inside = np.clip(clean, float(info.min), np.nextafter(float(info.max), 0))
        value = inside.astype(DTYPES[dtype])
        return np.where(clean >= float(info.max), info.max, value).astype(DTYPES[dtype])
    if dtype in NARROW:
        return x.astype(np.float32).astype(DTYPES[dtype]).astype(np.float32)
    return x.astype(DTYPES[dtype])


def _reduce(kind, x, axes):
    arg = kind.startswith("arg")
    if arg:
        (axis,) = axes
        f = np.argmax if "max" in kind else np.argmin
        if kind.endswith("_last"):
            return x.shape[axis] - 1 - f(np.flip(x, axis), axis, keepdims=True)
        return f(x, axis, keepdims=True).astype(np.int64)
    name = {"any": "any", "all": "all"}.get(kind, kind)
    wide = x.astype(np.float64) if x.dtype == np.float32 and kind in ("sum", "prod") else x
    extra = {}
    if kind in ("max", "min") and x.dtype.kind == "f":
        extra["initial"] = -np.inf if kind == "max" else np.inf
    result = getattr(np, name)(wide, axis=axes, keepdims=True, **extra)
    return result.astype(x.dtype)


def reference(spec, arrays, params, out_shapes):
    """Outputs of ``spec`` on ``arrays``, each a flat array of ``out_shapes[k]`` elements of 0."""
    domain = tuple(dims.evaluate(d, params) for d in spec.domain)
    grid = np.indices(domain, dtype=np.int64)
    dtypes = spec.dtypes()
    values = []

    def address(strides, offset):
        total = np.full(domain, dims.evaluate(offset, params), np.int64)
        for axis, stride in enumerate(strides):
            total = total + grid[axis] * dims.evaluate(stride, params)
        return total

    with np.errstate(all="ignore"):
        for node in spec.body:
            match node:
                case Load():
                    where = address(node.strides, node.offset)
                    for gather in node.gathers:
                        extent = dims.evaluate(gather.extent, params)
                        index = values[gather.value].astype(np.int64)
                        index = np.where(index < 0, index + extent, index)
                        where = where + index * dims.evaluate(gather.stride, params)
                    flat = arrays[node.input].reshape(-1)
                    ok = (where >= 0) & (where < max(flat.size, 1))
                    if flat.size == 0:
                        value = np.zeros(domain, flat.dtype)
                    else:
                        value = flat[np.where(ok, where, 0)]
                    if spec.inputs[node.input] in NARROW:
                        value = value.astype(np.float32)
                case Const():
                    kind = np.float32 if node.dtype in NARROW else DTYPES[node.dtype]
                    value = np.full(domain, node.value, kind)
                case Iota():
                    value = grid[node.axis]
                case DimValue():
                    value = np.full(domain, dims.evaluate(node.dim, params), np.int64)
                case Op(name="cast"):
                    value = _cast(values[node.args[0]], dtypes[node.args[0]], node.dtype)
                case Op():
                    value = NUMPY[node.name](*(values[i] for i in node.args))
                    kind = np.float32 if node.dtype in NARROW else DTYPES[node.dtype]
                    value = value.astype(kind)
                case Reduce():
                    x = np.broadcast_to(values[node.arg], domain)
                    value = np.broadcast_to(_reduce(node.kind, x, spec.reduced), domain)
                case Piece():
                    starts = [dims.evaluate(s, params) for s in node.starts]
                    which = sum((grid[node.axis] >= s).astype(int) for s in starts)
                    value = np.choose(which, [values[i] for i in node.args])
            values.append(value)
        outputs = []
        for store, size in zip(spec.outputs, out_shapes, strict=True):
            out = np.zeros(size, DTYPES[store.dtype])
            where = address(store.strides, store.offset)
            out[where.reshape(-1)] = values[store.value].reshape(-1).astype(out.dtype)
            outputs.append(out)
    return outputs
