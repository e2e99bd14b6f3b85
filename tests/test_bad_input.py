"Data sets as they come: what is unusable is named with its reason, what is usable is used, nothing else is touched."
import hashlib
import io
import re
import shutil
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from fer_research.core import InputError
from fer_research.data.archive import Archive, Problem, decode_all, open_image
from fer_research.data.catalogue import check_file, put
from fer_research.data.fer6 import read_fer6
from fer_research.data.fer2013 import read_fer2013
from fer_research.data.sources import read_sources
from fer_research.evaluation.splits import three_way
from fer_research.pipeline.cli import app


def picture(form: str = "PNG", seed: int = 0) -> bytes:
    "A small coloured image."
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(256, size=(16, 16, 3), dtype=np.uint8)).save(buffer, form)
    return buffer.getvalue()


def huge(side: int) -> bytes:
    "A PNG of a few bytes that says it has `side` x `side` pixels."
    number = lambda value: struct.pack(">I", value)
    chunk = lambda kind, content: number(len(content)) + kind + content + number(zlib.crc32(kind + content))
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    chunks = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(bytes(1000))), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


# eight different images
GOOD = {f"{label}/{i}.png": picture(seed=i + 4 * (label == "Sad")) for label in ("Happy", "Sad") for i in range(4)}


def table(paths=GOOD, *more: str) -> str:
    "data.csv: a row for each path, and further rows as text."
    rows = [f"{i},{path},{path.split('/')[0]}" for i, path in enumerate(paths)]
    return "\n".join([",path,label", *rows, *more]) + "\n"


