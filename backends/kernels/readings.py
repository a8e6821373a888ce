"""What is made of the rows of a matrix: greatest elements, their positions, sums of exponentials.

A row can be read in parts of its columns. What a part leaves is a few words of f32, from which what
all parts leave is made, in the order of columns; positions are numbers too, exact as long as there
are no more than LONGEST columns.

    max              m
    argmax           m, position
    top              values in order, then positions; -1 where the part has fewer
    log_sum_exp      m, sum of exp(x - shift), shift = m or 0 where m is no number
    finite_log_sum_exp  the same; the result is NaN where m is infinite
    log_probability  the same, then x at the row's ids that lie in the part, else 0
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LONGEST = 1 << 24
"""Most columns: positions are exact in f32."""

KINDS = ("max", "argmax", "top", "log_sum_exp", "finite_log_sum_exp", "log_probability")


@dataclass(frozen=True)
class Reading:
    """``count``: of ``top`` how many, of ``log_probability`` ids of a row. ``last``: of equal
    maxima the last one. NaN counts as the largest; of ``max`` and sums it is the result."""

    kind: str
    count: int = 1
    last: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown reading '{self.kind}'; known: {', '.join(KINDS)}")

    @property
    def words(self) -> int:
        """What a part of a row leaves."""
        return {
            "max": 1,
            "argmax": 2,
            "top": 2 * self.count,
            "log_sum_exp": 2,
            "finite_log_sum_exp": 2,
            "log_probability": 2 + self.count,
        }[self.kind]

    @property
    def ids(self) -> bool:
        """Whether it reads ids, i64 [M, count]; negative ones count from the end."""
        return self.kind == "log_probability"

    @property
    def results(self) -> tuple[tuple[str, int], ...]:
        """Element type of each result and how many a row has."""
        if self.kind == "top":
            return (("f32", self.count), ("i64", self.count))
        return (("i64", 1),) if self.kind == "argmax" else (("f32", self.count),)


def results(reading: Reading, x: np.ndarray, ids: np.ndarray | None = None) -> list[np.ndarray]:
    """The meaning: of x [M, N] float, each result [M, count]; ids i64 [M, count]."""
    x = x.astype(np.float64)
    with np.errstate(all="ignore"):
        match reading.kind:
            case "max":
                return [x.max(1, keepdims=True)]
            case "argmax":
                keys = np.flip(x, 1) if reading.last else x
                found = keys.argmax(1)[:, None]
                return [x.shape[1] - 1 - found if reading.last else found]
            case "top":
                order = _order(x)[:, : reading.count]
                return [np.take_along_axis(x, order, 1), order]
            case "log_sum_exp" | "finite_log_sum_exp":
                top = x.max(1, keepdims=True)
                shift = _shift(top) if reading.kind == "log_sum_exp" else top
                return [np.log(np.exp(x - shift).sum(1, keepdims=True)) + shift]
        assert ids is not None
        moved = x - x.max(1, keepdims=True)
        logs = moved - np.log(np.exp(moved).sum(1, keepdims=True))
        return [np.take_along_axis(logs, np.where(ids < 0, ids + x.shape[1], ids), 1)]


def parts(
    reading: Reading, x: np.ndarray, columns: int, ids: np.ndarray | None = None
) -> np.ndarray:
    """What parts of ``columns`` columns leave of x [M, N]: float64 [parts, M, words]."""
    x = x.astype(np.float64)
    made = [
        _part(reading, x[:, at : at + columns], at, x.shape[1], ids)
        for at in range(0, x.shape[1], columns)
    ]
    return np.stack(made)


def _part(reading: Reading, x: np.ndarray, at: int, n: int, ids: np.ndarray | None) -> np.ndarray:
    if reading.kind == "top":
        short = max(0, reading.count - x.shape[1])
        values, positions = results(reading, x)
        return np.concatenate(
            [
                np.pad(values, ((0, 0), (0, short)), constant_values=-np.inf),
                np.pad(positions + at, ((0, 0), (0, short)), constant_values=-1),
            ],
            axis=1,
        )
    top = x.max(1, keepdims=True)
    if reading.kind == "max":
        return np.asarray(top)
    if reading.kind == "argmax":
        return np.concatenate([top, results(reading, x)[0] + at], axis=1)
    with np.errstate(all="ignore"):
        total = np.exp(x - _shift(top)).sum(1, keepdims=True)
    if ids is None:
        return np.concatenate([top, total], axis=1)
    local = np.where(ids < 0, ids + n, ids) - at
    inside = (local >= 0) & (local < x.shape[1])
    found = np.take_along_axis(x, np.where(inside, local, 0), 1)
    return np.concatenate([top, total, np.where(inside, found, 0.0)], axis=1)


def combined(
    reading: Reading, made: np.ndarray, columns: int, n: int, ids: np.ndarray | None = None
) -> list[np.ndarray]:
    """Results from what parts left, [parts, M, words]."""
    made = made.astype(np.float64)
    count = reading.count
    if reading.kind in ("max", "argmax"):
        tops = made[..., 0].T
        which = results(Reading("argmax", last=reading.last), tops)[0]
        if reading.kind == "max":
            return [np.take_along_axis(tops, which, 1)]
        return [np.take_along_axis(made[..., 1].T, which, 1).astype(np.int64)]
    if reading.kind == "top":
        values, positions = (
            np.moveaxis(made[..., s], 0, 1).reshape(made.shape[1], -1)
            for s in (slice(count), slice(count, None))
        )
        # What parts lack comes last, whatever it holds.
        lacking = np.where(positions < 0, 1, 0)
        order = np.argsort(lacking, 1, kind="stable")
        values, positions = (np.take_along_axis(a, order, 1) for a in (values, positions))
        kept = [
            _order(v[: int((1 - k).sum())])[:count] for v, k in zip(values, lacking, strict=True)
        ]
        taken = np.stack(kept) if kept else np.zeros((0, count), np.int64)
        found = [np.take_along_axis(a, taken, 1) for a in (values, positions)]
        return [found[0], found[1].astype(np.int64)]
    tops, sums = made[..., 0], made[..., 1]
    with np.errstate(all="ignore"):
        top = tops.max(0)
        shift = _shift(top)
        total = np.where(sums == 0, 0, sums * np.exp(_shift(tops) - shift)).sum(0)
        if ids is None:
            infinite = top - top if reading.kind == "finite_log_sum_exp" else 0
            return [(np.log(total) + shift + infinite)[:, None]]
        at = np.where(ids < 0, ids + n, ids)
        rows = np.arange(len(at))[:, None]
        x = made[at // columns, rows, 2 + np.arange(count)[None]]
        return [(x - top[:, None]) - (np.log(total) + (top - top))[:, None]]


def _order(x: np.ndarray) -> np.ndarray:
    """Positions along the last axis from the largest on; NaN first, equal ones as they come."""
    order = np.argsort(np.flip(x, -1), -1, kind="stable")
    return np.asarray(x.shape[-1] - 1 - np.flip(order, -1))


def _shift(top: np.ndarray) -> np.ndarray:
    return np.asarray(np.where(np.isfinite(top), top, 0.0))
