"Runs are recorded when they are finished, without a word about whose machine it was; README shows what is recorded."
import json
import platform
import sys

import pytest
from conftest import ROOT

from docs.generator.readme import readme


def test_a_finished_run_is_recorded(done):
    done.cli("record", "trial", "--study", "fer_boosting")
    record = done.root / "records" / "trial" / "fer_boosting"
    assert {"params.yaml", "dvc.lock", "source.json", "machine.json", "times.csv", "paired_tests.csv", "results"} == {path.name for path in record.iterdir()}
    assert list(done.listing("records/trial/fer_boosting/results/fer_boosting").values()) == list(done.listing("results/fer_boosting").values())
    assert json.loads((record / "source.json").read_text())["origin"] == "sample"
    text = "".join(path.read_text() for path in record.rglob("*") if path.is_file())
    assert str(done.root) not in text and platform.node() not in (record / "machine.json").read_text().split('"')
    stages = [line for line in (done.root / "outputs" / "times.csv").open() if line.startswith("fer_boosting")]
    assert len((record / "times.csv").read_text().splitlines()) == 1 + len(stages)


@pytest.mark.slow
def test_an_unfinished_run_is_not(done):
    done.edit(fer_boosting__variants__pca__classifier__rounds=7)
    refused = done.cli("record", "trial", "--study", "fer_boosting", check=False)
    assert refused.returncode == 2 and "not finished" in refused.stderr and "fer_boosting_fit@pca" in refused.stderr
    assert not (done.root / "records" / "trial").exists()


@pytest.mark.slow
def test_a_part_of_a_run_is_recorded_without_the_rest(done):
    done.edit(fer_boosting__variants__pca__classifier__rounds=7)
    done.cli("record", "trial", "--study", "fer_boosting", "--partial")
    kept, there = ({path.parent.name for path in root.glob("results/fer_boosting/*/metrics.json")} for root in (done.root / "records" / "trial" / "fer_boosting", done.root))
    assert there - kept == {"pca"}
    assert "| `trial` | `fer_boosting` |" in done.run(sys.executable, "-c", "from fer_research.pipeline.records import *; print(records_markdown())").stdout


def test_the_address_of_a_cluster_is_not_recorded(work):
    work.edit(compute={"engine": "dask", "address": "tcp://10.0.0.1:8786"})
    refused = work.cli("record", "trial", "--study", "fer_boosting", check=False)
    assert refused.returncode == 2 and "write {engine: local} before you record" in refused.stderr
    assert not (work.root / "records" / "trial").exists()


def test_a_section_compute_that_leaves_the_engine_to_the_schema_is_recorded(work):
    work.edit(compute={"instructions": "native"})
    refused = work.cli("record", "trial", "--study", "fer_bosting", check=False)
    assert refused.returncode == 2 and "no stage in dvc.yaml belongs to it" in refused.stderr, "what comes after the question where it was computed"


def test_an_unknown_study_is_refused(clone):
    refused = clone.cli("record", "trial", "--study", "fer_bosting", check=False)
    assert refused.returncode == 2 and "no stage in dvc.yaml belongs to it" in refused.stderr


def test_readme_is_what_the_index_notebook_gives():
    assert (ROOT / "README.md").read_text(encoding="utf-8") == readme(ROOT), "stale: run `make readme`"
