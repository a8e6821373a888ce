"""Time several ways of doing one thing against each other, in one process."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Elapsed:
    """What a contender returns that knows its time better than a clock around the call, since
    it runs in another process."""

    nanoseconds: int


@dataclass(frozen=True)
class Timing:
    """Times of one contender, in milliseconds, and its ratios to the first contender.

    A ratio is the median over rounds of (this time / the first contender's time in the same
    round): on a shared machine the speed drifts, but two neighbours in time see the same drift.
    Above 1 means slower than the first contender.
    """

    name: str
    median_ms: float
    min_ms: float
    ratio: float
    rounds: int


def interleave(
    contenders: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 20,
    warmup: int = 3,
    budget_s: float | None = None,
    pause_s: float = 0.0,
) -> dict[str, Timing]:
    """Call every contender once per round, so that all of them meet the same machine.

    The order turns by one place each round; otherwise the contender after the one that leaves
    the caches coldest would always pay for it. `budget_s` ends the measurement early, after at
    least one round. `pause_s`: wait before each call, for threads of the one before that still
    spin in wait of more work. Raises ValueError for no contenders or fewer than one round.
    """
    if not contenders:
        raise ValueError("interleave needs at least one contender")
    if rounds < 1 or warmup < 0:
        raise ValueError(f"rounds must be at least 1 and warmup at least 0: {rounds}, {warmup}")
    for run in contenders.values():
        for _ in range(warmup):
            run()
    names = list(contenders)
    times: dict[str, list[int]] = {name: [] for name in names}
    start = time.perf_counter()
    for turn in range(rounds):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            if pause_s:
                time.sleep(pause_s)
            begin = time.perf_counter_ns()
            result = contenders[name]()
            spent = time.perf_counter_ns() - begin
            times[name].append(result.nanoseconds if isinstance(result, Elapsed) else spent)
        if budget_s is not None and time.perf_counter() - start > budget_s:
            break
    return summarise(times)


def summarise(times: Mapping[str, list[int]]) -> dict[str, Timing]:
    """Reduce nanoseconds per round to `Timing`s; the first entry is the base of the ratios."""
    base = next(iter(times.values()))
    return {
        name: Timing(
            name=name,
            median_ms=median(own) / 1e6,
            min_ms=min(own) / 1e6,
            # A clock tick of zero would make the ratio meaningless, not infinite.
            ratio=median(t / max(b, 1) for t, b in zip(own, base, strict=True)),
            rounds=len(own),
        )
        for name, own in times.items()
    }
