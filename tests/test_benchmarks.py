"""The benchmarks run, both ways reach the same result, and what was measured is not measured again."""
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
LABELS = ["Happy", "Sad", "Surprise"]


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    "Sixty smooth random images of three classes, in the form of FER-6."
    rng, path = np.random.default_rng(0), tmp_path_factory.mktemp("fer6") / "fer6.zip"
    names = [f"{LABELS[i % 3]}/{i:03d}.png" for i in range(60)]
    with zipfile.ZipFile(path, "w") as file:
        for name in names:
            content, coarse = io.BytesIO(), rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
            Image.fromarray(coarse).resize((56, 56)).save(content, "PNG")
            file.writestr(f"dataset/{name}", content.getvalue())
        file.writestr("data.csv", "".join(["path,label\n", *(f"{name},{name.split('/')[0]}\n" for name in names)]))
    return path


def bench(*arguments: str) -> subprocess.CompletedProcess:
    "`python -m benchmarks` with these arguments."
    return subprocess.run([sys.executable, "-m", "benchmarks", *arguments], cwd=ROOT, capture_output=True, text=True)


def test_both_ways_agree_and_are_measured_once(archive, tmp_path):
    arguments = ["components", "--fer6", str(archive), "--repeats", "1", "--write-to", str(tmp_path)]
    done = bench(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((tmp_path / "last.json").read_text())
    measured = result["benchmarks"]["components"]
    source, ours = measured["sides"]["source"], measured["sides"]["ours"]
    assert source["result"]["faces"] == ours["result"]["faces"] == 60
    assert abs(source["result"]["components"] - ours["result"]["components"]) <= 1
    assert source["result"]["explained_variance"] == pytest.approx(ours["result"]["explained_variance"], abs=0.02)
    assert all(side["seconds"] > 0 and side["cpu"] > 0 and side["peak"] > 10 for side in (source, ours))
    assert [goal["met"] in (True, False) for goal in measured["goals"]] == [True, True]

    again = bench(*arguments, "--resume")
    assert again.stdout.count("measured before") == 2
    assert json.loads((tmp_path / "last.json").read_text()) == result
    assert len((tmp_path / "measurements.jsonl").read_text().splitlines()) == 2


def test_what_is_no_archive_is_refused_in_a_line(tmp_path):
    (tmp_path / "fer6.zip").write_bytes(b"not a zip")
    done = bench("decode", "--fer6", str(tmp_path / "fer6.zip"), "--write-to", str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.splitlines() == [f"benchmarks: {tmp_path / 'fer6.zip'}: not a zip archive"]


def a_side(seconds: float, **found):
    "What was measured of one side."
    from benchmarks.suite import Summary

    return Summary(seconds, seconds, seconds, seconds, 100, {}, found, 0)


def test_sides_that_do_less_are_scaled():
    "150 faces in 15 s against 500 in 5 s, and 5 trials against 20."
    from benchmarks.report import ratio
    from benchmarks.suite import cost, speed_up

    faces = {"source": a_side(15, faces=150), "ours": a_side(5, faces=500)}
    assert speed_up(faces) == pytest.approx(10) and ratio(faces, "ours", cost) == "10.0 x"
    assert ratio(faces, "source", cost) == ""
    assert speed_up({"source": a_side(50, trials=5), "ours": a_side(40, trials=20)}) == 5
    assert speed_up({"source": a_side(8), "ours": a_side(2)}) == 4


def test_vectors_are_compared_by_the_worst_pair():
    from benchmarks.suite import same_vectors

    sides = {"source": a_side(1, vectors=[[1, 0], [0, 2]]), "ours": a_side(1, vectors=[[3, 0], [1, 1]])}
    assert same_vectors(sides, "ours") == pytest.approx(0.5**0.5)


def test_vectors_to_search_on_are_the_same_for_both_and_can_be_told_apart():
    from sklearn.linear_model import LogisticRegression

    from benchmarks.vectors import DIMENSIONS, draw_vectors

    train, validation, test = draw_vectors(0)
    shapes = [part.X.shape for part in (train, validation, test)]
    assert shapes == [(items, DIMENSIONS) for items in (4000, 1000, 3000)]
    assert (draw_vectors(0)[2].X == test.X).all() and not np.array_equal(draw_vectors(1)[2].y, test.y)
    accuracy = LogisticRegression(C=0.01).fit(*train).score(*test)
    assert np.bincount(test.y).max() / len(test.y) + 0.1 < accuracy < 0.99


def test_every_side_says_what_it_depends_on():
    from benchmarks.measure import CODE
    from benchmarks.suite import BENCHMARKS
    assert {side.function.split(".")[0] for benchmark in BENCHMARKS.values()
            for side in benchmark.sides.values()} == set(CODE)
