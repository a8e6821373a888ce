"""Predicted errors beside measured ones: ``python -m tilewright.tools.validate_errors MODEL``.

Calibrates a model once as an error contract does, draws random plans of formats, builds each and
measures it on the held-out samples. For every plan a few formats are drawn, and every calibrated
operation gets one of those that it can run in; plans whose predicted error is beyond what contracts
are made for are drawn again.
"""

from __future__ import annotations

import argparse
import random
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import exp, log, sqrt
from pathlib import Path

from tilewright.compiler.contract import Errors
from tilewright.compiler.driver import measure_plans
from tilewright.compiler.options import Options
from tilewright.passes.quantization.agreement import Agreement, Operation
from tilewright.passes.quantization.planned import Formats
from tilewright.tools.bench.record import record

MOST = 0.3
"""The greatest relative L2 error that a plan may be predicted to make."""

PALETTE = 6
"""Formats that a plan draws from at most."""


@dataclass(frozen=True)
class Plan:
    """One plan: operations by format, relative L2 errors of the worst output."""

    formats: Mapping[str, int]
    predicted: float
    measured: float

    @property
    def off(self) -> float:
        """How many times one error is the other; at least 1."""
        return exp(abs(log(self.predicted / self.measured)))


def draw(count: int, seed: int) -> Callable[[Agreement, Sequence[Operation]], Iterator[Formats]]:
    """`count` random plans, as `measure_plans` asks for them."""

    def plans(made: Agreement, operations: Sequence[Operation]) -> Iterator[Formats]:
        chance, terms = random.Random(seed), made.terms
        sites = {
            (source, constant): sorted(numerics)
            for source, constant, numerics in operations
            if terms.squares(source, constant, "f32") is not None
        }
        every = sorted(set().union(*sites.values()))
        for _ in range(count):
            while True:
                palette = chance.sample(every, chance.randint(2, min(PALETTE, len(every))))
                chosen = {
                    site: chance.choice([n for n in could if n in palette] or ["f32"])
                    for site, could in sites.items()
                }
                squares = [terms.squares(*site, numerics) for site, numerics in chosen.items()]
                total = [sum(column) for column in zip(*(s for s in squares if s), strict=True)]
                if 0 < max(total) <= MOST**2:
                    break
            named = {f"{source}@{constant}": n for (source, constant), n in chosen.items()}
            yield Formats("a random plan", named)

    return plans


def judged(plan: Formats, predicted: Errors, measured: Errors) -> Plan:
    """By the output where the two are furthest apart."""
    pairs = [(p, m) for p, m in zip(predicted, measured, strict=True) if p > 0 and m > 0]
    p, m = max(pairs, key=lambda pair: abs(log(pair[0] / pair[1])))
    return Plan(dict(sorted(Counter(plan.by_key.values()).items())), p, m)


def rows(plans: Sequence[Plan]) -> list[dict[str, object]]:
    """Of every plan, for --output."""
    return [
        {
            "predicted": float(f"{plan.predicted:.4g}"),
            "measured": float(f"{plan.measured:.4g}"),
            "off": round(plan.off, 3),
            "formats": dict(plan.formats),
        }
        for plan in plans
    ]


def summary(plans: Sequence[Plan]) -> str:
    """How far predictions are off: at worst, and by the root mean square of logarithms."""
    logs = [log(plan.off) for plan in plans]
    typical = exp(sqrt(sum(x * x for x in logs) / len(logs)))
    return f"{len(plans)} plans: off by {exp(max(logs)):.3f} at worst, {typical:.3f} typically"


def main(words: Sequence[str] | None = None) -> int:
    """Print the plans; 1 where a prediction is further off than --within."""
    parser = argparse.ArgumentParser(prog="validate_errors", description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--calibrate", required=True, help="as of `tilewright compile`")
    parser.add_argument("--plans", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--within", type=float, default=1.5, help="how far predictions may be off")
    parser.add_argument("--output", type=Path, help="record the run here as JSON")
    given = parser.parse_args(words)
    options = Options(calibrate=given.calibrate, max_error=MOST)
    found: list[Plan] = []
    for plan, predicted, measured in measure_plans(
        given.model, options, draw(given.plans, given.seed)
    ):
        made = judged(plan, predicted, measured)
        found.append(made)
        formats = " ".join(f"{name}:{count}" for name, count in made.formats.items())
        print(
            f"predicted {made.predicted:.4f} measured {made.measured:.4f}"
            f" off {made.off:.2f}  {formats}",
            flush=True,
        )
    print(summary(found))
    if given.output is not None:
        names = [given.model.name, "--calibrate", Path(given.calibrate).name]
        numbers = ["--plans", str(given.plans), "--seed", str(given.seed)]
        tool = ["python", "-m", "tilewright.tools.validate_errors"]
        command = shlex.join([*tool, *names, *numbers])
        record(given.output, rows(found), command=command, notes=summary(found))
    return int(max(plan.off for plan in found) > given.within)


if __name__ == "__main__":
    sys.exit(main())
