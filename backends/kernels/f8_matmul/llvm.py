"""LLVM emitter of the matmul with weights of 8-bit floats."""

from __future__ import annotations

from dataclasses import replace

from llvmlite import ir

from tilewright.backends.kernels.f8_matmul.spec import F8MatmulSpec, head_bytes
from tilewright.backends.llvm.builder import I8
from tilewright.backends.llvm.epilogue import Operand
from tilewright.backends.llvm.f8_wide import emit_wide
from tilewright.backends.llvm.frame import Frame, Matmul, Units
from tilewright.backends.llvm.widened import Widened, emit_widened
from tilewright.backends.target import Target


def supports(target: Target) -> bool:
    """x86-64 with FMA and conversions of f16, that is from AVX2 on."""
    return target.triple.startswith("x86_64") and "f16c" in target.all_features


def emit(module: ir.Module, spec: F8MatmulSpec, target: Target, name: str) -> ir.Function:
    """Add the kernel ``name`` for ``spec`` to ``module``."""
    if not supports(target):
        raise ValueError(f"target '{target.name}' has no conversions of f16")
    frame = Frame.open(module, target, name)
    code, x = frame.code, Matmul.load(frame, spec.epilogue)
    scales = code.at(x.b, spec.scales_at, I8)
    x = replace(x, operands=(*x.operands, Operand(scales, 0)))

    def widen(index: ir.Value, out: ir.Value, short: bool) -> None:
        panel = code.at(x.b, code.mul(index, spec.panel_bytes), I8)
        emit_wide(code, spec.kind, spec.k, panel, out, short)

    units = Units(spec.panels, spec.panels_per_unit)
    of = Widened(spec.k, spec.n, spec.scaled, units, spec.rows_per_unit, widen, spec.exact)
    room = code.at(frame.scratch, head_bytes(spec), I8)
    emit_widened(code, of, x, (frame.begin, frame.end), frame.scratch, room)
    return frame.close()
