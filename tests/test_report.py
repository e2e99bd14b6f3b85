"What a pull request shows: rows of the comparison, plots and metrics that a commit changes."
import re
import subprocess

import pytest
from conftest import ROOT

from fer_research.pipeline.compare import COMPARISON, comparison_at

METRICS = "results/fer_boosting/fit/neighbours/metrics/neighbours.json"
ROC = "results/fer_boosting/fit/logistic/roc/logistic.csv"


@pytest.fixture
def changed(work):
    "A clone in which one variant got better, another lost its figures in a plot, and the last commit says so."
    work.git("branch", "before")
    for path, old, new in [(COMPARISON["table"], r"(?<=fer_boosting,neighbours,sound,False,200,)[\d.]+", "0.9"),
                           (METRICS, r'(?<="accuracy": )[\d.]+', "0.9"), (ROC, r"\n[^\n]*\n$", "\n")]:
        file = work.root / path
        text, count = re.subn(old, new, file.read_text())
        assert count == 1, path
        file.write_text(text)
    work.git("commit", "--quiet", "--all", "--message", "after")
    return work


def test_the_report_names_what_a_commit_changes(changed, tmp_path):
    rows, plots, metrics = changed.run(".ci/report", "before", str(tmp_path)).stdout.split("\n### ")
    better = r"^\| fer_boosting \| (\w+) \| [\d.]+ → ([\d.]+) \|"
    assert re.findall(better, rows, re.MULTILINE) == [("neighbours", "90.0")]
    assert re.findall(r"^- `(.+)`$", plots, re.MULTILINE) == [COMPARISON["table"], ROC]
    assert re.findall(r"^\| (\S+) +\| (\w+) +\|.* 0\.9 ", metrics, re.MULTILINE) == [(METRICS, "accuracy")]
    page = (tmp_path / "plots.html").read_text()
    assert "ROC: fer_boosting logistic" in page and "ROC: fer_boosting neighbours" not in page


def test_the_report_of_an_unchanged_branch_is_empty(work, tmp_path):
    report = work.run(".ci/report", "HEAD", str(tmp_path)).stdout
    assert "No row of the comparison differs from HEAD." in report and "\n0 of " in report
    assert not list(tmp_path.glob("*.html"))


def test_results_against_a_revision_that_is_not_there(clone):
    refused = clone.cli("results", "--against", "no-such-branch", check=False)
    assert refused.returncode == 2 and "no-such-branch: git has no comparison there" in refused.stderr


def test_results_against_a_revision_from_before_they_moved():
    "Earlier paths, names, columns and roles, in the repository's own history."
    earlier = "a63bdb9"
    there = subprocess.run(["git", "cat-file", "-e", earlier], cwd=ROOT, capture_output=True).returncode == 0
    if not there: pytest.skip("a shallow clone")
    table = comparison_at(earlier, ROOT).set_index(["study", "variant"])
    assert table.loc[("fer_elm", "patches_ensemble"), "role"] == "sound" and "reported" in table
    assert set(table["role"]) == {"sound", "published", "smoke_test"}
