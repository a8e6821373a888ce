"""The order problem: steps that read and write tensors, and the bytes that an order keeps alive."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from tilewright.passes.memory.problem import PlanError


@dataclass(frozen=True)
class Op:
    """A step. `reads` and `writes` are tensors, `after` steps that must come before this one.

    A tensor is written by the one step that makes it; a step that changes it later reads it and has
    it in `updates`.
    """

    name: str
    reads: tuple[int, ...] = ()
    writes: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    updates: tuple[int, ...] = ()


@dataclass(frozen=True)
class Dag:
    """Steps in a valid order, and the size in bytes of every tensor.

    A tensor lives from the step that writes it (from the start if none does) through the last step
    that reads it, through the end if it is in `kept`. Raises `PlanError` if the steps as given are
    not in a valid order or a tensor is written twice.
    """

    ops: tuple[Op, ...]
    sizes: tuple[int, ...]
    kept: frozenset[int] = field(default_factory=frozenset)

    def __post_init__(self) -> None:
        made = [t for op in self.ops for t in op.writes]
        if len(set(made)) != len(made):
            raise PlanError("a tensor is written by two steps")
        if any(not set(op.updates) <= set(op.reads) for op in self.ops):
            raise PlanError("a tensor is changed by a step that does not read it")
        check_order(self, range(len(self.ops)))

    @cached_property
    def maker(self) -> dict[int, int]:
        """The step that writes each tensor; tensors that exist from the start are missing."""
        return {t: i for i, op in enumerate(self.ops) for t in op.writes}

    @cached_property
    def readers(self) -> list[int]:
        """For every tensor the set of its readers, as a bit mask of steps."""
        masks = [0] * len(self.sizes)
        for i, op in enumerate(self.ops):
            for t in op.reads:
                masks[t] |= 1 << i
        return masks

    @cached_property
    def changes(self) -> dict[int, list[int]]:
        """The steps that change a tensor after it was made, rising; unchanged ones are missing."""
        found: dict[int, list[int]] = {}
        for i, op in enumerate(self.ops):
            for t in op.updates:
                found.setdefault(t, []).append(i)
        return found

    def version(self, t: int, slot: int) -> int:
        """The last step before `slot` that made or changed tensor t; -1 if there is none."""
        steps = [self.maker.get(t, -1), *self.changes.get(t, ())]
        return max((i for i in steps if i < slot), default=-1)

    @cached_property
    def needs(self) -> list[int]:
        """For every step the mask of steps that must come directly before it."""
        masks = []
        for i, op in enumerate(self.ops):
            sources = {self.maker[t] for t in op.reads if t in self.maker} | set(op.after)
            masks.append(sum(1 << j for j in sources - {i}))
        return masks

    @cached_property
    def ancestors(self) -> list[int]:
        """For every step the mask of all steps that come before it in every order."""
        masks: list[int] = []
        for need in self.needs:
            masks.append(need)
            for j in bits(need):
                masks[-1] |= masks[j]
        return masks

    @cached_property
    def descendants(self) -> list[int]:
        """For every step the mask of all steps that come after it in every order."""
        masks = [0] * len(self.ops)
        for i in reversed(range(len(self.ops))):
            for j in bits(self.needs[i]):
                masks[j] |= masks[i] | 1 << i
        return masks

    @cached_property
    def working_set(self) -> int:
        """M_R: the most bytes that one step reads and writes; no plan does with less."""
        touched = (set(op.reads) | set(op.writes) for op in self.ops)
        return max((sum(self.sizes[t] for t in tensors) for tensors in touched), default=0)


def bits(mask: int) -> list[int]:
    """Positions of the ones in `mask`, rising."""
    found = []
    while mask:
        low = mask & -mask
        found.append(low.bit_length() - 1)
        mask ^= low
    return found


def check_order(dag: Dag, order: Sequence[int]) -> None:
    """Raise `PlanError` unless `order` runs every step once, after all that it needs."""
    done = 0
    for i in order:
        if not 0 <= i < len(dag.ops) or done >> i & 1 or dag.needs[i] & ~done:
            raise PlanError(f"step {i} cannot run here")
        done |= 1 << i
    if done != (1 << len(dag.ops)) - 1:
        raise PlanError("a step is missing")


def spans(dag: Dag, order: Sequence[int]) -> list[tuple[int, int]]:
    """For every tensor the positions lower <= t < upper of `order` at which it is alive."""
    at = {step: position for position, step in enumerate(order)}
    found = []
    for t in range(len(dag.sizes)):
        first = at[dag.maker[t]] if t in dag.maker else 0
        last = max((at[i] for i in bits(dag.readers[t])), default=first if t in dag.maker else -1)
        found.append((first, len(order) if t in dag.kept else last + 1))
    return found


def peak(dag: Dag, order: Sequence[int]) -> int:
    """The most bytes alive at one step of `order`."""
    change = [0] * (len(order) + 1)
    for size, (lower, upper) in zip(dag.sizes, spans(dag, order), strict=True):
        change[lower] += size
        change[upper] -= size
    best = now = 0
    for difference in change[: len(order)]:
        now += difference
        best = max(best, now)
    return best


def from_accesses(
    accesses: Sequence[tuple[Collection[int], Collection[int]]],
    sizes: Sequence[int],
    kept: Collection[int] = (),
) -> Dag:
    """The steps of a program from the buffers each of them reads and writes, in program order.

    A buffer may be written more than once; readers and writers keep their order (read after write,
    write after read, write after write). A buffer's life starts with the first step that touches
    it.
    """
    ops: list[Op] = []
    made: set[int] = set()
    writer: dict[int, int] = {}
    since: dict[int, set[int]] = {}
    for i, (reads, writes) in enumerate(accesses):
        touched = set(reads) | set(writes)
        fresh = touched - made
        after = {writer[t] for t in touched if t in writer}
        after |= {j for t in writes for j in since.get(t, ())}
        read, updated = sorted(touched - fresh), sorted(set(writes) - fresh)
        made_here = tuple(sorted(fresh))
        ops.append(Op(f"step {i}", tuple(read), made_here, tuple(sorted(after)), tuple(updated)))
        made |= fresh
        for t in reads:
            since.setdefault(t, set()).add(i)
        for t in {*writes, *fresh}:
            writer[t], since[t] = i, set()
    return Dag(tuple(ops), tuple(sizes), frozenset(kept))
