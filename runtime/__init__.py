"""Loads and runs artifacts with the standard library and numpy alone."""

from tilewright.runtime.errors import (
    ArtifactError,
    ExecutionError,
    FeedError,
    TargetError,
    TilewrightError,
)
from tilewright.runtime.session import Session, load

__all__ = [
    "ArtifactError",
    "ExecutionError",
    "FeedError",
    "Session",
    "TargetError",
    "TilewrightError",
    "load",
]
