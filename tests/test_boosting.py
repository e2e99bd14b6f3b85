"Classifiers on vectors and the search for their parameters: what they may look at, and what is exactly as published."
import json
from functools import partial

import lightgbm as lgb
import numpy as np
import optuna
import pandas as pd
import pytest
from sklearn.datasets import make_classification
from sklearn.metrics import accuracy_score, log_loss

from fer_research.core import InputError, six_digits
from fer_research.data.parts import Part, read_parts
from fer_research.data.vectors import Vectors, with_vectors
from fer_research.models import boosting
from fer_research.models.boosting import (
    CLASSIFIERS,
    bin_parts,
    fit_classifier,
    fit_lightgbm,
    plain_accuracy,
    validation_loss,
)
from fer_research.pipeline.artifacts import Stage
from fer_research.pipeline.search import LIGHTGBM_SPACE, open_study, run_search, trials_table, write_search

OPTIONS = {"lightgbm": {"rounds": 25}, "mlp": {"hidden": 16, "epochs": 20}}


@pytest.fixture(scope="module")
def parts() -> tuple[Part, Part, Part]:
    "Training, validation and test part; class 3 is rare."
    X, y = make_classification(900, 20, n_informative=10, n_classes=4, weights=[.4, .3, .25], class_sep=.9,
                               random_state=0)
    return tuple(Part(X[a:b].astype(np.float32), y[a:b]) for a, b in ((0, 500), (500, 700), (700, 900)))


@pytest.mark.parametrize("kind", list(CLASSIFIERS))
def test_probabilities_of_the_validation_part_are_of_a_model_that_had_not_seen_it(kind, parts):
    train, validation, test = parts
    fitted = fit_classifier(kind, train, validation, 0, **OPTIONS.get(kind, {}))
    assert fitted.best["val_accuracy"] == accuracy_score(validation.y, fitted.val_proba.argmax(1))
    assert fitted.best["val_loss"] == pytest.approx(log_loss(validation.y, fitted.val_proba))
    best = fitted.best.get
    options = {"lightgbm": {"rounds": best("rounds")}, "logistic": {"Cs": [best("C")]},
               "mlp": {"hidden": 16, "alphas": [best("alpha")], "epochs": best("epoch")}}.get(kind, {})
    nothing = Part(validation.X[:0], validation.y[:0])
    proba = lambda part, items: fit_classifier(kind, part, nothing, 0, **options).estimator.predict_proba(items.X)
    assert proba(train, validation) == pytest.approx(fitted.val_proba, abs=1e-6)
    last = fitted.estimator.predict_proba(test.X)
    assert proba(train.join(validation), test) == pytest.approx(last, abs=1e-6), "the last fit is on both parts"


@pytest.mark.parametrize("kind", list(CLASSIFIERS))
def test_a_fit_gives_the_same_numbers_again(kind, parts):
    first, second = (fit_classifier(kind, *parts[:2], 3, **OPTIONS.get(kind, {})) for _ in range(2))
    assert np.array_equal(first.estimator.predict_proba(parts[2].X), second.estimator.predict_proba(parts[2].X))
    pd.testing.assert_frame_equal(first.history, second.history)


def test_oversampling_sees_what_a_fit_learns_from_and_nothing_else(parts, monkeypatch):
    train, validation, _ = parts
    seen = []
    real = boosting.oversample
    monkeypatch.setattr(boosting, "oversample", lambda part, *args: seen.append(part) or real(part, *args))
    fitted = fit_lightgbm(train, validation, 0, rounds=5, smote=[3])
    assert [len(part.y) for part in seen] == [500, 700] and np.array_equal(seen[0].X, train.X)
    assert len(fitted.val_proba) == len(validation.y)


def test_rare_classes_grow_to_the_largest_and_others_stay(parts):
    train = parts[0]
    before, after = np.bincount(train.y), np.bincount(boosting.oversample(train, [3], 0).y)
    assert after[3] == before.max() and (after[:3] == before[:3]).all()
    one = Part(train.X[:5], np.array([0, 0, 1, 1, 2]))
    assert len(boosting.oversample(one, [1], 0).y) == 5
    with pytest.raises(InputError, match="class 2 has 1 items"): boosting.oversample(one, [2], 0)


