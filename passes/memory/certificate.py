"""What is proven about the memory of a compiled program.

Three numbers bound what any plan can reach. For the order of the steps as compiled, the most bytes
alive at one step; over all orders, the least such peak (COSMA's MPMF, arXiv 2311.18246); and M_R,
the most bytes that one step touches, below which no arena works without smaller steps.
"""

from dataclasses import dataclass

from tilewright.passes.memory.dag import Dag, peak
from tilewright.passes.memory.order import Order


@dataclass(frozen=True)
class Certificate:
    """All sizes in bytes, at the symbol values that the plan was judged by.

    arena: the planned arena;  max_live: no packing for the order as compiled is smaller
    working_set: M_R, no arena for these steps is smaller, in any order, with any spilling
    best_peak: the least peak of an order that was found;  best_bound: no order's is smaller
    packing_proven: no arena for the order as compiled is smaller (beyond arena == max_live)
    """

    steps: int
    buffers: int
    arena: int
    max_live: int
    working_set: int
    best_peak: int
    best_bound: int
    packing_proven: bool = False

    @property
    def packed_optimally(self) -> bool:
        """Whether no arena for the order as compiled is smaller."""
        return self.packing_proven or self.arena == self.max_live

    @property
    def optimal(self) -> bool:
        """Whether no arena is smaller, in any order, without spilling."""
        return self.arena == self.best_bound

    def conclusion(self) -> str:
        """What the numbers prove, in one sentence."""
        if self.optimal:
            return "optimal: no order of the steps and no packing needs less"
        if self.packed_optimally and self.max_live == self.best_bound:
            return "no order keeps less alive, and no packing of this order is lower"
        order = ""
        if self.best_peak < self.max_live:
            gain = self.max_live - self.best_peak
            order = f"another order keeps {_bytes(gain)} less alive"
        elif self.max_live > self.best_bound:
            order = "no better order was found, and none was excluded"
        if self.packed_optimally:
            return f"optimal for this order; {order}"
        packing = f"at most {_bytes(self.arena - self.max_live)} above the best packing"
        return f"{packing}; {order}" if order else packing

    def text(self) -> str:
        """A table of the numbers, each with what it says about the arena, and the conclusion."""
        low, high = self.best_bound, self.best_peak
        best = _bytes(high) if low == high else f"{_bytes(low)} to {_bytes(high)}"
        rows = [
            ("arena", _bytes(self.arena), f"{self.buffers} buffers, {self.steps} steps"),
            ("max-live", _bytes(self.max_live), "least arena for the order as compiled"),
            ("best order", best, "least max-live over all orders"),
            ("largest step", _bytes(self.working_set), "least arena for any order and spilling"),
        ]
        names = max(len(name) for name, _, _ in rows)
        sizes = max(len(size) for _, size, _ in rows)
        lines = [f"{name:<{names}}  {size:>{sizes}}  {note}" for name, size, note in rows]
        return "\n".join([*lines, self.conclusion()])


def certify(
    dag: Dag,
    arena: int,
    found: Order,
    *,
    packing_proven: bool = False,
) -> Certificate:
    """Judge an `arena` (bytes) for the steps of `dag` as given; `found` is the best order known.

    `dag.sizes` are the sizes as placed, so aligned. `packing_proven` says that a search excluded
    smaller arenas for this order.
    """
    live = peak(dag, range(len(dag.ops)))
    return Certificate(
        steps=len(dag.ops),
        buffers=sum(size > 0 for size in dag.sizes),
        arena=arena,
        max_live=live,
        working_set=dag.working_set,
        best_peak=min(found.peak, live),
        best_bound=found.bound,
        packing_proven=packing_proven,
    )


def _bytes(count: int) -> str:
    return f"{count:,} B"
