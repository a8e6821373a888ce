"""Peers for tests of processes: module-level functions, which another process can import."""

import os

import numpy as np


def doubles():
    """Doubles its input and tells a variable of its environment."""
    limit = os.environ.get("TILEWRIGHT_TEST_LIMIT", "none")
    return lambda feeds: [2 * feeds["x"], np.array(limit)]


def refuses():
    raise ValueError("no such model\nand more")
