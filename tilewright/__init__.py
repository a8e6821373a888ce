"""Tilewright compiles ONNX models ahead of time: model, target and error bound in, one file out.

The names below load on first use, so that `import tilewright` costs nothing and a machine that
only runs artifacts never imports the compiler.

    compile(model, output, ...)   compile an ONNX file into an artifact
    load(path, ...)               open an artifact; returns a `Session`
    Session                       runs an artifact; onnxruntime's shape
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass

__version__ = "0.1.0"

__all__ = ["Session", "__version__", "load"]

_LAZY = {
    "Session": ("tilewright.runtime.session", "Session"),
    "load": ("tilewright.runtime.session", "load"),
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'tilewright' has no attribute {name!r}")
    module, attribute = _LAZY[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted(__all__)
