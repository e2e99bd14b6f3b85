"Networks of keras.applications trained as a whole, and the study around them."
import json
import shutil

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

from fer_research.evaluation.published import published
from fer_research.pipeline.params import apply_preset, read_params

FINAL = ["vgg", "resnet_v2", "densenet", "inception", "densenet_resized"]
PUBLISHED = [f"{name}_published" for name in FINAL[:4]]


def table(reproduced, path: str) -> pd.DataFrame:
    return pd.read_csv(reproduced.root / "results" / path)


def metrics(reproduced, name: str) -> dict:
    return json.loads((reproduced.root / "results" / "fer_transfer" / name / "metrics.json").read_text())


def test_the_sound_split_has_no_face_in_two_parts(reproduced):
    split = pd.read_csv(reproduced.root / "outputs" / "splits" / "fer_transfer" / "sound.csv")
    assert split.groupby("group")["part"].nunique().max() == 1
    assert (split["part"] == "test").equals(split["id"].str.contains("test/"))


def test_the_published_split_has_the_published_shares(reproduced):
    split = pd.read_csv(reproduced.root / "outputs" / "splits" / "fer_transfer" / "published.csv")
    protocol = published("fer_transfer")["protocol"]["search"]
    for part, share in (("training", "train"), ("validation", "val"), ("test", "test")):
        assert abs((split["part"] == part).mean() - protocol[share]) < 0.002
    both = split.groupby("group")["part"].agg(set)
    assert both.map(lambda parts: "test" in parts and len(parts) > 1).any(), "the sample has duplicates, and this split does not mind"


def test_the_published_preset_tries_each_size_of_the_thesis(tmp_path):
    shutil.copy(ROOT / "params.yaml", tmp_path)
    apply_preset("published", tmp_path / "params.yaml")
    section = read_params(tmp_path / "params.yaml")["fer_transfer"]
    assert section["search"]["densenet_resized"]["space"]["size"] == sorted(published("fer_transfer")["densenet201_resized"]["holdout"])
    assert {key: entry.get("crossval") for key, entry in section["final"].items() if key in FINAL} == dict(zip(FINAL, ("vgg", "resnet", "densenet", "inception", "densenet_resized"), strict=True))


def test_what_a_search_found_best_is_cross_validated_and_run(reproduced):
    chosen = [json.loads((reproduced.root / "results" / f"fer_transfer_{step}" / "vgg" / "best.json").read_text())["models"] for step in ("search", "crossval")]
    assert chosen[1] == chosen[0][:1]
    folds, runs = table(reproduced, "fer_transfer_crossval/vgg/runs.csv"), table(reproduced, "fer_transfer/vgg/runs.csv")
    assert folds["fold"].tolist() == [0, 1] and runs["run"].tolist() == [0, 1]
    held = folds.groupby("model")["n_test"].sum().iloc[0]
    assert held == read_params(reproduced.root / "params.yaml")["fer_transfer"]["crossval"]["vgg"]["images"], "each face is held out once"


@pytest.mark.parametrize("name", FINAL + PUBLISHED)
def test_the_run_that_is_shown(reproduced, name):
    runs, shown = table(reproduced, f"fer_transfer/{name}/runs.csv"), metrics(reproduced, name)
    wanted = runs.loc[runs["macro_f1"].idxmax()] if name in PUBLISHED else runs.iloc[0]
    assert shown["macro_f1"] == pytest.approx(wanted["macro_f1"], rel=1e-5)
    assert shown["mean_macro_f1"] == pytest.approx(runs["macro_f1"].mean(), rel=1e-5)
    assert shown["roc_auc_of_answers"] == pytest.approx(wanted["roc_auc_of_answers"], rel=1e-5)


def test_a_network_that_gives_one_answer_is_reported(reproduced):
    runs = pd.concat([table(reproduced, f"fer_transfer/{name}/runs.csv") for name in FINAL + PUBLISHED])
    one_answer = runs["macro_recall"].sub(1 / 7).abs() < 1e-5
    assert runs.loc[one_answer, "diverged"].any() == one_answer.any()
    assert not runs.loc[runs["accuracy"] > 0.35, "diverged"].any()


def test_networks_are_as_large_as_they_should_be(reproduced):
    sizes = table(reproduced, "fer_transfer_inputs/networks.csv").set_index("version")["parameters"]
    without_head = {"VGG16": (14_714_688, 512), "VGG19": (20_024_384, 512), "ResNet50V2": (23_564_800, 2048), "ResNet152V2": (58_331_648, 2048), "DenseNet121": (7_037_504, 1024),
                    "DenseNet201": (18_321_984, 1920), "InceptionV3": (21_802_784, 2048), "InceptionResNetV2": (54_336_736, 1536)}
    assert {name: sizes[name] for name in without_head} == {name: body + 7 * (width + 1) for name, (body, width) in without_head.items()}


def test_a_stored_network_answers_as_it_did_in_the_run(reproduced, tmp_path):
    said = reproduced.cli("predict", "fer_transfer", "densenet", "data/fer2013/fer2013.zip", "--out", str(tmp_path / "said.csv"))
    here = pd.read_csv(tmp_path / "said.csv")
    here["id"] = here["id"].str.split("fer2013.zip/").str[1]
    with np.load(reproduced.root / "outputs" / "predictions" / "fer_transfer" / "densenet.npz") as stored: ids, proba = stored["id"], stored["proba"]
    mine = here.set_index("id").loc[ids].iloc[:, 2:].to_numpy()
    assert np.abs(mine - proba).max() < 1e-3, said.stdout


def test_the_small_network_has_learned_something(reproduced):
    alone, vote = metrics(reproduced, "resnet"), metrics(reproduced, "resnet_vote")
    split = pd.read_csv(reproduced.root / "outputs" / "splits" / "fer_transfer" / "sound.csv").query("part == 'test'")
    assert alone["accuracy_low"] > split["label"].value_counts(normalize=True).max()
    assert vote["members"] == 2 and vote["parameters"] == 2 * alone["parameters"]


def test_the_ablation_goes_on_from_row_to_row(reproduced):
    rows = table(reproduced, "fer_transfer_ablation/resnet/ablation.csv")
    assert np.allclose(rows["gain"].iloc[1:], rows["value"].diff().iloc[1:], atol=1e-5)
    assert (rows["gain_low"].iloc[1:] <= rows["gain"].iloc[1:]).all() and (rows["gain"].iloc[1:] <= rows["gain_high"].iloc[1:]).all()


def test_pretrained_weights_that_are_not_there_are_named(done):
    done.edit(fer_transfer__search__vgg__weights="imagenet")
    failed = done.cli("run", "fer_transfer", "search", "vgg", check=False)
    assert failed.returncode == 2 and "fer-research weights get VGG16" in failed.stderr
