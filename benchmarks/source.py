"""The source's way to its first model, step by step as published: every face by itself through Pillow, everything in double
precision, and a full decomposition to count the components before they are computed once more.

All functions take the folder that the archive unpacks to, as the source did.
"""
from pathlib import Path

import lightgbm as lgb
import numpy as np
import pandas as pd
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import LabelEncoder, StandardScaler

from .child import Clock

SIDE, SHARE, SEED = 48, 0.9, 42


def read_face(
    path: Path,  # an image
) -> np.ndarray:  # (6912,) uint8
    "One face as a vector."
    return np.array(Image.open(path).convert("RGB").resize((SIDE, SIDE))).flatten()


def read_faces(
    folder: Path,  # data.csv beside dataset/
) -> tuple[np.ndarray, pd.DataFrame]:  # (n, 6912) uint8; path and label of each
    "All faces, in the order of the table."
    table = pd.read_csv(folder / "data.csv", skipinitialspace=True)
    return np.array([read_face(folder / "dataset" / name) for name in table["path"]]), table


def project(
    pixels: np.ndarray,  # (n, d)
    clock: Clock,
) -> tuple[np.ndarray, dict]:  # (n, k) float64; what is reported of the projection
    "Standardise, decompose in full to count the components, then compute as many."
    with clock("scale"):
        scaled = StandardScaler().fit_transform(pixels)
    with clock("full PCA"):
        pca = PCA(random_state=SEED).fit(scaled)
        count = int(np.argmax(np.cumsum(pca.explained_variance_ratio_) >= SHARE)) + 1
    with clock("PCA"):
        pca = PCA(n_components=count, random_state=SEED)
        values = pca.fit_transform(scaled)
    return values, {"components": count, "explained_variance": float(pca.explained_variance_ratio_.sum())}


def decode(folder: Path, clock: Clock) -> dict:
    "Read and decode all faces."
    with clock("decode"):
        pixels, _ = read_faces(folder)
    return {"faces": len(pixels)}


def components(folder: Path, clock: Clock) -> dict:
    "From the files to the components."
    with clock("decode"):
        pixels, _ = read_faces(folder)
    _, found = project(pixels, clock)
    return {"faces": len(pixels), **found}


def study(folder: Path, clock: Clock) -> dict:
    "From the files to the accuracy: projection of everything, an unstratified split, LightGBM's defaults with 500 rounds."
    with clock("decode"):
        pixels, table = read_faces(folder)
    values, found = project(pixels, clock)
    with clock("fit"):
        y = LabelEncoder().fit_transform(table["label"])
        X_train, X_test, y_train, y_test, _, ids = train_test_split(values, y, table["path"], test_size=0.2, random_state=SEED)
        train = lgb.Dataset(X_train, label=y_train)
        test = lgb.Dataset(X_test, label=y_test, reference=train)
        model = lgb.train({"objective": "multiclass", "num_class": int(y.max()) + 1}, train, num_boost_round=500, valid_sets=[test])
    with clock("predict"):
        right = model.predict(X_test).argmax(axis=1) == y_test
    return {"faces": len(pixels), **found, "accuracy": float(right.mean()), "rounds": 500, "test": ids.tolist(), "right": right.tolist()}
