"""Vectors to search on and codes to fit to, the same for both ways."""
from typing import NamedTuple

import numpy as np

DIMENSIONS, TRAIN, VALIDATION, TEST = 768, 4000, 1000, 3000
CLASS_SHARES = (0.078, 0.085, 0.242, 0.260, 0.255, 0.080)  # of FER-6


class Part(NamedTuple):
    "Vectors with their classes."
    X: np.ndarray  # (n, DIMENSIONS) float32
    y: np.ndarray  # (n,) classes 0 .. 5


def draw_vectors(
    seed: int,
) -> tuple[Part, Part, Part]:  # training, validation and test part
    "Six Gaussian classes that overlap, in correlated dimensions."
    rng = np.random.default_rng(seed)
    y = rng.choice(len(CLASS_SHARES), TRAIN + VALIDATION + TEST, p=CLASS_SHARES)
    normal = lambda rows: rng.normal(size=(rows, DIMENSIONS))
    means, mixing = normal(len(CLASS_SHARES)), normal(DIMENSIONS) / DIMENSIONS**0.5
    X = 0.12 * means[y] + 0.9 * normal(len(y)) @ mixing + 0.45 * normal(len(y))
    ends = TRAIN, TRAIN + VALIDATION
    return tuple(map(Part, np.split(X.astype(np.float32), ends), np.split(y, ends)))


FACES, PLACES, CODES = 28_709, 144, 256  # of FER2013's training part, of a grid, of a codebook
FER2013_SHARES = (0.139, 0.015, 0.143, 0.251, 0.173, 0.168, 0.111)


def draw_codes(
    faces: int,
    seed: int,
) -> Part:  # X: (faces, 144) float64, standardised
    "Codes that say a little about seven classes: a few of each class's own at every place."
    rng = np.random.default_rng(seed)
    y = rng.choice(len(FER2013_SHARES), faces, p=FER2013_SHARES)
    own, codes = rng.integers(CODES, size=(len(FER2013_SHARES), PLACES)), rng.integers(CODES, size=(faces, PLACES))
    X = np.where(rng.random(codes.shape) < 0.02, own[y], codes).astype(float)
    return Part((X - X.mean(axis=0)) / X.std(axis=0), y)
