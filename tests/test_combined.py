"Models made of others: what they change, what they say of themselves, and what they refuse."
import json
import shutil

import numpy as np
import pandas as pd
import pytest

from fer_research.core import InputError
from fer_research.models.combined import adjusted, read_probabilities, same_split, vote

STUDY = "fer_boosting"
ADJUSTED, OF = "efficientnet_lite0_adjusted", "efficientnet_lite0_logistic"
VOTE, VOTERS = "efficientnet_lite0_pca_vote", ("efficientnet_lite0_logistic", "pca")


@pytest.fixture(scope="module")
def said(reproduced):
    "The predictions of a variant."
    return lambda variant: read_probabilities(reproduced.root / "outputs" / "predictions" / STUDY, variant)


@pytest.fixture(scope="module")
def written(reproduced):
    "What a file of a variant's results says."
    def read(variant, name):
        path = reproduced.root / "results" / STUDY / variant / name
        return json.loads(path.read_text()) if path.suffix == ".json" else pd.read_csv(path)
    return read


def about(reproduced, variant) -> dict:
    "What model.json says."
    return json.loads((reproduced.root / "outputs" / "models" / STUDY / variant / "model.json").read_text())


def test_an_adjusted_variant_is_the_other_one_shifted(said, reproduced):
    offsets = np.array(about(reproduced, ADJUSTED)["offsets"])
    for after, before in zip(said(ADJUSTED), said(OF), strict=True):
        assert after.id.tolist() == before.id.tolist()
        np.testing.assert_allclose(after.proba, adjusted(before.proba, offsets), atol=1e-6)


def test_offsets_favour_rare_classes_and_validation_chose_them(said, reproduced, written):
    offsets, counts = about(reproduced, ADJUSTED)["offsets"], np.bincount(said(OF).validation.y_true)
    history, metrics = written(ADJUSTED, "history.csv"), written(ADJUSTED, "metrics.json")
    assert all((offsets[a] > offsets[b]) == (counts[a] < counts[b]) or offsets[a] == offsets[b] for a in range(6) for b in range(6))
    best = history.loc[history["val_balanced_accuracy"].idxmax()]
    assert (metrics["tau"], metrics["val_balanced_accuracy"]) == (best["tau"], best["val_balanced_accuracy"])
    assert metrics["val_balanced_accuracy"] >= history["val_balanced_accuracy"][0]


def test_a_vote_is_the_weighted_mean_of_two(said, reproduced):
    weights = about(reproduced, VOTE)["weights"]
    for ours, *theirs in zip(said(VOTE), *map(said, VOTERS), strict=True):
        assert all(ours.id.tolist() == part.id.tolist() for part in theirs)
        np.testing.assert_allclose(ours.proba, vote([part.proba for part in theirs], weights), atol=1e-6)


def test_a_vote_is_no_worse_than_its_parts_where_it_was_chosen(written):
    history, metrics = written(VOTE, "history.csv"), written(VOTE, "metrics.json")
    assert metrics["val_loss"] == history["val_loss"].min() and metrics["first_weight"] == history.loc[history["val_loss"].idxmin(), "weight"]


@pytest.mark.parametrize("variant", ["resnet50_vit", "resnet50_vit_vote", "vit_base_patch16_proposal"])
def test_what_is_made_of_a_check_is_a_check(variant, written):
    assert written(variant, "metrics.json")["pipeline_check"] == 1


@pytest.mark.parametrize("variant", [ADJUSTED, VOTE])
def test_what_is_made_of_results_is_a_result(variant, written):
    assert "pipeline_check" not in written(variant, "metrics.json")


def test_variants_of_different_splits_cannot_vote(said, reproduced, tmp_path):
    with pytest.raises(InputError, match="no predictions of a validation part"): said("pca_published")
    folder = reproduced.root / "outputs" / "predictions" / STUDY
    shutil.copy(folder / "pca_validation.npz", tmp_path / "other_validation.npz")
    shutil.copy(folder / "pca_validation.npz", tmp_path / "other.npz")
    with pytest.raises(InputError, match="the two come from different splits"): same_split(said("pca"), read_probabilities(tmp_path, "other"))


def test_joined_features_are_both_and_reduced_ones_fewer(reproduced):
    folder = reproduced.root / "outputs" / "features" / STUDY
    ids, values = ({name: np.load(folder / name / f"{kind}.npy") for name in ("resnet50", "vit_base_patch16", "resnet50_vit")} for kind in ("ids", "features"))
    common = [name for name in ids["resnet50"] if name in set(ids["vit_base_patch16"])]
    assert ids["resnet50_vit"].tolist() == common
    parts = [values[name][[ids[name].tolist().index(item) for item in common]] for name in ("resnet50", "vit_base_patch16")]
    np.testing.assert_array_equal(values["resnet50_vit"], np.hstack(parts))
    assert np.load(folder / "efficientnet_lite0_100" / "features.npy").shape == (len(np.load(folder / "efficientnet_lite0" / "ids.npy")), 100)


@pytest.mark.parametrize("key", ["efficientnet_lite0_100", "vit_base_patch16_100"])
def test_a_reduction_is_fitted_on_the_training_part_alone(key, reproduced):
    source = np.load(reproduced.root / "outputs" / "features" / STUDY / key.removesuffix("_100") / "ids.npy")
    split = pd.read_csv(reproduced.root / "outputs" / "splits" / STUDY / "sound.csv", dtype=str, keep_default_na=False).query("part == 'training'")
    metrics = json.loads((reproduced.root / "results" / STUDY / key / "reduce" / "metrics.json").read_text())
    assert metrics["n_fitted"] == split["id"].isin(source).sum() and metrics["n_components"] == min(100, metrics["n_fitted"] - 1)
    reduced = np.load(reproduced.root / "outputs" / "features" / STUDY / key / "features.npy")[np.isin(source, split["id"])]
    assert abs(reduced.mean(axis=0)).max() < 1e-3 * reduced.std() and abs(np.corrcoef(reduced.T) - np.eye(metrics["n_components"])).max() < .05
