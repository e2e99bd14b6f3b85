"Models made of others: what they change, what they say of themselves, and what they refuse."
import json
import shutil

import numpy as np
import pandas as pd
import pytest

from fer_research.core import InputError
from fer_research.data.archive import decode_chunks
from fer_research.data.catalogue import open_set
from fer_research.data.prepared import load_split, raw_data
from fer_research.data.vectors import read_vectors
from fer_research.features.combined import combine_features, open_extractor
from fer_research.features.pca import load_pca
from fer_research.models.combined import adjust, ensemble, read_probabilities, same_split
from fer_research.pipeline.artifacts import find_variant

STUDY = "fer_boosting"
ADJUSTED, ORIGINAL = "efficientnet_lite0_adjusted", "efficientnet_lite0_logistic"
ENSEMBLE, PARTS = "efficientnet_lite0_pca_ensemble", ("efficientnet_lite0_logistic", "pca")
REDUCED = "efficientnet_lite0_proposal"


@pytest.fixture(scope="module")
def files(reproduced):
    "The files of a variant."
    return lambda variant: find_variant(STUDY, variant, reproduced.root)


@pytest.fixture(scope="module")
def probabilities(files):
    "The predictions of a variant."
    return lambda variant: read_probabilities(files(variant).predictions.parent, variant)


@pytest.fixture(scope="module")
def written(files):
    "A variant's metrics, and a row a value that was tried."
    def read(variant):
        return json.loads(files(variant).metrics.read_text()), pd.read_csv(files(variant).tables / "trials.csv")
    return read


def about(files, variant) -> dict:
    "What model.json says."
    return json.loads((files(variant).model / "model.json").read_text())


def test_an_adjusted_variant_is_the_other_one_shifted(probabilities, files):
    offsets = np.array(about(files, ADJUSTED)["offsets"])
    for after, before in zip(probabilities(ADJUSTED), probabilities(ORIGINAL), strict=True):
        assert after.id.tolist() == before.id.tolist()
        np.testing.assert_allclose(after.proba, adjust(before.proba, offsets), atol=1e-6)


def test_offsets_favour_rare_classes_and_validation_chose_them(probabilities, files, written):
    offsets = about(files, ADJUSTED)["offsets"]
    counts = np.bincount(probabilities(ORIGINAL).validation.y_true)
    for a, b in np.ndindex(6, 6):
        assert (offsets[a] > offsets[b]) == (counts[a] < counts[b]) or offsets[a] == offsets[b]
    metrics, trials = written(ADJUSTED)
    best = trials.loc[trials["val_balanced_accuracy"].idxmax()]
    assert (metrics["tau"], metrics["val_balanced_accuracy"]) == (best["tau"], best["val_balanced_accuracy"])
    assert metrics["val_balanced_accuracy"] >= trials["val_balanced_accuracy"][0]


def test_an_ensemble_is_the_weighted_mean_of_two(probabilities, files):
    weights = about(files, ENSEMBLE)["weights"]
    for ours, *theirs in zip(probabilities(ENSEMBLE), *map(probabilities, PARTS), strict=True):
        assert all(ours.id.tolist() == part.id.tolist() for part in theirs)
        np.testing.assert_allclose(ours.proba, ensemble([part.proba for part in theirs], weights), atol=1e-6)


def test_an_ensemble_is_no_worse_than_its_parts_where_it_was_chosen(written):
    metrics, trials = written(ENSEMBLE)
    assert metrics["val_loss"] == trials["val_loss"].min()
    assert metrics["first_weight"] == trials.loc[trials["val_loss"].idxmin(), "weight"]


@pytest.mark.parametrize("entry", ["joined_resnet50_vit", "ensemble_resnet50_vit_ensemble",
                                   "fit_vit_base_patch16_proposal"])
def test_what_is_made_of_a_smoke_test_is_a_smoke_test(entry, reproduced):
    report = (reproduced.root / "outputs" / STUDY / "smoke_tests" / f"{entry}.ipynb").read_text()
    assert "A smoke test and no result" in report


@pytest.mark.parametrize("variant", [ADJUSTED, ENSEMBLE, REDUCED])
def test_what_is_made_of_results_is_a_result(variant, written):
    assert "smoke_test" not in written(variant)[0]


def test_variants_of_different_splits_make_no_ensemble(probabilities, files, tmp_path):
    with pytest.raises(InputError, match="no predictions of a validation part"): probabilities("pca_published")
    for name in ("other", "other_validation"): shutil.copy(files("pca").validation, tmp_path / f"{name}.npz")
    with pytest.raises(InputError, match="the two come from different splits"):
        same_split(probabilities("pca"), read_probabilities(tmp_path, "other"))


def test_features_side_by_side_and_reduced_are_those_of_their_extractor(reproduced, tmp_path):
    "Pixels and a network, from the raw faces to the vectors that a fit is given."
    outputs = reproduced.root / "outputs" / STUDY
    folders = [outputs / place / "features" for place in ("pixels/pca", "embed/efficientnet_lite0")]
    names = read_vectors(folders[0]).id
    joined, reduced = (combine_features(folders, components, names[:500], 0, tmp_path) for components in (None, 20))
    pixels, network = map(read_vectors, folders)
    rows = [network.id.tolist().index(name) for name in names]
    np.testing.assert_array_equal(joined.vectors.values, np.hstack([pixels.values, network.values[rows]]))
    faces = open_set("fer6", raw_data("fer6", reproduced.root))
    for features in (joined, reduced):
        extractor = open_extractor(features.extractor)
        decoded = next(iter(decode_chunks(faces.read, names[:3], extractor.views)))
        np.testing.assert_allclose(extractor.transform(*decoded.images), features.vectors.values[:3], atol=1e-3)
    assert reduced.vectors.values.shape == (len(names), 20)


def test_a_reduction_is_fitted_on_the_training_part_alone(reproduced, files, written):
    features = read_vectors(reproduced.root / "outputs" / STUDY / "embed" / "efficientnet_lite0" / "features")
    training = load_split(STUDY, "sound", reproduced.root).query("part == 'training'")["id"]
    values = features.values[np.isin(features.id, training)]
    projection = load_pca(files(REDUCED).model / "extractor" / "reduced" / "projection.safetensors")
    np.testing.assert_allclose(projection.mean_, values.mean(axis=0), rtol=1e-4, atol=1e-5)
    reduced = projection.transform(values)
    assert written(REDUCED)[0]["n_components"] == reduced.shape[1] == 100
    assert abs(reduced.mean(axis=0)).max() < 1e-3 * reduced.std()
    assert abs(np.corrcoef(reduced.T) - np.eye(100)).max() < .05
