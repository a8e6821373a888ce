"""Values as one operation hands them to the next: who makes and reads them, in which formats.

A value lies in memory in f32 unless the selection says otherwise: in bf16, where all that read it
round it anyway, or in both, where some do. On GPUs it may be f16 in place of bf16, where that holds
all that the value can be (see `magnitudes`): what would read f32, the residual of a later sum or
the normalization of a sum, reads that too. What a normalization makes may be left out altogether
(see `unmade`). The first lowering stores f32 and records makers and
readers, the second follows the formats that were chosen (see `tables`). Values that nobody recorded
(graph outputs, bodies of loops, operands of kernels that know f32 only) stay f32.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from tilewright.backends.kernels.candidates import Candidate
from tilewright.backends.llvm.formats import BF16_FORMAT, F16_FORMAT, F32_FORMAT
from tilewright.backends.llvm.lowering.magnitudes import Magnitudes
from tilewright.backends.llvm.lowering.unmade import UNMADE, Unmade
from tilewright.backends.llvm.lowering.view import View
from tilewright.backends.llvm.program import Place
from tilewright.compiler.ir.core import Graph, Value, walk
from tilewright.compiler.ir.dims import Dim, product
from tilewright.compiler.ir.types import DType

if TYPE_CHECKING:
    from tilewright.backends.llvm.lowering.state import Lowering

Formats = tuple[str, ...]
"""In which a value lies in memory."""

ALONE: Formats = (F32_FORMAT,)
ROUNDED: Formats = (BF16_FORMAT,)
BOTH: Formats = (F32_FORMAT, BF16_FORMAT)
STRATEGIES = (ALONE, ROUNDED, BOTH, UNMADE)
NARROW = {BF16_FORMAT: DType.BF16, F16_FORMAT: DType.F16}
"""Formats of 16 bits, and their element types."""

ROUNDING_CLASS = 1e-2
"""The accuracy class that values in bf16 belong to."""


@dataclass(frozen=True)
class Reader:
    """The question whose kernel reads a value, as which of its `count` activations; rows: whether
    it reads whole rows of a value that may stay unmade. extra: `operand` is the number of an extra
    of its epilogue instead."""

    question: int
    operand: int
    count: int
    rows: bool = False
    extra: bool = False


@dataclass
class Handed:
    """A value that may be handed on in another format, or several that lie side by side.

    makers: the questions whose kernels make it, and the share of it that each makes; none for a
    region. operands: activations that such a kernel reads. ``inplace``: whether it may write f32
    over one of its extras, and so into lines that it has read. ``plain``: whether something reads
    the value that knows f32 only; ``regions``: how many regions do that can read f16. ``unmade``:
    how its readers may make it, if they may.
    """

    value: Value
    name: str
    shape: tuple[Dim, ...]
    source: str
    makers: Mapping[int, float]
    operands: int = 0
    inplace: bool = False
    readers: list[Reader] = field(default_factory=list)
    plain: bool = False
    regions: int = 0
    unmade: Unmade | None = None

    @property
    def elements(self) -> Dim:
        """How many there are."""
        return product(self.shape)


class Handing:
    """The values of one lowering. ``formats``: those chosen, by value; f32 for all others.

    known: values that the second lowering meets again. bases: the whole of each value in memory.
    twins: where the same elements lie in bf16. unmade: by the places of values that are not made.
    """

    def __init__(self, graph: Graph, formats: Mapping[Value, Formats] | None = None) -> None:
        self.known = frozenset(v for op in walk(graph.ops) for v in op.results)
        self.formats = formats or {}
        self.values: dict[Place, Handed] = {}
        self.bases: dict[Place, View] = {}
        self.twins: dict[Place, View] = {}
        self.magnitudes = Magnitudes(graph)
        self.unmade: dict[Place, Unmade] = {}

    def of(self, value: Value) -> Formats:
        """The formats of `value`."""
        return self.formats.get(value, ALONE)

    @property
    def halves(self) -> frozenset[Value]:
        """Values that lie in f16 alone."""
        return frozenset(v for v, formats in self.formats.items() if formats == (F16_FORMAT,))

    def narrow(self, value: Value) -> DType | None:
        """The type of 16 bits in which `value` lies alone; None if it lies in f32 or nowhere."""
        formats = self.of(value)
        return NARROW.get(formats[0]) if len(formats) == 1 else None

    def seen(self, view: View, halves: bool) -> bool:
        """A region reads `view`; whether it may lie in f16 there."""
        if halves and view.place in self.values:
            self.values[view.place].regions += 1
            return view.dtype != DType.BF16
        self.plainly(view)
        return False

    def plainly(self, view: View) -> None:
        """Something that knows f32 only reads `view`."""
        if view.place in self.values:
            self.values[view.place].plain = True

    def rounded(self, view: View) -> View | None:
        """The same elements in 16 bits, where they are stored so."""
        if view.place in self.values and view.dtype in NARROW.values():
            return view
        twin = self.twins.get(view.place)
        return None if twin is None else replace(view, place=twin.place, dtype=twin.dtype)


@dataclass(frozen=True)
class Settled:
    """A launch with its formats: spec, activations, the element type of its result, and what the
    spec takes after all other operands."""

    spec: Any
    operands: tuple[View, ...]
    dtype: DType
    further: tuple[Place, ...] = ()


def read_by(low: Lowering, views: Sequence[View], extras: Sequence[View | None] = ()) -> None:
    """The kernel that answers the last question reads `views`, and ``extras`` in its epilogue (None
    for those that nobody handed on)."""
    handing = low.handing
    question = len(low.choices.questions) - 1
    for operand, view in enumerate(views):
        if view.place in handing.values:
            handed = handing.values[view.place]
            rows = handed.unmade is not None and handed.unmade.in_rows(view)
            handed.readers.append(Reader(question, operand, len(views), rows))
    for number, extra in enumerate(extras):
        if extra is not None and extra.place in handing.values:
            handed = handing.values[extra.place]
            handed.readers.append(Reader(question, number, len(views), extra=True))


def rounds(
    low: Lowering, value: Value, kernels: Sequence[Candidate], views: Sequence[View]
) -> bool:
    """Whether `kernels`, which read `views` and make `value` together, write it in 16 bits: if that
    was chosen and all of them can."""
    narrow = low.handing.narrow(value)
    if narrow is None:
        return False
    reads = [_reads(low, kernel, views) for kernel in kernels]
    return all(stored(k, r, str(narrow)) is not None for k, r in zip(kernels, reads, strict=True))


def _reads(low: Lowering, chosen: Candidate, views: Sequence[View]) -> Formats:
    """In which formats a kernel reads `views`: in 16 bits where they are stored so, if it can."""
    wanted = (low.handing.rounded(view) for view in views)
    reads = tuple(F32_FORMAT if w is None else str(w.dtype) for w in wanted)
    return reads if stored(chosen, reads, F32_FORMAT) is not None else (F32_FORMAT,) * len(views)


def settle(
    low: Lowering,
    chosen: Candidate,
    views: Sequence[View],
    value: Value,
    narrow: bool | None = None,
) -> Settled:
    """How a kernel reads `views` and writes `value`: in 16 bits if ``narrow``, which is as `rounds`
    says by default."""
    handing = low.handing
    reads = _reads(low, chosen, views)
    if narrow is None:
        narrow = rounds(low, value, (chosen,), views)
    dtype = (handing.narrow(value) if narrow else None) or value.dtype
    writes = str(dtype) if narrow else F32_FORMAT
    found = handing.unmade.get(views[0].place) if len(views) == 1 else None
    if found is not None and found.in_rows(views[0]):
        spec = normed(chosen, stored(chosen, reads, writes), found)
        if spec is not None:
            return Settled(spec, (found.reads(views[0]),), dtype, found.vectors)
    wanted = [handing.rounded(view) for view in views]
    operands = [
        low.widened(view) if name == F32_FORMAT or other is None else other
        for view, other, name in zip(views, wanted, reads, strict=True)
    ]
    return Settled(stored(chosen, reads, writes), tuple(operands), dtype)


def halves(low: Lowering) -> bool:
    """Whether what would read f32 may read f16. Contracts and plans count errors of contractions
    alone, so that what outputs may err decides, whatever kernels are offered."""
    return low.target.gpu and low.permitted >= ROUNDING_CLASS


def halved(low: Lowering, spec: Any, extras: Collection[int]) -> Any:
    """A spec with these extras of its epilogue in f16, None if it cannot have them."""
    inner = getattr(spec, "product", None)
    if inner is not None:
        made = halved(low, inner, extras)
        return None if made is None else replace(spec, product=made)
    if not low.target.gpu:
        return None
    names = {one.name for one in fields(spec)}
    if "product" in names:
        product = halved(low, spec.product, extras)
        return None if product is None else replace(spec, product=product)
    if "epilogue" not in names:
        return None
    epilogue = spec.epilogue
    kinds = enumerate(epilogue.extras)
    mixed = tuple(replace(e, dtype=F16_FORMAT) if i in extras else e for i, e in kinds)
    return replace(spec, epilogue=replace(epilogue, extras=mixed))


def stored(chosen: Candidate, reads: Sequence[str], writes: str) -> Any:
    """The spec of a candidate with its activations and result in these formats, None if its family
    has none."""
    if writes == F32_FORMAT and all(name == F32_FORMAT for name in reads):
        return chosen.spec
    hook = chosen.family.stored
    return None if hook is None else hook(chosen.spec, tuple(reads), writes)


def normed(chosen: Candidate, spec: Any, found: Unmade) -> Any:
    """The spec of a candidate with its rows normalized first, None if its family has none."""
    hook = chosen.family.normed
    return None if hook is None else hook(spec, found.norm, found.width)


def hand_on(
    low: Lowering,
    value: Value,
    view: View,
    source: str,
    twin: View | None = None,
    *,
    makers: Mapping[int, float] | None = None,
    operands: int = 0,
    inplace: bool = False,
    beside: Sequence[Value] = (),
) -> None:
    """`value` was made as the dense `view`, and as `twin` in 16 bits if it was: whoever comes may
    read it from there. What was chosen and not made is converted.

    makers, operands, inplace: as of Handed; with operands the last question made it by default.
    beside: further values of which `view` shows the memory.
    """
    known = value in low.handing.known and value.dtype == DType.F32
    may = known and view.place.kind == "arena" and low.depth == 0
    if not may or low.error < ROUNDING_CLASS:
        return
    handing = low.handing
    if makers is None:
        makers = {len(low.choices.questions) - 1: 1.0} if operands else {}
    name = source if beside else value.name
    handed = Handed(value, name, view.shape, source, makers, operands, inplace)
    formats = handing.of(value)
    wanted = next((NARROW[name] for name in formats if name in NARROW), None)
    if twin is None and view.dtype == DType.F32 and wanted is not None:
        from tilewright.backends.llvm.lowering.regions import launch_cast

        twin = low.buffer(wanted, view.shape, value.name or "t")
        launch_cast(low, view, twin)
        if F32_FORMAT not in formats:
            for one in (value, *beside):
                low.alias(one, replace(low.views[one], place=twin.place, dtype=wanted))
            view, twin = twin, None
    handing.values[view.place] = handed
    handing.bases[view.place] = view
    if twin is not None:
        handing.twins[view.place] = twin
