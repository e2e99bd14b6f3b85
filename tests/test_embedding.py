"""Networks as extractors: every engine sees the same, few or many images cost the same memory, and weights are never
something else than asked for."""
import csv
import json
import socket
import subprocess
import sys
import time
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fer_research.data.archive import View
from fer_research.data.fer6 import read_fer6
from fer_research.data.vectors import read_vectors
from fer_research.evaluation.splits import holdout
from fer_research.evaluation.statistics import wilson
from fer_research.features.combined import open_extractor
from fer_research.features.deep_torch import build, export

LEAST = {"fp32": 0.999, "bf16": 0.99}  # cosine similarity to torch in fp32
ENGINES = [(engine, precision) for engine in ("openvino", "torch") for precision in LEAST]
BACKBONES = {"vit_tiny_patch16_224": "random", "tf_efficientnet_lite0": "package"}


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    "Cosine similarity of rows."
    return (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def in_torch(network, pixels: np.ndarray) -> np.ndarray:
    "The network as it was built."
    batches = [torch.from_numpy(pixels[i : i + 16]) for i in range(0, len(pixels), 16)]
    with torch.inference_mode(): return np.concatenate([network(batch).numpy() for batch in batches])


@pytest.fixture(scope="module")
def faces(clone):
    "The sample: labels, and the pixels of all faces at 224."
    items, decoded = read_fer6(clone.root / "data" / "fer6" / "fer6.zip").decode(size=224)
    return items["label"].to_numpy(dtype=str), decoded.images


# --- engines --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("engine", "precision"), ENGINES)
@pytest.mark.parametrize("model", [pytest.param("vit_tiny_patch16_224", marks=pytest.mark.slow),
                                   "tf_efficientnet_lite0"])
def test_engines_agree(model, engine, precision, faces, tmp_path):
    pixels = faces[1][:12]
    network, about = build(model, BACKBONES[model])
    expected = in_torch(network, pixels)
    extractor = export(tmp_path, network, about, precision, engine)
    assert cosine(extractor.transform(pixels), expected).min() >= LEAST[precision]
    again = open_extractor(tmp_path)
    assert again.views == extractor.views == [View("RGB", 224, about["resize"])]
    assert again.dimensions == expected.shape[1]
    np.testing.assert_array_equal(again.transform(pixels[:3]), extractor.transform(pixels[:3]))


@pytest.mark.parametrize("engine", ["openvino", "torch"])
def test_pooling_and_mirror_image_are_inside_the_network(engine, faces, tmp_path):
    pixels = faces[1][:4]
    tiny = partial(build, "vit_tiny_patch16_224", "random", normalisation="imagenet", pool="both")
    extractor, (plain, _) = export(tmp_path, *tiny(hflip=True), engine=engine), tiny()
    expected = (in_torch(plain, pixels) + in_torch(plain, np.ascontiguousarray(pixels[:, :, ::-1]))) / 2
    assert expected.shape[1] == 2 * 192
    np.testing.assert_allclose(extractor.transform(pixels), expected, atol=1e-3)


KERAS = """
import sys
import numpy as np
from fer_research.features.deep_keras import build, export
network, about = build(sys.argv[1], "random", hflip=sys.argv[3] == "hflip")
pixels = np.load(sys.argv[2] + "/faces.npy")
expected = network.predict(pixels, verbose=0)
for precision, least in (("fp32", 0.999), ("bf16", 0.99)):
    found = export(f"{sys.argv[2]}/{precision}", network, about, precision).transform(pixels)
    similarity = (found * expected).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)
    assert similarity.min() >= least, (precision, similarity.min())
assert "torch" not in sys.modules
"""


@pytest.mark.slow
@pytest.mark.parametrize(("model", "option"), [("ResNet50", ""), ("MobileNetV2", "hflip")])
def test_what_keras_exports_agrees_with_keras(model, option, faces, tmp_path):
    np.save(tmp_path / "faces.npy", faces[1][:8])
    command = [sys.executable, "-c", KERAS, model, str(tmp_path), option]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize(("engine", "precision"), ENGINES[1:])
def test_a_classifier_does_as_well_on_every_engine(engine, precision, faces, tmp_path):
    labels, pixels = faces
    train, test = holdout(labels, 0.3, seed=0)
    network, about = build("tf_efficientnet_lite0", "package")

    def right(engine: str, precision: str) -> int:
        "Faces of the test part that are told right."
        values = export(tmp_path / engine / precision, network, about, precision, engine).transform(pixels)
        fitted = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
        fitted.fit(values[train], labels[train])
        return int((fitted.predict(values[test]) == labels[test]).sum())
    low, high = wilson(right("openvino", "fp32"), len(test))
    assert low <= right(engine, precision) / len(test) <= high


# --- memory ---------------------------------------------------------------------------------------------------------

MEMORY = """
import resource, sys
import numpy as np, openvino
from openvino import opset13 as ops
from PIL import Image
from fer_research.features.embedding import embed, save_graph
pixels = ops.parameter([-1, 32, 32, 3], np.uint8)
listed = ops.reshape(ops.convert(pixels, "f32"), np.array([-1, 3072]), False)
about = {"model": "pixels", "size": 32, "resize": "bicubic"}
extractor = save_graph(sys.argv[1] + "/extractor", openvino.Model([listed], [pixels]), about)
image, n = Image.effect_noise((32, 32), 50).convert("RGB"), int(sys.argv[2])
found = embed(lambda name: image, [str(i) for i in range(n)], extractor, sys.argv[1] + "/partial")
assert found.values.shape == (n, 3072)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_images(tmp_path):
    def peak(n: int) -> float:
        "MB at most; the vectors take 3 n / 256 of them."
        command = [sys.executable, "-c", MEMORY, str(tmp_path / str(n)), str(n)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        return int(done.stdout) / 1024
    assert peak(20 * 512) < peak(2 * 512) + 40, "108 MB more vectors"


# --- the step -------------------------------------------------------------------------------------------------------

def embedded(clone, key: str) -> tuple[Path, dict]:
    "The features of a key of `embed`, made by its step, and what the extractor says of itself."
    clone.cli("run", "datasets", "explore", "fer6")
    clone.cli("run", "fer_boosting", "embed", key)
    folder = clone.root / "outputs" / "fer_boosting" / "embed" / key / "features"
    return folder, json.loads((folder / "extractor" / "extractor.json").read_text())


@pytest.mark.slow
def test_a_step_in_torch_on_a_few_images(work, faces):
    settings = {"precision": "bf16", "resize": "nearest", "pool": "mean", "hflip": True}
    network = {"library": "timm", "model": "vit_tiny_patch16_224", "weights": "random", "engine": "torch"}
    work.edit(fer_boosting__embed__vit_tiny=network | settings | {"images": 30})
    folder, about = embedded(work, "vit_tiny")
    vectors, labels = read_vectors(folder), faces[0]
    assert about["kind"] == "timm" and {name: about[name] for name in settings} == settings
    assert vectors.smoke_test and vectors.values.shape == (30, 192)
    for label in np.unique(labels): assert abs((vectors.label == label).sum() - 30 * (labels == label).mean()) <= 1
    images = read_fer6(work.root / "data" / "fer6" / "fer6.zip")
    seen = np.stack([np.asarray(images.read(name).convert("RGB").resize((224, 224), 0)) for name in vectors.id[:5]])
    assert cosine(open_extractor(folder / "extractor").transform(seen), np.asarray(vectors.values[:5])).min() > 0.999
    assert "A smoke test and no result" in (folder.parent / "report.ipynb").read_text()
    assert len((folder.parent / "tables" / "features.csv").read_text().splitlines()) == 31


def test_unreadable_faces_are_listed_and_left_out(work):
    path = work.root / "data" / "fer6" / "fer6.zip"
    with zipfile.ZipFile(path) as old: content = {name: old.read(name) for name in old.namelist()}
    broken = {name for name in list(content)[::3] if name.endswith((".png", ".jpg"))}
    with zipfile.ZipFile(path, "w") as new:
        for name, data in content.items(): new.writestr(name, data[: len(data) // 2] if name in broken else data)
    work.edit(fer_boosting__embed__efficientnet_lite0__images=30)
    folder, _ = embedded(work, "efficientnet_lite0")
    with (folder.parent / "tables" / "unreadable.csv").open() as file:
        listed = {row["file"] for row in csv.DictReader(file)}
    names = {str(name) for name in read_vectors(folder).id}
    assert listed and len(names) == 30 - len(listed)
    assert {f"dataset/{name}" for name in listed} <= broken and not {f"dataset/{name}" for name in names} & broken


# --- weights --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("key", "file"), [
    pytest.param("resnet50", "weights/ResNet50.h5", marks=pytest.mark.slow),
    ("vit_base_patch16", "weights/vit_base_patch16_224.safetensors")])
def test_a_step_without_its_weights_says_how_to_get_them(key, file, work):
    work.cli("preset", "apply", "published")
    done = work.cli("run", "fer_boosting", "embed", key, check=False)
    message = done.stderr.splitlines()[-1]
    parts = (file, "fer-research weights get", "https://")
    assert done.returncode == 2 and all(part in message for part in parts), done.stderr
    assert not (work.root / "outputs" / "fer_boosting" / "embed" / key / "features" / "features.npy").exists()


@pytest.mark.parametrize(("model", "unknown"), [
    pytest.param("ResNet50", "ResNet51", marks=pytest.mark.slow), ("vit_base_patch16_224", "vit_base_patch17_224")])
def test_a_silent_server_is_noticed_in_time(model, unknown, work):
    "It costs no more than a few seconds beside the import of the framework, which a wrong name takes as well."
    def get(name: str, **environment) -> tuple[float, str]:
        begin = time.monotonic()
        done = work.cli("weights", "get", name, check=False, **environment)
        assert done.returncode == 2
        return time.monotonic() - begin, done.stderr.splitlines()[-1]
    plain, _ = get(unknown)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        proxy = f"http://127.0.0.1:{silent.getsockname()[1]}"
        proxies = dict.fromkeys(("https_proxy", "HTTPS_PROXY"), proxy) | dict.fromkeys(("no_proxy", "NO_PROXY"), "")
        seconds, message = get(model, **proxies, HF_HOME=str(work.root.parent / "hub"))
    assert seconds < plain + 6 and f"put it at weights/{model}" in message
    assert not (work.root / "weights").exists()


MAKE_KERAS = """
import sys, keras
keras.utils.set_random_seed(7)
keras.applications.ResNet50(include_top=False, weights=None, pooling="avg").save(sys.argv[1])
from fer_research.features.weights import keep_weights
keep_weights("ResNet50", sys.argv[1], None, sys.argv[2])
"""
MAKE_TIMM = """
import sys, timm, torch
from safetensors.torch import save_file
from fer_research.features.weights import keep_weights
torch.manual_seed(7)
save_file(timm.create_model(sys.argv[3]).state_dict(), sys.argv[1])
keep_weights(sys.argv[3], sys.argv[1], None, sys.argv[2])
"""


@pytest.mark.slow
@pytest.mark.parametrize(("key", "model", "make"), [
    ("resnet50", "ResNet50", MAKE_KERAS), ("resnet50_published", "ResNet50", MAKE_KERAS),
    ("vit_base_patch16", "vit_base_patch16_224", MAKE_TIMM),
    ("vit_base_patch16_published", "vit_base_patch16_224", MAKE_TIMM),
    ("vit_base_patch8", "vit_base_patch8_224", MAKE_TIMM)])
def test_the_published_preset_takes_weights_that_are_there(key, model, make, work, tmp_path):
    "A file of the right names and shapes, head and all, whose digest is on record, stands in for the published one."
    file = tmp_path / ("weights.h5" if make is MAKE_KERAS else "weights.safetensors")
    command = [sys.executable, "-c", make, str(file), str(work.root), model]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    work.cli("preset", "apply", "published")
    work.edit(**{f"fer_boosting__embed__{key}__images": 12})
    folder, about = embedded(work, key)
    digests = json.loads((work.root / "weights" / "digests.json").read_text())
    assert about["weights"] == "pretrained" and about["sha256"] == digests[model]
    values = read_vectors(folder).values
    assert values.shape == (12, 2048 if make is MAKE_KERAS else 768)
    assert np.isfinite(values).all() and values.std(axis=0).max() > 0
