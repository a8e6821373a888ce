"""What an importer sees of an ONNX node: resolved operands, decoded attributes, declared types."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tilewright.compiler.errors import UserError
from tilewright.compiler.ir.core import Value
from tilewright.compiler.ir.dims import Dim
from tilewright.compiler.ir.types import DType

_REQUIRED: Any = object()


@dataclass(frozen=True)
class Hint:
    """A type that the model declares for a value: unknown dimensions are None, as is the rank.

    Declared types are hints only: the IR's own rules decide, except where the data does.
    """

    dtype: DType | None
    dims: tuple[Dim | None, ...] | None

    @property
    def static(self) -> tuple[int, ...] | None:
        """The declared shape when every dimension is a number."""
        if self.dims is None or not all(isinstance(d, int) for d in self.dims):
            return None
        return tuple(d for d in self.dims if isinstance(d, int))


@dataclass(frozen=True)
class Node:
    """One ONNX node, ready to import.

    `opset` is the operator's since_version under the model's imports, `inputs` has None for
    omitted ones. `attrs` holds decoded values (int, float, str, tuples of them, numpy arrays for
    tensors, GraphProto for subgraphs) with the schema's defaults filled in.
    """

    op_type: str
    domain: str
    opset: int
    name: str
    model: str
    inputs: tuple[Value | None, ...]
    output_names: tuple[str, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)
    hints: tuple[Hint | None, ...] = ()

    @property
    def where(self) -> str:
        """The place named in errors."""
        return f"{self.model}: node {self.name!r} ({self.op_type}, opset {self.opset})"

    @property
    def n_outputs(self) -> int:
        """The number of outputs listed, omitted ones in the middle included."""
        return len(self.output_names)

    def wants(self, index: int) -> bool:
        """Whether output `index` is named."""
        return index < len(self.output_names) and self.output_names[index] != ""

    def hint(self, index: int = 0) -> Hint | None:
        """The declared type of output `index`."""
        return self.hints[index] if index < len(self.hints) else None

    def attr(self, name: str, default: Any = _REQUIRED) -> Any:
        """Attribute `name`; `default` when absent; UserError when absent without a default."""
        if name in self.attrs:
            return self.attrs[name]
        if default is _REQUIRED:
            raise UserError(
                self.where, f"attribute {name!r} is missing", f"given: {list(self.attrs)}"
            )
        return default

    def maybe(self, index: int) -> Value | None:
        """Input `index`, or None when omitted."""
        return self.inputs[index] if index < len(self.inputs) else None

    def input(self, index: int) -> Value:
        """Input `index`; UserError when omitted."""
        value = self.maybe(index)
        if value is None:
            raise UserError(self.where, f"input {index} is missing", f"{len(self.inputs)} given")
        return value

    def all_inputs(self) -> tuple[Value, ...]:
        """Every input; UserError when one is omitted."""
        return tuple(self.input(i) for i in range(len(self.inputs)))

    def axis(self, axis: int, rank: int) -> int:
        """`axis` counted from the front; UserError when outside `rank`."""
        if not -rank <= axis < rank:
            raise UserError(self.where, f"axis {axis} is out of range", f"the rank is {rank}")
        return axis + rank if axis < 0 else axis

    def axes(self, axes: Sequence[int], rank: int) -> tuple[int, ...]:
        """`axes` counted from the front; UserError when outside `rank` or repeated."""
        out = tuple(self.axis(int(a), rank) for a in axes)
        if len(set(out)) != len(out):
            raise UserError(self.where, f"axes {tuple(axes)} repeat", f"the rank is {rank}")
        return out
