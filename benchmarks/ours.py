"""Our way to the same model: the library's calls that the notebooks of the study make.

All functions take the archive, or the folder it unpacks to.
"""
import itertools
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from fer_research.data.census import census, duplicate_groups
from fer_research.data.fer6 import read_fer6
from fer_research.evaluation.splits import Split, holdout, three_way
from fer_research.features.pca import VariancePCA

from .child import Clock, fitted_extractor, fitted_model
from .vectors import FACES, draw_codes, draw_vectors

if TYPE_CHECKING:
    from fer_research.features.embedding import Embedding

SIDE, SHARE, SEED = 48, 0.9, 42
NEW_IMAGES = 1000
EMBEDDED = {"ResNet50": 512, "vit_base_patch16_224": 256}  # images, ten seconds and more
SAMPLE = 8  # images whose vectors are compared
TRIALS, ROUNDS, MAX_BIN = 20, 100, 15  # of a search
FINAL = 500  # rounds of the fit afterwards, at most
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
    "From the archive to the accuracy: projection of the training part, the rounds chosen on the validation part."
    from fer_research.data.parts import Part
    from fer_research.models.boosting import fit_lightgbm  # only here: the other sides do without its memory

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
        fitted = fit_lightgbm(Part(values[split.train], y[split.train]),
                              Part(values[split.validation], y[split.validation]), SEED, rounds=500)
    with clock("predict"):
        right = fitted.estimator.predict_proba(values[split.test]).argmax(axis=1) == y[split.test]
    return {"faces": len(pixels), **described(projection), "accuracy": float(right.mean()),
            "rounds": fitted.best["rounds"], "test": items["id"].iloc[split.test].tolist(), "right": right.tolist()}


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
    return {"faces": len(table),
            "answers": np.searchsorted(model.classes_, table["class"].to_numpy(dtype=str)).tolist()}


predict_components, predict_network = partial(predict, variant="pca"), partial(predict, variant="efficientnet_lite0")


def embedded(
    path: Path,    # the archive
    clock: Clock,
    extractor: "Embedding",  # opened
    count: int,    # faces; where there are fewer, they come again
) -> dict:
    "Straight from the archive to the vectors, decoded ahead, in chunks that are kept on disk."
    from fer_research.features.embedding import embed as embed_images

    images = read_fer6(path)
    ids = list(itertools.islice(itertools.cycle(images.items["id"]), count))
    with tempfile.TemporaryDirectory(prefix="fer-benchmark-") as folder:
        with clock("embed"):
            values = embed_images(images.read, ids, extractor, folder).values
        return {"faces": len(values), "vectors": values[:SAMPLE].tolist()}


def embed(path: Path, clock: Clock, share: float = 1.0, count: int | None = None) -> dict:
    "The embeddings of all faces, of the first ones, or of as many as are asked for, by the network of a fitted model."
    from fer_research.features.embedding import Embedding

    return embedded(path, clock, Embedding.open(fitted_extractor("efficientnet_lite0")),
                    count or round(share * len(read_fer6(path).items)))


embed_quarter = partial(embed, share=0.25)
embed_1000, embed_4000, embed_15453 = (partial(embed, count=count) for count in (1000, 4000, 15_453))


def embed_resnet50(path: Path, clock: Clock, precision: str = "fp32") -> dict:
    "Keras' ResNet50 with the same random weights and the same filter as on the source's side, exported."
    from fer_research.features.deep_keras import build, export

    network, about = build("ResNet50", "random", SEED)
    with tempfile.TemporaryDirectory(prefix="fer-benchmark-") as folder:
        return embedded(path, clock, export(folder, network, about | {"resize": "nearest"}, precision),
                        EMBEDDED["ResNet50"])


def embed_vit(path: Path, clock: Clock, precision: str = "fp32") -> dict:
    "timm's ViT-B/16 with the same random weights, filter and normalisation as on the source's side, exported."
    from fer_research.features.deep_torch import build, export

    network, about = build("vit_base_patch16_224", "random", SEED, "imagenet")
    with tempfile.TemporaryDirectory(prefix="fer-benchmark-") as folder:
        return embedded(path, clock, export(folder, network, about | {"resize": "bilinear"}, precision),
                        EMBEDDED["vit_base_patch16_224"])


embed_resnet50_bf16, embed_vit_bf16 = partial(embed_resnet50, precision="bf16"), partial(embed_vit, precision="bf16")


