"""Tensors in files beside the model: found inside the model's folder only, and mapped, not read."""

import os
import stat
from pathlib import Path, PurePosixPath

import numpy as np
from onnx import TensorProto

from tilewright.compiler.errors import UserError


class ExternalFiles:
    """The external data files of one model; each is opened once and stays mapped while in use.

    A location must be a relative path without `..` whose real path is inside `folder`.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._maps: dict[str, np.ndarray] = {}

    def bytes_of(self, tensor: TensorProto, size: int, where: str) -> np.ndarray:
        """The u8[size] bytes of an external tensor (a view of the map).

        Raises UserError for a path outside the folder, a missing file or a wrong range.
        """
        entries = {e.key: e.value for e in tensor.external_data}
        location = entries.get("location", "")
        offset = _number(entries.get("offset", "0"), "offset", where)
        length = _number(entries.get("length", str(size)), "length", where)
        if length != size:
            found = f"expected {size} bytes, found length {length}"
            raise UserError(where, "external data has the wrong length", found)
        mapped = self._open(location, where)
        if offset + length > mapped.size:
            found = f"bytes {offset}..{offset + length} of {location!r}, which has {mapped.size}"
            hint = "copy the data file again, it may be truncated"
            raise UserError(where, "external data ends after its file", found, hint)
        return mapped[offset : offset + length]

    def _open(self, location: str, where: str) -> np.ndarray:
        if location in self._maps:
            return self._maps[location]
        path = self._inside(location, where)
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            hint = "keep the data file in the model's folder"
            raise UserError(
                where, f"cannot open {location!r}: {error.strerror}", "", hint
            ) from None
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise UserError(where, f"external data {location!r} is not a regular file")
            with os.fdopen(os.dup(handle), "rb") as file:
                empty = os.fstat(handle).st_size == 0
                mapped = np.zeros(0, np.uint8) if empty else np.memmap(file, np.uint8, "r")
        finally:
            os.close(handle)
        self._maps[location] = mapped
        return mapped

    def _inside(self, location: str, where: str) -> Path:
        rule = "a relative path without '..' inside the model's folder"
        if self.folder is None:
            hint = "pass the model's path, not its bytes"
            raise UserError(where, "external data without a model folder", location, hint)
        parts = PurePosixPath(location).parts
        bad = not parts or location.startswith("/") or ".." in parts
        if bad or "\\" in location or "\0" in location or ":" in parts[0]:
            found = f"expected {rule}, found {location!r}"
            raise UserError(where, "the external data path is not allowed", found)
        root = self.folder.resolve()
        path = (root / location).resolve()
        if not path.is_relative_to(root):
            found = f"expected {rule}, found {location!r} which leads to {path}"
            raise UserError(where, "the external data path leaves the model's folder", found)
        return path


def _number(text: str, what: str, where: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise UserError(where, f"external data has a bad {what}", f"found {text!r}")
    return int(text)
