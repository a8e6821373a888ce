"""2:4 weights between block-diagonal matrices: ARMOR (ICLR 2026), W' = B S A.

B [K, K] and A [N, N] have square blocks on the diagonal, S is 2:4 along K. What is minimized is the
error of the outputs as far as the energies of channels say it, sum_k h_k ||(B S A - W)_k||^2. All
steps are exact minima: over one group of four of every block (which two are kept, and their
values), over every block of A, over every block of B, so that the loss never grows. The published
method takes gradient steps of Adam for all but the first.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from tilewright.compiler.formats.blocked import damped
from tilewright.compiler.formats.pruning import Groups

PAIRS = np.array(list(combinations(range(4), 2)))
"""The places that a group of four may keep."""

ROUNDS = 4
"""Over all groups and all blocks of the wrappers."""


DAMP = 0.01
"""As of `blocked.damped`: one block of A sees all channels, so that less is enough."""


@dataclass(frozen=True, eq=False)
class Wrapped:
    """left: f64 [K / d, d, d]. core: f64 [K, N], 2:4 along K. right: f64 [N / d, d, d]."""

    left: np.ndarray
    core: np.ndarray
    right: np.ndarray

    @property
    def block(self) -> int:
        """d."""
        return len(self.left[0])

    @property
    def dense(self) -> np.ndarray:
        """B S A, f64 [K, N]."""
        made = np.einsum("kab,kbn->kan", self.left, _rows(self.core, self.block))
        whole: np.ndarray = made.reshape(self.core.shape)
        return self._to_right(whole)

    def _to_right(self, w: np.ndarray) -> np.ndarray:
        k, n = w.shape
        cut = w.reshape(k, n // self.block, self.block)
        found: np.ndarray = np.einsum("kja,jab->kjb", cut, self.right).reshape(k, n)
        return found

    @property
    def bytes(self) -> int:
        """Of bf16 numbers, and two bits for each place of the core."""
        k, n = self.core.shape
        size: int = k * n + k * n // 8 + 2 * self.block * (k + n)
        return size


def plain(w: np.ndarray, importance: np.ndarray, block: int) -> Wrapped:
    """The two of every four with the most h w^2, and wrappers of ones."""
    mask = Groups(2, 4).whole(np.square(w) * importance[:, None])
    ones = np.eye(block)
    k, n = w.shape
    return Wrapped(np.tile(ones, (k // block, 1, 1)), w * mask, np.tile(ones, (n // block, 1, 1)))


def armor(
    w: np.ndarray,
    gram: np.ndarray,
    block: int = 32,
    rounds: int = ROUNDS,
    last: bool = True,
) -> Wrapped:
    """W [K, N] so; gram: X^T X [K, K], of which the diagonal weighs channels. last: A is fitted to
    the outputs themselves in the end, by all of the Gram matrix. Raises ValueError for sizes that
    are no multiples of the block, or a block that is none of 4."""
    k, n = w.shape
    if block % 4 or k % block or n % block:
        raise ValueError(f"blocks of {block} do not fit {k} x {n}, or hold no groups of 4")
    wide = w.astype(np.float64)
    metric = damped(gram, k, DAMP)
    importance = np.diag(metric).copy()
    made = plain(wide, importance, block)
    for _ in range(rounds):
        made, _ = regrouped(wide, importance, made)
        made = replace(made, right=rights(wide, np.diag(importance), made))
        made = replace(made, left=lefts(wide, made))
    return replace(made, right=rights(wide, metric, made)) if last else made


def loss(w: np.ndarray, importance: np.ndarray, made: Wrapped) -> float:
    """sum_k h_k ||(B S A - W)_k||^2."""
    return float(np.einsum("k,kn->", importance, np.square(made.dense - w)))


def regrouped(w: np.ndarray, importance: np.ndarray, made: Wrapped) -> tuple[Wrapped, list[float]]:
    """Every group of the core anew, one of each block at a time; by how much each of these steps
    lowered the loss."""
    d = made.block
    k, n = w.shape
    shape = (k // d, d, n // d, d)
    rest = (made.dense - w).reshape(shape).transpose(0, 2, 1, 3)  # [k blocks, n blocks, d, d]
    core = made.core.reshape(shape).transpose(0, 2, 1, 3).copy()
    root = np.sqrt(importance).reshape(k // d, 1, d, 1)
    rest = rest * root
    scaled = made.left * root[:, 0]  # [k blocks, d, d]
    gram = np.einsum("kab,kac->kbc", scaled, scaled)
    lowered = []
    for g in range(0, d, 4):
        b = scaled[:, :, g : g + 4]
        own = gram[:, g : g + 4, g : g + 4]
        pairs = own[:, PAIRS[:, :, None], PAIRS[:, None, :]]  # [k blocks, 6, 2, 2]
        inverse = np.linalg.pinv(pairs, rcond=1e-12, hermitian=True)
        for c in range(d):
            a = made.right[:, c]  # [n blocks, d]
            size = np.maximum(np.einsum("ja,ja->j", a, a), 1e-300)
            old = core[:, :, g : g + 4, c]
            seen = np.einsum("kjab,jb->kja", rest, a) / size[:, None]
            # What is left without this group, seen by its four columns of B and its row of A.
            v = np.einsum("kag,kja->kjg", b, seen) - np.einsum("kgh,kjh->kjg", own, old)
            of_pairs = v[:, :, PAIRS]  # [k blocks, n blocks, 6, 2]
            values = -np.einsum("kpab,kjpb->kjpa", inverse, of_pairs)
            gains = -np.einsum("kjpa,kjpa->kjp", values, of_pairs)
            best = gains.argmax(axis=2)[..., None]
            new = np.zeros_like(old)
            chosen = np.take_along_axis(values, best[..., None], 2)[:, :, 0]
            np.put_along_axis(new, PAIRS[best[..., 0]], chosen, 2)
            before = -np.einsum("kjg,kjg->kj", old, 2 * v + np.einsum("kgh,kjh->kjg", own, old))
            gain = (np.take_along_axis(gains, best, 2)[..., 0] - before) * size
            better = gain > 0
            change = np.where(better[..., None], new - old, 0.0)
            core[:, :, g : g + 4, c] += change
            rest += np.einsum("kag,kjg->kja", b, change)[..., None] * a[None, :, None]
            lowered.append(float(gain[better].sum()))
    whole = np.ascontiguousarray(core.transpose(0, 2, 1, 3)).reshape(k, n)
    return replace(made, core=whole), lowered


def rights(w: np.ndarray, metric: np.ndarray, made: Wrapped) -> np.ndarray:
    """The blocks of A that are best for the others, ||B S A - W|| in a metric [K, K]."""
    d = made.block
    seen = np.einsum("kab,kbn->kan", made.left, _rows(made.core, d)).reshape(w.shape)
    along = metric @ seen
    found = []
    for j, a in enumerate(made.right):
        own = slice(j * d, (j + 1) * d)
        rest = along[:, own].T @ (w[:, own] - seen[:, own] @ a)
        found.append(a + np.linalg.lstsq(along[:, own].T @ seen[:, own], rest, rcond=1e-12)[0])
    return np.stack(found)


def lefts(w: np.ndarray, made: Wrapped) -> np.ndarray:
    """The blocks of B that are best for the others: each row by itself, whatever it weighs."""
    d = made.block
    seen = _rows(made._to_right(made.core), d)
    found = []
    for b, own, wanted in zip(made.left, seen, _rows(w, d), strict=True):
        rest = own @ (wanted - b @ own).T
        found.append(b + np.linalg.lstsq(own @ own.T, rest, rcond=1e-12)[0].T)
    return np.stack(found)


def _rows(w: np.ndarray, d: int) -> np.ndarray:
    return w.reshape(len(w) // d, d, w.shape[1])
