"""The source's way to its models, step by step as published.

Every face by itself, through Pillow, a full decomposition to count the components before they are computed once more,
networks that are called once an image, and a search of whole fits, one after the other.

All functions take the folder that the archive unpacks to, as the source did.
"""
from pathlib import Path
from typing import TYPE_CHECKING

import lightgbm as lgb
import numpy as np
import pandas as pd
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import LabelEncoder, StandardScaler

from .child import Clock, fitted_extractor, fitted_model
from .vectors import FACES, draw_codes, draw_vectors

if TYPE_CHECKING:
    import optuna

NEW_IMAGES = 1000
# images: ten seconds and more, which is enough to know the seconds an image
EMBEDDED = {"ResNet50": 150, "vit_base_patch16_224": 60}
SAMPLE = 8  # images whose vectors are compared
TRIALS, TIMED = 20, 5  # of a search, and of those that are timed
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
    "From the files to the accuracy: projection of everything, an unstratified split, LightGBM with 500 rounds."
    with clock("decode"):
        pixels, table = read_faces(folder)
    values, found = project(pixels, clock)
    with clock("fit"):
        y = LabelEncoder().fit_transform(table["label"])
        X_train, X_test, y_train, y_test, _, ids = train_test_split(values, y, table["path"], test_size=0.2,
                                                                    random_state=SEED)
        train = lgb.Dataset(X_train, label=y_train)
        test = lgb.Dataset(X_test, label=y_test, reference=train)
        model = lgb.train({"objective": "multiclass", "num_class": int(y.max()) + 1}, train, num_boost_round=500,
                          valid_sets=[test])
    with clock("predict"):
        right = model.predict(X_test).argmax(axis=1) == y_test
    return {"faces": len(pixels), **found, "accuracy": float(right.mean()), "rounds": 500, "test": ids.tolist(),
            "right": right.tolist()}


def first_files(
    folder: Path,  # data.csv beside dataset/
) -> list[Path]:
    "The images that new predictions are asked for."
    return [folder / "dataset" / name
            for name in pd.read_csv(folder / "data.csv", skipinitialspace=True)["path"][:NEW_IMAGES]]


def predict_components(folder: Path, clock: Clock) -> dict:
    "New images one at a time through scaler, PCA and LightGBM, all as fitted by the study's variant `pca`."
    from fer_research.features.pca import load_pca  # only here: the other sides do without

    model = fitted_model("pca")
    ours = load_pca(fitted_extractor("pca") / "projection.safetensors")
    scaler, pca = StandardScaler(), PCA()
    scaler.mean_, scaler.scale_ = ours.mean_.astype(float), ours.scale_.astype(float)
    pca.components_, pca.mean_, pca.whiten = ours.components_.astype(float), np.zeros(len(ours.mean_)), False
    booster = lgb.Booster(model_file=model / "classifier.txt")
    files = first_files(folder)
    with clock("predict"):
        answers = [int(booster.predict(pca.transform(scaler.transform(read_face(file)[None]))).argmax())
                   for file in files]
    return {"faces": len(files), "answers": answers}


def predict_network(folder: Path, clock: Clock) -> dict:
    "New images one at a time through Keras' ResNet50, as published; its weights are random, which costs the same."
    import keras

    network, one = keras.applications.ResNet50(weights=None, include_top=False, pooling="avg"), keras_image
    noise = np.random.default_rng(SEED).normal(size=(600, 2048))
    classifier = lgb.LGBMClassifier(n_estimators=233, verbosity=-1).fit(noise, np.arange(600) % 6)
    files = first_files(folder)
    network.predict(one(files[0]), verbose=0)  # compiles
    with clock("predict"):
        for file in files: classifier.predict_proba(network.predict(one(file), verbose=0))
    return {"faces": len(files)}


def keras_image(
    file: Path,  # an image
) -> np.ndarray:  # (1, 224, 224, 3)
    "A face as ResNet50 takes it."
    import keras

    face = keras.utils.img_to_array(keras.utils.load_img(file, target_size=(224, 224)))
    return keras.applications.resnet50.preprocess_input(face[None])


def embed_resnet50(folder: Path, clock: Clock) -> dict:
    "Keras' ResNet50 with random weights, one image at a time."
    import keras

    keras.utils.set_random_seed(SEED)
    network = keras.applications.ResNet50(weights=None, include_top=False, pooling="avg")
    files = first_files(folder)[: EMBEDDED["ResNet50"]]
    network.predict(keras_image(files[0]), verbose=0)  # compiles
    with clock("embed"):
        vectors = [network.predict(keras_image(file), verbose=0)[0] for file in files]
    return {"faces": len(files), "vectors": np.array(vectors[:SAMPLE]).tolist()}


