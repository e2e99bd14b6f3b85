"""What was measured here agrees with what is committed.

On the machine that made the committed results a second run changes no byte. On another one, other processors round
differently, so the numbers may differ by the tolerances below and by no more.
"""
import io
import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[1]
COUNTS = re.compile(r"(^|[._])(n|count|counts|support|images|unreadable|duplicates|classes|parameters)([._]|$)")  # exact
P_VALUES = re.compile(r"(^|[._])p(_value|_holm)?$")  # only in [0, 1]: a few changed answers move them far, and Holm's correction goes by the p of all pairs
ABSOLUTE = 0.02  # fractions, and numbers below 1
RELATIVE = 0.05  # numbers above 1: losses, epochs
PER_CLASS = 0.1  # precision and recall of one class, which may have only a dozen test images
ANSWERS = 0.05   # share of test items whose predicted class may differ
FORM = {"history.csv", "roc.csv", "importance.csv", "kept.csv", "confidence.csv", "claims.csv"}  # only their columns: metrics.json has what counts of them
FOLLOWS = re.compile(r"(right|confused_\d|count_\d|percent_\d)$")  # in per_class.csv, counted from the answers in confusion.csv


# Codes, perceptrons and what reads digits come from networks that are trained on the machine: another processor rounds otherwise and ends with another codebook, or stops in
# another epoch, so that only the form of what is made of them can be the same elsewhere. On one machine it is the same to the byte, as test_pipeline.py sees.
# Boosted trees on principal components, and the dense network, stop elsewhere too: from components that differ by a few millionths they make other splits. Of these the
# intervals of the accuracy must overlap.
STOPS_ELSEWHERE = re.compile(r"fer_boosting[/.](pca|pca_published|pca_tuned|efficientnet_lite0_(proposal|mlp|pca_vote))(?=$|\.|/\w+\.(json|csv))")
RETRAINED = re.compile(rf"fer_elm[/.](?!patches)|(kana_mlp|fer_transfer)[/.](?!majority|neighbours|logistic)|kana_mlp_report|fer_transfer_[a-z]+[/.]|polymnist(_[a-z]+)?[/.]|{STOPS_ELSEWHERE.pattern}")


def git(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True)


def committed() -> list[str]:
    "Paths of the results in HEAD; none outside a git checkout and before the first commit."
    paths = git("ls-tree", "-r", "-z", "--name-only", "HEAD", "--", "results").stdout.decode().split("\0")
    return [path for path in paths if path.endswith((".json", ".csv"))]


def leaves(node, name: str = "") -> dict:
    "Dotted names and values of a JSON document."
    if not isinstance(node, dict | list): return {name: node}
    items = node.items() if isinstance(node, dict) else enumerate(node)
    return {key: leaf for part, child in items for key, leaf in leaves(child, f"{name}.{part}".lstrip(".")).items()}


def agree(name: str, old: pd.Series, new: pd.Series, absolute: float = ABSOLUTE) -> bool:
    "Whether the values under a name agree; `old` and `new` have equal lengths."
    if name == "predicted": return (old != new).mean() <= ANSWERS
    exact = COUNTS.search(name) or not all(pd.api.types.is_numeric_dtype(part) and part.dtype != bool for part in (old, new))
    if exact: return old.equals(new)
    if P_VALUES.search(name): return bool(new.between(0, 1).all())
    return bool(np.isclose(new.astype(float), old.astype(float), atol=absolute, rtol=RELATIVE * (old.abs() > 1), equal_nan=True).all())


def only_form(path: str) -> bool:
    "Whether a file belongs to a variant that only shows that the pipeline runs, or to one on codes."
    if RETRAINED.search(path): return True
    told = git("show", f"HEAD:{'/'.join(path.split('/')[:3])}/metrics.json")
    return told.returncode == 0 and "pipeline_check" in json.loads(told.stdout)


def steady(table: pd.DataFrame) -> pd.DataFrame:
    "The rows that are the same elsewhere: no checks, and no variants on codes."
    if "role" in table: table = table[table["role"] != "check"]
    named = [name for name in ("variant", "first", "second") if name in table and "study" in table]
    retrained = pd.DataFrame({name: (table["study"] + "/" + table[name]).str.match(RETRAINED) for name in named}, index=table.index)
    return table[~retrained.any(axis=1)].drop(columns="best", errors="ignore").reset_index(drop=True)  # the best may be one that is left out


def differences(path: str, old: bytes, new: bytes, form_only: bool = False) -> list[str]:
    "What disagrees between two versions of a file."
    if path.endswith(".json"):
        before, after = ({name: leaf for name, leaf in leaves(json.loads(text)).items() if form_only or not RETRAINED.match(name)} for text in (old, new))
        if before.keys() != after.keys() or form_only: return sorted(before.keys() ^ after.keys())
        differ = [name for name in before if not agree(name, pd.Series([before[name]]), pd.Series([after[name]]))]
        return [f"{name}: {before[name]} -> {after[name]}" for name in differ]
    before, after = (pd.read_csv(io.BytesIO(text)) for text in (old, new))
    if list(before) != list(after): return [f"columns {list(before)} -> {list(after)}"]
    if Path(path).name in FORM or form_only: return [] if len(after) or not len(before) else ["no rows"]
    before, after = (steady(table) for table in (before, after))
    if len(before) != len(after): return [f"{len(before)} -> {len(after)} rows"]
    absolute = PER_CLASS if Path(path).name == "per_class.csv" else ABSOLUTE
    compared = [name for name in before if not (absolute == PER_CLASS and FOLLOWS.match(name))]
    return [f"column {name}" for name in compared if not agree(name, before[name], after[name], absolute)]


