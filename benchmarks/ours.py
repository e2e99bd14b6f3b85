"""Our way to the same model: the library's calls that the notebooks of the study make.

All functions take the archive, or the folder it unpacks to.
"""
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from fer_research.data.census import census, duplicate_groups
from fer_research.data.fer6 import read_fer6
from fer_research.evaluation.splits import Split, holdout, three_way
from fer_research.features.pca import VariancePCA

from .child import Clock, fitted_model

SIDE, SHARE, SEED = 48, 0.9, 42
NEW_IMAGES = 1000
TEST, VALIDATION = 0.2, 0.1  # shares of the whole, as in params.yaml


def read_faces(
    path: Path,  # the archive
) -> tuple[np.ndarray, pd.DataFrame]:  # (n, 6912) uint8; id, label, digest, ... of each
    "All faces, in the order of the table."
    items, decoded = read_fer6(path).decode(size=SIDE)
    return decoded.images.reshape(len(items), -1), items


def described(
    projection: VariancePCA,  # fitted
) -> dict:
    "What is reported of a projection."
    count = projection.n_components_
    return {"components": count, "explained_variance": float(projection.explained_variance_ratio_[:count].sum())}


def decode(path: Path, clock: Clock) -> dict:
    "Read, decode and take the census of all faces."
    with clock("decode"):
        images = read_fer6(path)
        items, decoded = images.decode(size=SIDE)
    with clock("census"):
        figures = census(items, [*images.problems, *decoded.problems])
    return {"faces": len(items), "duplicate_images": int(figures["duplicate_images"])}


def components(path: Path, clock: Clock) -> dict:
    "From the archive to the components."
    with clock("decode"):
        pixels, _ = read_faces(path)
    with clock("PCA"):
        projection = VariancePCA(SHARE, random_state=SEED).fit(pixels)
    with clock("transform"):
        projection.transform(pixels)
    return {"faces": len(pixels), **described(projection)}


def sound_split(
    labels: np.ndarray,  # (n,)
    groups: np.ndarray,  # (n,) duplicates share a value
) -> Split:
    "The study's own split: three parts, stratified, duplicates on one side."
    return three_way(labels, TEST, VALIDATION, SEED, groups=groups)


def source_split(
    labels: np.ndarray,  # (n,)
    groups: np.ndarray,  # (n,) duplicates share a value
) -> Split:
    "The source's test part, and a validation part cut from its training part."
    rest, test = holdout(labels, TEST, SEED, stratify=False)
    fit, choose = holdout(labels[rest], VALIDATION / (1 - TEST), SEED, groups=groups[rest])
    return Split(rest[fit], rest[choose], test)


def fit_study(
    path: Path,  # the archive
    clock: Clock,
    make_split: Callable[[np.ndarray, np.ndarray], Split],  # of labels and groups
) -> dict:
    "From the archive to the accuracy: projection of the training part, the number of rounds chosen on the validation part."
    from fer_research.models.boosting import Part, fit_lightgbm  # only here: the other sides do without its memory

    with clock("decode"):
        pixels, items = read_faces(path)
    with clock("split"):
        names = items["label"].to_numpy(dtype=str)
        y = np.unique(names, return_inverse=True)[1]
        split = make_split(names, duplicate_groups(items).to_numpy())
    with clock("PCA"):
        projection = VariancePCA(SHARE, random_state=SEED).fit(pixels[split.train])
        values = projection.transform(pixels)
    with clock("fit"):
        fitted = fit_lightgbm(Part(values[split.train], y[split.train]), Part(values[split.validation], y[split.validation]), SEED, rounds=500)
    with clock("predict"):
        right = fitted.estimator.predict_proba(values[split.test]).argmax(axis=1) == y[split.test]
    return {"faces": len(pixels), **described(projection), "accuracy": float(right.mean()), "rounds": fitted.chosen["rounds"],
            "test": items["id"].iloc[split.test].tolist(), "right": right.tolist()}


def study(path: Path, clock: Clock) -> dict:
    "The study on its own split."
    return fit_study(path, clock, sound_split)


def study_on_source_split(path: Path, clock: Clock) -> dict:
    "The study with the source's test part, so that both meet the same faces."
    return fit_study(path, clock, source_split)


def predict(path: Path, clock: Clock, variant: str) -> dict:
    "New images straight from the archive, through the study's fitted model."
    from fer_research.data.given import Images, gather
    from fer_research.pipeline.predict import open_model, predict_images

    model = open_model(fitted_model(variant))
    names = [f"{path}/dataset/{name}" for name in read_fer6(path).items["id"][:NEW_IMAGES]]
    with clock("predict"):
        table, _ = predict_images(model, Images(names, gather([path]).read))
    return {"faces": len(table), "answers": np.searchsorted(model.classes_, table["class"].to_numpy(dtype=str)).tolist()}


predict_components, predict_network = partial(predict, variant="pca"), partial(predict, variant="efficientnet_lite0")


def embed(path: Path, clock: Clock, share: float = 1.0) -> dict:
    "The embeddings of all faces, or of the first ones."
    from fer_research.features.embedding import Embedding
    from fer_research.features.embedding import embed as embed_images

    images, extractor = read_fer6(path), Embedding(fitted_model("efficientnet_lite0") / "extractor")
    ids = images.items["id"].tolist()[: round(share * len(images.items))]
    with tempfile.TemporaryDirectory(prefix="fer-benchmark-") as folder, clock("embed"):
        values = embed_images(images.read, ids, extractor, folder).values
    return {"faces": len(values)}


embed_quarter = partial(embed, share=0.25)
