"""The manifest of an artifact: its schema, its JSON text, and the check that a text fits it.

The compiler builds a `Manifest` and writes `to_json`; the loader reads it back with `from_json`.
Keys that this version does not know are ignored; what changes the meaning raises FORMAT.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tilewright.runtime.dtypes import ELEMENT_TYPES
from tilewright.runtime.expressions import ExpressionError, names
from tilewright.runtime.fields import FieldError, Fields

FORMAT = 1
ABI = 1
MANIFEST_FILE = "manifest.json"
PLAN_FILE = "plan.json"
WEIGHTS_FILE = "weights.safetensors"
CHECKSUMS_FILE = "checksums.json"

CACHES_KEY = "tilewright.kv_cache"
"""Key of the metadata that lists quantized key-value caches, as JSON (`runtime.caches`)."""

MAX_RANK = 64


class ManifestError(FieldError):
    """A manifest that does not fit the schema; the text names the place and both values."""


class FormatError(ManifestError):
    """A manifest of a format or ABI that this version cannot read."""


@dataclass(frozen=True)
class TensorInfo:
    """An input or output. A dim is a size, or an expression over the names of symbolic dims."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class Launch:
    """One kernel launch, in the order of the profile arrays.

    `source` names the ONNX nodes it computes; `flops` and `bytes` are expressions over dims.
    """

    name: str
    source: str = ""
    flops: str = "0"
    bytes: str = "0"


@dataclass(frozen=True)
class Variant:
    """Code for one instruction set. Of the variants that run on a machine, the highest rank wins.

    `features` are LLVM's names of what the CPU must have, `machine` is what `uname -m` says there.
    `launches` are its own where they are not those of the manifest (None). `slice`: the bits that
    it reads of the weights' codes, in an artifact that has several such precisions; else 0.
    """

    target: str
    file: str
    features: tuple[str, ...] = ()
    rank: int = 0
    machine: str = "x86_64"
    launches: tuple[Launch, ...] | None = None
    slice: int = 0


