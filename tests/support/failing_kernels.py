"""Kernels whose emission goes wrong, importable by worker processes."""

import os
from dataclasses import dataclass
from typing import ClassVar

from tilewright.backends.llvm.irregular.kernel import IrregularKernel
from tilewright.backends.llvm.irregular.nest import Nest


@dataclass(frozen=True)
class AbortingKernel(IrregularKernel):
    """Ends the process that emits it, as LLVM does on an internal error."""

    family: ClassVar[str] = "aborting"

    def body(self, k: Nest) -> None:
        os.abort()


@dataclass(frozen=True)
class RefusedKernel(IrregularKernel):
    """Raises while it is emitted."""

    family: ClassVar[str] = "refused"

    def body(self, k: Nest) -> None:
        raise ValueError("there is no such instruction")
