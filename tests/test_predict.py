"A fitted variant answers for images from anywhere as it did for its test part, and a bad image stops nobody."
import csv
import io
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from fer_research.core import InputError
from fer_research.data.archive import decode_chunks
from fer_research.data.fer6 import read_fer6
from fer_research.data.prepared import load_split
from fer_research.data.vectors import read_vectors
from fer_research.features.combined import open_extractor
from fer_research.pipeline.artifacts import find_variant
from fer_research.pipeline.cli import app
from fer_research.pipeline.predict import load

VARIANTS = ("pca", "efficientnet_lite0", "efficientnet_lite0_proposal", "efficientnet_lite0_adjusted",
            "efficientnet_lite0_pca_ensemble")
STUDY = "fer_boosting"


@pytest.fixture(scope="module", params=VARIANTS)
def model(request, reproduced):
    "A fitted model."
    return load(STUDY, request.param, reproduced.root)


@pytest.fixture
def cli(reproduced, monkeypatch):
    "A command in the reproduced clone."
    monkeypatch.chdir(reproduced.root)
    return lambda *command: CliRunner().invoke(app, [str(word) for word in command])


@pytest.fixture(scope="module")
def test_part(reproduced, tmp_path_factory) -> Path:
    "The test part of the study as one folder a class."
    items = load_split(STUDY, "sound", reproduced.root).query("part == 'test'")
    folder = tmp_path_factory.mktemp("test_part")
    with zipfile.ZipFile(reproduced.root / "data" / "fer6" / "fer6.zip") as archive:
        for item in items.itertuples():
            target = folder / item.label / item.id.replace("/", "_")
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(archive.read(f"dataset/{item.id}"))
    return folder


# --- kinds of images ------------------------------------------------------------------------------------------------

NOISE = np.random.default_rng(0).integers(0, 256, (9, 7), dtype=np.uint8)
GREY = Image.fromarray(NOISE).resize((70, 90), Image.Resampling.BICUBIC)
COLOUR = Image.merge("RGB", [GREY, GREY.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
                             GREY.transpose(Image.Transpose.FLIP_TOP_BOTTOM)])


def saved(image: Image.Image, form: str = "PNG", **options) -> Image.Image:
    "The image as it comes back from a file."
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return Image.open(buffer)


def turned(orientation: int, back: Image.Transpose) -> Image.Image:
    "The colour image as a camera stores it that was held in another way."
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(COLOUR.transpose(back), exif=exif)


@pytest.mark.parametrize(("image", "plain"), [
    (saved(GREY), GREY.convert("RGB")),
    (Image.fromarray(np.asarray(GREY).astype(np.uint16) * 257), GREY),
    (saved(Image.fromarray(np.asarray(GREY).astype(np.uint16) * 257)), GREY),
    (saved(COLOUR.convert("P")), COLOUR.convert("P").convert("RGB")),
    (saved(COLOUR.convert("RGBA")), COLOUR),
    (saved(Image.merge("RGBA", [*COLOUR.split(), Image.new("L", COLOUR.size, 0)])),
     Image.new("RGB", COLOUR.size, "white")),
    (saved(GREY.convert("LA")), GREY),
    (saved(COLOUR, "TIFF"), COLOUR),
    (saved(COLOUR, "WEBP", lossless=True), COLOUR),
    (turned(3, Image.Transpose.ROTATE_180), COLOUR),
    (turned(6, Image.Transpose.ROTATE_90), COLOUR),
    (turned(8, Image.Transpose.ROTATE_270), COLOUR),
    (turned(2, Image.Transpose.FLIP_LEFT_RIGHT), COLOUR),
], ids=["grey", "16 bit", "16 bit PNG", "palette", "opaque alpha", "transparent", "grey alpha", "TIFF", "WebP",
        "upside down", "on its right", "on its left", "mirrored"])
def test_an_image_is_taken_as_it_is_seen(image, plain, model):
    np.testing.assert_allclose(model.predict_proba([image]), model.predict_proba([plain]), atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (48, 48), (640, 480)], ids=str)
def test_an_image_of_any_size_gets_probabilities(size, model):
    proba = model.predict_proba([COLOUR.resize(size)])
    assert proba.shape == (1, 6) and np.isclose(proba.sum(), 1) and (proba >= 0).all()


def test_one_image_gets_the_same_answer_as_among_many(model):
    images = [COLOUR.rotate(angle) for angle in range(0, 360, 12)]
    together = model.predict_proba(images)
    np.testing.assert_allclose([model.predict_proba([image])[0] for image in images], together, atol=1e-5)


# --- what a model refers to -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("stage", ["pixels/pca", "embed/efficientnet_lite0"])
def test_an_extractor_gives_the_vectors_that_were_stored(stage, reproduced):
    folder = reproduced.root / "outputs" / STUDY / stage / "features"
    vectors, extractor = read_vectors(folder), open_extractor(folder / "extractor")
    images = read_fer6(reproduced.root / "data" / "fer6" / "fer6.zip")
    (decoded,) = decode_chunks(images.read, vectors.id[:5].tolist(), extractor.views)
    np.testing.assert_allclose(extractor.transform(*decoded.images), vectors.values[:5], rtol=1e-3, atol=1e-3)