@dataclass(frozen=True)
class Manifest:
    """All that the runtime knows of a model. `weights_base`: offset of the weight data that the
    code is given, inside the weights entry. `dims`: bounds (least, greatest or None)."""

    producer: str
    name: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    variants: tuple[Variant, ...]
    dims: Mapping[str, tuple[int, int | None]] = field(default_factory=dict)
    weights_file: str = WEIGHTS_FILE
    weights_base: int = 0
    launches: tuple[Launch, ...] = ()
    errors: Mapping[int, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> bytes:
        """UTF-8 JSON, the same bytes for equal manifests."""
        import json

        def tensor(info: TensorInfo) -> dict[str, Any]:
            return {"name": info.name, "dtype": info.dtype, "shape": list(info.shape)}

        document = {
            "format": FORMAT,
            "abi": ABI,
            "producer": self.producer,
            "name": self.name,
            "inputs": [tensor(info) for info in self.inputs],
            "outputs": [tensor(info) for info in self.outputs],
            "dims": {name: list(bounds) for name, bounds in sorted(self.dims.items())},
            "variants": [
                {
                    "target": variant.target,
                    "file": variant.file,
                    "features": list(variant.features),
                    "rank": variant.rank,
                    "machine": variant.machine,
                }
                | ({} if variant.launches is None else {"launches": _plain(variant.launches)})
                | ({"slice": variant.slice} if variant.slice else {})
                for variant in self.variants
            ],
            "weights": {"file": self.weights_file, "base": self.weights_base},
            "launches": _plain(self.launches),
            "errors": {str(code): text for code, text in sorted(self.errors.items())},
            "metadata": dict(sorted(self.metadata.items())),
        }
        return json.dumps(document, indent=1, ensure_ascii=False).encode() + b"\n"


def from_json(data: bytes) -> Manifest:
    """Read and check a manifest.

    Raises FormatError for another format or ABI number, ManifestError for anything else.
    """
    import json

    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as damage:
        raise ManifestError(f"not JSON: {damage}") from None
    root = Fields(document, "", ManifestError)
    for key, ours in (("format", FORMAT), ("abi", ABI)):
        number = root.integer(key)
        if number != ours:
            raise FormatError(f"{key} {number}; this version reads {key} {ours}")
    weights = root.child("weights")
    manifest = Manifest(
        producer=root.text("producer"),
        name=root.text("name"),
        inputs=tuple(_tensor(item) for item in root.children("inputs")),
        outputs=tuple(_tensor(item) for item in root.children("outputs")),
        variants=tuple(
            Variant(
                item.text("target"),
                item.text("file"),
                tuple(item.texts("features")),
                item.integer("rank"),
                item.text("machine"),
                _launches(item) if "launches" in item.value else None,
                item.integer("slice") if "slice" in item.value else 0,
            )
            for item in root.children("variants")
        ),
        dims={name: _bounds(value, f"dims.{name}") for name, value in root.child("dims").each()},
        weights_file=weights.text("file"),
        weights_base=weights.integer("base"),
        launches=_launches(root),
        errors={_code(key): text for key, text in root.child("errors").text_items()},
        metadata=dict(root.child("metadata").text_items()),
    )
    check(manifest)
    return manifest


def check(manifest: Manifest) -> None:
    """Check what types alone do not say; ManifestError names the first place that is wrong."""
    for kind, tensors in (("inputs", manifest.inputs), ("outputs", manifest.outputs)):
        seen: set[str] = set()
        for i, tensor in enumerate(tensors):
            place = f"{kind}[{i}]"
            if tensor.name in seen:
                raise ManifestError(f"{place}.name: {tensor.name!r} occurs twice")
            seen.add(tensor.name)
            if tensor.dtype not in ELEMENT_TYPES:
                known = ", ".join(ELEMENT_TYPES)
                raise ManifestError(
                    f"{place}.dtype: expected one of {known}; found {tensor.dtype!r}"
                )
            if len(tensor.shape) > MAX_RANK:
                raise ManifestError(f"{place}.shape: rank {len(tensor.shape)} is over {MAX_RANK}")
            for axis, dim in enumerate(tensor.shape):
                _check_dim(dim, f"{place}.shape[{axis}]")
    if not manifest.variants:
        raise ManifestError("variants: expected at least one")
    if manifest.weights_base < 0:
        raise ManifestError(f"weights.base: expected 0 or more; found {manifest.weights_base}")


def _check_dim(dim: int | str, place: str) -> None:
    if isinstance(dim, int):
        if dim < 0:
            raise ManifestError(f"{place}: expected a size or an expression; found {dim}")
        return
    try:
        names(dim)
    except (ExpressionError, ZeroDivisionError) as wrong:
        raise ManifestError(f"{place}: {wrong}") from None


def _plain(launches: tuple[Launch, ...]) -> list[dict[str, str]]:
    return [dict(vars(launch)) for launch in launches]


def _launches(item: Fields) -> tuple[Launch, ...]:
    return tuple(
        Launch(one.text("name"), one.text("source"), one.text("flops"), one.text("bytes"))
        for one in item.children("launches")
    )


def _tensor(item: Fields) -> TensorInfo:
    shape = item.sequence("shape")
    for axis, dim in enumerate(shape):
        if isinstance(dim, bool) or not isinstance(dim, int | str):
            raise ManifestError(
                f"{item.place}.shape[{axis}]: expected a size or an expression; found {dim!r}"
            )
    return TensorInfo(item.text("name"), item.text("dtype"), tuple(shape))


def _bounds(value: Any, place: str) -> tuple[int, int | None]:
    if isinstance(value, list) and len(value) == 2:
        low, high = value
        if type(low) is int and (high is None or (type(high) is int and low <= high)) and low >= 0:
            return low, high
    raise ManifestError(f"{place}: expected [least, greatest or null]; found {value!r}")


def _code(key: str) -> int:
    if not key.isdecimal() or len(key) > 9:
        raise ManifestError(f"errors: expected a number as key; found {key!r}")
    return int(key)
