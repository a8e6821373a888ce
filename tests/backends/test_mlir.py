"""The literal fixer, the lowering's refusals and the choice of the tier."""

import struct

import numpy as np
import pytest
from llvmlite import binding, ir

from tilewright.backends import target
from tilewright.backends.llvm.emit.mlir_emit import MlirEmit
from tilewright.backends.llvm.mlir import lower
from tilewright.backends.llvm.mlir.float_text import fix_float_literals, old_literal
from tilewright.backends.llvm.mlir.lower import MlirUnavailable, to_llvm_ir
from tilewright.backends.llvm.region import kernel
from tilewright.backends.llvm.region.kernel import emit_region
from tilewright.backends.llvm.region.spec import Load, Op, RegionSpec, Store

SPEC = RegionSpec(
    domain=(40,), inputs=("f32",), body=(Load(0, (1,)), Op("tanh", (0,), "f32")),
    outputs=(Store(1, "f32", (1,)),),
)  # fmt: skip


def has_mlir():
    try:
        lower.bindings()
    except MlirUnavailable:
        return False
    return True


needs_mlir = pytest.mark.skipif(not has_mlir(), reason="no MLIR bindings are installed")


@pytest.mark.parametrize(
    ("literal", "typ", "want"),
    [
        ("f0x3F3504F3", "float", "0x3FE6A09E60000000"),
        ("1.000000e+00", "float", "0x3FF0000000000000"),
        ("-2.954600e-03", "float", None),
        ("+inf", "float", "0x7FF0000000000000"),
        ("-inf", "half", "0xHFC00"),
        ("+qnan", "float", "0x7FF8000000000000"),
        ("-nan(0x1)", "float", "0xFFF8000020000000"),
        ("+snan(0x1)", "float", "0x7FF0000020000000"),
        ("+qnan", "bfloat", "0xR7FC0"),
        ("f0x0001", "half", "0xH0001"),
        ("1.5", "bfloat", "0xR3FC0"),
        ("f0x3FB999999999999A", "double", "0x3FB999999999999A"),
    ],
)
def test_new_literals_become_old_ones_exactly(literal, typ, want):
    if want is None:
        value = float(np.float32(literal))
        want = f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"
    assert old_literal(literal, typ) == want


def test_every_f32_bit_pattern_class_survives():
    rng = np.random.default_rng(0)
    patterns = [0, 1, 0x007FFFFF, 0x00800000, 0x7F7FFFFF, 0x80000001]
    patterns += rng.integers(0, 1 << 32, 500).tolist()
    for bits in patterns:
        value = np.uint32(bits).view(np.float32)
        if np.isnan(value):
            continue
        wide = int(old_literal(f"f0x{bits:08X}", "float")[2:], 16)
        back = struct.unpack("<d", struct.pack("<Q", wide))[0]
        assert np.float32(back) == value


def test_untyped_operands_take_the_type_of_their_line():
    line = "  %3 = fadd <4 x float> %2, splat (float f0x3F800000)"
    assert fix_float_literals(line).endswith("splat (float 0x3FF0000000000000)")
    assert fix_float_literals("  %3 = fmul double %2, 1.000000e+00").endswith("0x3FF0000000000000")
    assert "0xH3C00" in fix_float_literals("  %3 = phi half [ 1.0, %1 ], [ %4, %2 ]")
    with pytest.raises(ValueError, match="without a type"):
        fix_float_literals("  ret i32 1.5")


def test_names_versions_and_metadata_are_left_alone():
    lines = ['source_filename = "a1.5"', "; v1.25", '!0 = !{!"1.5e3"}', "  br label %1.5.body"]
    assert [fix_float_literals(line) for line in lines] == lines


@needs_mlir
def test_an_operation_without_lowering_is_refused_before_translation():
    text = (
        "module { func.func @f(%x: vector<4xf32>) -> vector<4xf32> {"
        ' %y = "tensor.empty"() : () -> tensor<4xf32>'
        " %z = math.erf %x : vector<4xf32> return %z : vector<4xf32> } }"
    )
    with pytest.raises(MlirUnavailable, match="left after lowering"):
        to_llvm_ir(text)


@needs_mlir
def test_text_that_does_not_parse_is_refused_with_the_reason():
    with pytest.raises(MlirUnavailable, match="refused"):
        to_llvm_ir("module { nonsense }")


@needs_mlir
def test_the_mlir_tier_leaves_a_declaration_and_text_that_parses():
    module = ir.Module()
    module.triple = target.detect().triple
    made = emit_region(module, SPEC, target.detect(), "kernel_name")
    assert (made.tier, made.reason) == ("mlir", "")
    assert "declare" in str(module)
    parsed = binding.parse_assembly(made.text)
    names = [f.name for f in parsed.functions if not f.is_declaration]
    assert names == ["kernel_name"]


def test_without_the_wheel_the_llvm_tier_is_used_and_says_so(monkeypatch):
    def absent():
        raise MlirUnavailable("no MLIR bindings are installed (test)")

    monkeypatch.setattr(kernel, "bindings", absent)
    module = ir.Module()
    made = emit_region(module, SPEC, target.detect(), "k")
    assert made.tier == "llvm"
    assert made.reason == "no MLIR bindings are installed (test)"
    assert made.text is None
    binding.parse_assembly(str(module)).verify()


def test_an_unknown_tier_is_named():
    with pytest.raises(ValueError, match="unknown tier 'fast'; known tiers: mlir, llvm"):
        emit_region(ir.Module(), SPEC, target.detect(), "k", tier="fast")


@needs_mlir
@pytest.mark.parametrize("tier", ["mlir", "llvm"])
def test_targets_without_fma_get_none(tier):
    module = ir.Module()
    row = target.lookup("x86-64-v2")
    module.triple = row.triple
    made = emit_region(module, SPEC, row, "k", tier)
    assert "llvm.fma" not in str(module) + (made.text or "")


def test_constants_are_written_once_and_as_bits():
    e = MlirEmit("k")
    first, second = e.const("f32", 0.1, 16), e.const("f32", 0.1, 16)
    assert first == second
    assert e.finish().count("dense<0x3DCCCCCD>") == 1
