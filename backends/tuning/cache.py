"""A content-addressed store of measured times, one small file each.

The name of a file is the digest of everything that a time depends on: the sources of the kernel's
family, its spec, dims and target, the machine, and whether weights were cold. Files are written
beside their place and renamed, so that readers see a whole file or none, whatever happens to the
writer; a file that is not whole (a full disk, another program) counts as absent.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from tilewright.backends import profile
from tilewright.backends.cuda.here import device_here
from tilewright.backends.kernels.candidates import Candidate
from tilewright.backends.target import Target
from tilewright.backends.tuning.sources import family_version, kernel_version

FORMAT = 1
SHIPPED = Path(__file__).parent.parent / "profiles" / "tuned"
STALE_S = 3600.0
"""A part file of a writer that was killed is removed by later ones when it is older than this."""


def cache_folder() -> Path:
    """Where measurements are kept: beside the machine profiles, under XDG_CACHE_HOME."""
    return profile.cache_folder().parent / "tuning"


@dataclass(frozen=True)
class Key:
    """What a measurement depends on. `spec` is the repr of the spec."""

    family: str
    version: str
    spec: str
    dims: tuple[int, ...]
    target: str
    machine: str
    cold: bool

    @property
    def digest(self) -> str:
        """64 hex digits, the name of the file."""
        return hashlib.sha256(json.dumps([FORMAT, *vars(self).values()]).encode()).hexdigest()


def machine(target: Target) -> str:
    """What times for a target are of: this CPU, or the kind of this machine's GPU ("" without)."""
    return device_here() if target.gpu else profile.cpu_signature()


def key_of(candidate: Candidate, dims: tuple[int, ...], target: Target, cold: bool) -> Key:
    """The key of a launch of `candidate` on this machine."""
    return Key(
        candidate.family.name,
        family_version(candidate.family.name),
        repr(candidate.spec),
        dims,
        target.name,
        machine(target),
        cold,
    )


class Cache:
    """Times by key; safe for several processes at once. Raises OSError where it cannot write."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or cache_folder()

    def path(self, key: Key) -> Path:
        """The file of a key, whether it exists or not."""
        digest = key.digest
        return self.folder / digest[:2] / f"{digest}.json"

    def read(self, key: Key) -> float | None:
        """Seconds of one launch, None if none are stored or the file is not whole."""
        try:
            stored = json.loads(self.path(key).read_text())
        except (OSError, ValueError):
            return None
        if not isinstance(stored, dict) or stored.get("key") != _plain(key):
            return None
        seconds = stored.get("seconds")
        if not isinstance(seconds, float) or not math.isfinite(seconds) or seconds <= 0:
            return None
        return seconds if stored.get("check") == _check(key, seconds) else None

    def write(self, key: Key, seconds: float) -> None:
        """Store a time, whole or not at all."""
        path = self.path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        document = {"key": _plain(key), "seconds": seconds, "check": _check(key, seconds)}
        handle, part = tempfile.mkstemp(dir=path.parent, prefix=f"{path.stem}.", suffix=".part")
        try:
            with os.fdopen(handle, "w") as file:
                file.write(json.dumps(document, indent=1) + "\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        except BaseException:
            Path(part).unlink(missing_ok=True)
            raise
        self._sweep(path.parent)

    def _sweep(self, folder: Path) -> None:
        """Remove what killed writers left."""
        for part in folder.glob("*.part"):
            try:
                if time.time() - part.stat().st_mtime > STALE_S:
                    part.unlink()
            except FileNotFoundError:  # another process was first
                continue


@dataclass(frozen=True)
class Measurements:
    """The cache as the prices of one target want it, and what ships with the project where it has
    nothing: see `lowering.pricing.Measured`."""

    cache: Cache
    target: Target

    def seconds(self, candidate: Candidate, dims: tuple[int, ...], cold: bool) -> float | None:
        """Of one launch; None if it was not measured."""
        found = self.cache.read(key_of(candidate, dims, self.target, cold))
        if found is not None:
            return found
        row = shipped(self.target.name).get(row_key(candidate, dims, cold))
        if row is None or row.kernel != kernel_version(candidate, self.target):
            return None
        return row.seconds


Row = tuple[str, str, tuple[int, ...], bool]
"""Family, repr of the spec, dims, whether weights were cold."""


@dataclass(frozen=True)
class Shipped:
    """A time that ships. `kernel`: `kernel_version` of what was measured; it says nothing of any
    other, so that a time is out of use as soon as the kernel's own code is another."""

    seconds: float
    kernel: str


def row_key(candidate: Candidate, dims: tuple[int, ...], cold: bool) -> Row:
    """Where a shipped time is looked up."""
    return candidate.family.name, repr(candidate.spec), dims, cold


def record(path: Path, target: Target, rows: Mapping[Row, Shipped]) -> None:
    """Write times as they ship: `backends/profiles/tuned/TARGET.json`. What the file has already,
    of other launches on such a machine, stays."""
    if path.exists():
        before = json.loads(path.read_text())
        if before["machine"] == machine(target):
            rows = {**_rows(before), **rows}
    listed = [
        {
            "family": f,
            "spec": s,
            "dims": list(d),
            "cold": c,
            "kernel": rows[f, s, d, c].kernel,
            "seconds": float(f"{rows[f, s, d, c].seconds:.4g}"),
        }
        for f, s, d, c in sorted(rows)
    ]
    document = {"machine": machine(target), "rows": listed}
    path.write_text(json.dumps(document, indent=1) + "\n")


@lru_cache
def shipped(target: str, folder: Path = SHIPPED) -> Mapping[Row, Shipped]:
    """Times of a target that ship with the project; none where there is no file."""
    path = folder / f"{target}.json"
    if not path.exists():
        return {}
    return _rows(json.loads(path.read_text()))


def _rows(document: Mapping[str, Any]) -> dict[Row, Shipped]:
    return {
        (row["family"], row["spec"], tuple(row["dims"]), row["cold"]): Shipped(
            row["seconds"], row["kernel"]
        )
        for row in document["rows"]
    }


def _plain(key: Key) -> list[Any]:
    return [list(v) if isinstance(v, tuple) else v for v in vars(key).values()]


def _check(key: Key, seconds: float) -> str:
    return hashlib.sha256(f"{key.digest} {seconds!r}".encode()).hexdigest()[:16]
