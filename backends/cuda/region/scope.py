"""Evaluating body nodes at one level of a kernel's loops: a value is computed in the outermost
level that knows all its indices."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import cast

from tilewright.backends.cuda.region.arith import CudaArith, CudaValue
from tilewright.backends.cuda.region.code import TYPES, Code, dim_text, offset_text
from tilewright.backends.cuda.region.numerics import quotient, shorter
from tilewright.backends.llvm.emit.convert import register, storage, to_register, to_storage
from tilewright.backends.llvm.emit.elementwise import apply
from tilewright.backends.llvm.emit.emit import Emit
from tilewright.backends.llvm.region.analysis import Facts
from tilewright.backends.llvm.region.dims import Dim
from tilewright.backends.llvm.region.spec import (
    Const,
    DimValue,
    Gather,
    Iota,
    Load,
    Op,
    Piece,
    Reduce,
    RegionSpec,
    Store,
    operands,
)

_SINGLE = ("f32", "f16", "bf16", "f8e4m3", "f8e5m2")
"""Types that registers hold as f32."""


class Frame:
    """What all levels of one kernel share."""

    def __init__(self, code: Code, spec: RegionSpec, facts: Facts, lane: int) -> None:
        self.code = code
        self.spec = spec
        self.facts = facts
        self.lane = lane
        self.arith = CudaArith(code)
        self.moderate: set[str] = set()
        """Reciprocals that are not NaN where text is written now."""

    @property
    def e(self) -> Emit:
        """The arithmetic as element operators want it; they use no memory and no loops."""
        return cast(Emit, self.arith)

    def kind(self, dtype: str) -> str:
        """The storage type of elements of ``dtype``."""
        return storage(self.e, dtype)

    def pointers(self) -> None:
        """Declare the typed pointers in0, in1, ..., out0, out1, ..."""
        inputs = len(self.spec.inputs)
        for k, dtype in enumerate(self.spec.inputs):
            kind = TYPES[self.kind(dtype)]
            self.code.line(f"const {kind} *const in{k} = (const {kind} *)a{k};")
        for k, store in enumerate(self.spec.outputs):
            kind = TYPES[self.kind(store.dtype)]
            self.code.line(f"{kind} *const out{k} = ({kind} *)a{inputs + k};")


@dataclass
class Scope:
    """One level. ``index``: texts of the indices that are known. ``raw``: texts of elements that
    loads have brought already, as they are stored. ``arms``: pieces whose arm is known. ``kept``:
    values of an element that an earlier pass left in registers."""

    frame: Frame
    parent: Scope | None
    index: dict[int, str]
    raw: dict[int, str] = field(default_factory=dict)
    arms: dict[int, int] = field(default_factory=dict)
    kept: dict[int, CudaValue] = field(default_factory=dict)
    memo: dict[int, CudaValue] = field(default_factory=dict)
    inverses: dict[int, CudaValue] = field(default_factory=dict)

    def inner(self, index: dict[int, str] | None = None) -> Scope:
        """A level inside this one that knows further indices."""
        known = {**self.index, **(index or {})}
        return Scope(self.frame, self, known, dict(self.raw), dict(self.arms), dict(self.kept))

    def reach(self, roots: Iterable[int]) -> set[int]:
        """Nodes to evaluate for ``roots``: not through a Reduce or a kept value, and of a piece the
        known arm only."""
        body = self.frame.spec.body
        seen: set[int] = set()
        stack = list(roots)
        while stack:
            i = stack.pop()
            if i in seen or i in self.kept:
                continue
            seen.add(i)
            node = body[i]
            if isinstance(node, Piece):
                if i in self.arms:
                    stack.append(node.args[self.arms[i]])
            elif not isinstance(node, Reduce):
                stack.extend(operands(node))
        return seen

    def find(self, node: int) -> CudaValue | None:
        if node in self.kept:
            return self.kept[node]
        scope: Scope | None = self
        while scope is not None:
            if node in scope.memo:
                return scope.memo[node]
            scope = scope.parent
        return None

    def get(self, node: int) -> CudaValue:
        """The register value of ``node``."""
        value = self.find(node)
        if value is None:
            value = self._compute(node)
            self.memo[node] = value
        return value

    def hoist(self, roots: Iterable[int]) -> None:
        """Evaluate here what ``roots`` need and this level knows all indices of."""
        facts, body = self.frame.facts, self.frame.spec.body
        bound = frozenset(self.index)
        for node in sorted(self.reach(roots)):
            ready = facts.axes[node] <= bound and not isinstance(body[node], Reduce)
            if ready and facts.cost[node] and self._possible(node):
                self.get(node)
        self._divisors(roots)

    def _divisors(self, roots: Iterable[int]) -> None:
        """Reciprocals of what many elements are divided by: NaN unless moderate."""
        facts, body, code = self.frame.facts, self.frame.spec.body, self.frame.code
        for node in sorted(self.reach(roots)):
            what = body[node]
            if not isinstance(what, Op) or what.name != "div" or facts.dtypes[node] not in _SINGLE:
                continue
            dividend, divisor = what.args
            known = isinstance(body[divisor], Const)
            value = self.get(divisor) if known else self.memo.get(divisor)
            if value is None or facts.axes[dividend] <= frozenset(self.index):
                continue
            if value.dtype == "f32" and self._inverse(divisor) is None:
                size = f"fabsf({value.text})"
                test = f"{size} >= 0x1p-100f && {size} <= 0x1p+100f"
                text = f"{test} ? __frcp_rn({value.text}) : __int_as_float(0x7fc00000)"
                self.inverses[divisor] = CudaValue(code.let("float", text, "v"), "f32")

    def _possible(self, node: int) -> bool:
        """Whether a piece below ``node`` does not hide what this level cannot evaluate yet."""
        return self.find(node) is not None or all(
            not isinstance(self.frame.spec.body[i], Reduce) or self.find(i) is not None
            for i in self.reach([node])
        )

    def _compute(self, node: int) -> CudaValue:
        e, spec, facts = self.frame.e, self.frame.spec, self.frame.facts
        what = spec.body[node]
        match what:
            case Const():
                return self.frame.arith.const(register(what.dtype), what.value)
            case DimValue():
                return CudaValue(f"({dim_text(what.dim)})", "i64")
            case Iota():
                return CudaValue(f"({self.index[what.axis]})", "i64")
            case Load():
                return self._load(node, what)
            case Op():
                args = [self.get(i) for i in what.args]
                dtypes = [facts.dtypes[i] for i in what.args]
                short = self._shorter(what, args)
                if short is not None:
                    return short
                value = apply(e, what.name, args, dtypes, what.dtype)
                assert isinstance(value, CudaValue)
                return value
            case Piece():
                return self._piece(node, what)
            case Reduce():
                raise AssertionError(f"reduction {node} is read before its loop")

    def _shorter(self, op: Op, args: list[CudaValue]) -> CudaValue | None:
        """A way to ``op`` that takes fewer instructions than the common one, if there is one."""
        if not args or any(a.dtype != "f32" for a in args):
            return None
        if op.name == "div":
            inverse = self._inverse(op.args[1])
            return None if inverse is None else self._quotient(args[0], args[1], inverse)
        if op.name == "cast" and op.dtype == "bf16":
            return self.frame.arith.new("f32", f"tw_from_bf16(tw_to_bf16({args[0].text}))")
        return shorter(self.frame.arith, op.name, args)

    def known_inverses(self, roots: Iterable[int]) -> list[CudaValue]:
        """Reciprocals that ``roots`` take, NaN where a divisor is not moderate."""
        body = self.frame.spec.body
        divided = (body[i] for i in sorted(self.reach(roots)))
        divisors = {n.args[1] for n in divided if isinstance(n, Op) and n.name == "div"}
        return [self.inverses[i] for i in sorted(divisors) if i in self.inverses]

    def _inverse(self, node: int) -> CudaValue | None:
        scope: Scope | None = self
        while scope is not None:
            if node in scope.inverses:
                return scope.inverses[node]
            scope = scope.parent
        return None

    def _quotient(self, x: CudaValue, y: CudaValue, inverse: CudaValue) -> CudaValue:
        """x / y where 1 / y is known, NaN unless y is moderate."""
        code, m = self.frame.code, self.frame.arith
        name = code.name("v")
        code.line(f"float {name} = {quotient(m, x, y, inverse).text};")
        if inverse.text not in self.frame.moderate:
            test = f"{inverse.text} != {inverse.text}"
            code.line(f"if ({test}) {name} = __fdiv_rn({x.text}, {y.text});")
        return CudaValue(name, "f32")

    def _piece(self, node: int, piece: Piece) -> CudaValue:
        if node in self.arms:
            return self.get(piece.args[self.arms[node]])
        code = self.frame.code
        dtype = register(self.frame.facts.dtypes[node])
        name = code.name("v")
        code.line(f"{TYPES[dtype]} {name};")
        position = self.index[piece.axis]
        for k, arg in enumerate(piece.args):
            test = f"if ({position} < {dim_text(piece.starts[k])})" if k < len(piece.starts) else ""
            with code.block(("else " if k else "") + test if test or k else "if (true)"):
                code.line(f"{name} = {self.inner().get(arg).text};")
        return CudaValue(name, dtype)

    def offset_of(self, strides: tuple[Dim, ...], offset: Dim) -> str:
        """Element offset at the indices known here."""
        return offset_text([(self.index[a], strides[a]) for a in sorted(self.index)], offset)

    def address(self, load: Load) -> str:
        """Element offset of ``load``, gathers included."""
        text = self.offset_of(load.strides, load.offset)
        for gather in load.gathers:
            text += f" + {self._checked(gather)} * {dim_text(gather.stride)}"
        return text

    def _load(self, node: int, load: Load) -> CudaValue:
        frame = self.frame
        dtype = frame.spec.inputs[load.input]
        kind = frame.kind(dtype)
        text = self.raw.get(node)
        if text is None:
            text = frame.code.let(TYPES[kind], f"in{load.input}[{self.address(load)}]", "x")
        value = to_register(frame.e, CudaValue(text, kind), dtype)
        assert isinstance(value, CudaValue)
        return value

    def _checked(self, gather: Gather) -> str:
        """The index of ``gather``, wrapped and checked as its contract says."""
        code = self.frame.code
        index = self.get(gather.value)
        text = index.text if index.dtype == "i64" else f"(i64){index.text}"
        if not gather.error:
            return text
        extent = dim_text(gather.extent)
        given = code.let("i64", text)
        wrapped = code.let("i64", f"{given} < 0 ? {given} + {extent} : {given}")
        bad = code.let("bool", f"(u64){wrapped} >= (u64){extent}", "v")
        code.line(f"if ({bad}) tw_fail(status, {gather.error});")
        return code.let("i64", f"{bad} ? 0 : {wrapped}")

    def _unrounded(self, node: int, dtype: str) -> CudaValue | None:
        """What was rounded to 16 bits: as a store does that itself, the cast is for nothing and
        falls away. None for another node."""
        what = self.frame.spec.body[node]
        if not isinstance(what, Op) or (what.name, what.dtype) != ("cast", dtype):
            return None
        found = self.get(what.args[0])
        return found if found.dtype == "f32" else None

    def stored(self, store: Store) -> str:
        """The element that ``store`` writes here, in its storage type."""
        frame = self.frame
        value = self.get(store.value)
        given = self._unrounded(store.value, store.dtype) or value
        if store.dtype == "bf16":
            return f"(short)tw_to_bf16({given.text})"
        if store.dtype == "f16" and given.dtype == "f32":
            return f"tw_to_f16({given.text})"
        made = to_storage(frame.e, value, store.dtype)
        assert isinstance(made, CudaValue)
        return made.text

    def store(self, number: int, store: Store) -> None:
        """Write output ``number`` here."""
        place = self.offset_of(store.strides, store.offset)
        self.frame.code.line(f"out{number}[{place}] = {self.stored(store)};")


def contiguous(frame: Frame, node: int) -> bool:
    """Whether ``node`` is a load whose elements along the lanes lie side by side."""
    load = frame.spec.body[node]
    if not isinstance(load, Load) or load.strides[frame.lane] != 1:
        return False
    return all(frame.lane not in frame.facts.axes[g.value] for g in load.gathers)
