"""The source's way to its first two models, step by step as published: every face by itself, through Pillow, a full decomposition
to count the components before they are computed once more, and a network that is called once an image.

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

from .child import Clock, fitted_model

NEW_IMAGES = 1000
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


def first_files(
    folder: Path,  # data.csv beside dataset/
) -> list[Path]:
    "The images that new predictions are asked for."
    return [folder / "dataset" / name for name in pd.read_csv(folder / "data.csv", skipinitialspace=True)["path"][:NEW_IMAGES]]


def predict_components(folder: Path, clock: Clock) -> dict:
    "New images one at a time through scaler, PCA and LightGBM, all as fitted by the study's variant `pca`."
    from fer_research.features.pca import load_pca  # only here: the other sides do without

    model = fitted_model("pca")
    ours = load_pca(model / "extractor" / "projection.safetensors")
    scaler, pca = StandardScaler(), PCA()
    scaler.mean_, scaler.scale_ = ours.mean_.astype(float), ours.scale_.astype(float)
    pca.components_, pca.mean_, pca.whiten = ours.components_.astype(float), np.zeros(len(ours.mean_)), False
    booster = lgb.Booster(model_file=model / "classifier.txt")
    files = first_files(folder)
    with clock("predict"):
        answers = [int(booster.predict(pca.transform(scaler.transform(read_face(file)[None]))).argmax()) for file in files]
    return {"faces": len(files), "answers": answers}


def predict_network(folder: Path, clock: Clock) -> dict:
    "New images one at a time through Keras' ResNet50, as published; its weights are random, which costs the same."
    import keras

    network = keras.applications.ResNet50(weights=None, include_top=False, pooling="avg")
    classifier = lgb.LGBMClassifier(n_estimators=233, verbosity=-1).fit(np.random.default_rng(SEED).normal(size=(600, 2048)), np.arange(600) % 6)
    files = first_files(folder)
    one = lambda file: keras.applications.resnet50.preprocess_input(keras.utils.img_to_array(keras.utils.load_img(file, target_size=(224, 224)))[None])
    network.predict(one(files[0]), verbose=0)  # compiles
    with clock("predict"):
        for file in files: classifier.predict_proba(network.predict(one(file), verbose=0))
    return {"faces": len(files)}


def predict_our_network(folder: Path, clock: Clock) -> dict:
    "New images one at a time through our network in torch, the way the source calls its ViT, and the study's own classifier."
    import torch

    from fer_research.features.deep_torch import build
    from fer_research.models.storage import load_classifier

    network, about = build("tf_efficientnet_lite0", "package")
    classifier = load_classifier(fitted_model("efficientnet_lite0"))
    files = first_files(folder)
    with clock("predict"), torch.no_grad():
        faces = (np.asarray(Image.open(file).convert("RGB").resize((about["size"],) * 2)) for file in files)
        answers = [int(classifier.predict_proba(network(torch.from_numpy(face.copy())[None]).numpy()).argmax()) for face in faces]
    return {"faces": len(files), "answers": answers}
