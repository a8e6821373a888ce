"""Einsum: diagonals and sums per operand, then contractions from left to right."""

from dataclasses import dataclass

from tilewright.compiler.frontend.context import Import
from tilewright.compiler.frontend.node import Node
from tilewright.compiler.frontend.registry import onnx_op
from tilewright.compiler.frontend.terms import Term, iota
from tilewright.compiler.ir.core import Value
from tilewright.compiler.ir.dims import Dim
from tilewright.compiler.ir.ops.contraction import Contract

_ELLIPSIS = "0123456789"
"""Internal letters for the axes of `...`, aligned at the right."""


@dataclass(frozen=True)
class _Part:
    """A tensor and the letter of each of its axes."""

    term: Term
    letters: str

    def size(self, letter: str) -> Dim:
        return self.term.dims[self.letters.index(letter)]


def _expand(node: Node, text: str, rank: int | None) -> str:
    """The letters of one operand with `...` replaced (rank None: kept for the output)."""
    if "..." not in text:
        return text
    left, right = text.split("...", 1)
    count = 0 if rank is None else rank - len(left) - len(right)
    if not 0 <= count <= len(_ELLIPSIS):
        raise ValueError(f"{text!r} does not fit rank {rank}")
    return left + _ELLIPSIS[len(_ELLIPSIS) - count :] + right


def _parse(ctx: Import, node: Node) -> tuple[list[str], str]:
    equation = node.attr("equation").replace(" ", "")
    left, arrow, output = equation.partition("->")
    texts = left.split(",")
    inputs = node.all_inputs()
    if len(texts) != len(inputs):
        ctx.fail(node, f"equation {equation!r} does not fit {len(inputs)} operands")
    try:
        specs = [_expand(node, t, v.rank) for t, v in zip(texts, inputs, strict=True)]
    except ValueError as error:
        ctx.fail(node, f"equation {equation!r}: {error}")
    for spec, value in zip(specs, inputs, strict=True):
        if len(spec) != value.rank or not all(c.isalpha() or c in _ELLIPSIS for c in spec):
            ctx.fail(node, f"equation {equation!r} does not fit {value.type}")
    every = "".join(specs)
    dots = "".join(c for c in _ELLIPSIS if c in every)
    if arrow:
        out = output.replace("...", dots)
    else:
        once = sorted(c for c in set(every) - set(dots) if every.count(c) == 1)
        out = dots + "".join(once)
    if not set(out) <= set(every) or len(set(out)) != len(out):
        ctx.fail(node, f"equation {equation!r}: bad output {output!r}")
    return specs, out


@onnx_op("Einsum")
def _einsum(ctx: Import, node: Node) -> Value:
    specs, out = _parse(ctx, node)
    parts = [
        _diagonal(ctx, _Part(Term(ctx, v), s))
        for v, s in zip(node.all_inputs(), specs, strict=True)
    ]
    parts = _one_size(ctx, parts)
    acc = parts[0]
    for i, part in enumerate(parts[1:], start=1):
        later = set(out).union(*(p.letters for p in parts[i + 1 :]))
        acc = _product(
            ctx,
            _sum_out(acc, later | set(part.letters)),
            _sum_out(part, later | set(acc.letters)),
            later,
        )
    acc = _sum_out(acc, set(out))
    missing = [c for c in out if c not in acc.letters]
    term = acc.term.reshape(*acc.term.dims, *(1,) * len(missing))
    letters = acc.letters + "".join(missing)
    return term.transpose(*(letters.index(c) for c in out)).value


def _diagonal(ctx: Import, part: _Part) -> _Part:
    """Repeated letters of one operand: elements off the diagonal dropped."""
    while True:
        repeated = next((c for c in part.letters if part.letters.count(c) > 1), None)
        if repeated is None:
            return part
        first = part.letters.index(repeated)
        second = part.letters.index(repeated, first + 1)
        rest = [i for i in range(len(part.letters)) if i not in (first, second)]
        n = ctx.unify(part.term.dims[first], part.term.dims[second], "the diagonal")
        moved = part.term.transpose(*rest, first, second)
        kept = moved.dims[:-2]
        if isinstance(n, int):
            flat = moved.reshape(*kept, n * n)
            term = flat.slice(-1, 0, n, n + 1)
        else:
            on = iota(ctx, n).reshape(n, 1).equals(iota(ctx, n).reshape(1, n))
            term = on.where(moved, 0, moved.dtype).sum((-1,), keepdims=False)
        part = _Part(term, "".join(part.letters[i] for i in rest) + repeated)


def _one_size(ctx: Import, parts: list[_Part]) -> list[_Part]:
    """Every letter with one size: axes of size 1 that are broadcast are removed."""
    sizes: dict[str, Dim] = {}
    for part in parts:
        for letter in part.letters:
            dim = part.size(letter)
            have = sizes.get(letter, 1)
            sizes[letter] = dim if have == 1 else have if dim == 1 else ctx.unify(have, dim, letter)
    out = []
    for part in parts:
        kept = [c for c in part.letters if part.size(c) != 1 or sizes[c] == 1]
        term = part.term.reshape(*(part.size(c) for c in kept))
        want = [sizes[c] for c in kept]
        out.append(_Part(Term(ctx, ctx.relabel(term.value, want, "einsum")), "".join(kept)))
    return out


def _sum_out(part: _Part, needed: set[str]) -> _Part:
    """The operand summed over the letters that nothing else needs."""
    gone = [i for i, c in enumerate(part.letters) if c not in needed]
    if not gone:
        return part
    letters = "".join(c for c in part.letters if c in needed)
    return _Part(part.term.sum(gone, keepdims=False), letters)


def _product(ctx: Import, a: _Part, b: _Part, later: set[str]) -> _Part:
    """The product of two operands, summed over shared letters that nothing later needs."""
    shared = [c for c in a.letters if c in b.letters]
    summed = [c for c in shared if c not in later]
    batch = "".join(c for c in shared if c in later)
    rows = "".join(c for c in a.letters if c not in shared)
    columns = "".join(c for c in b.letters if c not in shared)
    out = batch + rows + columns
    if summed:
        names = dict(zip(sorted(set(out + "".join(summed))), _LETTERS, strict=False))
        spec = "{},{}->{}".format(
            *("".join(names[c] for c in s) for s in (a.letters, b.letters, out))
        )
        return _Part(Term(ctx, ctx.emit(Contract, a=a.term.value, b=b.term.value, spec=spec)), out)
    wide_a = a.term.transpose(*(a.letters.index(c) for c in batch + rows))
    wide_b = b.term.transpose(*(b.letters.index(c) for c in batch + columns))
    wide_a = wide_a.reshape(*wide_a.dims, *(1,) * len(columns))
    lead = wide_b.dims[: len(batch)]
    wide_b = wide_b.reshape(*lead, *(1,) * len(rows), *wide_b.dims[len(batch) :])
    return _Part(wide_a * wide_b, out)


_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
