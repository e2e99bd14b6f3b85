"""What was measured here agrees with what is committed.

Most result files are the same bytes on every machine; `fer-research results --reproduced` counts them. The rest comes
from networks that another processor stops in another epoch: there, the intervals of an accuracy overlap.
"""
import io
import json
import subprocess
from collections.abc import Iterable

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

from fer_research.evaluation.metrics import read_predictions
from fer_research.evaluation.statistics import mcnemar
from fer_research.pipeline.artifacts import find_variant
from fer_research.pipeline.compare import COMPARISON
from fer_research.pipeline.params import read_params, study_section

PARAMS = read_params(ROOT / "params.yaml")
STUDIES = PARAMS["comparison"]["studies"]
COUNTS = ("n_train", "n_test", "n_images", "n_unreadable")


def git(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True)


def committed() -> list[str]:
    "Paths of the results in HEAD; none outside a git checkout and before the first commit."
    return only_results(git("ls-tree", "-r", "--name-only", "HEAD", "--", "results").stdout.decode().splitlines())


def only_results(paths: Iterable[str]) -> list[str]:
    "Metrics and tables, without the marks of empty folders."
    return sorted(path for path in paths if path.endswith((".json", ".csv")))


def differences(path: str, old: bytes, new: bytes) -> list[str]:
    "What disagrees between two versions of a file."
    if path.endswith(".json"): return metric_differences(json.loads(old), json.loads(new))
    before, after = (pd.read_csv(io.BytesIO(text)) for text in (old, new))
    if list(before) != list(after): return ["columns"]
    return ["no rows"] if len(before) and not len(after) else []


def metric_differences(before: dict, after: dict) -> list[str]:
    "What disagrees between two versions of metrics: names, numbers of items, an accuracy beyond its interval."
    if before.keys() != after.keys(): return sorted(before.keys() ^ after.keys())
    found = [f"{name}: {before[name]} -> {after[name]}" for name in COUNTS if before.get(name) != after.get(name)]
    return found if "accuracy_low" not in before or overlap(before, after) else [*found, "accuracy"]


def overlap(before: dict, after: dict) -> bool:
    "Whether the intervals of two accuracies overlap."
    low, high = (before["accuracy_low"], after["accuracy_low"]), (before["accuracy_high"], after["accuracy_high"])
    return max(low) <= min(high)


# --- after a rebuild ------------------------------------------------------------------------------------------------

@pytest.fixture
def same_inputs():
    "Skips where data or parameters are not those that the committed results were made with."
    changed = git("diff", "--quiet", "HEAD", "--", "data.dvc", "params.yaml").returncode
    if changed: pytest.skip("other data or parameters")


def test_no_result_is_missing_and_none_is_new(reproduced, same_inputs):
    assert only_results(reproduced.listing("results")) == committed()


@pytest.mark.parametrize("path", committed())
def test_results_agree_with_the_committed_ones(path, reproduced, same_inputs):
    old, new = git("show", f"HEAD:{path}").stdout, (reproduced.root / path).read_bytes()
    if path.startswith("results/datasets/"): assert new == old, "a census is the same everywhere"
    found = differences(path, old, new)
    assert not found, f"{path}: commit the new results if the change is meant: {found}"


@pytest.mark.parametrize("study", STUDIES)
def test_the_best_of_a_study_beats_the_most_frequent_class(study, reproduced):
    table = pd.read_csv(reproduced.root / COMPARISON["table"]).query("study == @study and best")
    answers = read_predictions(find_variant(study, table["variant"].item(), reproduced.root).predictions)
    most_frequent = answers.y_true == np.bincount(answers.y_true).argmax()
    test = mcnemar(answers.proba.argmax(axis=1) == answers.y_true, most_frequent)
    assert test.difference > 0 and test.p < .05, test


# --- what is committed ----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("study", STUDIES)
def test_dvc_shows_metrics_of_every_variant(study, metrics_shown):
    smoke_tests = metrics_shown.get(f"results/{study}/smoke_tests/metrics/smoke_tests.json", {})
    for name, (_, placed) in study_section(PARAMS, study).variants().items():
        if placed.group: assert name in smoke_tests
        else: assert f"results/{study}/{placed.section}/{placed.key}/metrics/{name}.json" in metrics_shown


@pytest.fixture(scope="module")
def metrics_shown(clone) -> dict[str, dict]:
    "Path and content of all files that `dvc metrics show` knows."
    files = json.loads(clone.dvc("metrics", "show", "--json").stdout)[""]["data"]
    return {path: file["data"] for path, file in files.items() if "data" in file}


def test_the_share_of_files_with_the_committed_bytes_is_printed(work):
    assert "(100.0%) have the bytes that are committed" in work.cli("results", "--reproduced").stdout
    file = work.root / "results/fer_boosting/fit/pca/metrics/pca.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"accuracy": 0.999}))
    (work.root / "results" / "new.csv").write_text("a\n1\n")
    printed = work.cli("results", "--reproduced").stdout
    n = len(only_results(work.listing("results")))
    assert f"{n - 2} of {n} result files" in printed and "0.999" in printed and "results/new.csv" in printed


# --- what counts as agreement ---------------------------------------------------------------------------------------

METRICS = {"accuracy": 0.6, "accuracy_low": 0.55, "accuracy_high": 0.65, "log_loss": 1.9, "n_test": 120}


@pytest.mark.parametrize("change, found", [
    ({"log_loss": 2.5}, []), ({"extra": 1}, ["extra"]), ({"n_test": 121}, ["n_test: 120 -> 121"]),
    ({"accuracy_low": 0.64, "accuracy_high": 0.75}, []), ({"accuracy_low": 0.66, "accuracy_high": 0.75}, ["accuracy"]),
    ({"accuracy_low": 0.3, "accuracy_high": 0.54}, ["accuracy"]),
], ids=str)
def test_an_accuracy_beyond_its_interval_is_found(change, found):
    assert differences("metrics.json", json.dumps(METRICS).encode(), json.dumps(METRICS | change).encode()) == found


def test_tables_need_the_same_columns():
    table, longer, other, empty = b"a,b\n1,0.5\n", b"a,b\n1,0.5\n2,0.5\n", b"a,c\n1,0.5\n", b"a,b\n"
    assert differences("roc.csv", table, other) == ["columns"] and differences("roc.csv", table, empty) == ["no rows"]
    assert not differences("roc.csv", table, longer)
