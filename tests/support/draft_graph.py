"""Writing graphs in Python: inputs, constants, operations and regions in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tilewright.compiler.ir.core import Constraint, Graph, Op, Region, Symbol, Value
from tilewright.compiler.ir.dims import Dim, sym
from tilewright.compiler.ir.ops.leaf import Constant
from tilewright.compiler.ir.types import BY_LABEL, DType, TensorType
from tilewright.compiler.ir.weights import Weight, WeightStore, from_array

Size = Dim | str


def tensor(dtype: DType | str, *shape: Size) -> TensorType:
    """A tensor type; strings in `shape` are symbols."""
    kind = BY_LABEL[dtype] if isinstance(dtype, str) else dtype
    return TensorType(kind, tuple(sym(d) if isinstance(d, str) else d for d in shape))


class Draft:
    """A graph under construction. Calling it emits an operation and gives its result(s)."""

    def __init__(self, bounds: tuple[int, int | None] = (0, 64)) -> None:
        self.bounds = bounds
        self.inputs: list[Value] = []
        self.ops: list[Op] = []
        self.symbols: dict[str, Symbol] = {}
        self.weights: dict[str, Weight] = {}
        self.constraints: list[Constraint] = []

    def input(self, name: str, dtype: DType | str, *shape: Size) -> Value:
        """A graph input; a symbol is declared by the first axis that it stands alone on."""
        for axis, dim in enumerate(shape):
            if isinstance(dim, str):
                source = ("shape", len(self.inputs), axis)
                self.symbols.setdefault(dim, Symbol(*self.bounds, source))
        self.inputs.append(Value(tensor(dtype, *shape), name))
        return self.inputs[-1]

    def data_symbol(self, name: str, bound: Dim, low: int = 0, high: int | None = None) -> Dim:
        """A symbol that an operation defines, at most `bound`."""
        self.symbols[name] = Symbol(low, high, ("data",), bound)
        return sym(name)

    def constant(self, array: Any) -> Value:
        weight = from_array(np.asarray(array))
        name = f"w{len(self.weights)}"
        self.weights[name] = weight
        return self(Constant, name=name, type=weight.type)

    def __call__(self, cls: type[Op], **fields: Any) -> Any:
        fields.setdefault("source", f"{cls.opname}{len(self.ops)}")
        made = cls(**fields)
        self.ops.append(made)
        return made.results[0] if len(made.results) == 1 else made.results

    def region(
        self, params: Sequence[TensorType], body: Callable[..., Value | Sequence[Value]]
    ) -> Region:
        """A region whose operations are those that `body(*params)` emits."""
        values = tuple(Value(t, f"p{i}") for i, t in enumerate(params))
        outer, self.ops = self.ops, []
        results = body(*values)
        inner, self.ops = self.ops, outer
        found = (results,) if isinstance(results, Value) else tuple(results)
        return Region(values, tuple(inner), found)

    def graph(self, *outputs: Value) -> Graph:
        return Graph(
            "draft",
            tuple(self.inputs),
            tuple(self.ops),
            outputs,
            tuple(f"out{i}" for i in range(len(outputs))),
            self.symbols,
            WeightStore(self.weights),
            constraints=tuple(self.constraints),
        )


def weights(*shape: int, seed: int = 0, scale: float = 1.0) -> np.ndarray:
    """Seeded normal f32 values."""
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)