@pytest.fixture
def outputs(reproduced, tmp_path) -> Path:
    "A folder with the models, and the features as far as models need them, away from everything else."
    shutil.copy(reproduced.root / "params.yaml", tmp_path)
    arrays = shutil.ignore_patterns("*.npy")
    for kind in ("models", "features"):
        for folder in reproduced.root.glob(f"outputs/{STUDY}/*/*/{kind}"):
            shutil.copytree(folder, tmp_path / folder.relative_to(reproduced.root), ignore=arrays)
    return tmp_path


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_model_works_in_another_place(variant, outputs, reproduced):
    moved, original = (load(STUDY, variant, root).predict_proba([COLOUR]) for root in (outputs, reproduced.root))
    assert moved.tolist() == original.tolist()


@pytest.mark.parametrize(("variant", "step", "key"), [
    ("pca", "pixels", "pca"), ("efficientnet_lite0_pca_ensemble", "embed", "efficientnet_lite0"),
    ("efficientnet_lite0_proposal", "embed", "efficientnet_lite0"),
])
def test_features_that_are_gone_are_named_with_their_stage(variant, step, key, outputs):
    shutil.rmtree(outputs / "outputs" / STUDY / step / key / "features")
    with pytest.raises(InputError, match=f"no extractor of features there; `dvc repro {STUDY}_{step}@{key}` makes it"):
        load(STUDY, variant, outputs)


def test_a_model_that_another_is_made_of_may_be_gone(outputs):
    shutil.rmtree(outputs / "outputs" / STUDY / "fit" / "pca" / "models" / "pca")
    with pytest.raises(InputError, match=f"pca: no model there; `dvc repro {STUDY}_fit@pca` makes it"):
        load(STUDY, "efficientnet_lite0_pca_ensemble", outputs)


def test_a_model_that_is_not_fitted_yet_is_named_with_its_stage(clone):
    with pytest.raises(InputError, match=f"{STUDY} pca: no model there yet; `dvc repro {STUDY}_fit@pca` makes it"):
        load(STUDY, "pca", clone.root)


# --- the command line -----------------------------------------------------------------------------------------------

def test_a_bad_file_among_many_is_named_and_the_rest_goes_on(cli, tmp_path):
    for name in ("a.png", "deep/b.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        COLOUR.save(tmp_path / name)
    (tmp_path / "cut.png").write_bytes((tmp_path / "a.png").read_bytes()[:200])
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "notes.txt").write_text("not even called one")
    done = cli("predict", STUDY, "pca", tmp_path, tmp_path / "none.png", "--json")
    rows = json.loads(done.stdout)
    assert done.exit_code == 1
    assert [Path(row["id"]).name for row in rows] == ["a.png", "b.jpg"]
    classes = "Ahegao", "Angry", "Happy", "Neutral", "Sad", "Surprise"
    assert all(abs(sum(row[name] for name in classes) - 1) < 1e-4 for row in rows)
    left_out = [line for line in done.stderr.splitlines() if "left out" in line]
    named = [any(name in line for line in left_out) for name in ("cut.png", "text.jpg", "none.png", "notes.txt")]
    assert named == [True, True, True, False]


def test_a_zip_a_folder_and_a_table_give_the_same_answers(cli, tmp_path):
    (tmp_path / "faces").mkdir()
    for number in range(3): COLOUR.rotate(30 * number).save(tmp_path / "faces" / f"{number}.png")
    with zipfile.ZipFile(tmp_path / "faces.zip", "w") as archive:
        for path in sorted((tmp_path / "faces").iterdir()): archive.write(path, path.name)
    (tmp_path / "table.csv").write_text("path\n" + "".join(f"faces/{number}.png\n" for number in range(3)))
    answers = []
    for name in ("faces", "faces.zip", "table.csv"):
        done = cli("predict", STUDY, "pca", tmp_path / name, "--out", tmp_path / "out.csv")
        assert (done.exit_code, done.stdout) == (0, ""), done.output
        answers.append(pd.read_csv(tmp_path / "out.csv").drop(columns="id"))
    assert answers[0].equals(answers[1]) and answers[0].equals(answers[2])


def test_rows_of_pixels_are_predicted(cli, tmp_path):
    pixels = [" ".join(map(str, np.asarray(GREY.resize((48, 48)).rotate(90 * i)).ravel())) for i in range(2)]
    (tmp_path / "rows.csv").write_text("pixels\n" + "\n".join([*pixels, "1 2 3"]) + "\n")
    done = cli("predict", STUDY, "pca", tmp_path / "rows.csv", "--json")
    assert done.exit_code == 1 and len(json.loads(done.stdout)) == 2
    assert "rows.csv:4: 3 pixels instead of 2304" in done.stderr