def test_items_without_vectors_are_left_out_of_a_smoke_test_only():
    items = pd.DataFrame({"id": list("abcd"), "label": ["Sad", "Happy"] * 2, "part": ["training"] * 2 + ["test"] * 2})
    vectors = Vectors(np.array(["d", "a", "b"]), np.array(["Happy", "Sad", "Happy"]), np.eye(3, dtype=np.float32), True)
    found = read_parts(vectors, with_vectors(items, vectors))
    assert found["test"].X.tolist() == [[1, 0, 0]] and found["training"].y.tolist() == [1, 0]
    with pytest.raises(InputError, match="no vectors of 1 of 4 items, such as c"): read_parts(vectors, items)
    sad = items[items["id"].isin(["a", "d"])]
    with pytest.raises(InputError, match="training part has no item of Happy"): read_parts(vectors, sad)


# --- search ---------------------------------------------------------------------------------------------------------

def test_the_published_search_ends_with_the_model_of_its_best_trial(parts, tmp_path):
    "As in the source: accuracy on the test part of LGBMClassifier, and the same accuracy after the last fit."
    train, _, test = parts
    objective = partial(plain_accuracy, train=train, holdout=test, seed=1, rounds=20)
    study = run_search(objective, LIGHTGBM_SPACE, 4, tmp_path / "a.log", parallel=2)
    stage = Stage("faces", "fit", "tuned", root=tmp_path)
    write_search(stage, study)
    assert set(trials_table(study)["state"]) == {"complete"}
    best = json.loads((stage.outputs / "best_params.json").read_text())
    last = fit_lightgbm(train, Part(test.X[:0], test.y[:0]), 1, rounds=20, **best)
    assert accuracy_score(test.y, last.estimator.predict(test.X)) == study.best_value
    plain = lgb.LGBMClassifier(n_estimators=20, random_state=1, verbosity=-1, **best).fit(*train)
    assert accuracy_score(test.y, plain.predict(test.X)) == study.best_value


@pytest.mark.parametrize("options", [{}, {"class_weight": "balanced"}, {"smote": [3]}, {"max_bin": 15}], ids=str)
def test_a_trial_measures_what_the_fit_will_do(options, parts, tmp_path):
    "Binned files and LightGBM's own interface give the losses of `fit_lightgbm`."
    train, validation, _ = parts
    bin_parts(tmp_path, train, validation, 0, **options)
    for number in range(3):
        trial = open_study(tmp_path / f"{number}.log").ask(LIGHTGBM_SPACE)
        loss = validation_loss(trial, tmp_path, 4, seed=0, rounds=30, max_bin=options.get("max_bin", 255))
        settings = options | six_digits(trial.params) | {"patience": boosting.PATIENCE, "refit": False}
        fitted = fit_lightgbm(train, validation, 0, rounds=30, **settings)
        assert loss == pytest.approx(fitted.best["val_loss"], rel=1e-9)


def test_a_search_prunes_and_finds_the_same_again(parts, tmp_path):
    train, validation, _ = parts
    bin_parts(tmp_path / "bins", train, validation, 0, max_bin=63)
    objective = partial(validation_loss, folder=tmp_path / "bins", classes=4, seed=0, rounds=40, max_bin=63)
    run = lambda name: run_search(objective, LIGHTGBM_SPACE, 12, tmp_path / name, parallel=2, direction="minimize")
    first = run("a.log")
    table = trials_table(first)
    for name in ("b.log", "a.log"): assert table.equals(trials_table(run(name))), "run again, and opened again"
    pruned = table[table["state"] == "pruned"]
    assert 0 < len(pruned) < 8 and (pruned["trial"] >= 4).all() and (pruned["step"] < 40).all()
    assert first.best_value == table.loc[table["state"] == "complete", "value"].min() < np.log(4)
    assert first.direction == optuna.study.StudyDirection.MINIMIZE
