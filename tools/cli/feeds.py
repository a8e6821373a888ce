"""Feeds of a run: from .npy and .npz files, and random arrays for what the files leave out."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tilewright.runtime.dtypes import ELEMENT_TYPES, array_dtype
from tilewright.runtime.errors import FeedError, nearest
from tilewright.runtime.expressions import ExpressionError, evaluate
from tilewright.runtime.manifest import Manifest, TensorInfo

Array = np.ndarray[Any, Any]

_LEAST_ELEMENT = 1
"""Size of a symbolic dimension that nothing says anything about."""


@dataclass(frozen=True)
class FeedOptions:
    """What the command line says of the feeds; see `options.feed_options`.

    `ranges`: least and greatest value of random integers by input, beside those that the user gave
    in `texts`.
    """

    files: Mapping[str, str] = field(default_factory=dict)
    bundle: Path | None = None
    shape: Mapping[str, int] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0
    ranges: Mapping[str, tuple[int, int]] = field(default_factory=dict)


def make_feeds(
    where: str, manifest: Manifest, options: FeedOptions, random: bool
) -> dict[str, Array]:
    """An array for every input of `manifest`: from the files, else random when `random` is set.

    Floats are standard normal; integers 0..1 unless a range says otherwise, and all 1 in inputs
    called a mask. Symbolic dimensions have the sizes of `options.shape`, of the given arrays, or
    their least. Raises FeedError for files that cannot be read and names that do not exist.
    """
    names = [tensor.name for tensor in manifest.inputs]
    given = read_files(options)
    for name in (*options.texts, *given):
        if name not in names:
            hint = "`tilewright inspect` lists the inputs"
            raise FeedError(where, f"unknown input {name!r}", nearest(name, names), hint)
    for name in options.shape:
        if name not in manifest.dims:
            hint = nearest(name, manifest.dims) if manifest.dims else "leave --shape out"
            have = ", ".join(manifest.dims) or "none"
            raise FeedError(where, f"there is no dimension {name!r}", f"found {have}", hint)
    if not random:
        return given
    sizes = dimension_sizes(manifest, given, options.shape)
    generator = np.random.default_rng(options.seed)
    ranges = {**options.ranges, **{name: _range(t, name) for name, t in options.texts.items()}}
    feeds = {}
    for tensor in manifest.inputs:
        # Drawn also when a file replaces it: the other inputs then stay the same.
        drawn = random_array(where, tensor, sizes, generator, ranges.get(tensor.name))
        feeds[tensor.name] = given.get(tensor.name, drawn)
    return feeds


def read_files(options: FeedOptions) -> dict[str, Array]:
    """The arrays of --inputs and --input; the latter win."""
    found: dict[str, Array] = {}
    if options.bundle is not None:
        loaded = _load(options.bundle)
        if isinstance(loaded, np.ndarray):
            raise FeedError(
                str(options.bundle),
                "holds one array without a name",
                "expected an .npz file",
                f"--input NAME={options.bundle}",
            )
        found.update(loaded)
    for name, path in options.files.items():
        array = _load(Path(path))
        if not isinstance(array, np.ndarray):
            raise FeedError(
                path, "holds several arrays", "expected an .npy file", f"--inputs {path}"
            )
        found[name] = array
    return found


def _load(path: Path) -> Array | dict[str, Array]:
    try:
        # No pickles: they run code.
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            return {name: loaded[name] for name in loaded.files}
    except OSError as refusal:
        text = refusal.strerror or str(refusal)
        raise FeedError(
            str(path), "cannot be read", f"the system says: {text}", "check the path"
        ) from None
    except (ValueError, EOFError, zipfile.BadZipFile) as damage:
        raise FeedError(
            str(path),
            "is not an .npy or .npz file of plain arrays",
            str(damage).partition("\n")[0],
            "write it with numpy.save or numpy.savez",
        ) from None


def dimension_sizes(
    manifest: Manifest, given: Mapping[str, Array], asked: Mapping[str, int]
) -> dict[str, int]:
    """A size for every dimension: asked for, else that of a given array, else the least."""
    sizes = {name: max(low, _LEAST_ELEMENT) for name, (low, _) in manifest.dims.items()}
    for tensor in manifest.inputs:
        array = given.get(tensor.name)
        if array is not None and array.ndim == len(tensor.shape):
            for dim, size in zip(tensor.shape, array.shape, strict=True):
                if isinstance(dim, str) and dim in sizes:
                    sizes[dim] = size
    return {**sizes, **asked}


def random_array(
    where: str,
    tensor: TensorInfo,
    sizes: Mapping[str, int],
    generator: np.random.Generator,
    limits: tuple[int, int] | None,
) -> Array:
    """A random array for `tensor`, never all zeros on purpose: zeros are faster than real data."""
    try:
        shape = [d if isinstance(d, int) else evaluate(d, sizes) for d in tensor.shape]
    except ExpressionError as unknown:
        place = f"{where}: input {tensor.name!r}"
        raise FeedError(
            place, "its size is not known", str(unknown), "give it by --input"
        ) from None
    element, dtype = ELEMENT_TYPES[tensor.dtype], array_dtype(tensor.dtype)
    if tensor.dtype == "bool":
        return np.ones(shape, bool) if _is_mask(tensor) else generator.random(shape) < 0.5
    if tensor.dtype.startswith(("i", "u")):
        if limits is None:
            limits = (1, 1) if _is_mask(tensor) else (0, 1)
        return generator.integers(limits[0], limits[1], shape, endpoint=True).astype(dtype)
    values = generator.standard_normal(shape).astype(np.float32)
    if dtype == np.dtype(element.storage) and element.extended:
        # Without ml_dtypes the bits of a narrow float travel as integers; these are small numbers.
        return generator.integers(0, 1 << (8 * element.bytes - 3), shape).astype(dtype)
    return values.astype(dtype)


def _is_mask(tensor: TensorInfo) -> bool:
    return "mask" in tensor.name.lower()


def _range(text: str, name: str) -> tuple[int, int]:
    low, dots, high = text.partition("..")
    try:
        found = (int(low), int(high if dots else low))
    except ValueError:
        raise FeedError(f"--range {name}={text}", "is not of the form NAME=LO..HI") from None
    if found[0] > found[1]:
        raise FeedError(f"--range {name}={text}", "is empty", f"{found[0]} is above {found[1]}")
    return found


def describe(feeds: Mapping[str, Array]) -> str:
    """`ids int64[1, 7], mask int64[1, 7]`."""
    return ", ".join(f"{n} {a.dtype}{list(a.shape)}" for n, a in feeds.items())