def best_options(
    train: tuple,       # X and y
    validation: tuple,  # X and y
    seed: int,          # of the samplers, bagging and feature sampling
) -> dict:
    """The search of the study's tuned variants.

    Binned once, two trials at a time with a thread each, pruned and compared by validation loss."""
    from fer_research.data.parts import Part
    from fer_research.models.boosting import bin_parts, validation_loss
    from fer_research.pipeline.search import LIGHTGBM_SPACE, run_search

    with tempfile.TemporaryDirectory(prefix="fer-benchmark-") as folder:
        bins = bin_parts(Path(folder, "bins"), Part(*train), Part(*validation), seed, MAX_BIN)
        objective = partial(validation_loss, folder=bins, classes=6, seed=seed, rounds=ROUNDS, max_bin=MAX_BIN)
        return run_search(objective, LIGHTGBM_SPACE, TRIALS, Path(folder, "trials.log"), seed, 2,
                          "minimize").best_params


def search(path: Path, clock: Clock) -> dict:
    "A whole search."
    train, validation, _ = draw_vectors(0)
    with clock("search"):
        best_options(train, validation, 0)
    return {"trials": TRIALS}


def search_result(path: Path, clock: Clock) -> dict:
    "What the search finds, for three seeds: fitted to training and validation part, and to the training part alone."
    from fer_research.data.parts import Part
    from fer_research.models.boosting import fit_lightgbm

    accuracies, alone = [], []
    for seed in range(3):
        train, validation, test = draw_vectors(seed)
        with clock("search"):
            options = best_options(train, validation, seed)
        for kept, refit in ((accuracies, True), (alone, False)):
            fitted = fit_lightgbm(Part(*train), Part(*validation), seed, rounds=FINAL, max_bin=MAX_BIN, refit=refit,
                                  **options)
            kept.append(float((fitted.estimator.predict(test.X) == test.y).mean()))
    return {"trials": 3 * TRIALS, "accuracies": accuracies, "accuracy": float(np.mean(accuracies)),
            "accuracy_alone": float(np.mean(alone))}


def elm_eight(path: Path, clock: Clock) -> dict:
    "The same machines in single precision, from the sums of two hidden layers."
    from fer_research.models.elm import answers, fit_source_elms

    X, y = draw_codes(FACES, SEED)
    X = X.astype(np.float32)
    with clock("fit"):
        machines = fit_source_elms(X, y, SEED)
    with clock("predict"):
        return {"accuracies": [float((answer == y).mean()) for answer in answers(machines, X).values()]}


def elm_path(path: Path, clock: Clock, alphas: int) -> dict:
    "Leave-one-out errors of a machine with 1,000 units, for so many strengths of the penalty."
    from fer_research.models.elm import ELMClassifier

    X, y = draw_codes(FACES, SEED)
    X = X.astype(np.float32)
    with clock("fit"):
        fits = ELMClassifier(random_state=SEED).fit_path(X, y, np.logspace(-3, 5, alphas) if alphas > 1 else [1.0])
    return {"accuracy": float(fits.accuracies[fits.best])}


elm_path_1, elm_path_50 = partial(elm_path, alphas=1), partial(elm_path, alphas=50)


def elm_patches(path: Path, clock: Clock) -> dict:
    "9,990 pooled responses of drawn pictures and of their mirror images, and one ridge readout."
    from fer_research.data.parts import Part
    from fer_research.features.patches import PatchNetwork
    from fer_research.models.patches import Grey, fit_member, maps_of

    rng = np.random.default_rng(SEED)
    part = Part(rng.integers(0, 256, (FACES, SIDE, SIDE), dtype=np.uint8), rng.integers(7, size=FACES))
    train, validation = (Part(part.X[rows], part.y[rows]) for rows in (slice(FACES // 10, None), slice(FACES // 10)))
    with clock("filters"):
        network = PatchNetwork(maps_of(Grey(), train.X, 2000, SEED), filters=555)
    with clock("fit"):
        fit_member(Grey(), network, train, validation, [1000.0])
    return {"faces": FACES}


def elm_size(path: Path, clock: Clock, faces: int, units: int) -> dict:
    "A machine with a ridge readout on so many faces, with so many units."
    from fer_research.models.elm import ELMClassifier

    X, y = draw_codes(faces, SEED)
    X = X.astype(np.float32)
    with clock("fit"):
        ELMClassifier(units, random_state=SEED).fit(X, y)
    return {"faces": faces}


for faces, units in itertools.product((7, 28, 112), (1, 4, 10)):  # thousands
    globals()[f"elm_{faces}k_{units}k"] = partial(elm_size, faces=1000 * faces, units=1000 * units)
