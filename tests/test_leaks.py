"""Nothing of the test part reaches a sound model.

With other labels and other pixels there, what was fitted and what was chosen is the same bytes.
"""
import json

import numpy as np
import pandas as pd
import pytest
from conftest import Clone

from fer_research.pipeline.artifacts import find_variant

CASES = [  # study, data set, stages to run again, the variant
    ("fer_boosting", "fer6", ["pixels pca", "fit pca"], "pca"),
    ("fer_elm", "fer2013", ["patches patches"], "patches"),
    ("fer_transfer", "fer2013", ["baselines sound"], "logistic_sound"),
    ("kana_mlp", "kana", ["baselines sound"], "logistic_sound"),
    pytest.param("fer_boosting", "fer6", ["pixels pca", "fit pca_tuned"], "pca_tuned", marks=pytest.mark.slow),
    pytest.param("fer_elm", "fer2013", ["codes vqvae", "encodings pyramid"], "pyramid_elm", marks=pytest.mark.slow),
    pytest.param("fer_transfer", "fer2013", ["best resnet"], "resnet_ensemble", marks=pytest.mark.slow),
    pytest.param("kana_mlp", "kana", ["search m1", "search m3", "source_models sound"], "m3", marks=pytest.mark.slow),
    pytest.param("polymnist", "polymnist", ["source_models sound"], "cnn_2", marks=pytest.mark.slow),
    pytest.param("polymnist", "polymnist", ["best resnet"], "resnet_ensemble", marks=pytest.mark.slow)]


def change_test_part(clone: Clone, study: str, dataset: str) -> None:
    """Other labels and noise for the test part of the sound split, in the prepared data and in the split's table.

    Who is in which part stays."""
    split, prepared = (clone.root / "outputs" / path
                       for path in (f"{study}/split/sound.csv", f"datasets/explore/{dataset}"))
    table, items = (pd.read_csv(path, dtype=str, keep_default_na=False) for path in (split, prepared / "items.csv"))
    images, test = np.array(np.load(prepared / "images.npy")), table["part"] == "test"
    other = dict(zip(table.loc[test, "id"], np.roll(table.loc[test, "label"], test.sum() // 3), strict=True))
    rows = items["id"].isin(other).to_numpy()
    images[rows] = np.random.default_rng(0).integers(256, size=images[rows].shape, dtype=np.uint8)
    for path, frame in ((split, table), (prepared / "items.csv", items)):
        path.unlink()  # which other clones may share
        labels = [other.get(name, label) for name, label in zip(frame["id"], frame["label"], strict=True)]
        frame.assign(label=labels).to_csv(path, index=False)
    (prepared / "images.npy").unlink()
    np.save(prepared / "images.npy", images)


@pytest.mark.parametrize(("study", "dataset", "stages", "variant"), CASES)
def test_a_sound_model_has_seen_nothing_of_the_test_part(study, dataset, stages, variant, done):
    files = find_variant(study, variant, done.root)
    kept = [str(path.relative_to(done.root))
            for path in (files.model, files.validation, *files.model.parents[1].glob("*.json"))]
    before, accuracy = done.listing(*kept), json.loads(files.metrics.read_text())["accuracy"]
    change_test_part(done, study, dataset)
    for stage in stages: done.cli("run", study, *stage.split())
    assert done.listing(*kept) == before
    assert json.loads(files.metrics.read_text())["accuracy"] != accuracy, "the test part is the same as before"
