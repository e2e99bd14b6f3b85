"Networks of keras.applications trained as a whole, and the study around them."
import json
import shutil
import subprocess
import sys

import nbformat
import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from conftest import ROOT

from fer_research.evaluation.metrics import read_predictions
from fer_research.evaluation.published import read_published
from fer_research.pipeline.artifacts import Variant, find_variant
from fer_research.pipeline.params import apply_preset, read_params

CHOSEN = {"vgg": "vgg", "resnet_v2": "resnet", "densenet": "densenet", "inception": "inception",
          "densenet_resized": "densenet_resized"}  # variant -> the search that finds it


def split_table(reproduced, split: str) -> pd.DataFrame:
    "Which face is in which part."
    return pd.read_csv(reproduced.root / "outputs" / "fer_transfer" / "split" / f"{split}.csv")


def variant(reproduced, name: str) -> Variant:
    "The files of a variant."
    return find_variant("fer_transfer", name, reproduced.root)


def metrics(reproduced, name: str) -> dict:
    "The metrics of a variant."
    return json.loads(variant(reproduced, name).metrics.read_text())


def shown(reproduced, report: str) -> list[BeautifulSoup]:
    "What the report of a smoke test shows as HTML or Markdown."
    path = reproduced.root / "outputs" / "fer_transfer" / "smoke_tests" / f"{report}.ipynb"
    outputs = [output for cell in nbformat.read(path, as_version=4).cells for output in cell.get("outputs", [])]
    data = [output["data"] for output in outputs if "data" in output]
    return [BeautifulSoup(content[kind], "html.parser") for content in data for kind in ("text/html", "text/markdown")
            if kind in content]


def shown_table(reproduced, report: str, name: str) -> pd.DataFrame:
    "A table in the report of a smoke test, as text."
    table = next(table for part in shown(reproduced, report) if (table := part.find("table", id=f"T_{name}")))
    names = [cell.text for cell in table.find_all("th", class_="col_heading")]
    rows = [[cell.text for cell in row.find_all("td")] for row in table.tbody.find_all("tr")]
    return pd.DataFrame(rows, columns=names)


@pytest.fixture
def preset(tmp_path) -> dict:
    "The study's parameters at the published scale."
    shutil.copy(ROOT / "params.yaml", tmp_path)
    apply_preset("published", tmp_path / "params.yaml")
    return read_params(tmp_path / "params.yaml")["fer_transfer"]


def test_the_sound_split_has_no_face_in_two_parts(reproduced):
    split = split_table(reproduced, "sound")
    assert split.groupby("group")["part"].nunique().max() == 1
    assert (split["part"] == "test").equals(split["id"].str.contains("test/"))


def test_the_published_split_has_the_published_shares(reproduced):
    split, protocol = split_table(reproduced, "published"), read_published("fer_transfer")["protocol"]["search"]
    for part, share in (("training", "train"), ("validation", "val"), ("test", "test")):
        assert abs((split["part"] == part).mean() - protocol[share]) < 0.002
    parts = split.groupby("group")["part"].agg(set)
    assert parts.map(lambda names: "test" in names and len(names) > 1).any(), "the sample has duplicates"


def test_the_published_preset_tries_each_size_of_the_thesis(preset):
    sizes = sorted(read_published("fer_transfer")["densenet201_resized"]["holdout"])
    assert preset["search"]["densenet_resized"]["space"]["size"] == sizes


def test_the_published_preset_runs_what_its_searches_find(preset):
    crossval = {key: entry["crossval"] for key, entry in preset["chosen"].items()}
    assert crossval == {key: f"crossval/{search}" for key, search in CHOSEN.items()}
    assert all(entry["search"] == f"search/{key}" for key, entry in preset["crossval"].items())


def test_variants_are_beside_a_model_that_the_thesis_reports(preset):
    source, names = read_published("fer_transfer"), [*preset["chosen"], *preset["final"]]
    re_made = {name.removesuffix("_published") for name in names} - {"resnet50_random"}
    assert source["variants"].keys() == re_made
    assert {*source["variants"].values()} == {*source["final"], "DenseNet201_175"}


def test_what_a_search_found_best_is_cross_validated_and_run(reproduced):
    best = shown_table(reproduced, "search_vgg", "ranked").iloc[0]
    for report in ("crossval_vgg", "chosen_vgg"):
        options = shown_table(reproduced, report, "options").iloc[0]
        assert options.drop("learning_rate").equals(best[options.index].drop("learning_rate")), report
        assert float(options["learning_rate"]) == float(best["learning_rate"]), report
    folds = shown_table(reproduced, "crossval_vgg", "runs")
    smoke_tests = read_params(reproduced.root / "params.yaml")["fer_transfer"]["smoke_tests"]
    images = next(group["crossval"]["vgg"]["images"] for group in smoke_tests.values() if "crossval" in group)
    assert folds["n_test"].astype(int).sum() == images, "each face is held out once"


