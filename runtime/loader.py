"""Opens an artifact: maps the file once per process, verifies it, loads code from memory.

The mapping is read-only and shared: sessions of one process use one mapping, processes share the
pages. Do not overwrite an artifact in place while it is open (a compile never does: it renames).
"""

from __future__ import annotations

import contextlib
import mmap
import os
import threading
import weakref

import numpy as np

from tilewright.runtime.container import (
    Entry,
    inflate,
    read_entries,
    verify_checksums,
    verify_entry,
)
from tilewright.runtime.errors import ArtifactError
from tilewright.runtime.manifest import (
    MANIFEST_FILE,
    FormatError,
    Manifest,
    ManifestError,
    Variant,
    from_json,
)
from tilewright.runtime.native import Library

_Key = tuple[int, int, int, int]
_open_files: weakref.WeakValueDictionary[_Key, ArtifactFile] = weakref.WeakValueDictionary()
_lock = threading.Lock()


_HASHED_AT_LOAD = 16 << 20
"""Entries of up to this many bytes are hashed before loading goes on (about 10 ms)."""


class _Check:
    """The hashing of one large entry in a thread of its own."""

    def __init__(
        self, where: str, data: memoryview, name: str, entry: Entry, checksum: str
    ) -> None:
        self._damage: ArtifactError | None = None
        self._arguments = (where, data, name, entry, checksum)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            verify_entry(*self._arguments)
        except ArtifactError as damage:
            self._damage = damage

    def wait(self) -> None:
        """Wait for the end; raises what the check found."""
        self._thread.join()
        if self._damage is not None:
            raise self._damage


class ArtifactFile:
    """A mapped and verified artifact. `where` is its path, for messages."""

    def __init__(self, where: str, mapping: mmap.mmap, verify: bool) -> None:
        self.where = where
        self.data = memoryview(mapping)
        self.address: int = np.frombuffer(mapping, np.uint8).__array_interface__["data"][0]
        self.entries = read_entries(where, self.data)
        self._checks: list[_Check] | None = None
        self._libraries: weakref.WeakValueDictionary[str, Library] = weakref.WeakValueDictionary()
        if verify:
            self.verify()
        self.manifest = self._read_manifest()

    def verify(self) -> None:
        """Compare the bytes with their checksums, once; ArtifactError names what differs.

        Code, manifest and plan are checked here. Large weights are hashed in the background, since
        that takes longer than everything else that loading does: `wait_verified` before their use.
        """
        if self._checks is None:
            later = verify_checksums(self.where, self.data, self.entries, _HASHED_AT_LOAD)
            self._checks = [
                _Check(self.where, self.data, name, self.entries[name], checksum)
                for name, checksum in later.items()
            ]

    def wait_verified(self) -> None:
        """Return when all bytes have been checked; ArtifactError names the entry that differs."""
        for check in self._checks or ():
            check.wait()

    def entry(self, name: str) -> Entry:
        """The entry called `name`; ArtifactError when there is none."""
        found = self.entries.get(name)
        if found is None:
            raise ArtifactError(
                self.where,
                "the artifact is damaged",
                f"entry {name!r} is missing",
                "copy or compile the artifact again",
            )
        return found

    def read(self, name: str) -> memoryview:
        """The bytes of an entry, without a copy unless it is deflated."""
        entry = self.entry(name)
        if entry.inflated is not None:
            return memoryview(inflate(self.where, name, self.data, entry))
        return self.data[entry.offset : entry.offset + entry.size]

    def weights_address(self) -> int:
        """Address of the weight data in this process."""
        entry = self.entry(self.manifest.weights_file)
        base = self.manifest.weights_base
        if base > entry.size:
            raise ArtifactError(
                self.where,
                "the manifest does not fit the weights",
                f"weights.base is {base}, the entry has {entry.size} bytes",
                "compile the artifact again",
            )
        return self.address + entry.offset + base

    def library(self, variant: Variant) -> Library:
        """The loaded code of a variant, shared by the sessions that use it."""
        with _lock:
            library = self._libraries.get(variant.file)
            if library is None:
                library = Library(self.where, self.read(variant.file))
                self._libraries[variant.file] = library
            return library

    def _read_manifest(self) -> Manifest:
        try:
            return from_json(bytes(self.read(MANIFEST_FILE)))
        except FormatError as other:
            raise ArtifactError(
                self.where,
                "the artifact has another format",
                f"found {other}",
                "compile the model again with this version, or run it with the one that wrote it",
            ) from None
        except ManifestError as wrong:
            raise ArtifactError(
                self.where,
                "the artifact's manifest is not valid",
                str(wrong),
                "compile the artifact again",
            ) from None


def open_artifact(path: str | os.PathLike[str], verify: bool = True) -> ArtifactFile:
    """Map and check the artifact at `path`; an unchanged file that is already open is reused.

    `verify=False` skips the checksums (a second time over a large file), never the structure.
    Raises ArtifactError.
    """
    where = os.fspath(path)
    try:
        descriptor = os.open(where, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as refusal:
        raise _unreadable(where, refusal) from None
    try:
        status = os.fstat(descriptor)
        key = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)
        with _lock:
            found = _open_files.get(key)
        if found is None:
            if status.st_size == 0:
                raise ArtifactError(
                    where,
                    "not a tilewright artifact",
                    "the file is empty",
                    "give the path of a .tw file that `tilewright compile` wrote",
                )
            mapping = mmap.mmap(descriptor, 0, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)
            _prefer_huge_pages(mapping)
            opened = ArtifactFile(where, mapping, verify)
            with _lock:
                found = _open_files.setdefault(key, opened)
        elif verify:
            found.verify()
        return found
    except OSError as refusal:
        raise _unreadable(where, refusal) from None
    finally:
        os.close(descriptor)


def _prefer_huge_pages(mapping: mmap.mmap) -> None:
    """Ask for huge pages where the file system has them: streaming weights then walks fewer tables.

    The pages stay those of the page cache, shared by processes. What is in the cache already keeps
    its page size; a kernel without huge pages of files refuses, which changes nothing.
    """
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):
            mapping.madvise(mmap.MADV_HUGEPAGE)


def _unreadable(where: str, refusal: OSError) -> ArtifactError:
    return ArtifactError(
        where,
        "the artifact cannot be read",
        f"the system says: {refusal.strerror}",
        "check the path and its permissions",
    )
