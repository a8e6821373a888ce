"""What every candidate of every question costs, at typical sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from tilewright.backends.kernels.candidates import Candidate
from tilewright.backends.llvm.lowering.choice import Answers, Question
from tilewright.backends.target import Target
from tilewright.compiler.ir.core import Symbol
from tilewright.compiler.ir.dims import evaluate, symbols

SIZES = (1, 16, 128)
"""Values of a symbol at which candidates are compared where nothing says what is typical."""

Env = Mapping[str, int]


def points(questions: Sequence[Question], table: Mapping[str, Symbol]) -> tuple[Env, ...]:
    """Symbol values at which to compare: each symbol of the dims at each of SIZES, the others at
    the least, and all of them at the same one."""
    used = sorted({n for q in questions for d in q.dims for n in symbols(d)})

    def clip(name: str, size: int) -> int:
        symbol = table.get(name)
        if symbol is None:
            return size
        high = size if symbol.high is None else min(size, symbol.high)
        return max(high, symbol.low)

    found = [{n: clip(n, size) for n in used} for size in SIZES]
    for name in used:
        found += [{n: clip(n, size if n == name else SIZES[0]) for n in used} for size in SIZES]
    return tuple({tuple(env.items()): env for env in found}.values())


def seconds(candidate: Candidate, dims: tuple[int, ...], target: Target) -> float:
    """Predicted time of one launch on one thread."""
    cost = candidate.family.cost(candidate.spec, dims, target)
    scale = target.lanes_f32 / 16
    rate = {"f32": 140e9 * scale, "bf16_tile": 1.3e12, "bf16_dot": 280e9}.get(cost.unit, 1e12)
    work = (cost.issued or cost.flops) / rate
    moved = cost.bytes / 30e9 + cost.weights / 15e9
    return max(work, moved) + cost.converted / (8e9 * scale) + cost.epilogue / (60e9 * scale) + 1e-6


def fastest(target: Target, table: Mapping[str, Symbol]) -> Callable[[Sequence[Question]], Answers]:
    """Answers every question by itself: the least sum over `points` of relative times."""

    def decide(questions: Sequence[Question]) -> Answers:
        envs = points(questions, table)
        answers = {}
        for question in questions:
            total = [0.0] * len(question.candidates)
            for env in envs:
                dims = tuple(evaluate(d, env) for d in question.dims)
                times = [seconds(c, dims, target) for c in question.candidates]
                total = [s + t / min(times) for s, t in zip(total, times, strict=True)]
            answers[question.key] = question.candidates[total.index(min(total))].spec
        return answers

    return decide
