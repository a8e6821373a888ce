"""Writes model.tw: all of it or nothing, the same bytes for the same content."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from tilewright.backends.artifact.block_file import BlockFile
from tilewright.backends.artifact.safetensors import WeightLayout
from tilewright.backends.artifact.zip_stream import PAGE, ZipStream, deflated
from tilewright.compiler.errors import UserError
from tilewright.runtime.manifest import (
    CHECKSUMS_FILE,
    MANIFEST_FILE,
    PLAN_FILE,
    Manifest,
    check,
)

Data = bytes | bytearray | memoryview | np.ndarray[Any, Any]
_CHUNK = 16 << 20
_HINTS = {
    errno.ENOSPC: "free space on the file system, or write to another one",
    errno.EDQUOT: "free space in your quota, or write to another file system",
    errno.EACCES: "choose a folder that you may write to",
    errno.EPERM: "choose a folder that you may write to",
    errno.EROFS: "choose a folder that you may write to",
    errno.ENOENT: "create the folder first",
    errno.ENOTDIR: "create the folder first",
    errno.EISDIR: "give the path of a file",
}


class ArtifactWriteError(UserError):
    """The artifact could not be written; nothing of it is left on disk.

    `bytes_needed` is the size of the whole file.
    """

    def __init__(self, path: str, bytes_needed: int, refusal: OSError) -> None:
        self.path, self.bytes_needed = path, bytes_needed
        super().__init__(
            path,
            "the artifact cannot be written",
            f"it needs {bytes_needed} bytes; the system says: {refusal.strerror}",
            _HINTS.get(refusal.errno or 0, "write to another path"),
        )


def write_artifact(
    path: str | os.PathLike[str],
    manifest: Manifest,
    code: Mapping[str, bytes],
    layout: WeightLayout,
    weights: Iterable[tuple[str, Data]],
    plan: bytes = b"{}\n",
) -> None:
    """Write an artifact at `path`, replacing an older one in one step.

    code: shared object by entry name, one for each of the manifest's variants. weights: name and
    data of the layout's tensors in the layout's order; taken one by one, so that a generator may
    pack each when it is asked. The manifest's weights_base must be `layout.base`.

    Raises ArtifactWriteError when the file cannot be written, ValueError when the parts do not fit
    each other. In both cases, and after a crash at any point, `path` is what it was before.
    """
    target = os.fspath(path)
    if os.path.exists(target) and not os.path.isfile(target):
        refusal = OSError(errno.EISDIR, "something that is no regular file is there")
        raise ArtifactWriteError(target, layout.file_bytes, refusal)
    check(manifest)
    files = {variant.file for variant in manifest.variants}
    if not files <= set(code):
        raise ValueError(f"the manifest names code {sorted(files)}, given is {sorted(code)}")
    if manifest.weights_base != layout.base:
        raise ValueError(
            f"the manifest's weights_base is {manifest.weights_base}, the layout's {layout.base}"
        )
    entries: dict[str, tuple[int, Iterable[bytes | memoryview]]] = {
        name: (len(data), [data])
        for name, data in {**code, MANIFEST_FILE: manifest.to_json()}.items()
    }
    entries[manifest.weights_file] = (layout.file_bytes, _weight_chunks(layout, weights))
    packed = deflated(plan)
    entries[PLAN_FILE] = (len(packed), [packed])
    needed = sum(size + PAGE for size, _ in entries.values()) + 2 * PAGE
    temporary = ""
    try:
        folder, name = os.path.split(os.path.abspath(target))
        # Not a .tw: a killed compile must leave nothing that looks like an artifact.
        descriptor, temporary = tempfile.mkstemp(prefix=f".{name}.", suffix=".partial", dir=folder)
        with os.fdopen(descriptor, "wb", 0) as file:
            blocks = BlockFile(file)
            stream = ZipStream(blocks)
            checksums = {}
            for entry_name in sorted(entries):
                size, chunks = entries[entry_name]
                digest = hashlib.sha256()
                if entry_name == PLAN_FILE:
                    digest.update(packed)
                    stream.add_text(PLAN_FILE, plan, packed)
                else:
                    stream.add(entry_name, size, _hashing(chunks, digest))
                checksums[entry_name] = digest.hexdigest()
            text = json.dumps(checksums, separators=(",", ":"), sort_keys=True).encode()
            stream.add(CHECKSUMS_FILE, len(text), [text])
            stream.finish()
            blocks.flush()
            os.fsync(file.fileno())
            # mkstemp makes private files; the result gets the rights any new file would.
            os.fchmod(file.fileno(), 0o666 & ~_umask())
        os.replace(temporary, target)
        temporary = ""
        _sync_folder(folder)
    except OSError as refusal:
        raise ArtifactWriteError(target, needed, refusal) from refusal
    finally:
        if temporary:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)


def _weight_chunks(
    layout: WeightLayout, weights: Iterable[tuple[str, Data]]
) -> Iterator[bytes | memoryview]:
    yield layout.header
    position = 0
    given = iter(weights)
    for spec in layout.specs:
        name, data = next(given, ("", b""))
        view = _bytes_of(data)
        if name != spec.name or len(view) != spec.bytes:
            raise ValueError(
                f"expected weight {spec.name!r} of {spec.bytes} bytes, "
                f"was given {name!r} of {len(view)} bytes"
            )
        yield bytes(layout.offsets[name] - position)
        for start in range(0, len(view), _CHUNK):
            yield view[start : start + _CHUNK]
        position = layout.offsets[name] + len(view)
    extra = next(given, None)
    if extra is not None:
        raise ValueError(f"weight {extra[0]!r} is not in the layout")


def _bytes_of(data: Data) -> memoryview:
    if isinstance(data, np.ndarray):
        # Through uint8: types of ml_dtypes have no buffer format.
        data = np.ascontiguousarray(data).reshape(-1).view(np.uint8).data
    view = memoryview(data)
    return view.cast("B") if view.nbytes else memoryview(b"")


def _hashing(chunks: Iterable[bytes | memoryview], digest: Any) -> Iterator[bytes | memoryview]:
    for chunk in chunks:
        digest.update(chunk)
        yield chunk


def _umask() -> int:
    with open("/proc/self/status", encoding="ascii", errors="replace") as lines:
        for line in lines:
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    return 0o022


def _sync_folder(folder: str) -> None:
    """Make the rename itself survive a power loss, where the file system allows it."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
