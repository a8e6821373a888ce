"""Compiles region specs and compares them with `region_oracle` between guard pages."""

import ctypes
from itertools import pairwise

import numpy as np
from llvmlite import binding, ir
from support.guarded import Guarded
from support.region_oracle import DTYPES, reference

from tilewright.backends import target
from tilewright.backends.llvm.jit import Library
from tilewright.backends.llvm.mlir.lower import MlirUnavailable, bindings
from tilewright.backends.llvm.region import dims
from tilewright.backends.llvm.region.kernel import emit_region, scratch_bytes, units

ROWS = [r for r in ("x86-64-v2", "x86-64-v3", "x86-64-v4") if target.runs_here(target.lookup(r))]
BEST = target.detect()


def tiers():
    try:
        bindings()
    except MlirUnavailable:
        return ["llvm"]
    return ["llvm", "mlir"]


TIERS = tiers()


def check(spec, arrays, sizes, params=(), tier="llvm", row=BEST, rtol=2e-6, atol=1e-6, splits=1):
    """Compile, run against guard pages and compare; gives the outputs."""
    compiled = CompiledRegion(spec, row, tier)
    assert compiled.region.tier == tier, compiled.region.reason
    assert compiled.calls <= {"memset", "memcpy", "memset@PLT", "memcpy@PLT"}, compiled.calls
    return rerun(compiled, spec, arrays, sizes, params, rtol, atol, splits)


def rerun(compiled, spec, arrays, sizes, params=(), rtol=2e-6, atol=1e-6, splits=1):
    status, got = compiled(arrays, sizes, params, splits)
    assert status == 0
    want = reference(spec, arrays, params, sizes)
    for g, w, store in zip(got, want, spec.outputs, strict=True):
        if DTYPES[store.dtype].kind in "iub":
            assert (g == w).all(), (g[g != w][:5], w[g != w][:5])
            continue
        wide = [v.astype(np.float64) for v in (g, w)]
        limit = {"f16": 1e-3, "bf16": 8e-3}.get(store.dtype, rtol)
        np.testing.assert_allclose(*wide, rtol=limit, atol=atol)
    return got


def randoms(*shapes, dtype="f32", seed=0):
    rng = np.random.default_rng(seed)
    arrays = [rng.normal(size=s).astype(np.float32).astype(DTYPES[dtype]) for s in shapes]
    return arrays


class CompiledRegion:
    """A region compiled for ``row`` through ``tier``; call it with arrays and parameters."""

    def __init__(self, spec, row, tier):
        self.spec, self.row = spec, row
        module = ir.Module()
        module.triple = row.triple
        self.region = emit_region(module, spec, row, "kernel", tier)
        machine = target.target_machine(row)
        parsed = binding.parse_assembly(str(module))
        if self.region.text is not None:
            parsed.link_in(binding.parse_assembly(self.region.text))
        parsed.verify()
        options = binding.create_pipeline_tuning_options(speed_level=2)
        passes = binding.create_pass_builder(machine, options)
        passes.getModulePassManager().run(parsed, passes)
        text = machine.emit_assembly(binding.parse_assembly(str(parsed)))
        self.calls = {
            line.split()[-1].split("@")[0] for line in text.splitlines() if "\tcall" in line
        }
        self.assembly = text
        self._library = Library(machine.emit_object(parsed))
        proto = ctypes.CFUNCTYPE(
            ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64,
            ctypes.c_void_p,
        )  # fmt: skip
        self._call = proto(self._library.address("kernel"))

    def units(self, params):
        return dims.evaluate(units(self.spec, self.row), params)

    def __call__(self, arrays, sizes, params=(), splits=1):
        """(status, outputs): every buffer, scratch included, ends at a page that faults."""
        guard = Guarded()
        placed = [guard.place(a) for a in arrays]
        outputs = [
            guard.place(np.zeros(n, DTYPES[s.dtype]))
            for n, s in zip(sizes, self.spec.outputs, strict=True)
        ]
        scratch = guard.place(
            np.zeros(dims.evaluate(scratch_bytes(self.spec, self.row), params), np.uint8)
        )
        buffers = [*placed, *outputs]
        pointers = (ctypes.c_void_p * len(buffers))(*(b.ctypes.data for b in buffers))
        values = (ctypes.c_int64 * max(1, len(params)))(*params)
        n, status = self.units(params), 0
        cuts = [n * k // splits for k in range(splits + 1)]
        for low, high in pairwise(cuts):
            status = max(status, self._call(pointers, values, low, high, scratch.ctypes.data))
        return status, [np.array(o) for o in outputs]