def embed_vit(folder: Path, clock: Clock) -> dict:
    "timm's ViT-B/16 with random weights, one image at a time, with torch's own number of threads."
    import timm
    import torch
    from torchvision import transforms

    torch.manual_seed(SEED)
    network = timm.create_model("vit_base_patch16_224", pretrained=False).eval()
    network.reset_classifier(0)
    transform = transforms.Compose([transforms.Resize((224, 224)), transforms.ToTensor(),
                                    transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])])
    files = first_files(folder)[: EMBEDDED["vit_base_patch16_224"]]
    with clock("embed"), torch.no_grad():
        vectors = [network(transform(Image.open(file).convert("RGB")).unsqueeze(0)).numpy().flatten() for file in files]
    return {"faces": len(files), "vectors": np.array(vectors[:SAMPLE]).tolist()}


def search_study(
    seed: int,           # of the data and of the sampler, which the source left to chance
    trials: int,         # how many
    **options,           # of LightGBM, beside those that are searched
) -> tuple["optuna.Study", tuple]:  # the finished study; training, validation and test part
    """The source's search: a whole fit a trial, the highest accuracy wins.

    It is scored on a validation part, so that a test part is left to compare on."""
    import optuna

    train, validation, test = parts = draw_vectors(seed)

    def objective(trial):
        settings = {
            "objective": "multiclass", "metric": "multi_logloss", "num_class": 6, "verbosity": -1,
            "boosting_type": "gbdt",
            "lambda_l1": trial.suggest_float("lambda_l1", 1e-8, 10.0, log=True),
            "lambda_l2": trial.suggest_float("lambda_l2", 1e-8, 10.0, log=True),
            "num_leaves": trial.suggest_int("num_leaves", 2, 256),
            "feature_fraction": trial.suggest_float("feature_fraction", 0.4, 1.0),
            "bagging_fraction": trial.suggest_float("bagging_fraction", 0.4, 1.0),
            "bagging_freq": trial.suggest_int("bagging_freq", 1, 7),
            "min_child_samples": trial.suggest_int("min_child_samples", 5, 100),
            "learning_rate": trial.suggest_float("learning_rate", 0.01, 0.1),
        }
        model = lgb.LGBMClassifier(**settings, **options).fit(*train)
        return float((model.predict(validation.X) == validation.y).mean())

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    study.optimize(objective, n_trials=trials)
    return study, parts


def search(folder: Path, clock: Clock) -> dict:
    "A search, with LightGBM's own number of threads; a part of the trials is timed."
    with clock("search"):
        search_study(0, TIMED)
    return {"trials": TIMED}


def found_accuracy(
    seed: int,  # of the data and of the sampler
) -> float:
    "Test accuracy of the model that the whole search ends with, fitted once more to the training part; one thread."
    study, (train, _, test) = search_study(seed, TRIALS, n_jobs=1)
    model = lgb.LGBMClassifier(**study.best_params, n_jobs=1, verbosity=-1).fit(*train)
    return float((model.predict(test.X) == test.y).mean())


def search_result(folder: Path, clock: Clock) -> dict:
    "What the whole search finds, for three seeds, side by side."
    from fer_research.compute import parallel_map

    with clock("search"):
        accuracies = parallel_map(found_accuracy, range(3))
    return {"trials": 3 * TRIALS, "accuracies": accuracies, "accuracy": float(np.mean(accuracies))}


def predict_our_network(folder: Path, clock: Clock) -> dict:
    "New images one at a time through our network in torch, as the source calls its ViT, and the study's classifier."
    import torch

    from fer_research.features.deep_torch import build
    from fer_research.models.storage import load_classifier

    network, about = build("tf_efficientnet_lite0", "package")
    classifier = load_classifier(fitted_model("efficientnet_lite0"))
    files = first_files(folder)
    with clock("predict"), torch.no_grad():
        faces = (np.asarray(Image.open(file).convert("RGB").resize((about["size"],) * 2)) for file in files)
        answers = [int(classifier.predict_proba(network(torch.from_numpy(face.copy())[None]).numpy()).argmax())
                   for face in faces]
    return {"faces": len(files), "answers": answers}


def elm_eight(folder: Path, clock: Clock) -> dict:
    """Eight extreme learning machines of 1,000 units on drawn codes.

    A hidden layer in double precision for each, and scikit-learn's regressors."""
    from sklearn.linear_model import ElasticNet, Lasso, Ridge

    regressors = {"none": Ridge(0.0), "ridge": Ridge(1.0), "lasso": Lasso(0.01),
                  "elasticnet": ElasticNet(0.01, l1_ratio=0.5)}
    X, y = draw_codes(FACES, SEED)
    targets, accuracies = np.eye(y.max() + 1)[y], []
    for draw in (lambda rng, size: rng.standard_normal(size), lambda rng, size: rng.choice([-1.0, 1.0], size)):
        for name, regressor in regressors.items():
            with clock(name):
                rng = np.random.RandomState(SEED)  # ours draws the same weights
                weights, biases = draw(rng, (X.shape[1], 1000)), draw(rng, 1000)
                hidden = lambda X, weights=weights, biases=biases: 1 / (1 + np.exp(-(X @ weights + biases)))
                regressor.fit(hidden(X), targets)
                accuracies.append(float((regressor.predict(hidden(X)).argmax(axis=1) == y).mean()))
    return {"accuracies": accuracies}
