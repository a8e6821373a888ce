"""What a measurement was made on: CPU, caches, memory, operating system and library versions."""

import os
import platform
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tilewright.runtime.cpu import host_features

PACKAGES = (
    "tilewright",
    "numpy",
    "llvmlite",
    "torch-mlir",
    "onnx",
    "onnxruntime",
    "openvino",
    "highspy",
    "cuda-bindings",
    "torch",
)


def machine() -> dict[str, Any]:
    """Describe this machine as JSON-ready values; sizes are in bytes.

    Entries that the operating system does not tell are left out, never guessed. `features` are
    CPU features under LLVM's names, as in an artifact's manifest.
    """
    info = _cpuinfo()
    facts: dict[str, Any] = {
        "cpu": info.get("model name", platform.processor() or platform.machine()),
        "architecture": platform.machine(),
        "cores": usable_cores(),
        "features": sorted(host_features()),
        "caches": _caches(Path("/sys/devices/system/cpu/cpu0/cache")),
        "memory": _memory_bytes(),
        "gpus": _gpus(),
        "os": f"{platform.system()} {platform.release()}",
        "python": sys.version.split()[0],
        "versions": _versions(),
    }
    return {name: value for name, value in facts.items() if value not in (None, {}, [])}


def _gpus() -> list[str]:
    """Name, driver and memory of every NVIDIA GPU as nvidia-smi tells them."""
    if shutil.which("nvidia-smi") is None:
        return []
    asked = ["--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    done = subprocess.run(["nvidia-smi", *asked], capture_output=True, text=True, check=False)
    return done.stdout.split("\n")[:-1] if done.returncode == 0 else []


def usable_cores() -> int:
    """Cores that this process may run on, which a container may set below the machine's count."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpuinfo() -> dict[str, str]:
    """Give the first processor's entries of /proc/cpuinfo."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return {}
    entries: dict[str, str] = {}
    for line in path.read_text().splitlines():
        name, colon, value = line.partition(":")
        if not colon:
            break
        entries[name.strip()] = value.strip()
    return entries


def _caches(folder: Path) -> dict[str, int]:
    """Give {"L1 data": bytes, "L2 unified": bytes, ...} as the kernel lists them for one core."""
    sizes: dict[str, int] = {}
    for entry in sorted(folder.glob("index*")):
        level, kind, size = (
            (entry / name).read_text().strip() for name in ("level", "type", "size")
        )
        sizes[f"L{level} {kind.lower()}"] = _size_bytes(size)
    return sizes


def _size_bytes(text: str) -> int:
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    return int(text[:-1]) * units[text[-1]] if text[-1] in units else int(text)


def _memory_bytes() -> int | None:
    names = getattr(os, "sysconf_names", {})
    if "SC_PAGE_SIZE" not in names or "SC_PHYS_PAGES" not in names:
        return None
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue  # an absent peer is a fact too: it simply has no version
    return found
