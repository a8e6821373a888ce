"""The program of a CUDA variant, `model.<target>.json`, and the reader that checks it.

The variant in the manifest has `machine` "cuda", `file` the name of this JSON, `launches` one row
per launch below in program order (nested ones included, as `tilewright.backends` numbers them), and
`features` that name the devices it runs on, any of which is enough:

    sm_80        cubins: devices of this major version and of this or a higher minor one
    sm_90a       cubins for this architecture alone
    compute_80   every module also has PTX: devices of this or a higher version (`a`: this alone)

A *size* is an integer or text of `runtime.expressions` over the names of symbols and counters. All
names match [A-Za-z_][A-Za-z0-9_]* (symbols of a model that do not are renamed here); none is named
after a function of the grammar. A *formula* is such text over p0, p1, ..., units, sms and a0,
a1, ... (addresses of the operands), or an integer (`backends.cuda.kernel`).

    format        1
    code          entry of the artifact with the modules, `model.<target>.bin`
    symbols       of {name, source, low, high} in the order of the graph. low..high are bounds, high
                  null without one (data symbols are not compared with theirs). source is one of
                    ["shape", input, axis]     the size of an input's axis
                    ["value", input, element]  an element of an integer input
                    ["data", size]             counted by a launch or a repeat; it has the value of
                                               `size` (an upper bound) until then
    counters      names of the counters of repeats
    inputs        of {shape: [size]}: every axis is compared with its size
    outputs       of {shape: [size], upper: [size]}: final shape, and what it never exceeds (without
                  data symbols)
    constraints   of {left, right, error}: sizes that must be equal, else the error code
    errors        {code: text}; codes are 16 and more, as text ("16")
    arena         size in bytes of the arena; what is in it is kept from step to step
    buffers       of sizes: byte offsets of the arena's buffers, multiples of 64. They use symbols,
                  neither data symbols nor counters
    weights       of [offset, bytes]: where the constants are in the artifact's weight data
                  (`weights.base` of the manifest is 0 here)
    modules       of {cubin, ptx}: [offset, bytes] in `code`, or null. At least one is there
    kernels       of {name, module, workspace, entries}: `workspace` is a formula. An entry is
                  {suffix, grid: [3 formulas], block: [3 ints], shared: formula, cluster: [3 ints],
                  overlaps: bool, maps}; its function in the module is called name + suffix
                  and a map {operand, dtype, dims: [formulas], strides: [formulas], box: [ints],
                  swizzle: int, offset: formula}, all as in `backends.cuda.kernel`
                  (operand -1: the workspace)
    steps         see below

A *place* is [kind, index, size]: byte offset into the arena's buffer "arena", the weight "weight",
or the model's "input" or "output" with this index. Steps are objects with one of these `step`s:

    launch        kernel: index; operands: [place]; dims: [size]; units: size; error: code of what
                  it means that the kernel fails, or null if it never does; counts: [data symbol]
                  whose values the kernel writes: a `long long *` for each follows the operands;
                  label: text for reports
    copy          source, target: places; bytes: size. They do not overlap
    branch        condition: place of a bool (one byte); then, otherwise: [step]
    repeat        counter: name; trips: size or null; condition: place of a bool or null; body:
                  [step]; length: data symbol that receives the number of iterations, or null

What kernels may rely on: weights, inputs, outputs and the workspace begin at multiples of 256
bytes, arrays that a caller binds at multiples of 16; the arena's buffers at multiples of 64. The
status word is zero before a run; a kernel that fails writes anything else to it and must still end.
Launches run in order as far as their memory tells; nothing of a launch is seen by the one after it
before it has ended, except where the latter `overlaps` and has not waited yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from tilewright.runtime.cuda.sizes import Size

FORMAT = 1
WORKSPACE = -1
"""The operand of a map over the workspace."""

MAP_TYPES = {
    "i8": 0, "u8": 0, "bool": 0, "f8e4m3fn": 0, "f8e5m2": 0, "f8e8m0": 0, "i4": 0, "u4": 0,
    "i16": 1, "u16": 1, "u32": 2, "i32": 3, "u64": 4, "i64": 5,
    "f16": 6, "f32": 7, "f64": 8, "bf16": 9, "tf32": 11,
}  # fmt: skip
"""Numbers of CUtensorMapDataType; what has no type of its own goes by its bits."""

PLACES = ("arena", "weight", "input", "output")


@dataclass(frozen=True)
class Symbol:
    """`source` as in the JSON."""

    name: str
    source: tuple[int | str, ...]
    low: int
    high: int | None

    @property
    def data(self) -> bool:
        """Whether a launch or a repeat counts it."""
        return self.source[0] == "data"

    @property
    def input(self) -> int:
        """The input whose axis or element it is."""
        return int(self.source[1])

    @property
    def position(self) -> int:
        """The axis or element."""
        return int(self.source[2])

    @property
    def upper(self) -> Size:
        """Its value before it is counted; 0 for other symbols."""
        return self.source[1] if self.data else 0


@dataclass(frozen=True)
class Extent:
    """Bytes of a file or of the weight data."""

    offset: int
    bytes: int


@dataclass(frozen=True)
class Module:
    """Where the code of kernels is, as a cubin, as PTX or both."""

    cubin: Extent | None
    ptx: Extent | None


@dataclass(frozen=True)
class TensorMap:
    """As `backends.cuda.kernel.TensorMap`."""

    operand: int
    dtype: str
    dims: tuple[Size, ...]
    strides: tuple[Size, ...]
    box: tuple[int, ...]
    swizzle: int
    offset: Size


@dataclass(frozen=True)
class Entry:
    """As `backends.cuda.kernel.Entry`."""

    suffix: str
    grid: tuple[Size, ...]
    block: tuple[int, ...]
    shared: Size
    cluster: tuple[int, ...]
    overlaps: bool
    maps: tuple[TensorMap, ...]


@dataclass(frozen=True)
class Kernel:
    """`module`: index of the module that has its entries."""

    name: str
    module: int
    workspace: Size
    entries: tuple[Entry, ...]

    @property
    def formulas(self) -> tuple[Size, ...]:
        """All of them, of p0, p1, ... (dims), units, sms, a0, a1, ... (addresses of operands)."""
        sizes: list[Size] = [self.workspace]
        for entry in self.entries:
            sizes += [*entry.grid, entry.shared]
            for tensor in entry.maps:
                sizes += [*tensor.dims, *tensor.strides, tensor.offset]
        return tuple(sizes)


def formula_names(dims: int, operands: int) -> tuple[str, ...]:
    """What formulas of a launch with so many dims and operands may use, in order."""
    own = (*(f"p{i}" for i in range(dims)), "units", "sms")
    return (*own, *(f"a{i}" for i in range(operands)))


@dataclass(frozen=True)
class Place:
    """Bytes from `offset` on of an arena buffer, a weight, an input or an output."""

    kind: str
    index: int
    offset: Size


@dataclass(frozen=True)
class Launch:
    """`error`: code of a failure, None if there is none. `counts`: slots of data symbols."""

    kernel: int
    operands: tuple[Place, ...]
    dims: tuple[Size, ...]
    units: Size
    error: int | None
    counts: tuple[int, ...]
    label: str


@dataclass(frozen=True)
class Copy:
    """Of `bytes` bytes."""

    source: Place
    target: Place
    bytes: Size


@dataclass(frozen=True)
class Branch:
    """One of two blocks, as the bool at `condition` says."""

    condition: Place
    then: tuple[Step, ...]
    otherwise: tuple[Step, ...]


@dataclass(frozen=True)
class Repeat:
    """`counter` and `length` are slots."""

    counter: int
    trips: Size | None
    condition: Place | None
    body: tuple[Step, ...]
    length: int | None


Step = Launch | Copy | Branch | Repeat


@dataclass(frozen=True)
class Constraint:
    """Sizes that are equal, else the run ends with the error."""

    left: Size
    right: Size
    error: int


@dataclass(frozen=True)
class Output:
    """The final shape of an output, and what it never exceeds."""

    shape: tuple[Size, ...]
    upper: tuple[Size, ...]


@dataclass(frozen=True)
class Program:
    """All of the JSON. `slots`: positions of symbols and counters among the values of sizes."""

    code: str
    symbols: tuple[Symbol, ...]
    counters: tuple[str, ...]
    slots: Mapping[str, int]
    inputs: tuple[tuple[Size, ...], ...]
    outputs: tuple[Output, ...]
    constraints: tuple[Constraint, ...]
    errors: Mapping[int, str]
    arena: Size
    buffers: tuple[Size, ...]
    weights: tuple[Extent, ...]
    modules: tuple[Module, ...]
    kernels: tuple[Kernel, ...]
    steps: tuple[Step, ...]

    @cached_property
    def fixed(self) -> bool:
        """Whether the shapes alone decide what runs."""
        return all(
            isinstance(step, Copy) or (isinstance(step, Launch) and not step.counts)
            for step in self.steps
        ) and not any(symbol.data for symbol in self.symbols)
