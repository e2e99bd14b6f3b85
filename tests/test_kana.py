"Kana: files as people have them, perceptrons by hand beside those of PyTorch, and the answers that the course wants."
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss
from sklearn.utils.estimator_checks import parametrize_with_checks

from fer_research.core import InputError
from fer_research.data.catalogue import open_set, put
from fer_research.data.kana import read_kana
from fer_research.evaluation.metrics import read_predictions
from fer_research.models.mlp_numpy import OPTIMISERS, Network, NumpyMLP, he_normal
from fer_research.models.mlp_torch import TorchMLP, TorchNetwork
from fer_research.pipeline.artifacts import Stage, find_variant


@parametrize_with_checks([NumpyMLP(epochs=30), TorchMLP(epochs=30)])
def test_scikit_learn_accepts_them(estimator, check): check(estimator)


# --- the two engines ------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    X, y = load_digits(return_X_y=True)
    return (X / 16).astype(np.float32), y


@pytest.mark.parametrize("l2", [0.0, 1e-2])
@pytest.mark.parametrize("name", OPTIMISERS)
def test_the_same_weights_and_batches_give_the_same_losses(digits, name, l2):
    X, y = digits
    first = he_normal([64, 100, 80, 10], np.random.default_rng(0))
    by_hand, by_torch = Network(first, OPTIMISERS[name](), l2), TorchNetwork(first, name, l2)
    rng = np.random.default_rng(1)
    for step in range(100):
        rows = slice(None) if name == "gd" else rng.integers(len(y), size=32)
        losses = by_hand.learn(X[rows], y[rows], 1e-2), by_torch.learn(X[rows], y[rows], 1e-2)
        assert abs(losses[0] - losses[1]) < 1e-5, step
    assert losses[0] < 2.2, "nothing was learned"


@pytest.mark.parametrize("dtype, least", [(np.float64, 1e-12), (np.float32, 1e-5)])
def test_every_layer_has_the_gradient_of_autograd(digits, dtype, least):
    X, y = digits[0][:50].astype(dtype), digits[1][:50]
    arrays = [array.astype(dtype) for array in he_normal([64, 30, 20, 15, 10], np.random.default_rng(0))]
    network = Network(arrays, None, l2=0.01)
    network.backpropagate(X, y)
    tensors = [torch.tensor(array, requires_grad=True) for array in arrays]
    out = torch.tensor(X)
    for number in range(0, len(tensors), 2):
        out = (out.relu() if number else out) @ tensors[number] + tensors[number + 1]
    penalty = 0.005 * sum((weight**2).sum() for weight in tensors[::2])
    (torch.nn.functional.cross_entropy(out, torch.tensor(y)) + penalty).backward()
    gradients = [array for dense in network.dense for array in (dense.weight_grad, dense.bias_grad)]
    for ours, theirs in zip(gradients, tensors, strict=True):
        np.testing.assert_allclose(ours, theirs.grad.numpy(), atol=least)


def test_memory_does_not_grow_with_the_epochs(digits):
    def peak(epochs: int) -> int:
        tracemalloc.start()
        # far larger than what else is noted meanwhile
        NumpyMLP((2000,), batch_size=500, epochs=epochs, random_state=0).fit(*digits)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most
    peak(1)
    assert peak(30) < 1.1 * peak(3)


def test_the_best_epoch_comes_back(digits):
    X, y = digits
    validation = X[1200:], y[1200:]
    model = NumpyMLP((200, 100), learning_rate=0.01, epochs=200, patience=3, random_state=1)
    model.fit(X[:1200], y[:1200], validation=validation)
    best = model.history_["val_loss"].idxmin()
    loss = log_loss(y[1200:], model.predict_proba(X[1200:]))
    assert loss == pytest.approx(model.history_["val_loss"][best], abs=1e-4)
    assert best + 4 == len(model.history_) < 200


def test_both_engines_stop_at_the_same_epoch(digits):
    X, y = digits
    models = [kind((50,), epochs=25, patience=5, random_state=0) for kind in (NumpyMLP, TorchMLP)]
    for model in models: model.fit(X[:1200], y[:1200], validation=(X[1200:], y[1200:]))
    ours, theirs = (model.history_ for model in models)
    assert len(ours) == len(theirs)
    np.testing.assert_allclose(ours["val_loss"], theirs["val_loss"], atol=1e-3)


# --- files ----------------------------------------------------------------------------------------------------------

