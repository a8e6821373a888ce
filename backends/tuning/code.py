"""Machine code of kernels that wait to be measured, one file for each set of them.

Compiling takes longer than measuring and may be disturbed by others, so it is done first and its
result kept until all is measured. Files are written as those of the times are; the name is the
digest of what the code comes from, and one whose own digest is wrong counts as absent.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from llvmlite import ir

from tilewright.backends.kernels.candidates import Candidate
from tilewright.backends.kernels.registry import families
from tilewright.backends.llvm.codegen import Known, empty_main
from tilewright.backends.llvm.jit import machine_code
from tilewright.backends.target import Target
from tilewright.backends.tuning.cache import cache_folder
from tilewright.backends.tuning.device import cubin
from tilewright.backends.tuning.sources import family_version

_DIGEST = hashlib.sha256().digest_size

Named = tuple[tuple[int, str, Any], ...]
"""Number, family and spec of candidates: what a worker is sent."""


class Codes:
    """Object files with ``candidate0``, ..., of GPUs `device.cubins`. Raises OSError where it
    cannot write."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or cache_folder() / "code"

    def path(self, candidates: Sequence[Candidate], target: Target) -> Path:
        """The file of candidates, whether it exists or not."""
        parts = [repr(target)]
        for candidate in candidates:
            name = candidate.family.name
            parts.append(f"{name} {family_version(name)} {candidate.spec!r}")
        digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()
        return self.folder / f"{digest}.o"

    def get(self, candidates: Sequence[Candidate], target: Target) -> bytes:
        """The object file of candidates, compiled if it is not there."""
        path = self.path(candidates, target)
        held = _read(path)
        if held is None:
            held = b"".join(_code(part, target) for part in _parts(candidates, target))
            _write(path, held)
        return held

    def make(
        self, groups: Sequence[Sequence[Candidate]], target: Target, workers: int
    ) -> Iterator[int]:
        """Compile what is not there in as many processes, each kernel of a GPU by itself; yields
        the number of each group that is done."""
        missing = [i for i, group in enumerate(groups) if _read(self.path(group, target)) is None]
        if not missing:
            return
        with Known() as known:
            pool = known.pool(workers)
            with empty_main():  # workers start in submit
                waiting = [
                    [pool.submit(_code, part, target) for part in _parts(groups[i], target)]
                    for i in missing
                ]
            for i, parts in zip(missing, waiting, strict=True):
                made = b"".join(part.result() for part in parts)
                _write(self.path(groups[i], target), made)
                yield i

    def drop(self, candidates: Sequence[Candidate], target: Target) -> None:
        """Forget the code of candidates that are measured."""
        self.path(candidates, target).unlink(missing_ok=True)


def _parts(candidates: Sequence[Candidate], target: Target) -> list[Named]:
    """What is compiled at once; the code of all parts in order is that of the candidates."""
    every = tuple((i, c.family.name, c.spec) for i, c in enumerate(candidates))
    return [(one,) for one in every] if target.gpu else [every]


def _code(part: Named, target: Target) -> bytes:
    if target.gpu:
        return b"".join(cubin(families()[name], spec, i, target) for i, name, spec in part)
    module = ir.Module("candidates")
    for i, name, spec in part:
        emit = families()[name].emit
        assert emit is not None, "families that serve a CPU emit LLVM IR"
        emit(module, spec, target, f"candidate{i}")
    return machine_code(module, target)


def _write(path: Path, code: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=f"{path.stem}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(hashlib.sha256(code).digest() + code)
        os.replace(part, path)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise


def _read(path: Path) -> bytes | None:
    try:
        held = path.read_bytes()
    except OSError:
        return None
    digest, code = held[:_DIGEST], held[_DIGEST:]
    return code if hashlib.sha256(code).digest() == digest else None
