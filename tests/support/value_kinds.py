"""Arrays of every kind of float: ordinary, too small, too large, not finite, of mixed sizes."""

import numpy as np


def ordinary(rng, shape):
    return rng.standard_normal(shape)


ROWS = {
    "normal": ordinary,
    "positive": lambda rng, shape: rng.random(shape) + 1,
    "zero": lambda rng, shape: np.zeros(shape),
    "subnormal": lambda rng, shape: rng.standard_normal(shape) * 1e-40,
    "tiny": lambda rng, shape: rng.standard_normal(shape) * 1e-33,
    "huge": lambda rng, shape: rng.standard_normal(shape) * 1e37,
    "greatest": lambda rng, shape: np.full(shape, 3.4e38),
    "outliers": lambda rng, shape: (
        rng.standard_normal(shape) * 10.0 ** rng.integers(-30, 30, shape)
    ),
    "infinite": lambda rng, shape: np.where(rng.random(shape) < 0.1, np.inf, 1),
    "nan": lambda rng, shape: np.where(rng.random(shape) < 0.1, np.nan, 1),
}
