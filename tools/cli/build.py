"""An artifact for commands that take a model too: compiled into a folder that goes away again."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tilewright.tools.cli.interrupt import ends_workers
from tilewright.tools.cli.screen import Screen

if TYPE_CHECKING:
    from tilewright.compiler.ir.core import Graph


@contextmanager
def temporary_artifact(
    screen: Screen,
    model: Path,
    target: str,
    dims: Mapping[str, str],
    jobs: int | None,
    max_error: float | None = None,
) -> Iterator[Path]:
    """Compile `model`; the artifact is gone when the block ends."""
    from tilewright.compiler.driver import compile_model
    from tilewright.compiler.options import Options

    with tempfile.TemporaryDirectory(prefix="tilewright-") as folder:
        path = Path(folder) / f"{model.stem}.tw"
        options = Options(targets=(target,), dims=dims, jobs=jobs, max_error=max_error)
        with screen.working(f"compiling {model}") as update, ends_workers():
            compile_model(model, path, options, progress=lambda stage, what: update(what))
        yield path


def imported(screen: Screen, model: Path, dims: Mapping[str, str]) -> Graph:
    """The graph of an ONNX model before any pass."""
    from tilewright.compiler.frontend.load import load_onnx

    with screen.working(f"reading {model}"):
        return load_onnx(model, dict(dims))


def index_ranges(graph: Graph) -> dict[str, tuple[int, int]]:
    """For integer inputs that index into something of known length: the indices that are valid.

    Follows an input through operations that pass its elements on, to gathers of known size.
    """
    from tilewright.compiler.ir.core import Value, users

    table = users(graph.ops)
    passing = ("reshape", "transpose", "broadcast", "slice", "cast", "concat")
    found: dict[str, tuple[int, int]] = {}
    for value in graph.inputs:
        if not value.dtype.is_int:
            continue
        lengths: list[int] = []
        todo: list[Value] = [value]
        seen = set(todo)
        while todo:
            at = todo.pop()
            for op in table.get(at, ()):
                if op.opname in ("gather", "gather_elements") and op.operands[1] is at:
                    length = op.operands[0].shape[op.attributes["axis"]]
                    lengths += [length] if isinstance(length, int) else []
                elif op.opname in passing and op.out not in seen:
                    seen.add(op.out)
                    todo.append(op.out)
        if lengths:
            found[value.name] = (0, min(lengths) - 1)
    return found