def overlap(old: bytes, new: bytes) -> bool:
    "Whether the intervals of two accuracies overlap."
    (low, high), (other_low, other_high) = ((metrics["accuracy_low"], metrics["accuracy_high"]) for metrics in map(json.loads, (old, new)))
    return low <= other_high and other_low <= high


@pytest.mark.parametrize("path", committed())
def test_results_agree_with_the_committed_ones(path, reproduced):
    if git("diff", "--quiet", "HEAD", "--", "data.dvc", "params.yaml").returncode:
        pytest.skip("other data or parameters than the committed results were made with")
    old, new = git("show", f"HEAD:{path}").stdout, (reproduced.root / path).read_bytes()
    found = differences(path, old, new, only_form(path))
    assert not found, f"{path}: beyond the tolerances; commit the new results if the change is meant: {found}"
    if STOPS_ELSEWHERE.search(path) and path.endswith("/metrics.json"): assert overlap(old, new), f"{path}: another accuracy"


METRICS = {"accuracy": 0.61, "log_loss": 1.9, "n_test": 120, "best": "cnn_1", "mcnemar": {"p_value": 0.04}}
SMALL = [{}, {"accuracy": 0.595}, {"log_loss": 1.95}, {"mcnemar": {"p_value": 0.4}}]
LARGE = [{"accuracy": 0.58}, {"accuracy": None}, {"log_loss": 2.1}, {"n_test": 121}, {"best": "cnn_2"}, {"extra": 1}]


@pytest.mark.parametrize("change, found", [(change, False) for change in SMALL] + [(change, True) for change in LARGE], ids=str)
def test_numbers_beyond_a_tolerance_are_found(change, found):
    assert bool(differences("metrics.json", json.dumps(METRICS).encode(), json.dumps(METRICS | change).encode())) == found


@pytest.mark.parametrize("flipped, found", [(5, False), (6, True)])
def test_a_twentieth_of_the_answers_may_differ(flipped, found):
    before, after = (["actual,predicted"] + ["Sad,Happy"] * n + ["Sad,Sad"] * (100 - n) for n in (0, flipped))
    assert bool(differences("confusion.csv", "\n".join(before).encode(), "\n".join(after).encode())) == found


def test_of_a_check_only_the_form_counts():
    assert not differences("metrics.json", b'{"accuracy": 0.2}', b'{"accuracy": 0.9}', form_only=True)
    assert differences("metrics.json", b'{"accuracy": 0.2}', b'{"accuracy": 0.2, "extra": 1}', form_only=True)
    rows = b"variant,role,accuracy\npca,sound,0.5\nresnet50,check,0.2\n"
    assert not differences("comparison.csv", rows, rows.replace(b"0.2", b"0.9")) and differences("comparison.csv", rows, rows.replace(b"0.5", b"0.9"))


def test_of_what_is_made_of_codes_only_the_form_counts():
    rows = b"study,variant,role,accuracy\nfer_elm,numbers_elm,sound,0.2\nfer_elm,patches,sound,0.5\n"
    assert not differences("comparison.csv", rows, rows.replace(b"0.2", b"0.9")) and differences("comparison.csv", rows, rows.replace(b"0.5", b"0.9"))
    tree = b'{"fer_elm": {"numbers_elm": {"accuracy": 0.2}, "patches": {"accuracy": 0.5}}}'
    assert not differences("comparison.json", tree, tree.replace(b"0.2", b"0.9")) and differences("comparison.json", tree, tree.replace(b"0.5", b"0.9"))
    assert only_form("results/fer_elm/numbers_elm/metrics.json") and not only_form("results/fer_elm/patches/metrics.json")


def test_trees_that_stop_elsewhere_agree_by_their_intervals():
    assert only_form("results/fer_boosting/pca/metrics.json") and not only_form("results/fer_boosting/pca/features/metrics.json")
    assert not only_form("results/fer_boosting/pca_tuned/search/trials.csv") and not only_form("results/fer_boosting/logistic/metrics.json")
    here, near, far = (json.dumps({"accuracy_low": low, "accuracy_high": low + 0.1}).encode() for low in (0.5, 0.55, 0.65))
    assert overlap(here, near) and overlap(near, here) and not overlap(here, far) and not overlap(far, here)


def test_tables_need_the_same_rows_and_columns_and_curves_the_same_columns():
    table, longer, other = b"a,b\n1,0.5\n", b"a,b\n1,0.5\n2,0.5\n", b"a,c\n1,0.5\n"
    assert differences("runs.csv", table, longer) and differences("runs.csv", table, other) and differences("roc.csv", table, other)
    assert not differences("roc.csv", table, longer) and not differences("runs.csv", table, table)
