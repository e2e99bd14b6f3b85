"""One epoch of a perceptron by Adam with an L2 penalty on drawn pictures.

By hand, by PyTorch as it comes, by scikit-learn.
"""
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from .child import Clock

IMAGES, SEED, LEARNING_RATE, L2 = 30_000, 42, 1e-3, 1e-3
LAYERS = {"m1": (784, 100, 80, 49), "m3": (784, 512, 49)}
BATCHES = (32, 256)


def draw_noise() -> tuple[np.ndarray, np.ndarray]:  # (n, 784) float32 in 0 .. 1; (n,) 0 .. 48
    "Pictures of noise: what they show does not change how long it takes."
    rng = np.random.default_rng(SEED)
    return rng.random((IMAGES, 784), np.float32), rng.integers(49, size=IMAGES)


def matrix_limit() -> float:  # GFLOP/s
    "What a product of large matrices reaches here and now, the best of five."
    a = np.random.default_rng(SEED).random((2048, 2048), np.float32)
    took = []
    for _ in range(6):
        started = time.perf_counter()
        a @ a
        took.append(time.perf_counter() - started)
    return 2 * len(a) ** 3 / min(took[1:]) / 1e9


def throughput(clock: Clock, layers: tuple[int, ...]) -> dict:
    "Throughput of the matrix products of an epoch: forward, and back to weights and inputs, though not to the pixels."
    weights = [a * b for a, b in zip(layers, layers[1:], strict=False)]
    done = 2 * IMAGES * (3 * sum(weights) - weights[0]) / clock.steps["epoch"] / 1e9
    return {"gflops": done, "of_limit": done / matrix_limit()}


def by_hand(path: Path, clock: Clock, layers: tuple[int, ...], batch_size: int) -> dict:
    "The study's network."
    from fer_research.models.mlp_numpy import Adam, Network, he_normal, train

    X, y = draw_noise()
    rng = np.random.default_rng(SEED)
    network = Network(he_normal(layers, rng), Adam(), L2)
    network.learn(X[:batch_size], y[:batch_size], LEARNING_RATE)
    with clock("epoch"):
        train(network, X, y, None, rng, 1, batch_size, LEARNING_RATE)
    return throughput(clock, layers)


def by_torch(path: Path, clock: Clock, layers: tuple[int, ...], batch_size: int, **adam: bool) -> dict:
    "The same in PyTorch, as its tutorials do it."
    import torch
    from torch import nn

    X, y = map(torch.from_numpy, draw_noise())
    torch.manual_seed(SEED)
    dense = [layer for a, b in zip(layers, layers[1:], strict=False) for layer in (nn.Linear(a, b), nn.ReLU())]
    network = nn.Sequential(*dense[:-1])
    optimiser = torch.optim.Adam(network.parameters(), LEARNING_RATE, weight_decay=L2, **adam)

    def epoch(X: torch.Tensor, y: torch.Tensor) -> None:
        "All of it once."
        for rows in torch.randperm(len(y)).split(batch_size):
            loss = nn.functional.cross_entropy(network(X[rows]), y[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

    epoch(X[:batch_size], y[:batch_size])
    with clock("epoch"):
        epoch(X, y)
    return throughput(clock, layers)


def by_sklearn(path: Path, clock: Clock, layers: tuple[int, ...], batch_size: int) -> dict:
    "MLPClassifier, one iteration."
    import warnings

    from sklearn.neural_network import MLPClassifier

    warnings.simplefilter("ignore")  # that one iteration is few
    X, y = draw_noise()
    options = {"batch_size": batch_size, "alpha": L2, "max_iter": 1, "random_state": SEED}
    fit: Callable = lambda rows: MLPClassifier(layers[1:-1], **options).fit(X[rows], y[rows])
    fit(slice(10 * batch_size))
    with clock("epoch"):
        fit(slice(None))
    return throughput(clock, layers)


WAYS = {"by_hand": by_hand, "by_torch": by_torch, "by_fused_torch": partial(by_torch, fused=True),
        "by_sklearn": by_sklearn}
for name, layers in LAYERS.items():
    for batch_size in BATCHES:
        for way, function in WAYS.items():
            globals()[f"{way}_{name}_{batch_size}"] = partial(function, layers=layers, batch_size=batch_size)
