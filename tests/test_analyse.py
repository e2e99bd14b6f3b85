"What is said of an embedding's dimensions is right where the truth is known."
import json

import lightgbm as lgb
import numpy as np
import pandas as pd
import pytest
from conftest import copy_tree

from fer_research.data.parts import Part
from fer_research.data.vectors import write_vectors
from fer_research.evaluation.claims import FAILS, HOLDS, OPEN, SMOKE_TEST
from fer_research.evaluation.importance import class_bias_table, spread
from fer_research.evaluation.metrics import write_predictions
from fer_research.evaluation.published import read_published
from fer_research.models.boosting import REPEATABLE
from fer_research.models.dimensions import permutation_importance, quick_options, refit, stability, tree_importance
from fer_research.models.storage import save_classifier
from fer_research.pipeline.artifacts import Stage
from fer_research.pipeline.variant import part_predictions, write_variant

CLASSES = ["Ahegao", "Angry", "Happy", "Neutral", "Sad", "Surprise"]
TELLING = 7  # the dimension that knows everything in `one_dimension`
NAME = "efficientnet_lite0"
VIT = "vit_base_patch16"  # the variant of the source
STUDY = "fer_boosting"


def one_dimension(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    "24 dimensions, one of which tells the class."
    y = np.arange(n) % 6
    X = rng.normal(size=(n, 24)).astype(np.float32)
    X[:, TELLING] = y + rng.normal(scale=0.1, size=n)
    return X, y


def noise(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    "24 dimensions that say nothing."
    return rng.normal(size=(n, 24)).astype(np.float32), np.arange(n) % 6


def write_embedding(root, name: str, make, n: int, smoke_test: bool) -> None:
    "A split, features, a fitted model, its predictions and those of a baseline, as earlier stages leave them."
    rng = np.random.default_rng(0)
    X, y = make(n, rng)
    part = rng.choice(["training", "validation", "test"], n, p=[.5, .25, .25])
    ids = [f"{i:04d}.png" for i in range(n)]
    items = pd.DataFrame({"id": ids, "label": np.array(CLASSES)[y], "group": range(n), "part": part})
    split, embed = Stage(STUDY, "split", None, ".", root), Stage(STUDY, "embed", name, ".", root)
    split.outputs.mkdir(parents=True)
    items.to_csv(split.outputs / "sound.csv", index=False)
    write_vectors(embed.outputs / "features", ids, items["label"], X, smoke_test)
    write_models(root, name, items, X, y)


def write_models(root, name: str, items: pd.DataFrame, X: np.ndarray, y: np.ndarray) -> None:
    "Boosted trees, and the predictions of a baseline that knows nothing."
    fit, classifiers = Stage(STUDY, "fit", name, ".", root), Stage(STUDY, "classifiers", name, ".", root)
    rows = (items["part"] == "test").to_numpy()
    trees = lgb.LGBMClassifier(n_estimators=20, class_weight="balanced", n_jobs=1, **REPEATABLE).fit(X[~rows], y[~rows])
    save_classifier(fit.model(name), trees)
    test = part_predictions(items, "test", trees.predict_proba(X[rows]))
    write_variant(fit, name, CLASSES, test, part_predictions(items, "validation", None))
    baseline = test._replace(proba=np.full_like(test.proba, 1 / 6))
    write_predictions(classifiers.outputs / "predictions" / f"{name}_mlp.npz", *baseline)


def analyse(clone, make, n: int, name: str = NAME, smoke_test: bool = False) -> Stage:
    "Run the notebook as a stage."
    write_embedding(clone.root, name, make, n, smoke_test)
    entry = f"fer_boosting__analyse__{name}"
    clone.edit(**{f"{entry}__kept": [1, 4, 12, 24, 100], f"{entry}__seeds": 2})
    clone.cli("run", STUDY, "analyse", name)
    return Stage(STUDY, "analyse", name, ".", clone.root)


def metrics_of(stage: Stage) -> dict:
    "What a stage measured."
    return json.loads((stage.results / "metrics" / f"{stage.key}.json").read_text())


def test_a_dimension_that_knows_everything_is_found(tmp_path):
    stage = analyse(copy_tree(tmp_path / "clone"), one_dimension, 600)
    metrics, tables = metrics_of(stage), stage.outputs / "tables"
    assert (metrics["dimensions"], metrics["enough_dimensions"], metrics["same_first_dimension"]) == (24, 1, 1)
    assert "smoke_test" not in metrics
    importance = pd.read_csv(tables / "importance.csv")
    assert list(importance)[:3] == ["dimension", "splits", "gain"]
    assert sorted(importance["dimension"]) == list(range(24))
    assert importance["dimension"][0] == TELLING and importance["gain"].idxmax() == 0
    assert importance.loc[0, "accuracy_lost"] > 0.6 > 0.1 > importance.loc[1:, "accuracy_lost"].max()
    kept = pd.read_csv(stage.results / "kept" / f"{NAME}.csv").set_index("dimensions")
    assert {1, 2, 4, 12, 24} <= set(kept.index) and kept.index.max() == 24  # 2: the tenth that the source names
    assert kept.loc[1, "accuracy"] > 0.8 > 0.4 > kept.loc[1, "trees_random"]
    claims = pd.read_csv(tables / "claims.csv").set_index("quantity")["verdict"]
    assert set(claims) <= {HOLDS, FAILS, OPEN}
    assert claims["accuracy lost without the first dimension"] == HOLDS
    assert claims[f"test accuracy less that of {NAME}_mlp"] == HOLDS
    parts = pd.read_csv(stage.root / "outputs" / STUDY / "split" / "sound.csv")["part"]
    confidence = pd.read_csv(stage.results / "confidence" / f"{NAME}.csv")
    assert confidence["n"].sum() == (parts == "test").sum()


@pytest.mark.slow
def test_a_smoke_test_answers_nothing_even_where_there_is_nothing_to_keep(tmp_path):
    clone = copy_tree(tmp_path / "clone")
    clone.cli("preset", "apply", "published")  # by which the transformer is no smoke test, until its features say so
    stage = analyse(clone, noise, 120, VIT, smoke_test=True)
    assert set(pd.read_csv(stage.outputs / "tables" / "claims.csv")["verdict"]) == {SMOKE_TEST}
    assert metrics_of(stage)["smoke_test"] == 1
    report = (stage.outputs / "report.ipynb").read_text()
    assert "A smoke test and no result" in report and "reported_splits" in report


@pytest.mark.slow
def test_an_analysis_is_the_same_bytes_again(tmp_path):
    first, second = ({path.relative_to(folder): path.read_bytes() for folder in (stage.outputs, stage.results)
                      for path in folder.rglob("*.*") if path.is_file()}
                     for stage in (analyse(copy_tree(tmp_path / name), one_dimension, 240) for name in "ab"))
    assert first == second and len(first) == 6


def test_the_sources_statistics_are_those_of_the_importance_it_printed():
    "Its figures contradict one another if `spread` means something else by them."
    printed = read_published("fer_boosting")["variants"]["vit_lightgbm_optuna"]
    values = np.concatenate([list(printed["importance"]["top"].values()), np.full(763, 54)])
    ours = spread(values)
    assert ours["max"] == printed["importance"]["max"] and 0 < ours["top_share"] < 0.01
    assert ours["dimensions_for_50"] > printed["importance"]["dimensions_for"][0.5]  # flatter than the source's


def test_resamples_disagree_about_dimensions_that_say_the_same():
    "Five copies of one dimension share the splits: the first is nowhere the same for sure, shuffling one costs little."
    X, y = one_dimension(400, rng := np.random.default_rng(1))
    copies = X[:, [TELLING] * 5] + rng.normal(scale=0.3, size=(400, 5)).astype(np.float32)
    train, validation = Part(copies[:300], y[:300]), Part(copies[300:], y[300:])
    model = lgb.LGBMClassifier(n_estimators=20, n_jobs=1, **REPEATABLE).fit(*train)
    fits = refit(train, quick_options(model.booster_), range(4))
    assert stability(fits)["top"].nunique() > 1
    alone = Part(train.X[:, :1], train.y)
    only = lgb.LGBMClassifier(n_estimators=20, n_jobs=1, **REPEATABLE).fit(*alone)
    shared = permutation_importance(model, validation)["accuracy_lost"].max()
    assert shared < permutation_importance(only, Part(validation.X[:, :1], validation.y))["accuracy_lost"].max() / 2
    assert tree_importance(model.booster_)["splits"].min() > 0


@pytest.mark.parametrize("bins", [1, 3, 7, 20, 30])
def test_bins_hold_every_item_once(bins):
    rng = np.random.default_rng(0)
    proba = rng.dirichlet(np.ones(4), 20).round(1) + 0.0
    table = class_bias_table(rng.integers(4, size=20), proba, [0, 1], bins)
    assert table["n"].sum() == 20 and table["n"].max() - table["n"].min() <= 1
    assert table["confidence"].is_monotonic_increasing
    assert (table["excess"] - (table["predicted"] - table["true"])).abs().max() < 1e-12
