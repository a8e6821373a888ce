"""The custom kind `det`: determinants by elimination with row exchanges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from llvmlite import ir

from tilewright.backends.llvm.irregular.kernel import (
    IrregularKernel,
    LoweredKernel,
    Parameters,
    makes_kind,
)
from tilewright.backends.llvm.irregular.nest import Extent, Nest
from tilewright.backends.llvm.irregular.numeric import F64, convert
from tilewright.compiler.ir.dims import product
from tilewright.compiler.ir.ops.control import Custom
from tilewright.compiler.ir.types import DType


@dataclass(frozen=True)
class Det(IrregularKernel):
    """A unit is one matrix. Scratch: a copy of it in f64, in which the elimination runs."""

    family: ClassVar[str] = "det"
    dtype: DType
    side: Extent

    def body(self, k: Nest) -> None:
        x, out = k.arrays(self.dtype, self.dtype)
        n, a = k.size(self.side), k.scratch_array(DType.F64)
        area = k.mul(n, n)
        with k.units() as u:
            with k.loop(area) as i:
                value = x.get(k.add(k.mul(u, area), i))
                a.set(i, convert(k.m, value, self.dtype, DType.F64, False, k.half))
            det = k.cell(ir.Constant(F64, 1.0))
            with k.loop(n) as c:
                pivot = k.cell(c)
                with k.loop(n, k.add(c, 1)) as r:
                    here = k.m.abs(a.get(k.add(k.mul(r, n), c)))
                    best = k.m.abs(a.get(k.add(k.mul(pivot.get(), n), c)))
                    pivot.set(k.b.select(k.m.fcmp(">", here, best), r, pivot.get()))
                row, top = k.mul(pivot.get(), n), k.mul(c, n)
                with k.when(k.cmp("!=", pivot.get(), c)):
                    det.set(k.m.neg(det.get()))
                    with k.loop(n, c) as j:
                        low, high = a.get(k.add(row, j)), a.get(k.add(top, j))
                        a.set(k.add(row, j), high)
                        a.set(k.add(top, j), low)
                lead = a.get(k.add(top, c))
                det.set(k.m.mul(det.get(), lead))
                with (
                    k.when(k.b.fcmp_unordered("!=", lead, ir.Constant(F64, 0.0))),
                    k.loop(n, k.add(c, 1)) as r,
                ):
                    line = k.mul(r, n)
                    factor = k.m.div(a.get(k.add(line, c)), lead)
                    with k.loop(n, k.add(c, 1)) as j:
                        change = k.m.mul(factor, a.get(k.add(top, j)))
                        a.set(k.add(line, j), k.m.sub(a.get(k.add(line, j)), change))
            result = det.get()
            if self.dtype != DType.F64:
                result = k.b.fptrunc(result, ir.FloatType())
            out.set(u, result)


@makes_kind("det")
def _det(op: Custom, p: Parameters) -> LoweredKernel:
    (x,) = op.inputs
    side = x.shape[-1]
    spec = Det(x.dtype, p(side))
    return LoweredKernel(spec, (x,), p.dims, product(x.shape[:-2]), side * side * 8)
