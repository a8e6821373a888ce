"""What code a kernel's or a whole family's machine code comes from, as a digest."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
from functools import cache
from pathlib import Path

import llvmlite

from tilewright.backends.cuda import prelude
from tilewright.backends.kernels.candidates import Candidate
from tilewright.backends.target import Target

ROOT = "tilewright.backends."


@cache
def family_version(name: str) -> str:
    """16 hex digits of the sources of the family and of all modules of ours below
    `tilewright.backends` that they import, directly or not, of the device text of GPUs if any is
    about them, and of LLVM's version."""
    modules = sorted(_closure(f"{ROOT}kernels.{name}"))
    digest = hashlib.sha256(llvmlite.__version__.encode())
    for module in modules:
        digest.update(f"{module}\0".encode() + _source(module))
    if any(module.startswith(f"{ROOT}cuda.") for module in modules):
        for path in sorted(Path(prelude.__file__).parent.rglob("*.cuh")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


@cache
def kernel_version(candidate: Candidate, target: Target) -> str:
    """16 hex digits of one kernel's code: on GPUs of its text, with all that it includes, and of
    how it is launched; `family_version` elsewhere."""
    emit = candidate.family.cuda
    if not target.gpu or emit is None:
        return family_version(candidate.family.name)
    kernel = emit(candidate.spec, target, "kernel")
    text = prelude.expand(kernel.source) if kernel.language == "cuda" else kernel.source
    parts = (target.name, text, repr(kernel.entries), kernel.workspace)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _closure(package: str) -> set[str]:
    seen: set[str] = set()
    waiting = {package}
    while waiting:
        module = waiting.pop()
        seen.add(module)
        waiting |= _imports(module) - seen
    return seen


@cache
def _imports(module: str) -> frozenset[str]:
    """The modules below ROOT that `module` imports, at any level of it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(_source(module))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(ROOT[:-1]):
            assert node.module is not None
            members = (f"{node.module}.{alias.name}" for alias in node.names)
            found.add(node.module)
            found.update(m for m in members if _path(m) is not None)
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names if alias.name.startswith(ROOT))
    return frozenset(found)


@cache
def _source(module: str) -> bytes:
    path = _path(module)
    return b"" if path is None else path.read_bytes()


@cache
def _path(module: str) -> Path | None:
    """The file of a module, None if there is no such module (a name inside of one)."""
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:  # its parent is no package
        return None
    return None if spec is None or spec.origin is None else Path(spec.origin)
