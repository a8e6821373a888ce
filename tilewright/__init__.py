"""Tilewright compiles ONNX models ahead of time: model, target and error bound in, one file out.

Everything below loads on first use, so that `import tilewright` costs nothing and a machine that
only runs artifacts never imports the compiler.

    compile(model, output, ...)   compile an ONNX file into an artifact
    load(path, ...)               open an artifact; returns a `Session`
    Session                       runs an artifact; onnxruntime's shape
"""

from collections.abc import Mapping, Sequence
from importlib import import_module
from pkgutil import extend_path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tilewright.compiler.driver import CompileResult
    from tilewright.runtime.session import Session, load

# With the repository root as the current folder Python finds this folder before the installed
# package, and the sub-packages are not inside it; so look for them along sys.path too.
__path__ = extend_path(__path__, __name__)

__version__ = "0.1.0"

__all__ = ["Session", "__version__", "compile", "load"]

_LAZY = {
    "Session": "tilewright.runtime.session",
    "load": "tilewright.runtime.session",
}


def compile(
    model: Any, output: Any, *, target: str | Sequence[str] = "native", **options: Any
) -> "CompileResult":
    """Compile `model` (path, bytes or `onnx.ModelProto`) and write the artifact to `output`.

    `target` names one target or several ("x86-64-v3,x86-64-v4", or a sequence): the artifact gets
    one variant each. The other options are the fields of `tilewright.compiler.options.Options`,
    among them `max_error`, and `calibrate` with samples to measure it on: then formats of weights
    are chosen too, and the result's `contract` has bound, rounds, predicted and measured errors of
    every output. `keep` may be a dict of patterns of ONNX nodes to formats; `optimize` ("latency",
    "size"), `max_size`, `metric` and `plan` are as at the command line.
    Raises `tilewright.compiler.errors.UserError` where model, options or target are at fault; then
    nothing is written. Needs the extra: pip install "tilewright[compiler]".
    """
    from tilewright.compiler.driver import compile_model
    from tilewright.compiler.options import Options

    targets = (target,) if isinstance(target, str) else tuple(target)
    if isinstance(keep := options.get("keep"), Mapping):
        options["keep"] = tuple(keep.items())
    return compile_model(model, output, Options(targets=targets, **options))


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'tilewright' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
