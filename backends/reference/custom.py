"""The kinds of `custom`: unique, non-maximum suppression, determinants, RoiAlign."""

from typing import Any

import numpy as np

from tilewright.backends.reference.casting import int_view
from tilewright.backends.reference.control import custom_kind
from tilewright.backends.reference.interpreter import Array, Context
from tilewright.backends.reference.movement import checked


@custom_kind("unique")
def _unique(op: Any, at: Context, x: Array, *, axis: int, sorted: bool) -> list[Array]:
    """Distinct slices along axis, their first positions, each slice's number, and the counts.

    Slices are ordered element by element (NaN largest, equal to itself), or by first occurrence.
    """
    dtype = op.inputs[0].dtype
    moved = np.moveaxis(x, axis, 0)
    rows = moved.reshape(len(moved), int(np.prod(moved.shape[1:])))
    keys = rows.astype(np.float64) if dtype.is_float else int_view(rows, dtype)
    order = np.arange(len(keys))
    if keys.shape[1]:
        order = np.lexsort(keys.T[::-1])
    ranked = keys[order]
    equal = (ranked[1:] == ranked[:-1]) | (
        (ranked[1:] != ranked[1:]) & (ranked[:-1] != ranked[:-1])
    )
    starts = np.concatenate([[True], ~equal.all(1)])[: len(order)]
    group = np.empty(len(order), np.int64)
    group[order] = np.cumsum(starts) - 1
    first = order[starts]
    if not sorted:
        place = np.empty(len(first), np.int64)
        place[np.argsort(first)] = np.arange(len(first))
        group, first = place[group], np.sort(first)
    counts = np.bincount(group, minlength=len(first)).astype(np.int64)
    return [np.take(x, first, axis), first.astype(np.int64), group, counts]


@custom_kind("det")
def _det(op: Any, at: Context, x: Array) -> Array:
    """x: [.., M, M] -> [..]: determinants, computed in float64."""
    return at.rounded(np.asarray(np.linalg.det(x.astype(np.float64))), op.out.dtype)


@custom_kind("non_max_suppression")
def _non_max_suppression(
    op: Any, at: Context, boxes: Array, scores: Array, most: Array, overlap: Array, least: Array,
    *, center_point_box: bool,
) -> Array:  # fmt: skip
    """boxes: [B, S, 4], scores: [B, C, S] -> i64 [count, 3] of (batch, class, box).

    For every batch and class, boxes with a score above `least` are taken from the best down
    (ties by position) unless they overlap a taken one by more than `overlap`, at most `most`.
    """
    sides = boxes.astype(np.float32)
    if center_point_box:
        middle, half = sides[..., :2], sides[..., 2:] / np.float32(2)
        low, high = middle - half, middle + half
    else:
        low = np.minimum(sides[..., :2], sides[..., 2:])
        high = np.maximum(sides[..., :2], sides[..., 2:])
    area = np.prod(high - low, -1, dtype=np.float32)
    found: list[tuple[int, int, int]] = []
    for b, c in np.ndindex(*scores.shape[:2]):
        taken: list[int] = []
        for s in np.argsort(-scores[b, c], kind="stable"):
            if not scores[b, c, s] > least or len(taken) >= most:
                continue
            edges = np.minimum(high[b, s], high[b, taken]) - np.maximum(low[b, s], low[b, taken])
            shared = np.prod(np.maximum(edges, np.float32(0)), -1, dtype=np.float32)
            union = area[b, s] + area[b, taken] - shared
            real = (area[b, s] > 0) & (area[b, taken] > 0) & (union > 0) & (shared > 0)
            if not np.any(real & (shared / union > overlap)):
                taken.append(int(s))
        found.extend((b, c, s) for s in taken)
    return np.array(found, np.int64).reshape(-1, 3)


@custom_kind("roi_align")
def _roi_align(
    op: Any, at: Context, x: Array, rois: Array, batch: Array,
    *, mode: str, half_pixel: bool, sampling_ratio: int, spatial_scale: float,
) -> Array:  # fmt: skip
    """x: [N, C, H, W], rois: [R, 4], batch: [R] -> [R, C, height, width].

    ONNX RoiAlign. As there, mode `max` takes the largest of the four weighted corner values of
    all samples, not of the interpolated samples.
    """
    real = at.compute(op.inputs[0].dtype).type
    images = checked(batch, x.shape[0], "roi_align")
    out = np.zeros(at.shape(op.out.shape), np.float64)
    size, pooled = x.shape[2:], out.shape[2:]
    for r, roi in enumerate(rois.astype(real)):
        start, step, grid = [], [], []
        for i in (1, 0):  # y, x
            shift = real(0.5 if half_pixel else 0.0)
            low = roi[i] * real(spatial_scale) - shift
            length = roi[i + 2] * real(spatial_scale) - shift - low
            if not half_pixel:
                length = max(length, real(1))
            start.append(low)
            step.append(length / real(pooled[1 - i]))
            wanted = np.ceil(length / real(pooled[1 - i]))
            grid.append(sampling_ratio if sampling_ratio > 0 else max(int(wanted), 0))
        for ph, pw in np.ndindex(*pooled):
            corners = np.zeros((0, x.shape[1]))
            for iy, ix in np.ndindex(*grid):
                places = []
                for axis, (p, i) in enumerate(((ph, iy), (pw, ix))):
                    inner = (real(i) + real(0.5)) * step[axis] / real(grid[axis])
                    places.append(start[axis] + real(p) * step[axis] + inner)
                corners = np.concatenate([corners, _corners(x[images[r]], places, size, real)])
            total = corners.sum(0) / max(grid[0] * grid[1], 1)
            largest = corners.max(0) if len(corners) else np.zeros(x.shape[1])
            out[r, :, ph, pw] = total if mode == "avg" else largest
    return at.rounded(out, op.out.dtype)


def _corners(image: Array, places: list[Any], size: tuple[int, ...], real: Any) -> Array:
    """The four weighted neighbours of a sample of [C, H, W]; zeros for a sample outside."""
    taps = []
    for place, length in zip(places, size, strict=True):
        if not (place >= -1 and place <= length):
            return np.zeros((4, image.shape[0]))
        place = max(place, real(0))
        low = min(int(place), length - 1)
        high = min(low + 1, length - 1)
        share = place - real(low) if high > low else real(0)
        taps.append(((low, real(1) - share), (high, share)))
    return np.stack(
        [np.float64(wy * wx) * image[:, y, x].astype(np.float64)
         for y, wy in taps[0] for x, wx in taps[1]]
    )  # fmt: skip