def pack(path: Path, members: dict[str, bytes | str], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    "A zip of these members."
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items(): archive.writestr(name, content)
    return path


def fer6(path: Path, *rows: str, **members: bytes | str) -> Path:
    "A data set of eight good images, with further rows, and with members that come in addition or in place of others."
    faces = {f"dataset/{name}": content for name, content in GOOD.items()}
    return pack(path, {"data.csv": table(GOOD, *rows)} | faces | members)


def everything(folder: Path) -> dict[str, str]:
    "Path and digest of every file below a folder."
    return {path.relative_to(folder).as_posix(): hashlib.md5(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def home(clone, tmp_path, monkeypatch) -> Path:
    "A folder that passes for the repository, with the sample in data/; the current one."
    root = tmp_path / "home"
    shutil.copytree(clone.root / "data", root / "data")
    for name in ("params.yaml", "settings.ini"): shutil.copy(clone.root / name, root)
    monkeypatch.chdir(root)
    return root


def refused(name: str, path: Path, home: Path) -> str:
    "What `fer-research data put` says of a file that it does not take."
    before = everything(home.parent)
    done = CliRunner().invoke(app, ("data", "put", name, str(path)))
    assert done.exit_code == 2, f"{done.output} {done.exception!r}"
    assert everything(home.parent) == before, "the old data set, its entry in sources.yaml, and everything around"
    message = [line for line in done.stderr.splitlines() if line.startswith("fer-research: ")][0]
    assert path.name in message, message
    return message


# --- files that are no data set -------------------------------------------------------------------------------------

def newer(content: bytes) -> bytes:
    "A zip that says it needs version 25.5 of the format."
    start = content.index(b"PK\1\2")
    return content[: start + 6] + b"\xff\0" + content[start + 8 :]


@pytest.mark.parametrize(("make", "reason"), [
    (lambda path: path.write_bytes(b"not a zip at all"), "not a whole zip"),
    (lambda path: path.write_bytes(b""), "not a whole zip"),
    (lambda path: path.write_bytes(fer6(path).read_bytes()[:-40]), "not a whole zip"),
    (lambda path: path.write_bytes(fer6(path).read_bytes()[:500]), "not a whole zip"),
    (lambda path: path.write_bytes(newer(fer6(path).read_bytes())), "zip"),
    (lambda path: pack(path, {}), "data.csv"),
    (lambda path: pack(path, {f"dataset/{name}": content for name, content in GOOD.items()}), "no data.csv"),
    (lambda path: pack(path, {"data.csv": "image,emotion\n1,2\n"}), "no column label and path"),
    (lambda path: pack(path, {"data.csv": b"\xff\xfe\x00\x01"}), "not a CSV"),
    (lambda path: pack(path, {"data.csv": ""}), "not a CSV"),
    (lambda path: pack(path, {"data.csv": table(())}), "no usable image among 0 rows"),
    (lambda path: pack(path, {"data.csv": table(GOOD)}), "Happy/0.png: listed, but not in the archive"),
    (lambda path: pack(path, {"data.csv": table((), "0,Happy/0.png,")}
                       | {f"dataset/{name}": content for name, content in GOOD.items()}), "empty label"),
    (lambda path: fer6(path, **{f"dataset/{name}": b"text" for name in GOOD}), "none of its 8 images can be read"),
], ids=["text", "empty", "without its end", "its beginning", "newer format", "no members", "no table", "no columns",
        "binary table", "empty table", "no rows", "no images", "no labels", "no readable image"])
def test_a_file_that_is_no_fer6_is_refused(make, reason, home, tmp_path):
    path = tmp_path / "mine.zip"
    make(path)
    with pytest.raises(InputError, match=f"mine.zip.*{reason}"): read_fer6(path).decode()
    assert reason in refused("fer6", path, home)


@pytest.mark.parametrize(("name", "file", "reason"), [
    ("fer6", "none.zip", "no such file"), ("fer6", "folder", "is a folder"), ("fer6", "data.csv", "fer6 comes as .zip"),
    ("fer2013", "faces.npy", ".csv or .zip")])
def test_a_file_of_another_kind_is_refused(name, file, reason, home, tmp_path):
    (tmp_path / "folder").mkdir()
    for other in ("data.csv", "faces.npy"): (tmp_path / other).write_text("something")
    assert reason in refused(name, tmp_path / file, home)


# --- files of which a part is unusable ------------------------------------------------------------------------------

@pytest.mark.parametrize(("content", "reason"), [
    (picture()[:-30], "truncated"), (picture("JPEG")[:-60], "truncated"), (picture("BMP")[:-200], "truncated"),
    (picture()[:20], ""), (b"", "empty file"),
    (b"no image, but a text", "not an image"), (huge(8_000), "64000000 pixels|8000 x 8000 pixels"),
    (huge(60_000), "pixels"), (bytes(64 * 2**20 + 1), "unpacks to"),
], ids=["PNG cut", "JPEG cut", "BMP cut", "header cut", "empty", "text", "64 megapixels", "3600 megapixels", "65 MiB"])
def test_an_image_that_cannot_be_read_is_left_out_and_listed(content, reason, tmp_path):
    path = fer6(tmp_path / "mine.zip", "8,Sad/bad.png,Sad", **{"dataset/Sad/bad.png": content})
    before = everything(tmp_path)
    images, decoded = check_file("fer6", path)
    assert decoded.table["id"].tolist() == list(GOOD) and len(decoded.images) == 8
    found = [problem for problem in (*images.problems, *decoded.problems) if problem.file == "Sad/bad.png"]
    assert found and re.search(reason, found[0].reason), found
    assert everything(tmp_path) == before


@pytest.mark.parametrize(("row", "file", "reason"), [
    ("8,Sad/none.png,Sad", "Sad/none.png", "listed, but not in the archive"),
    ("8,../../data.csv,Sad", "../../data.csv", "listed, but not in the archive"),
    ("8,Sad/more.png,", "Sad/more.png", "empty label"), ("8,Sad/more.png,  ", "Sad/more.png", "empty label"),
    ("8,Sad/0.png,Happy", "Sad/0.png", "listed more than once"),
    ("8,Sad/more.png,Bored", "Sad/more.png", "unknown label 'Bored'"),
])
def test_a_row_that_cannot_be_used_is_listed(row, file, reason, tmp_path):
    images = read_fer6(fer6(tmp_path / "mine.zip", row, **{"dataset/Sad/more.png": picture(seed=9)}),
                       classes=("Happy", "Sad"))
    assert images.problems == (Problem(file, reason),) and len(images.items) == 8


@pytest.mark.parametrize("name", ["../escaped.png", "dataset/../../escaped.png", "/etc/escaped.png", "C:/escaped.png",
                                  "..\\escaped.png"])
def test_a_member_that_leads_out_of_the_archive_is_refused(name, tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    path = fer6(tmp_path / "a" / "b" / "mine.zip", f"8,{name},Sad", **{name: picture()})
    before = everything(tmp_path)
    images, decoded = check_file("fer6", path)
    reasons = [problem.reason for problem in images.problems if problem.file == name.removeprefix("dataset/")]
    assert [reason for reason in reasons if "path" in reason]
    assert len(decoded.table) == 8 and everything(tmp_path) == before and not Path("/etc/escaped.png").exists()
    with Archive(path) as archive, pytest.raises(KeyError): archive.read(name)


def test_a_link_that_leads_out_of_a_folder_is_refused(tmp_path):
    with zipfile.ZipFile(fer6(tmp_path / "mine.zip", "8,Sad/link.png,Sad")) as archive:
        archive.extractall(tmp_path / "mine")
    (tmp_path / "secret.png").write_bytes(picture())
    (tmp_path / "mine" / "dataset" / "Sad" / "link.png").symlink_to(tmp_path / "secret.png")
    images = read_fer6(tmp_path / "mine")
    assert Problem("Sad/link.png", "link that leads out of the folder") in images.problems and len(images.items) == 8


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA],
                         ids=["stored", "deflated", "bzip2", "lzma"])
def test_a_member_that_is_damaged_is_left_out_and_listed(compression, tmp_path):
    path = pack(tmp_path / "mine.zip",
                {"data.csv": table(GOOD)} | {f"dataset/{name}": content for name, content in GOOD.items()}, compression)
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive: member = archive.getinfo("dataset/Sad/3.png")
    start = member.header_offset + 30 + len(member.filename) + 20
    content[start : start + 20] = bytes(255 - byte for byte in content[start : start + 20])
    path.write_bytes(content)
    images, decoded = check_file("fer6", path)
    assert [problem.file for problem in decoded.problems] == ["Sad/3.png"] and len(decoded.table) == 7


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_any_image_that_is_cut_or_changed_is_read_or_listed(form):
    whole, random = picture(form), np.random.default_rng(0)
    changed = [whole[:end] for end in range(0, len(whole), 7)]
    for _ in range(100):
        content = np.frombuffer(whole, np.uint8).copy()
        content[random.integers(len(content), size=3)] = random.integers(256, size=3)
        changed.append(content.tobytes())
    decoded = decode_all(lambda number: open_image(changed[int(number)]), list(map(str, range(len(changed)))), size=16)
    assert len(decoded.table) + len(decoded.problems) == len(changed)
    assert all(problem.reason for problem in decoded.problems)


def ramp(kind: str) -> Image.Image:
    "From black at the left to white at the right, in one of Pillow's modes."
    grey, flat = Image.fromarray(np.tile(np.arange(0, 256, 16, dtype=np.uint8), (16, 1))), Image.new("L", (16, 16), 128)
    if kind == "I;16": return Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    if kind == "LAB": return Image.merge("LAB", (grey, flat, flat))
    return (grey.convert("RGB") if kind in ("CMYK", "P", "RGBA") else grey).convert(kind)


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("kind", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "LAB", "F", "I", "I;16"])
def test_every_kind_of_image_is_read_as_it_looks_or_listed(kind, mode):
    decoded = decode_all(lambda _: ramp(kind), ["a"], mode, 16)
    if decoded.problems: return
    brightness = decoded.images[0].reshape(16, 16, -1).mean(axis=(0, 2))
    np.testing.assert_allclose(brightness, np.arange(0, 256, 16), atol=50)


# --- FER2013 --------------------------------------------------------------------------------------------------------

PIXELS = " ".join(["7"] * 48**2)
ROWS = [f"3,{PIXELS.replace('7', str(i), 1)},{part}"
        for i, part in enumerate(("Training", "PublicTest", "PrivateTest"))]


def fer2013(path: Path, *more: str, header: str = "emotion,pixels,Usage") -> Path:
    "Three good rows, and further ones."
    path.write_text("\n".join([header, *ROWS, *more]) + "\n")
    return path


@pytest.mark.parametrize(("file", "header"),
                         [("fer2013.csv", "emotion,pixels,Usage"), ("icml_face_data.csv", "emotion, Usage, pixels")])
def test_both_tables_of_fer2013_are_read(file, header, tmp_path):
    turned = [", ".join([r.split(",")[0], r.split(",")[2], r.split(",")[1]]) for r in ROWS]
    rows = ROWS if header.endswith("Usage") else turned
    (tmp_path / file).write_text("\n".join([header, *rows]) + "\n")
    images, decoded = check_file("fer2013", tmp_path / file)
    assert images.items["part"].tolist() == ["Training", "PublicTest", "PrivateTest"]
    assert set(images.items["label"]) == {"Happy"}
    assert not images.problems and not decoded.problems and [image[0, 0, 0] for image in decoded.images] == [0, 1, 2]


@pytest.mark.parametrize(("row", "reason"), [
    (f"9,{PIXELS},Training", "unknown label '9'"), (f",{PIXELS},Training", "empty label"),
    (f"3,{PIXELS},Validation", "unknown Usage 'Validation'"),
    ("3,1 2 3,Training", "3 pixels instead of 2304"), ("3,,Training", "0 pixels"),
    (f"3,{PIXELS.replace('7', 'x', 1)},Training", "not whole numbers"),
    (f"3,{PIXELS.replace('7', '256', 1)},Training", "outside 0 .. 255"),
    (f"3,{PIXELS.replace('7', '-1', 1)},Training", "outside 0 .. 255"),
    (f"3,{PIXELS.replace('7', '9' * 25, 1)},Training", "0 .. 255|whole"), ("3", "Usage"),
], ids=["label", "no label", "part", "few pixels", "no pixels", "letters", "256", "-1", "25 digits", "short row"])
def test_a_bad_row_of_fer2013_is_listed(row, reason, tmp_path):
    images, decoded = check_file("fer2013", fer2013(tmp_path / "fer2013.csv", row))
    (problem,) = (*images.problems, *decoded.problems)
    assert problem.file == "00003" and re.search(reason, problem.reason) and len(decoded.table) == 3


@pytest.mark.parametrize(("text", "reason"), [
    ("", "not a CSV"), ("emotion,pixels,Usage\n", "no usable image"), ("emotion,pixels\n3,1 2\n", "no column Usage"),
    (f"emotion,pixels,Usage\n3,{PIXELS},Test\n", "unknown Usage 'Test'"),
    (f"emotion,pixels,Usage\n7,{PIXELS},Training\n", "unknown label '7'"),
    ('emotion,pixels,Usage\n3,"1 2', "not a CSV"),
], ids=["empty", "no rows", "no column", "no part", "no label", "open quote"])
def test_a_table_that_is_no_fer2013_is_refused(text, reason, home, tmp_path):
    (tmp_path / "mine.csv").write_text(text)
    with pytest.raises(InputError, match=f"mine.csv.*{reason}"): read_fer2013(tmp_path / "mine.csv")
    assert reason in refused("fer2013", tmp_path / "mine.csv", home)


def test_the_folders_of_fer2013_are_read_and_what_is_wrong_in_them_listed(home, tmp_path):
    members = {f"{part}/{label}/{i}.jpg": picture("JPEG", seed=i) for part in ("train", "test")
               for label in ("happy", "sad") for i in range(2)}
    others = {"train/bored/0.jpg": picture(), "readme.txt": "hello", "test/sad/cut.jpg": picture("JPEG")[:100],
              "train/sad/": b""}
    path = pack(tmp_path / "mine.zip", members | others)
    images, decoded = check_file("fer2013", path)
    assert sorted(decoded.table["id"]) == sorted(members) and images.classes == ["Happy", "Sad"]
    problems = {problem.file for problem in (*images.problems, *decoded.problems)}
    assert problems == {"train/bored/0.jpg", "readme.txt", "test/sad/cut.jpg"}
    assert "no train/" in refused("fer2013", pack(tmp_path / "other.zip", {"images/0.jpg": picture()}), home)


# --- another data set in place of the sample ------------------------------------------------------------------------

def test_put_replaces_one_data_set_and_its_entry(home, tmp_path):
    before, sources = everything(home), read_sources(home / "data")
    given = fer2013(tmp_path / "mine.csv", "3,1 2 3,Training")
    done = CliRunner().invoke(app, ("data", "put", "fer2013", str(given), "--title", "mine"))
    assert done.exit_code == 0 and "3 images in 1 classes, 1 entries that cannot be used" in done.output
    assert "00003: 3 pixels" in done.output
    after = everything(home)
    assert set(after) == set(before) - {"data/fer2013/fer2013.zip"} | {"data/fer2013/fer2013.csv"}
    assert after["data/fer2013/fer2013.csv"] == everything(tmp_path)["mine.csv"]
    assert after["data/fer6/fer6.zip"] == before["data/fer6/fer6.zip"]
    entry = read_sources(home / "data").pop("fer2013")
    assert (entry["origin"], entry["title"], entry["may_show"], entry["file"]) == ("real", "mine", False, "fer2013.csv")
    assert read_sources(home / "data")["fer6"] == sources["fer6"]


@pytest.mark.parametrize(("text", "origin"),
                         [("fer6: [", "real"), ("fer6: {origin: unheard}", "real"), ("{}", "sampled")],
                         ids=["open bracket", "unknown origin", "wrong argument"])
def test_put_changes_nothing_where_it_cannot_write_down_the_source(text, origin, home, tmp_path):
    (home / "data" / "sources.yaml").write_text(text)
    before = everything(home)
    with pytest.raises(InputError): put("fer6", fer6(tmp_path / "mine.zip"), origin)
    assert everything(home) == before


def test_a_class_with_one_image_is_named_by_the_split(tmp_path):
    images, _ = check_file("fer6", fer6(tmp_path / "mine.zip", "8,Angry/0.png,Angry",
                                        **{"dataset/Angry/0.png": picture(seed=9)}))
    with pytest.raises(InputError, match="class 'Angry' has 1 item"): three_way(images.items["label"], 0.25, 0.25)