def test_the_first_of_several_runs_is_the_variant(reproduced):
    runs = shown_table(reproduced, "chosen_vgg", "runs")["accuracy"].astype(float)
    headline = next(part.text for part in shown(reproduced, "chosen_vgg") if "Mean of" in part.text)
    assert f"vgg: {runs[0]:.1%} of " in headline and f"Mean of {len(runs)} runs: {runs.mean():.1%}" in headline


def test_networks_are_as_large_as_they_should_be(reproduced):
    table = pd.read_csv(reproduced.root / "outputs" / "fer_transfer" / "inputs" / "tables" / "networks.csv")
    sizes = table.set_index("version")["parameters"]
    without_head = {"VGG16": (14_714_688, 512), "VGG19": (20_024_384, 512), "ResNet50V2": (23_564_800, 2048),
                    "ResNet152V2": (58_331_648, 2048), "DenseNet121": (7_037_504, 1024),
                    "DenseNet201": (18_321_984, 1920), "InceptionV3": (21_802_784, 2048),
                    "InceptionResNetV2": (54_336_736, 1536)}
    wanted = {name: body + 7 * (width + 1) for name, (body, width) in without_head.items()}
    assert {name: sizes[name] for name in without_head} == wanted


def test_a_stored_network_answers_as_it_did_in_the_run(reproduced, tmp_path):
    answers = tmp_path / "answers.csv"
    reproduced.cli("predict", "fer_transfer", "resnet_ensemble", "data/fer2013/fer2013.zip", "--out", str(answers))
    table = pd.read_csv(answers)
    table["id"] = table["id"].str.split("fer2013.zip/").str[1]
    stored = read_predictions(variant(reproduced, "resnet_ensemble").predictions)
    assert np.abs(table.set_index("id").loc[stored.id].iloc[:, 2:].to_numpy() - stored.proba).max() < 1e-3


def test_the_small_network_has_learned_something(reproduced):
    alone, ensemble = metrics(reproduced, "resnet"), metrics(reproduced, "resnet_ensemble")
    labels = split_table(reproduced, "sound").query("part == 'test'")["label"]
    assert alone["accuracy_low"] > labels.value_counts(normalize=True).max()
    assert ensemble["ensemble_size"] == 2 and ensemble["parameters"] == 2 * alone["parameters"]


def test_the_ablation_goes_on_from_row_to_row(reproduced):
    folder = reproduced.root / "results" / "fer_transfer" / "ablation" / "resnet"
    rows = pd.read_csv(folder / "ablation" / "resnet.csv")
    gains = rows.iloc[1:]
    assert np.allclose(gains["gain"], rows["value"].diff().iloc[1:], atol=1e-5)
    assert (gains["gain_low"] <= gains["gain"]).all() and (gains["gain"] <= gains["gain_high"]).all()


def test_pretrained_weights_that_are_not_there_are_named(done):
    smoke_tests = read_params(done.root / "params.yaml")["fer_transfer"]["smoke_tests"]
    group = next(name for name, sections in smoke_tests.items() if "search" in sections)
    done.edit(**{f"fer_transfer__smoke_tests__{group}__search__vgg__weights": "imagenet"})
    failed = done.cli("run", "fer_transfer", "smoke_tests", check=False)
    assert failed.returncode and "fer-research weights get VGG16" in failed.stderr


STEP = """
import json, sys, tempfile
import numpy as np
from fer_research.data.parts import Part
from fer_research.models.transfer import fit, from_options, predict
faces = Part(np.random.default_rng(0).integers(0, 256, (8, 48, 48), np.uint8), np.arange(8) % 7)
make, training = from_options(json.loads(sys.argv[1]), 0, "random", 1)
with tempfile.TemporaryDirectory() as folder: network, history = fit(make, faces, faces, training, 0, folder)
assert len(history) == 1 and np.isfinite(history["train_loss"]).all()
assert np.allclose(predict(network, faces.X).sum(axis=1), 1, atol=1e-4)
"""


@pytest.mark.slow
@pytest.mark.parametrize("search", ["vgg16_residual", *CHOSEN.values()])
def test_a_step_of_each_network_at_its_published_size(search, preset):
    "With random weights, in a process each."
    space = preset["search"][search]["space"]
    for version in space["version"]:
        for size in space["size"]:
            options = {name: values[-1] for name, values in space.items()} | {"version": version, "size": size}
            command = [sys.executable, "-c", STEP, json.dumps(options)]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
            assert done.returncode == 0, f"{version} {size}: {done.stderr[-3000:]}"
