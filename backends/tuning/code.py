"""Machine code of kernels that wait to be measured, one file for each set of them.

Compiling takes longer than measuring and may be disturbed by others, so it is done first and its
result kept until all is measured. Files are written as those of the times are; the name is the
digest of what the code comes from, and one whose own digest is wrong counts as absent.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from llvmlite import ir

from tilewright.backends.kernels.candidates import Candidate
from tilewright.backends.llvm.jit import machine_code
from tilewright.backends.target import Target
from tilewright.backends.tuning.cache import cache_folder
from tilewright.backends.tuning.device import cubins
from tilewright.backends.tuning.sources import family_version

_DIGEST = hashlib.sha256().digest_size


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
        return _read(path) or self._make(path, candidates, target)

    def drop(self, candidates: Sequence[Candidate], target: Target) -> None:
        """Forget the code of candidates that are measured."""
        self.path(candidates, target).unlink(missing_ok=True)

    def _make(self, path: Path, candidates: Sequence[Candidate], target: Target) -> bytes:
        code = cubins(candidates, target) if target.gpu else _native(candidates, target)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(dir=path.parent, prefix=f"{path.stem}.", suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(hashlib.sha256(code).digest() + code)
            os.replace(part, path)
        except BaseException:
            Path(part).unlink(missing_ok=True)
            raise
        return code


def _native(candidates: Sequence[Candidate], target: Target) -> bytes:
    module = ir.Module("candidates")
    for i, candidate in enumerate(candidates):
        emit = candidate.family.emit
        assert emit is not None, "families that serve a CPU emit LLVM IR"
        emit(module, candidate.spec, target, f"candidate{i}")
    return machine_code(module, target)


def _read(path: Path) -> bytes | None:
    try:
        held = path.read_bytes()
    except OSError:
        return None
    digest, code = held[:_DIGEST], held[_DIGEST:]
    return code if hashlib.sha256(code).digest() == digest else None
