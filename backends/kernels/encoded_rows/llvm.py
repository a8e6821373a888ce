"""LLVM emitter of storing rows: each one is read once, rotated, measured and rounded."""

from __future__ import annotations

from llvmlite import ir

from tilewright.backends.kernels.encoded_rows.spec import ROWS, EncodedRowsSpec
from tilewright.backends.llvm.across import all_lanes
from tilewright.backends.llvm.builder import F32, I8, I32, Code
from tilewright.backends.llvm.frame import Frame
from tilewright.backends.llvm.hadamard import rotate
from tilewright.backends.target import Target
from tilewright.compiler.formats.caches import SMALLEST

_MAGIC = 12582912.0
"""1.5 * 2**23: added to a small number it leaves the nearest integer in the low bits."""

_SIGN, _INFINITY = 0x7FFFFFFF, 0x7F800000


def emit(module: ir.Module, spec: EncodedRowsSpec, target: Target, name: str) -> ir.Function:
    """Add the kernel ``name`` for ``spec`` to ``module``."""
    frame = Frame.open(module, target, name)
    code, begin, end, scratch = frame.code, frame.begin, frame.end, frame.scratch
    x, codes, scales = (frame.pointer(i) for i in range(3))
    sizes = [frame.dim(i) for i in range(3)]
    strides = [[frame.dim(3 * i + j) for j in range(3)] for i in range(1, 4)]
    count = code.mul(code.mul(sizes[0], sizes[1]), sizes[2])
    first = code.mul(begin, ROWS)
    with code.loop(first, code.min(code.mul(end, ROWS), count)) as row:
        last = code.rem(row.index, sizes[2])
        rest = code.div(row.index, sizes[2])
        place = (code.div(rest, sizes[1]), code.rem(rest, sizes[1]), last)
        offsets = [
            code.add(code.add(*(code.mul(i, s) for i, s in zip(place[:2], steps[:2], strict=True))),
                     code.mul(place[2], steps[2]))
            for steps in strides
        ]  # fmt: skip
        _row(
            code,
            spec,
            code.at(x, offsets[0]),
            code.at(codes, offsets[1], I8),
            code.at(scales, offsets[2]),
            scratch,
        )
    return frame.close()


def _row(
    code: Code,
    spec: EncodedRowsSpec,
    x: ir.Value,
    codes: ir.Value,
    scale: ir.Value,
    scratch: ir.Value,
) -> None:
    b, lanes, made = code.b, code.target.lanes_f32, spec.made
    vectors = [
        code.vload(code.at(x, at), lanes, _edge(code, spec.size - at))
        for at in range(0, spec.size, lanes)
    ]
    vectors = rotate(code, vectors, made.block(spec.size))
    most = _greatest(code, vectors)
    bits = b.bitcast(most, I32)
    # As integers, magnitudes have the order of floats with NaN beyond infinity.
    finite = b.icmp_unsigned("<", bits, ir.Constant(I32, _INFINITY))
    usable = b.and_(finite, b.fcmp_ordered(">=", most, _number(float(SMALLEST))))
    some = b.select(usable, most, _number(1.0))
    levels = _number(made.levels)
    code.store(b.select(usable, b.fdiv(some, levels), b.fmul(most, _number(0.0))), scale)
    inverse = code.splat(b.fdiv(levels, some), lanes)
    everywhere = code.splat(usable, lanes)
    zero = code.splat(0.0, lanes)
    steps = [b.select(everywhere, b.fmul(v, inverse), zero) for v in vectors]
    if made.bits == 8:
        for i, step in enumerate(steps):
            at = i * lanes
            _store(code, _integers(code, step), code.at(codes, at, I8), spec.size - at)
        return
    for i, step in enumerate(steps):
        level = b.fadd(step, code.splat(7.5, lanes))
        code.vstore(level, code.at(scratch, i * lanes))
    half = spec.size // 2
    for at in range(0, half, lanes):
        low, high = (
            _integers(code, code.vload(code.at(scratch, start), lanes)) for start in (at, half + at)
        )
        both = b.or_(low, b.shl(high, code.splat(ir.Constant(I8, 4), lanes)))
        _store(code, both, code.at(codes, at, I8), half - at)


def _greatest(code: Code, vectors: list[ir.Value]) -> ir.Value:
    """The greatest magnitude, NaN if there is one: of integers, among which NaN is the greatest."""
    b, lanes = code.b, code.target.lanes_f32
    kind = ir.VectorType(I32, lanes)
    mask = ir.Constant(kind, [_SIGN] * lanes)

    def greater(x: ir.Value, y: ir.Value) -> ir.Value:
        return b.select(b.icmp_signed(">", x, y), x, y)

    found = [b.and_(b.bitcast(v, kind), mask) for v in vectors]
    while len(found) > 1:
        pairs = [found[i : i + 2] for i in range(0, len(found), 2)]
        found = [greater(*p) if len(p) == 2 else p[0] for p in pairs]
    top = all_lanes(code, found[0], greater)
    return b.bitcast(b.extract_element(top, ir.Constant(I32, 0)), F32)


def _integers(code: Code, x: ir.Value) -> ir.Value:
    """The nearest integers of small numbers, ties to even, modulo 256."""
    b, lanes = code.b, code.target.lanes_f32
    bits = b.bitcast(b.fadd(x, code.splat(_MAGIC, lanes)), ir.VectorType(I32, lanes))
    return b.trunc(bits, ir.VectorType(I8, lanes))


def _store(code: Code, values: ir.Value, place: ir.Value, left: int) -> None:
    """As many bytes of a vector as there are left."""
    lanes = code.target.lanes_f32
    if left >= lanes:
        code.store(values, place)
        return
    for i in range(left):
        code.store(code.b.extract_element(values, ir.Constant(I32, i)), code.at(place, i, I8))


def _edge(code: Code, left: int) -> ir.Value | None:
    lanes = code.target.lanes_f32
    return None if left >= lanes else code.first_lanes(left, lanes)


def _number(value: float) -> ir.Value:
    return ir.Constant(F32, value)
