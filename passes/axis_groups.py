"""How the axes of two shapes with equally many elements correspond."""

from tilewright.compiler.ir.dims import Dim, Shape, floordiv

Group = tuple[range, range]


def divides(a: Dim, b: Dim) -> bool:
    """True when `b` is provably a multiple of `a`."""
    if a == 0:
        return False
    quotient = floordiv(b, a)
    return quotient * a == b


def axis_groups(a: Shape, b: Shape) -> list[Group] | None:
    """The finest split of both shapes into runs of axes with equal products.

    `[b, 12, s, 32]` and `[12*b, s, 32]` give `(0..2, 0..1), (2..3, 1..2), (3..4, 2..3)`. None when
    the products cannot be compared. Ones at the end belong to the last run.
    """
    if not a or not b:
        return None
    groups: list[Group] = []
    i = j = 0
    while i < len(a) and j < len(b):
        start, other = i, j
        left, right = a[i], b[j]
        i, j = i + 1, j + 1
        while left != right:
            if i < len(a) and divides(left, right):
                left, i = left * a[i], i + 1
            elif j < len(b) and divides(right, left):
                right, j = right * b[j], j + 1
            else:
                return None
        groups.append((range(start, i), range(other, j)))
    if any(d != 1 for d in (*a[i:], *b[j:])):
        return None
    last = groups.pop()
    groups.append((range(last[0].start, len(a)), range(last[1].start, len(b))))
    return groups
