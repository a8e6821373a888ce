"""The order problem as an integer program, after OLLA (Steiner et al., arXiv 2210.12924).

A binary says in which position a step runs (OLLA's G, shared by all that it writes), one per tensor
and position that the tensor is preserved (P). A step needs its inputs preserved; only what was
generated or preserved before can be. Positions are limited by the numbers of ancestors (ASAP) and
descendants (ALAP). Preserving is continuous: with whole positions its least values are whole.
"""

import math

from tilewright.passes.memory.dag import Dag, bits
from tilewright.passes.memory.milp import Milp


def order_ilp(
    dag: Dag, start: int, end: int, low: int, high: int, seconds: float, nodes: int | None = None
) -> tuple[list[int] | None, int]:
    """An order of the steps in mask `end` but not in `start` whose peak is below `high`, or None.

    `low` is a known lower bound on the peak, in bytes. The second value is the best proven one:
    `high` if there is no better order. The search ends after `nodes` of branch and bound, the same
    in every run, or `seconds`.
    """
    steps = bits(end & ~start)
    inner = end & ~start
    last = len(steps) - 1
    unit = math.gcd(*dag.sizes) or 1
    program = Milp()
    top = program.column(low // unit, high // unit - 1, 1.0, whole=False)
    asap = {i: (dag.ancestors[i] & inner).bit_count() for i in steps}
    alap = {i: last - (dag.descendants[i] & inner).bit_count() for i in steps}
    runs = {(i, p): program.column() for i in steps for p in range(asap[i], alap[i] + 1)}
    for i in steps:
        program.row([(runs[i, p], 1.0) for p in range(asap[i], alap[i] + 1)], 1, 1)
    memory: list[list[tuple[int, float]]] = [[(top, -1.0)] for _ in range(last + 1)]
    for p in range(last + 1):
        program.row([(runs[i, p], 1.0) for i in steps if (i, p) in runs], 1, 1)

    def ran_before(i: int, p: int, sign: float) -> list[tuple[int, float]]:
        return [(runs[i, q], sign) for q in range(asap[i], min(p, alap[i] + 1))]

    for i in steps:
        for j in bits(dag.needs[i] & inner):
            for p in range(max(asap[i], asap[j]), alap[i] + 1):
                program.row([*ran_before(j, p, 1.0), *ran_before(i, p + 1, -1.0)], 0)

    fixed = 0
    for t, size in enumerate(dag.sizes):
        maker = dag.maker.get(t)
        inside = maker is not None and bool(inner >> maker & 1)
        if maker is not None and not inside and not start >> maker & 1:
            continue  # made later
        readers = bits(dag.readers[t] & inner)
        stays = t in dag.kept or bool(dag.readers[t] & ~end)
        if not inside and (stays or not readers):
            fixed += size if stays else 0
            continue
        first = asap[maker] + 1 if inside and maker is not None else 0
        final = last if stays else max((alap[i] for i in readers), default=-1)
        kept = {p: program.column(whole=False) for p in range(first, final + 1)}
        for p, column in kept.items():
            memory[p].append((column, size // unit))
            made = ran_before(maker, p, -1.0) if inside and maker is not None else []
            floor = 0.0 if inside else 1.0
            if stays:
                program.row([(column, 1.0), *made], floor)
            else:
                for i in readers:  # made and not yet read by step i
                    program.row([(column, 1.0), *made, *ran_before(i, p, 1.0)], floor)
            for i in readers:
                if (i, p) in runs:
                    program.row([(column, 1.0), (runs[i, p], -1.0)], 0)
        if inside and maker is not None:
            for p in range(asap[maker], alap[maker] + 1):
                memory[p].append((runs[maker, p], size // unit))
    for terms in memory:
        program.row(terms, high=-fixed // unit)

    answer = program.solve(seconds, nodes)
    if answer.status == "infeasible":
        return None, high
    # The solver may break a row by a millionth: only what that cannot explain is proven.
    doubt = 1e-6 * sum(dag.sizes) / unit + 1e-3
    bound = low
    if math.isfinite(answer.bound):
        bound = max(low, math.ceil(answer.bound - doubt) * unit)
    if answer.values is None:
        return None, bound
    values = answer.values
    where = {i: p for (i, p), column in runs.items() if values[column] > 0.5}
    return sorted(steps, key=lambda i: where[i]), bound