@pytest.fixture
def course(tmp_path) -> Path:
    "The files of the course."
    rng = np.random.default_rng(0)
    np.save(tmp_path / "X_images.npy", rng.random((98, 784)))
    np.save(tmp_path / "y_images.npy", np.repeat(np.arange(49), 2))
    np.save(tmp_path / "X_COMP.npy", rng.integers(256, size=(5, 28, 28), dtype=np.uint8))
    return tmp_path


@pytest.mark.parametrize(("name", "array", "says"), [
    ("y_images.npy", np.arange(97) % 49, "has 97 labels, but there are 98 images"),
    ("y_images.npy", np.full(98, 49), "label 49"),
    ("y_images.npy", np.full(98, 1.5), "label 1.5"),
    ("X_images.npy", np.full((98, 784), np.nan), "not a number"),
    ("X_images.npy", np.full((98, 783), 1), "has the shape"),
    ("X_images.npy", np.full((98, 784), 256), "from 256 to 256"),
    ("X_images.npy", np.array([{"a": 1}] * 98), "not an array of numbers"),
])
def test_what_cannot_be_kana_is_named_and_nothing_is_written(course, tmp_path_factory, name, array, says):
    data = tmp_path_factory.mktemp("data")
    np.save(course / name, array, allow_pickle=True)
    with pytest.raises(InputError, match=says) as error: put("kana", course / "X_images.npy", data=data)
    assert name in str(error.value) and not list(data.iterdir())


def test_a_pickle_is_not_run(course):
    class Bomb:
        def __reduce__(self): return (Path(course / "ran").touch, ())
    np.save(course / "X_images.npy", np.array([Bomb()], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="not an array of numbers"): read_kana(course / "X_images.npy")
    assert not (course / "ran").exists()


def test_another_form_takes_the_place_of_the_first(course, tmp_path_factory):
    data = tmp_path_factory.mktemp("data")
    images, _ = put("kana", course / "X_images.npy", data=data)
    assert "float64, 0 .. 1" in images.notes[0] and (data / "kana" / "X_COMP.npy").is_file()
    for part, n in (("train", 49), ("test", 49)):
        np.savez(course / f"k49-{part}-imgs.npz", np.zeros((n, 28, 28), np.uint8))
        np.savez(course / f"k49-{part}-labels.npz", np.arange(n))
    put("kana", course / "k49-train-imgs.npz", data=data)
    names = {f"k49-{part}-{kind}.npz" for part in ("train", "test") for kind in ("imgs", "labels")}
    assert {path.name for path in (data / "kana").iterdir()} == names
    assert open_set("kana", data).items["part"].value_counts().to_dict() == {"train": 49, "test": 49}


# --- the study ------------------------------------------------------------------------------------------------------

def test_no_hand_is_in_two_parts_of_the_sample(clone):
    hands = pd.read_csv(clone.root / "data" / "kana" / "hands.csv")
    assert hands.groupby("hand")["part"].nunique().max() == 1 and hands["hand"].nunique() >= 6
    assert hands["part"].value_counts().to_dict() == {"train": 2940, "validation": 980, "test": 980}


@pytest.mark.parametrize("variant", ["m3", "m5_ensemble"])
def test_predict_writes_what_the_course_wants(reproduced, tmp_path, variant):
    reproduced.cli("predict", "kana_mlp", variant, "data/kana/X_COMP.npy", "--out", str(tmp_path / "mine.csv"))
    predictions = find_variant("kana_mlp", variant, reproduced.root).predictions
    mine, table = pd.read_csv(tmp_path / "mine.csv"), pd.read_csv(predictions.with_name(f"{variant}_unlabelled.csv"))
    assert list(table) == [f"Clase_{number}" for number in range(49)] and len(table) == 1000
    np.testing.assert_allclose(table.sum(axis=1), 1, atol=5e-6)  # 49 numbers of six digits
    np.testing.assert_allclose(mine, table, atol=1e-6)


def test_claims_of_the_source_models_are_measured_on_their_predictions(reproduced):
    report = Stage("kana_mlp", "report", "published", ".", reproduced.root)
    claims = pd.read_csv(report.outputs / "tables" / "claims.csv").set_index("claim")
    files = {name: find_variant("kana_mlp", f"{name}_published", reproduced.root) for name in ("m0", "m4")}
    test = {name: read_predictions(found.predictions) for name, found in files.items()}
    accuracy = {name: (found.proba.argmax(axis=1) == found.y_true).mean() for name, found in test.items()}
    row = next(row for claim, row in claims.iterrows() if claim.startswith("M4"))
    assert row["estimate"] == pytest.approx(accuracy["m4"] - accuracy["m0"], abs=1e-5)
    assert row["low"] <= row["estimate"] <= row["high"]
