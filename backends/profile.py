"""Machine profiles: what one core of a machine can do, measured once or shipped with a target row.

A profile is data for the cost model (`backends.cost`) and for rooflines. `tilewright targets
--measure` measures this machine's and stores it in the user's cache folder; every target row has
one in `backends/profiles`, so that cross-compiling needs no measurement.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

from tilewright.backends.target import Target, cpu_flags, detect, runs_here
from tilewright.compiler.errors import UserError

FORMAT = 1
SHIPPED = Path(__file__).parent / "profiles"


@dataclass(frozen=True)
class Rate:
    """Operations/s of one core (a multiply-add is two): the best of a few ms, and the median after
    a second of nothing else, when the clock has come down."""

    burst: float
    sustained: float


@dataclass(frozen=True)
class Bandwidth:
    """Bytes/s of one core alone, and of each of two that work at once (``one`` if there is but
    one core)."""

    one: float
    two: float


@dataclass(frozen=True)
class Rates:
    """A rate for each unit of `Cost.unit` that the target has; else None."""

    f32: Rate
    bf16_tile: Rate | None = None
    bf16_dot: Rate | None = None
    int8_tile: Rate | None = None
    int8_dot: Rate | None = None
    f16: Rate | None = None


@dataclass(frozen=True)
class Reads:
    """Read bandwidth from each level."""

    l1: Bandwidth
    l2: Bandwidth
    l3: Bandwidth
    dram: Bandwidth


@dataclass(frozen=True)
class Fit:
    """Constants of the cost model, by least squares in log space (tools.bench_cost_model).

    Ratios to measured rates, so they hold from machine to machine. ``rate``: of the sustained
    rates, by unit (1 where there is none). ``stream``: of the bandwidth from L2, by blocks from
    L1 misses; ``far``: of the bandwidth from L3; ``store``: of the read bandwidth of the level that
    results go to. ``overlap``: exponent p of
    (a^p + b^p)^(1/p) for what runs at once, 1 for a sum, large for a maximum. ``block_ns``: of a
    call of the innermost kernel. ``convert``, ``epilogue``: seconds of an element or operation in
    units of 1 / vector rate. ``launch_ns``: of a kernel beside the call. ``together``: what a core
    does when others work too, by what it does alone; ``far_together``: of its bandwidth then;
    ``region``: of the time of a parallel region. ``family``: time of a kernel family's launches by
    what its counts tell, for what they do not.
    """

    rate: Mapping[str, float] = field(default_factory=dict, hash=False)
    stream: float = 1.0
    far: float = 1.0
    store: float = 1.0
    overlap: float = 2.0
    block_ns: float = 10.0
    convert: float = 4.0
    epilogue: float = 1.0
    launch_ns: float = 100.0
    together: float = 1.0
    far_together: float = 1.0
    region: float = 1.0
    family: Mapping[str, float] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class MachineProfile:
    """One core of one machine, as code for ``target`` sees it; of a GPU all multiprocessors
    together, ``cores`` of them, whose common cache is ``l2``.

    ``source``: how the figures came about. Cache sizes in bytes (``l3`` of all cores; 0: none),
    bandwidths in bytes/s. ``write``: plain stores to DRAM. ``region_ns``: entering and leaving a
    parallel region of all cores. ``launch_ns``: calling a kernel. ``vector``: elementwise f32
    operations/s on data in L1, loads and stores included. ``weights``: what constants of a model
    are read with, where that is less than ``read.l3``; of no file (`cost.model.of_model`).
    """

    target: str
    source: str
    cpu: str
    cores: int
    l1: int
    l2: int
    l3: int
    rates: Rates
    read: Reads
    write: Bandwidth
    region_ns: float
    launch_ns: float
    vector: float
    fit: Fit = Fit()
    weights: Bandwidth | None = None

    def rate(self, unit: str) -> Rate:
        """Of a unit of `Cost.unit`. Raises ValueError for one the target does not have."""
        found: Rate | None = getattr(self.rates, unit, None)
        if found is None:
            raise ValueError(f"profile '{self.target}' ({self.source}) has no rate of {unit}")
        return found

    def describe(self) -> dict[str, Any]:
        """Which profile this is, for a compile's report; JSON-ready."""
        names = ("target", "source", "cpu", "cores")
        return {**{n: getattr(self, n) for n in names}, "digest": self.digest}

    @property
    def digest(self) -> str:
        """16 hex digits of its contents: equal profiles give equal decisions."""
        machine = replace(self, weights=None)
        return hashlib.sha256(machine.to_json().encode()).hexdigest()[:16]

    def to_json(self) -> str:
        """The text of a profile file."""
        entries = {name: entry for name, entry in asdict(self).items() if name != "weights"}
        return json.dumps({"format": FORMAT, **entries}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str = "profile") -> MachineProfile:
        """Inverse of `to_json`. Raises UserError, which names ``where`` and the entry at fault."""
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise _bad(where, "", "is not JSON", str(error)) from None
        if not isinstance(data, dict) or data.pop("format", None) != FORMAT:
            raise _bad(where, "format", f"expected {FORMAT}", "another file, or another version")
        profile: MachineProfile = _read(cls, data, where, "")
        return profile


