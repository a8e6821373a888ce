"""Strided views: tensors that are another tensor's memory seen through strides."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tilewright.backends.llvm.program import Place
from tilewright.compiler.ir.dims import Dim, product
from tilewright.compiler.ir.types import DType


def element_bytes(dtype: DType) -> int:
    """Bytes of an element in memory; sub-byte types take one byte each."""
    return max(1, dtype.bits // 8)


def dense_strides(shape: tuple[Dim, ...]) -> tuple[Dim, ...]:
    """Row-major strides in elements."""
    out: list[Dim] = []
    step: Dim = 1
    for dim in reversed(shape):
        out.append(step)
        step = step * dim
    return tuple(reversed(out))


@dataclass(frozen=True)
class View:
    """Element [i..] of the tensor is at `offset + sum i * strides` elements past `place`.

    `place` has offset 0: `offset` holds it all, in elements.
    """

    place: Place
    dtype: DType
    shape: tuple[Dim, ...]
    strides: tuple[Dim, ...]
    offset: Dim = 0

    @property
    def dense(self) -> bool:
        """Whether the elements are contiguous in row-major order."""
        want = dense_strides(self.shape)
        return all(d == 1 or s == w for d, s, w in zip(self.shape, self.strides, want, strict=True))

    @property
    def whole(self) -> bool:
        """Whether the view is dense and starts where its memory does."""
        return self.dense and self.offset == 0

    @property
    def at(self) -> Place:
        """Where element 0 is, in bytes."""
        return replace(self.place, offset=self.offset * element_bytes(self.dtype))

    @property
    def bytes(self) -> Dim:
        """Bytes of the elements."""
        return product(self.shape) * element_bytes(self.dtype)

    def inner(self, count: int) -> View:
        """The view at index 0 of the first `count` axes."""
        return replace(self, shape=self.shape[count:], strides=self.strides[count:])

    def transpose(self, perm: tuple[int, ...]) -> View:
        shape, strides = (tuple(x[p] for p in perm) for x in (self.shape, self.strides))
        return replace(self, shape=shape, strides=strides)

    def broadcast(self, shape: tuple[Dim, ...]) -> View:
        lead = len(shape) - len(self.shape)
        strides: list[Dim] = [0] * lead
        for have, stride, want in zip(self.shape, self.strides, shape[lead:], strict=True):
            strides.append(0 if have == 1 and want != 1 else stride)
        return replace(self, shape=shape, strides=tuple(strides))

    def slice(
        self, starts: tuple[Dim, ...], steps: tuple[int, ...], shape: tuple[Dim, ...]
    ) -> View:
        offset, strides = self.offset, []
        for start, step, stride in zip(starts, steps, self.strides, strict=True):
            offset = offset + start * stride
            strides.append(stride * step)
        return replace(self, shape=shape, strides=tuple(strides), offset=offset)

    def reshape(self, shape: tuple[Dim, ...]) -> View | None:
        """The same elements with another shape, or None when no strides can express it."""
        if self.dense:
            return replace(self, shape=shape, strides=dense_strides(shape))
        old = [(d, s) for d, s in zip(self.shape, self.strides, strict=True) if d != 1]
        strides: list[Dim] = []
        todo = list(shape)
        while todo:
            if todo[-1] == 1:
                todo.pop()
                strides.append(1)
                continue
            group, want = self._group(old, todo)
            if group is None:
                return None
            step = group
            for dim in want:
                strides.append(step)
                step = step * dim
        return replace(self, shape=shape, strides=tuple(reversed(strides))) if not old else None

    @staticmethod
    def _group(old: list[tuple[Dim, Dim]], new: list[Dim]) -> tuple[Dim | None, list[Dim]]:
        """Take the shortest equal-sized tails of both lists; the inner stride if the old merge."""
        if not old:
            return None, []
        have, inner = old.pop()
        taken = [new.pop()]
        want = taken[0]
        while have != want:
            if isinstance(have, int) and isinstance(want, int):
                grow_old = have < want
            else:  # a known factor of a symbolic product is the shorter side
                grow_old = have != 0 and (want // have) * have == want
            if grow_old:
                if not old or old[-1][1] != inner * have:
                    return None, []
                have = have * old.pop()[0]
            else:
                if not new:
                    return None, []
                taken.append(new.pop())
                want = want * taken[-1]
        return inner, taken
