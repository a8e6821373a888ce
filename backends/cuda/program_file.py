"""Writes the program of a GPU variant: `model.<target>.json` and the modules beside it.

The format is described where it is read, in `tilewright.runtime.cuda.program`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from tilewright.backends.cuda.codegen import CudaModule
from tilewright.backends.cuda.kernel import Entry, TensorMap
from tilewright.backends.llvm.backend import Lowered
from tilewright.backends.llvm.body import ModelErrors, collect_errors
from tilewright.backends.llvm.limits import upper
from tilewright.backends.llvm.program import Branch, Copy, Launch, Place, Step
from tilewright.compiler.ir.dims import Dim, ceildiv, substitute, sym
from tilewright.runtime.expressions import FUNCTIONS

FORMAT = 1
ALIGN = 64
"""Of modules in their file, and of the scratch memory of a thread."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def program_files(lowered: Lowered, modules: Mapping[Hashable, CudaModule]) -> dict[str, bytes]:
    """The two entries of the artifact by name."""
    code = f"model.{lowered.name}.bin"
    specs = list(modules)
    data, rows = _modules([modules[spec] for spec in specs])
    writer = _Writer(lowered, modules, {spec: i for i, spec in enumerate(specs)})
    document = {
        "format": FORMAT,
        "code": code,
        **writer.program(),
        "modules": rows,
        "kernels": [_kernel(i, modules[spec]) for i, spec in enumerate(specs)],
        "steps": writer.steps(lowered.state.program.steps),
    }
    text = json.dumps(document, indent=1, ensure_ascii=False).encode() + b"\n"
    return {f"model.{lowered.name}.json": text, code: data}


def _modules(modules: Sequence[CudaModule]) -> tuple[bytes, list[dict[str, Any]]]:
    """All modules one after another; where each lies."""
    data = bytearray()

    def add(part: bytes) -> list[int] | None:
        if not part:
            return None
        data.extend(bytes(-len(data) % ALIGN))
        data.extend(part)
        return [len(data) - len(part), len(part)]

    rows = []
    for module in modules:
        # the driver takes PTX that ends with a zero byte
        row = {"cubin": add(module.cubin), "ptx": add(module.ptx.encode() + b"\0")}
        if module.emitted.kernel.language == "cuda":
            row["source"] = add(module.source.encode())
        resources = [dict(vars(r)) for r in module.resources]
        rows.append({**row, "resources": resources, "tier": module.emitted.tier})
    return bytes(data), rows


def _kernel(index: int, module: CudaModule) -> dict[str, Any]:
    kernel = module.emitted.kernel
    return {
        "name": module.name,
        "module": index,
        "workspace": kernel.workspace,
        "entries": [_entry(entry) for entry in kernel.entries],
    }


def _entry(entry: Entry) -> dict[str, Any]:
    return {**vars(entry), "maps": [_map(one) for one in entry.maps]}


def _map(one: TensorMap) -> dict[str, Any]:
    return dict(vars(one))


class _Writer:
    """Sizes as text over names that the reader's grammar has."""

    def __init__(
        self,
        lowered: Lowered,
        modules: Mapping[Hashable, CudaModule],
        numbers: Mapping[Hashable, int],
    ) -> None:
        self.lowered, self.modules, self.numbers = lowered, modules, numbers
        self.graph, self.layout = lowered.graph, lowered.layout
        counters = lowered.state.program.counters
        self.names = _renamed([*self.graph.symbols, *counters])
        self.env: dict[str, Dim] = {a: sym(b) for a, b in self.names.items() if a != b}
        self.errors: ModelErrors = collect_errors(self.graph, lowered.state.program)

    def size(self, dim: Dim) -> int | str:
        found = substitute(dim, self.env) if self.env else dim
        return found if isinstance(found, int) else str(found)

    def sizes(self, dims: Sequence[Dim]) -> list[int | str]:
        return [self.size(dim) for dim in dims]

    def program(self) -> dict[str, Any]:
        """All fields but modules, kernels and steps."""
        graph, symbols = self.graph, self.graph.symbols
        program, weights = self.lowered.state.program, self.lowered.weights
        return {
            "symbols": [
                {
                    "name": self.names[name],
                    "source": ["data", self.size(upper(sym(name), symbols))]
                    if symbol.source[0] == "data"
                    else list(symbol.source),
                    "low": symbol.low,
                    "high": symbol.high,
                }
                for name, symbol in symbols.items()
            ],
            "counters": [self.names[name] for name in program.counters],
            "inputs": [{"shape": self.sizes(v.shape)} for v in graph.inputs],
            "outputs": [
                {
                    "shape": self.sizes(v.shape),
                    "upper": self.sizes([upper(d, symbols) for d in v.shape]),
                }
                for v in graph.outputs
            ],
            "constraints": [
                {
                    "left": self.size(c.left),
                    "right": self.size(c.right),
                    "error": self.errors.status(c.message),
                }
                for c in graph.constraints
            ],
            "errors": {str(code): text for code, text in self.errors.table.items()},
            "arena": self.size(self.layout.arena),
            "buffers": self.sizes(self.layout.buffers),
            "weights": [
                [at, weight.bytes] for at, weight in zip(self.layout.weights, weights, strict=True)
            ],
        }

    def place(self, place: Place) -> list[Any]:
        return [place.kind, place.index, self.size(place.offset)]

    def steps(self, steps: Sequence[Step]) -> list[dict[str, Any]]:
        return [self.step(step) for step in steps]

    def step(self, step: Step) -> dict[str, Any]:
        if isinstance(step, Launch):
            return self.launch(step)
        if isinstance(step, Copy):
            return {
                "step": "copy",
                "source": self.place(step.source),
                "target": self.place(step.target),
                "bytes": self.size(step.bytes),
            }
        if isinstance(step, Branch):
            return {
                "step": "branch",
                "condition": self.place(step.condition),
                "then": self.steps(step.then),
                "otherwise": self.steps(step.otherwise),
            }
        return {
            "step": "repeat",
            "counter": self.names[step.counter],
            "trips": None if step.trips is None else self.size(step.trips),
            "condition": None if step.condition is None else self.place(step.condition),
            "body": self.steps(step.body),
            "length": None if step.length is None else self.names[step.length],
        }

    def launch(self, launch: Launch) -> dict[str, Any]:
        dims = self.sizes(launch.dims)
        if self.modules[launch.spec].emitted.scratch:
            dims.append(self.size(ceildiv(launch.scratch, ALIGN) * ALIGN))
        return {
            "step": "launch",
            "kernel": self.numbers[launch.spec],
            "operands": [self.place(place) for place in launch.operands],
            "dims": dims,
            "units": self.size(launch.units),
            "error": self.errors.status(launch.error),
            "counts": [self.names[name] for name in launch.counts],
            "label": launch.label,
        }


def _renamed(names: Sequence[str]) -> dict[str, str]:
    """Every name as one that the grammar has, all different."""
    found: dict[str, str] = {}
    taken = {name for name in names if _NAME.fullmatch(name)} - FUNCTIONS.keys()
    for name in names:
        clean = name
        if name not in taken:
            clean = "s_" + re.sub(r"\W", "_", name, flags=re.ASCII)
            while clean in taken:
                clean += "_"
            taken.add(clean)
        found[name] = clean
    return found
