"""Training on faces of 48 pixels the source's way, by Keras' generator, and ours.

Batches alone, whole trainings, waiting for data, and folds side by side.
"""
import time
from functools import partial
from pathlib import Path

import numpy as np

from .child import Clock

FACES, SIDE, CLASSES, SEED = 8000, 48, 7, 42
BATCH, EPOCHS, TIMES = 256, 6, 2  # of the source; of a training; trainings whose accuracy is compared
FOLDS, FEW = 4, 160               # pieces of work, and faces that each learns from


def draw_faces(count: int) -> tuple[np.ndarray, np.ndarray]:  # (n, 48, 48) uint8, (n,) classes
    "Faces of the sample, over and over."
    from fer_research.data.fer2013 import read_fer2013

    items, decoded = read_fer2013(Path("data/fer2013/fer2013.zip")).decode("L", SIDE)
    rows = np.arange(count) % len(items)
    return decoded.images[rows], np.unique(items["label"], return_inverse=True)[1][rows]


def source_batches(X: np.ndarray, y: np.ndarray, epoch: int):
    "An epoch's batches, the source's way."
    import keras
    from keras.src.legacy.preprocessing.image import ImageDataGenerator

    generator = ImageDataGenerator(horizontal_flip=True, rotation_range=10, zoom_range=0.1, width_shift_range=0.1,
                                   height_shift_range=0.1)
    flow = generator.flow(X[..., None].astype(np.float32), keras.utils.to_categorical(y, CLASSES), batch_size=BATCH,
                          seed=SEED + epoch)
    return flow


def our_batches(X: np.ndarray, y: np.ndarray, epoch: int):
    "Ours."
    from fer_research.data.parts import Part
    from fer_research.models.transfer import batches

    return batches(Part(X, y), BATCH, SEED, epoch, True, CLASSES)


def feed(path: Path, clock: Clock, make) -> dict:
    "The batches of an epoch, with nobody to learn from them."
    X, y = draw_faces(FACES)
    batches = make(X, y, 0)
    steps, all_batches = -(-FACES // BATCH), iter(batches)
    next(all_batches)
    with clock("epoch"): count = sum(len(next(all_batches)[1]) for _ in range(steps - 1))
    return {"pictures": count}


source_feed, ours_feed = partial(feed, make=source_batches), partial(feed, make=our_batches)


def network(seed: int):
    "A small network, so that batches matter."
    import keras

    from fer_research.models.cnn import NETWORKS

    keras.utils.set_random_seed(seed)
    before = [keras.Input((SIDE, SIDE, 1)), keras.layers.Rescaling(1 / 255)]
    after = keras.layers.Dense(CLASSES, activation="softmax")
    made = keras.Sequential([*before, *NETWORKS["cnn_1"](), after])
    made.compile(keras.optimizers.Adam(1e-3), "categorical_crossentropy", metrics=["accuracy"], jit_compile=False)
    return made


def learn(path: Path, clock: Clock, make, bf16: bool = False) -> dict:
    "Some epochs of a small network, augmented, perhaps in half precision; the mean accuracy on faces as they are."
    import keras

    from fer_research.models.transfer import precision

    X, y = draw_faces(FACES)
    reached = []
    for seed in range(SEED, SEED + TIMES):
        with precision(bf16): made = network(seed)
        with clock("epochs"):
            for epoch in range(EPOCHS): made.fit(make(X, y, epoch), verbose=0)
        asked = X[..., None].astype(np.float32), keras.utils.to_categorical(y, CLASSES)
        reached.append(made.evaluate(*asked, batch_size=1000, verbose=0)[1])
    return {"epochs": TIMES * EPOCHS, "accuracy": float(np.mean(reached))}


source_epochs, ours_epochs = partial(learn, make=source_batches), partial(learn, make=our_batches, bf16=True)


def wait(path: Path, clock: Clock, make) -> dict:
    "The share of an epoch of VGG16 in which it waits for its next batch."
    from fer_research.models.transfer import Training, build

    X, y = draw_faces(2000)
    made = build("VGG16", "random")
    import keras
    made.compile(keras.optimizers.Adam(Training().learning_rate), "categorical_crossentropy", jit_compile=False)
    batches = iter(make(X, y, 0))
    made.train_on_batch(*next(batches))
    waited = worked = 0.0
    with clock("epoch"):
        for _ in range(-(-len(y) // BATCH) - 1):
            at = time.perf_counter()
            batch = next(batches)
            ready = time.perf_counter()
            made.train_on_batch(*batch)
            waited, worked = waited + ready - at, worked + time.perf_counter() - ready
    return {"waiting": waited / (waited + worked)}


source_wait, ours_wait = partial(wait, make=source_batches), partial(wait, make=our_batches)


def fold(number: int, folder: str) -> float:
    "A piece of work: VGG16 on a few faces."
    from fer_research.data.parts import Part
    from fer_research.models.cnn import one_thread
    from fer_research.models.transfer import Training, build, fit_or_load

    one_thread()
    X, y = draw_faces(2 * FEW)
    train, validation = Part(X[:FEW], y[:FEW]), Part(X[FEW:], y[FEW:])
    make, training = partial(build, "VGG16", "random", number), Training(batch_size=32, epochs=2)
    history, _ = fit_or_load(Path(folder) / str(number), make, training, train, {"validation": validation}, number)
    return float(history["val_loss"].iloc[-1])


def folds(path: Path, clock: Clock, workers: int) -> dict:
    "Pieces of work by some workers."
    import tempfile

    from fer_research.compute import parallel_map

    with tempfile.TemporaryDirectory(prefix="fer-benchmark-") as folder:
        parallel_map(int, range(workers), workers)
        with clock("folds"): losses = parallel_map(partial(fold, folder=folder), range(FOLDS), workers)
    return {"loss": float(np.sum(losses))}


one_worker, two_workers = partial(folds, workers=1), partial(folds, workers=2)