def cache_folder() -> Path:
    """Where measured profiles are kept: under XDG_CACHE_HOME, else ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "tilewright" / "profiles"


def stored_path() -> Path:
    """The file of this machine's measured profile, whether it exists or not."""
    return cache_folder() / f"{cpu_signature()}.json"


def store(profile: MachineProfile, path: Path | None = None) -> Path:
    """Write ``profile`` (default: as this machine's), whole or not at all. Raises OSError."""
    path = path or stored_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(profile.to_json())
        os.replace(part, path)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise
    _load.cache_clear()
    return path


def profile_for(target: Target) -> MachineProfile:
    """The measured profile if ``target`` is what this machine runs natively and one is stored,
    else the shipped one. Raises UserError for a stored file that cannot be read as a profile."""
    if runs_here(target) and detect() == target:
        path = stored_path()
        if path.exists():
            found = _load(path, path.stat().st_mtime_ns)
            if found.target == target.name:
                return found
    return shipped()[target.name]


@cache
def shipped() -> dict[str, MachineProfile]:
    """The profile of every target row, by the row's name: every file of `backends/profiles`."""
    found = (MachineProfile.from_json(p.read_text(), p.name) for p in SHIPPED.glob("*.json"))
    return {profile.target: profile for profile in sorted(found, key=lambda p: p.target)}


@cache
def cpu_signature() -> str:
    """Names a machine class: architecture, model, features, cores and cache sizes, shortened."""
    lines = []
    info = Path("/proc/cpuinfo")
    if info.exists():
        wanted = ("vendor_id", "cpu family", "model", "model name", "stepping", "CPU part")
        for line in info.read_text().split("\n\n")[0].splitlines():
            key, _, value = line.partition(":")
            if key.strip() in wanted:
                lines.append(f"{key.strip()}={value.strip()}")
    caches = Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")
    lines += sorted(path.read_text().strip() for path in caches)
    lines += [str(os.cpu_count()), *sorted(cpu_flags())]
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
    return f"{platform.machine()}-{digest}"


@cache
def _load(path: Path, changed: int) -> MachineProfile:
    return MachineProfile.from_json(path.read_text(), str(path))


_PARTS: dict[str, type] = {
    "rates": Rates,
    "read": Reads,
    "write": Bandwidth,
    "fit": Fit,
    **dict.fromkeys(("l1", "l2", "l3", "dram"), Bandwidth),
    **{unit.name: Rate for unit in fields(Rates)},
}


def _read(kind: type, data: Any, where: str, at: str) -> Any:
    """``data`` as a ``kind``, every entry checked."""
    if not isinstance(data, dict):
        raise _bad(where, at, "expected an object", f"found {data!r}")
    known = {f.name: f for f in fields(kind)}
    for name in data:
        if name not in known:
            raise _bad(where, f"{at}{name}", "unknown entry", f"known: {', '.join(known)}")
    values: dict[str, Any] = {}
    for name, entry in known.items():
        place, optional = f"{at}{name}", "None" in str(entry.type)
        if name not in data:
            if optional or kind is Fit or entry.type == "Fit":
                continue
            raise _bad(where, place, "missing", "")
        value = data[name]
        if value is None and optional:
            values[name] = None
        elif name in _PARTS and entry.type != "int":
            values[name] = _read(_PARTS[name], value, where, f"{place}.")
        elif entry.type == "str":
            if not isinstance(value, str):
                raise _bad(where, place, "expected text", f"found {value!r}")
            values[name] = value
        elif name in ("rate", "family"):
            if not isinstance(value, dict):
                raise _bad(where, place, "expected an object", f"found {value!r}")
            values[name] = {u: _number(v, where, f"{place}.{u}") for u, v in value.items()}
        else:
            number = _number(value, where, place, zero=name in ("l3", "cores"))
            values[name] = int(number) if entry.type == "int" else number
    return kind(**values)


def _number(value: Any, where: str, at: str, zero: bool = False) -> float:
    sound = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not sound or value < 0 or (value == 0 and not zero):
        raise _bad(where, at, "expected a positive number", f"found {value!r}")
    return float(value)


def _bad(where: str, at: str, what: str, found: str) -> UserError:
    entry = f" '{at.rstrip('.')}'" if at else ""
    hint = "remove the file, or measure again with `tilewright targets --measure`"
    return UserError(where, f"no machine profile: entry{entry} {what}", found, hint)
