"""Files that commands take and write."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from tilewright.compiler.errors import UserError

_ZIP = b"PK\x03\x04"


def is_artifact(path: Path) -> bool:
    """True for an artifact, by its ending or its first bytes; all else is taken for a model."""
    if path.suffix == ".tw":
        return True
    try:
        with path.open("rb") as file:
            return file.read(4) == _ZIP
    except OSError:
        return False  # whoever opens it as a model says what is wrong


def check_output(path: Path) -> None:
    """Refuse an output path before the work starts. Raises UserError.

    Files are put in place by renaming, which would replace a device such as /dev/null.
    """
    folder = path.parent
    if not folder.is_dir():
        raise UserError(
            str(path), "cannot be written", f"there is no folder {folder}", "create it first"
        )
    if path.exists() and not stat.S_ISREG(path.stat().st_mode):
        kind = "a folder" if path.is_dir() else "a device or pipe"
        raise UserError(str(path), "cannot be written", f"it is {kind}", "give the path of a file")
    if not os.access(folder, os.W_OK):
        hint = "choose a folder that you may write to"
        raise UserError(str(path), "cannot be written", f"{folder} is read-only for you", hint)


@contextmanager
def written(path: Path) -> Iterator[BinaryIO]:
    """A file that is at `path` once the block ends without an error, and not at all otherwise.

    Raises UserError when the system refuses.
    """
    check_output(path)
    temporary = ""
    try:
        handle, temporary = tempfile.mkstemp(
            prefix=f".{path.name}.", suffix=".partial", dir=path.parent
        )
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), 0o644)
        os.replace(temporary, path)
        temporary = ""
    except OSError as refusal:
        found = f"the system says: {refusal.strerror}"
        raise UserError(str(path), "cannot be written", found, "write to another path") from None
    finally:
        if temporary:
            os.unlink(temporary)
