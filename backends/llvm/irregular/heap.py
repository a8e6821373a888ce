"""A heap of positions under a strict total order: its top comes last in the order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from llvmlite import ir

from tilewright.backends.llvm.builder import Int, i64
from tilewright.backends.llvm.irregular.nest import Array, Nest

Before = Callable[[Int, Int], ir.Value]
"""Whether the first position comes strictly before the second (i1)."""


def sift(k: Nest, heap: Array, before: Before, root: Int, size: Int) -> None:
    """Move the entry at `root` down until both its children come before it."""
    at = k.cell(i64(root))
    with k.repeat() as done:
        node = at.get()
        left = k.add(k.mul(node, 2), 1)
        k.leave_if(k.cmp(">=", left, size), done)
        right = k.min(k.add(left, 1), k.sub(size, 1))
        child = k.b.select(before(heap.get(left), heap.get(right)), i64(right), i64(left))
        entry, lower = heap.get(node), heap.get(child)
        k.leave_if(before(lower, entry), done)
        heap.set(node, lower)
        heap.set(child, entry)
        at.set(child)


def build(k: Nest, heap: Array, before: Before, size: Int) -> None:
    """Make the first `size` entries of `heap` a heap."""
    half = k.div(size, 2)
    with k.loop(half) as i:
        sift(k, heap, before, k.sub(k.sub(half, 1), i), size)


@contextmanager
def unwind(k: Nest, heap: Array, before: Before, size: Int) -> Iterator[tuple[Int, ir.Value]]:
    """Empty a heap from its top: yields (rank in the order, position), the last rank first.

    When done, the entries of `heap` are in order.
    """
    with k.loop(size) as i:
        rank = k.sub(k.sub(size, 1), i)
        top = heap.get(0)
        yield rank, top
        heap.set(0, heap.get(rank))
        heap.set(rank, top)
        sift(k, heap, before, 0, rank)


def sort(k: Nest, heap: Array, before: Before, size: Int) -> None:
    """Put the first `size` entries of `heap` in order."""
    build(k, heap, before, size)
    with unwind(k, heap, before, size):
        pass
