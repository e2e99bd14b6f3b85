"Extreme learning machines, codes and patch networks: what the notebooks do not show."
import json
import tracemalloc

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import ElasticNet, Lasso, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fer_research.data.parts import Part
from fer_research.models.elm import SOURCE_READOUTS, WEIGHTS, ELMClassifier, fit_source_elms, noise_like
from fer_research.models.readout import moments
from fer_research.models.storage import load_classifier, save_classifier
from fer_research.pipeline.artifacts import find_variant
from fer_research.studies.fer_elm.schema import ELMS


@pytest.fixture(scope="module")
def faces() -> Part:
    "Codes that say a little."
    rng = np.random.default_rng(0)
    y = rng.choice(7, 3000, p=(0.14, 0.02, 0.14, 0.25, 0.17, 0.17, 0.11))
    own, codes = rng.integers(64, size=(7, 144)), rng.integers(64, size=(3000, 144))
    return Part(StandardScaler().fit_transform(np.where(rng.random(codes.shape) < 0.1, own[y], codes).astype(float)), y)


def theirs(faces: Part, name: str, hidden: int) -> np.ndarray:
    "The published machine by scikit-learn's regressors, in double precision: its answers."
    weights, readout = name.removeprefix("elm_").split("_")
    rng = np.random.RandomState(1)
    W, b = WEIGHTS[weights](rng, (144, hidden)), WEIGHTS[weights](rng, hidden)
    H = 1 / (1 + np.exp(-(faces.X @ W + b)))
    regressor = {"none": Ridge(1e-9), "ridge": Ridge(1.0), "lasso": Lasso(0.01),
                 "elasticnet": ElasticNet(0.01, l1_ratio=0.5)}[readout]
    return regressor.fit(H, np.eye(7)[faces.y]).predict(H).argmax(axis=1)


@pytest.mark.parametrize("precision", [np.float32, np.float64])
def test_the_eight_are_those_of_the_source(faces, precision):
    machines = fit_source_elms(faces.X.astype(precision), faces.y, 1, hidden=300)
    assert list(machines) == list(ELMS) and set(SOURCE_READOUTS) == {name.split("_")[2] for name in machines}
    for name, machine in machines.items():
        same = machine.predict(faces.X.astype(precision)) == theirs(faces, name, 300)
        assert same.mean() > 0.995, name


def test_memory_does_not_grow_with_the_items():
    def peak(pieces: int) -> int:
        rng = np.random.default_rng(0)
        tracemalloc.start()
        one_hot = np.eye(3, dtype=np.float32)
        moments((rng.standard_normal((500, 300), dtype=np.float32), one_hot[rng.integers(3, size=500)])
                for _ in range(pieces))
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most
    assert peak(60) < 1.1 * peak(6)


def test_noise_is_learned_by_heart_and_the_less_the_more_there_is(faces):
    def floor(items: int) -> float:
        X, y = noise_like(faces.X, faces.y, 0, items)
        return ELMClassifier(200, random_state=0).fit(X, y).score(X, y)
    most = np.bincount(faces.y).max() / len(faces.y)
    assert floor(150) > 0.99 > floor(1000) > floor(4000) > most


def test_a_stored_machine_holds_no_code_and_answers_the_same(faces, tmp_path):
    machine = ELMClassifier(50, weights="binary", activation="sine", random_state=3)
    model = make_pipeline(StandardScaler(), machine).fit(*faces)
    model[-1].calibrate(model[0].transform(faces.X[:500]), faces.y[:500])
    save_classifier(tmp_path, model)
    assert [path.name for path in tmp_path.iterdir()] == ["classifier.safetensors"]
    assert (load_classifier(tmp_path).predict_proba(faces.X) == model.predict_proba(faces.X)).all()


def test_the_comparison_shows_the_noise_floor_beside_the_published_accuracy(reproduced):
    name = "elm_gaussian_ridge_published"
    text = (reproduced.root / "outputs" / "comparison" / "compare" / "comparison.md").read_text()
    row = next(line for line in text.splitlines() if line.startswith(f"| fer_elm | {name} |") and "±" in line)
    metrics = json.loads(find_variant("fer_elm", name, reproduced.root).metrics.read_text())
    assert row.split(" | ")[3] == "31.5" and row.split(" | ")[5] == f"{100 * metrics['noise_floor']:.1f}"


def test_the_splits_are_what_they_say(reproduced):
    items = pd.read_csv(reproduced.root / "outputs" / "datasets" / "explore" / "fer2013" / "items.csv")
    folder = reproduced.root / "outputs" / "fer_elm" / "split"
    split = {name: pd.read_csv(folder / f"{name}.csv") for name in ("sound", "published", "balanced_published")}
    official = split["sound"].merge(items[["id", "part"]], on="id", suffixes=("", "_official"))
    tested = official["part"] == "test"
    assert (official.loc[tested, "part_official"] == "test").all()
    assert (official.loc[~tested, "part_official"] == "train").all()
    assert official.groupby("group")["part"].nunique().max() == 1
    assert len(split["published"]) == len(items) and set(split["published"]["part"]) == {"training", "test"}
    assert split["balanced_published"]["label"].value_counts().nunique() == 1
