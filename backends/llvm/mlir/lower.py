"""MLIR text (func, scf, arith, math, vector, llvm dialects) to LLVM IR text.

The upstream bindings come with the torch-mlir wheel. It is optional: without it, or for a module
that it does not take, `MlirUnavailable` says why and the caller uses the llvmlite tier.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from tilewright.backends.llvm.mlir.float_text import fix_float_literals

# Order matters: math before vector, everything before the casts are reconciled.
PIPELINE = (
    "builtin.module(canonicalize,cse,loop-invariant-code-motion,convert-scf-to-cf,"
    "convert-math-to-llvm,convert-vector-to-llvm,convert-arith-to-llvm,convert-func-to-llvm,"
    "convert-cf-to-llvm,convert-index-to-llvm,convert-ub-to-llvm,reconcile-unrealized-casts,"
    "canonicalize,cse)"
)


class MlirUnavailable(Exception):
    """MLIR cannot be used for a module; the text is the reason."""


@cache
def bindings() -> tuple[Any, Any, Any]:
    """(ir, passmanager, translate function) of whichever MLIR wheel is installed.

    Raises MlirUnavailable if there is none or it lacks the translation to LLVM IR.
    """
    try:
        from mlir import ir, passmanager
        from mlir._mlir_libs import _mlirDialectsLLVM as llvm
    except ImportError:
        try:
            from torch_mlir import ir, passmanager
            from torch_mlir._mlir_libs import _mlirDialectsLLVM as llvm
        except ImportError as error:
            raise MlirUnavailable(f"no MLIR bindings are installed ({error})") from None
    translate = getattr(llvm, "translate_module_to_llvmir", None)
    if translate is None:
        raise MlirUnavailable("the MLIR bindings lack translate_module_to_llvmir")
    return ir, passmanager, translate


def _foreign_operations(module: Any) -> list[str]:
    """Names of operations that the translation does not know."""
    names: set[str] = set()

    def visit(operation: Any) -> None:
        name = operation.name
        if not name.startswith("llvm.") and name != "builtin.module":
            names.add(name)
        for region in operation.regions:
            for block in region.blocks:
                for inner in block.operations:
                    visit(inner.operation)

    visit(module.operation)
    return sorted(names)


def to_llvm_ir(text: str) -> str:
    """LLVM 22 assembly of MLIR module ``text``.

    Raises MlirUnavailable if there are no bindings, the module does not parse or verify, or an
    operation outside the llvm dialect is left (the translation would crash on it, so it is checked
    before).
    """
    ir, passmanager, translate = bindings()
    with ir.Context() as context, ir.Location.unknown():
        context.enable_multithreading(False)
        try:
            module = ir.Module.parse(text)
            passmanager.PassManager.parse(PIPELINE).run(module.operation)
        except ir.MLIRError as error:
            raise MlirUnavailable(f"MLIR refused the module: {error}") from None
        left = _foreign_operations(module)
        if left:
            raise MlirUnavailable(f"operations left after lowering: {', '.join(left)}")
        return fix_float_literals(translate(module.operation))
