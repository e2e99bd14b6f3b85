"What is said of an embedding's dimensions is right where the truth is known."
import json

import lightgbm as lgb
import numpy as np
import pandas as pd
import pytest
from conftest import copy_tree

from fer_research.data.vectors import write_vectors
from fer_research.evaluation.claims import CHECK, FAILS, HOLDS, OPEN
from fer_research.evaluation.importance import leaning_table, spread
from fer_research.evaluation.metrics import write_evaluation, write_predictions
from fer_research.evaluation.published import published
from fer_research.models.boosting import REPEATABLE
from fer_research.models.dimensions import permutation_importance, quick_options, refitted, stability, tree_importance
from fer_research.models.heads import Part
from fer_research.models.storage import save_classifier

CLASSES = ["Ahegao", "Angry", "Happy", "Neutral", "Sad", "Surprise"]
TELLING = 7  # the dimension that knows everything in `one_dimension`
NAME = "efficientnet_lite0"
VIT = "vit_base_patch16"  # the variant of the source


def one_dimension(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    "24 dimensions, one of which tells the class."
    y = np.arange(n) % 6
    X = rng.normal(size=(n, 24)).astype(np.float32)
    X[:, TELLING] = y + rng.normal(scale=0.1, size=n)
    return X, y


def noise(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    "24 dimensions that say nothing."
    return rng.normal(size=(n, 24)).astype(np.float32), np.arange(n) % 6


def write_embedding(root, name: str, make, n: int, check: bool) -> None:
    "A split, features, a fitted model, its predictions and those of a rival, as earlier stages leave them."
    rng = np.random.default_rng(0)
    X, y = make(n, rng)
    ids = np.array([f"{i:04d}.png" for i in range(n)])
    items = pd.DataFrame({"id": ids, "label": np.array(CLASSES)[y], "group": range(n), "part": rng.choice(["training", "validation", "test"], n, p=[.5, .25, .25])})
    (root / "outputs" / "splits" / "fer_boosting").mkdir(parents=True)
    items.to_csv(root / "outputs" / "splits" / "fer_boosting" / "sound.csv", index=False)
    write_vectors(root / "outputs" / "features" / "fer_boosting" / name, ids, items["label"], X, check)
    test = (items["part"] == "test").to_numpy()
    trees = lgb.LGBMClassifier(n_estimators=20, class_weight="balanced", n_jobs=1, **REPEATABLE).fit(X[~test], y[~test])
    save_classifier(root / "outputs" / "models" / "fer_boosting" / name, trees)
    proba = trees.predict_proba(X[test])
    write_evaluation(root / "results" / "fer_boosting" / name, y[test], proba, CLASSES)
    predictions = root / "outputs" / "predictions" / "fer_boosting"
    write_predictions(predictions / f"{name}.npz", ids[test], y[test], proba)
    write_predictions(predictions / f"{name}_mlp.npz", ids[test], y[test], np.full((test.sum(), 6), 1 / 6))  # a rival that knows nothing


def analyse(clone, make, n: int, name: str = NAME, check: bool = False):
    "Run the notebook as a stage; gives the folder of its results."
    write_embedding(clone.root, name, make, n, check)
    clone.edit(**{f"fer_boosting__analyse__{name}__kept": [1, 4, 12, 24, 100], f"fer_boosting__analyse__{name}__seeds": 2})
    clone.cli("run", "fer_boosting", "analyse", name)
    return clone.root / "results" / "fer_boosting" / name / "analyse"


def test_a_dimension_that_knows_everything_is_found(tmp_path):
    results = analyse(copy_tree(tmp_path / "clone"), one_dimension, 600)
    metrics = json.loads((results / "metrics.json").read_text())
    assert (metrics["dimensions"], metrics["enough_dimensions"], metrics["same_first_dimension"]) == (24, 1, 1)
    assert "pipeline_check" not in metrics
    importance = pd.read_csv(results / "importance.csv")
    assert list(importance)[:3] == ["dimension", "splits", "gain"] and sorted(importance["dimension"]) == list(range(24))
    assert importance["dimension"][0] == TELLING and importance["gain"].idxmax() == 0
    assert importance.loc[0, "accuracy_lost"] > 0.6 > 0.1 > importance.loc[1:, "accuracy_lost"].max()
    kept = pd.read_csv(results / "kept.csv").set_index("dimensions")
    assert {1, 2, 4, 12, 24} <= set(kept.index) and kept.index.max() == 24  # 2: the tenth that the source names
    assert kept.loc[1, "accuracy"] > 0.8 > 0.4 > kept.loc[1, "trees_random"]
    claims = pd.read_csv(results / "claims.csv")
    verdicts = dict(zip(claims["quantity"].str.split(" of the balanced| kept by|, least").str[0], claims["verdict"], strict=True))
    assert set(verdicts.values()) <= {HOLDS, FAILS, OPEN}
    assert verdicts["accuracy lost without the first dimension"] == HOLDS and verdicts[f"test accuracy less that of {NAME}_mlp"] == HOLDS
    assert pd.read_csv(results / "confidence.csv")["n"].sum() == (pd.read_csv(results.parents[3] / "outputs/splits/fer_boosting/sound.csv")["part"] == "test").sum()


@pytest.mark.slow
def test_a_check_answers_nothing_even_where_there_is_nothing_to_keep(tmp_path):
    results = analyse(copy_tree(tmp_path / "clone"), noise, 120, VIT, check=True)
    assert set(pd.read_csv(results / "claims.csv")["verdict"]) == {CHECK}
    assert json.loads((results / "metrics.json").read_text())["pipeline_check"] == 1
    report = json.loads((results.parents[3] / "outputs" / "reports" / "fer_boosting" / VIT / "analyse.ipynb").read_text())
    assert "A check of the pipeline" in json.dumps(report) and "published, splits" in json.dumps(report)


@pytest.mark.slow
def test_an_analysis_is_the_same_bytes_again(tmp_path):
    files = [{path.name: path.read_bytes() for path in analyse(copy_tree(tmp_path / name), one_dimension, 240).iterdir()} for name in "ab"]
    assert files[0] == files[1] and len(files[0]) == 5


def test_the_sources_statistics_are_those_of_the_importance_it_printed():
    "Its figures contradict one another if `spread` means something else by them."
    printed = published("fer_boosting")["variants"]["vit_lightgbm_optuna"]
    values = np.concatenate([list(printed["importance"]["top"].values()), np.full(763, 54)])
    ours = spread(values)
    assert ours["max"] == printed["importance"]["max"] and 0 < ours["top_share"] < 0.01
    assert ours["dimensions_for_50"] > printed["importance"]["dimensions_for"][0.5]  # flatter than the source's


def test_resamples_disagree_about_dimensions_that_say_the_same():
    "Five copies of one dimension share the splits among them: the first is nowhere the same for sure, and shuffling one costs little."
    X, y = one_dimension(400, rng := np.random.default_rng(1))
    copies = X[:, [TELLING] * 5] + rng.normal(scale=0.3, size=(400, 5)).astype(np.float32)
    train, validation = Part(copies[:300], y[:300]), Part(copies[300:], y[300:])
    model = lgb.LGBMClassifier(n_estimators=20, n_jobs=1, **REPEATABLE).fit(*train)
    fits = refitted(train, quick_options(model.booster_), range(4))
    assert stability(fits)["top"].nunique() > 1
    alone = Part(train.X[:, :1], train.y)
    only = lgb.LGBMClassifier(n_estimators=20, n_jobs=1, **REPEATABLE).fit(*alone)
    shared = permutation_importance(model, validation)["accuracy_lost"].max()
    assert shared < permutation_importance(only, Part(validation.X[:, :1], validation.y))["accuracy_lost"].max() / 2
    assert tree_importance(model.booster_)["splits"].min() > 0


@pytest.mark.parametrize("bins", [1, 3, 7, 20])
def test_bins_hold_every_item_once(bins):
    rng = np.random.default_rng(0)
    proba = rng.dirichlet(np.ones(4), 20).round(1) + 0.0
    table = leaning_table(rng.integers(4, size=20), proba, [0, 1], bins)
    assert table["n"].sum() == 20 and table["n"].max() - table["n"].min() <= 1 and table["confidence"].is_monotonic_increasing
    assert (table["excess"] - (table["predicted"] - table["true"])).abs().max() < 1e-12
