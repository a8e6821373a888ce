"""A small trained digit classifier and its held-out images, shipped with the package.

`build.py` trains it again. The images are a quarter of the UCI "Optical Recognition of
Handwritten Digits" test set (Alpaydin & Kaynak 1998, CC BY 4.0), as scikit-learn carries it.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_FOLDER = Path(__file__).resolve().parent


def model_path() -> Path:
    """Path of the ONNX model: image f32[batch, 1, 8, 8] -> logits f32[batch, 10]."""
    return _FOLDER / "digits.onnx"


def test_split() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Images f32[450, 1, 8, 8] in 0..1, which the model has not been trained on, and labels."""
    with np.load(_FOLDER / "digits_test.npz", allow_pickle=False) as arrays:
        images = arrays["pixels"][:, None].astype(np.float32) / np.float32(16)
        return images, arrays["labels"].astype(np.int64)
