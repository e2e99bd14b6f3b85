"Runs are recorded when they are finished, without a word about whose machine it was; README shows what is recorded."
import json
import platform
import sys

import pandas as pd
import pytest
from conftest import ROOT

from docs.generator.readme import readme
from fer_research.pipeline.artifacts import find_variants
from fer_research.pipeline.compare import COMPARISON
from fer_research.pipeline.records import record_results, record_times, record_variants

KEPT = {"params.yaml", "dvc.lock", "source.json", "machine.json", "times.csv", "paired_tests.csv", "variants.csv",
        "results", "outputs"}


def test_a_finished_run_is_recorded(done):
    done.cli("record", "trial", "--study", "fer_boosting")
    record = done.root / "records" / "trial" / "fer_boosting"
    assert {path.name for path in record.iterdir()} == KEPT
    listing = done.listing("records/trial/fer_boosting").items()
    kept = {path.removeprefix("records/trial/fer_boosting/"): digest for path, digest in listing}
    results = done.listing("results/fer_boosting")
    assert results.items() <= kept.items() and "outputs/fer_boosting/fit/pca/tables/pca/per_class.csv" in kept
    assert {path.split("/")[4] for path in kept if path.startswith("outputs/")} == {"tables"}, "and no model"
    assert json.loads((record / "source.json").read_text())["origin"] == "sample"
    text = "".join(path.read_text() for path in record.rglob("*") if path.is_file())
    assert str(done.root) not in text and platform.node() not in (record / "machine.json").read_text().split('"')
    times = pd.read_csv(done.root / "outputs" / "times.csv", keep_default_na=False).query("study == 'fer_boosting'")
    assert len(record_times(record)) == len(times.drop_duplicates(["step", "key"])) > 0


def test_a_record_says_what_the_comparison_says(done):
    done.cli("record", "trial", "--study", "fer_boosting")
    record = done.root / "records" / "trial" / "fer_boosting"
    read = lambda kind: pd.read_csv(done.root / COMPARISON[kind]).query("study == 'fer_boosting'")
    table, tests = read("table"), read("tests")
    table = table[table["role"] != "smoke_test"].reset_index(drop=True)
    columns = ["variant", "role", "best", "n_test", "accuracy", "val_accuracy"]
    pd.testing.assert_frame_equal(record_results(record)[columns], table[columns], check_dtype=False)
    pd.testing.assert_frame_equal(pd.read_csv(record / "paired_tests.csv"), tests.reset_index(drop=True))


@pytest.mark.slow
def test_an_unfinished_run_is_not(done):
    done.edit(fer_boosting__fit__pca__classifier__rounds=7)
    refused = done.cli("record", "trial", "--study", "fer_boosting", check=False)
    assert refused.returncode == 2 and "not finished" in refused.stderr and "fer_boosting_fit@pca" in refused.stderr
    assert not (done.root / "records" / "trial").exists()


@pytest.mark.slow
def test_a_part_of_a_run_is_recorded_without_the_rest(done):
    done.edit(fer_boosting__fit__pca__classifier__rounds=7)
    done.cli("record", "trial", "--study", "fer_boosting", "--partial")
    record = done.root / "records" / "trial" / "fer_boosting"
    assert {*find_variants("fer_boosting", done.root)} - {*record_variants(record)} == {"pca"}
    code = "from fer_research.pipeline.records import *; print(records_markdown())"
    assert "| `trial` | `fer_boosting` |" in done.run(sys.executable, "-c", code).stdout


def test_the_address_of_a_cluster_is_not_recorded(work):
    work.edit(compute={"engine": "dask", "address": "tcp://10.0.0.1:8786"})
    refused = work.cli("record", "trial", "--study", "fer_boosting", check=False)
    assert refused.returncode == 2 and "write `engine: local` before you record" in refused.stderr
    assert not (work.root / "records" / "trial").exists()


def test_a_section_compute_that_leaves_the_engine_to_the_schema_is_recorded(work):
    work.edit(compute={"instructions": "native"})
    refused = work.cli("record", "trial", "--study", "fer_bosting", check=False)
    assert refused.returncode == 2  # by what comes after the question where it was computed
    assert "no stage in dvc.yaml belongs to it" in refused.stderr


def test_an_unknown_study_is_refused(clone):
    refused = clone.cli("record", "trial", "--study", "fer_bosting", check=False)
    assert refused.returncode == 2 and "no stage in dvc.yaml belongs to it" in refused.stderr


def test_readme_is_what_the_index_notebook_gives():
    assert (ROOT / "README.md").read_text(encoding="utf-8") == readme(ROOT), "stale: run `make readme`"
