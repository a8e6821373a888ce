"""Write a measurement as JSON beside the description of the machine that made it."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tilewright.tools.bench.machine import machine

FORMAT = 1


def record(path: str | Path, rows: Sequence[object], *, command: str, notes: str = "") -> Path:
    """Write `rows` (mappings or dataclasses) to `path` and give the path back.

    The file holds {"format", "time" (UTC), "command" (reproduces the numbers), "notes",
    "machine", "rows"}. It is written whole or not at all. Raises ValueError for no rows and
    TypeError for a row that is neither a mapping nor a dataclass.
    """
    if not rows:
        raise ValueError("nothing to record: rows is empty")
    target = Path(path)
    entry = {
        "format": FORMAT,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "notes": notes,
        "machine": machine(),
        "rows": [_plain(row) for row in rows],
    }
    text = json.dumps(entry, indent=1, allow_nan=False) + "\n"
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(target.suffix + ".part")
    part.write_text(text)
    os.replace(part, target)
    return target


def _plain(row: object) -> dict[str, Any]:
    if isinstance(row, Mapping):
        return dict(row)
    if is_dataclass(row) and not isinstance(row, type):
        return asdict(row)
    raise TypeError(f"a row is a mapping or a dataclass, not {type(row).__name__}")
