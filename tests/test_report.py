"What a pull request shows: rows of the comparison, plots and metrics that a commit changes."
import re

import pytest


@pytest.fixture
def changed(work):
    "A clone in which one variant got better, another lost its figures in a plot, and the last commit says so."
    work.git("branch", "before")
    for path, old, new in [("comparison.csv", r"(?<=fer_boosting,neighbours,sound,False,200,)[\d.]+", "0.9"),
                           ("fer_boosting/neighbours/metrics.json", r'(?<="accuracy": )[\d.]+', "0.9"),
                           ("fer_boosting/logistic/roc.csv", r"\n[^\n]*\n$", "\n"),
                           ("fer_boosting/pca_tuned/search/trials.csv", r"\n[^\n]*\n$", "\n")]:
        file = work.root / "results" / path
        text, count = re.subn(old, new, file.read_text())
        assert count == 1, path
        file.write_text(text)
    work.git("commit", "--quiet", "--all", "--message", "after")
    return work


def test_the_report_names_what_a_commit_changes(changed, tmp_path):
    rows, plots, metrics = changed.run(".ci/report", "before", str(tmp_path)).stdout.split("\n### ")
    assert re.findall(r"^\| fer_boosting \| (\w+) \| [\d.]+ → ([\d.]+) \|", rows, re.MULTILINE) == [("neighbours", "90.0")]
    assert re.findall(r"^- `(.+)`$", plots, re.MULTILINE) == ["results/comparison.csv", "results/fer_boosting/logistic/roc.csv"]
    assert re.findall(r"^\| (\S+) +\| (\w+) +\|.* 0\.9 ", metrics, re.MULTILINE) == [("results/fer_boosting/neighbours/metrics.json", "accuracy")]
    page = (tmp_path / "plots.html").read_text()
    assert "logistic_roc" in page and "neighbours_roc" not in page


def test_the_report_of_an_unchanged_branch_is_empty(work, tmp_path):
    said = work.run(".ci/report", "HEAD", str(tmp_path)).stdout
    assert "No row of the comparison differs from HEAD." in said and "\n0 of " in said and not list(tmp_path.glob("*.html"))


def test_results_against_a_revision_that_is_not_there(clone):
    refused = clone.cli("results", "--against", "no-such-branch", check=False)
    assert refused.returncode == 2 and "no-such-branch: git has no results/comparison.csv there" in refused.stderr