@pytest.mark.parametrize(("command", "named"), [
    (("predict", STUDY, "pca", "none.png"), "none.png: no such file"),
    (("predict", STUDY, "pca", "empty"), "no images in it"),
    (("predict", STUDY, "none", "one.png"), "fitted so far: efficientnet_lite0"),
    (("predict", STUDY, "pca", "broken.zip"), "not a whole zip"),
    (("predict", STUDY, "pca", "text.png"), "not an image"),
    (("evaluate", STUDY, "pca", "none"), "no such file"),
    (("evaluate", STUDY, "pca", "empty"), "one sub-folder a class"),
    (("evaluate", STUDY, "pca", "bored"), "none of the model's classes Ahegao"),
    (("evaluate", STUDY, "pca", "table.csv"), "no column label"),
], ids=lambda value: " ".join(value[1:]) if isinstance(value, tuple) else "")
def test_what_gives_no_answer_at_all_is_refused_in_a_line(command, named, cli, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bored" / "Bored").mkdir(parents=True)
    for name in ("one.png", "bored/Bored/one.png"): COLOUR.save(tmp_path / name)
    for name in ("broken.zip", "text.png"): (tmp_path / name).write_text("text")
    (tmp_path / "table.csv").write_text("path\none.png\n")
    done = cli(*command[:3], tmp_path / command[3])
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("fer-research: ") and done.stderr.count("\n") == 1, done.stderr
    assert named in done.stderr, done.stderr


@pytest.mark.parametrize("variant", VARIANTS)
def test_evaluating_the_test_part_gives_the_metrics_of_the_study(variant, cli, test_part, reproduced):
    done = cli("evaluate", STUDY, variant, test_part, "--json")
    assert done.exit_code == 0, done.output
    ours = json.loads(find_variant(STUDY, variant, reproduced.root).metrics.read_text())
    measured = json.loads(done.stdout)
    assert {name: value for name, value in measured.items() if abs(value - ours[name]) > 2e-5} == {}


def test_a_data_set_as_published_can_be_evaluated(cli, reproduced):
    whole = cli("evaluate", STUDY, "pca", reproduced.root / "data" / "fer6" / "fer6.zip", "--json")
    assert whole.exit_code == 0 and json.loads(whole.stdout)["n_test"] == 1000
    official = cli("evaluate", STUDY, "pca", reproduced.root / "data" / "fer2013" / "fer2013.zip", "--json")
    assert official.exit_code == 1 and "label 'Disgust' is no class of the model" in official.stderr
    table = pd.read_csv(reproduced.root / "outputs" / "datasets" / "explore" / "fer2013" / "items.csv")
    expected = table[(table["part"] == "test") & ~table["label"].isin(["Disgust", "Fear"])]
    assert json.loads(official.stdout)["n_test"] == len(expected)


def test_a_prediction_on_faces_says_what_it_is_not(cli, tmp_path):
    COLOUR.save(tmp_path / "one.png")
    done = cli("predict", STUDY, "pca", tmp_path / "one.png")
    assert "one.png" in done.stdout and "An expression is not an emotion" in done.stderr
    assert "responsible_use" in done.stderr


@pytest.mark.parametrize("variant", VARIANTS)
def test_predicting_needs_no_framework(variant, reproduced, tmp_path):
    COLOUR.save(tmp_path / "one.png")
    command = f"['predict', '{STUDY}', '{variant}', r'{tmp_path / 'one.png'}']"
    code = ("import sys; from fer_research.pipeline.cli import app; "
            f"app({command}, standalone_mode=False);"
            "print(sorted({'torch', 'tensorflow', 'timm', 'optuna'} & set(sys.modules)))")
    done = subprocess.run([sys.executable, "-c", code], cwd=reproduced.root, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stdout + done.stderr


def test_a_table_of_predictions_can_be_read_by_anybody(cli, tmp_path):
    COLOUR.save(tmp_path / "näme, with comma.png")
    cli("predict", STUDY, "pca", tmp_path, "--out", tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file: (row,) = csv.DictReader(file)
    assert row["id"].endswith("näme, with comma.png")
    classes = "Ahegao", "Angry", "Happy", "Neutral", "Sad", "Surprise"
    assert float(row["probability"]) == max(float(row[name]) for name in classes)


# --- weights --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("model", "named"), [("no_such_net", "no model of timm has this name"),
                                              ("vit_base_patch16_224", "weights/vit_base_patch16_224.safetensors")])
def test_weights_that_cannot_be_had_are_told_with_a_way_out(model, named, work):
    done = work.cli("weights", "get", model, check=False, HF_ENDPOINT="http://127.0.0.1:9", HF_HUB_OFFLINE="0",
                    HF_HOME=str(work.root.parent / "hub"))
    assert done.returncode == 2 and named in done.stderr.splitlines()[-1], done.stderr
    assert not (work.root / "weights").exists()
