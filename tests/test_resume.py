"A run that is killed or fails leaves nothing half made, and the next one goes on."
import json
import os
import re
import signal
import subprocess
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from safetensors import safe_open

FEATURES, EMBED = "fer_boosting_pixels@pca", "fer_boosting_embed@efficientnet_lite0"
SEARCH = "fer_boosting_fit@pca_tuned"
TRIAL_STATE, REPORT = 6, 7  # operations in Optuna's journal: a trial's state, and a value on the way
FINISHED = {1, 2}           # states: complete, pruned
PARTIAL = "outputs/partial"  # nothing in the end but the journals of searches, to look at
SEARCHED = "results/fer_boosting/fit/pca_tuned", "outputs/fer_boosting/fit/pca_tuned"


def wait_for(condition, seconds: float, what: str):
    "The first true value of `condition()`."
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition(): return found
        time.sleep(0.005)
    pytest.fail(f"waited {seconds} s for {what}")


def start_repro(clone, *stage: str) -> subprocess.Popen:
    "Start `dvc repro` without a word from it."
    return clone.start("python", "-m", "dvc", "repro", *stage, output=subprocess.DEVNULL)


@contextmanager
def killed(clone, *stage: str):
    """Run `dvc repro` while the block lasts, then kill its process group at once.

    Yields a list that then has the descendants.
    """
    process, family = start_repro(clone, *stage), []
    try: yield family
    finally:
        family += psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_a_killed_stage_leaves_no_half_file_and_is_made_again(done, reproduced):
    outs = "outputs/fer_boosting/pixels/pca", "results/fer_boosting/pixels/pca"
    whole, first = reproduced.listing(*outs), done.root / outs[0] / "features" / "features.npy"
    with killed(done, "--force", "--single-item", FEATURES) as family:
        wait_for(lambda: not first.exists(), 60, "DVC to remove the old outputs")
        wait_for(first.exists, 120, "the first output")
    _, alive = psutil.wait_procs(family, timeout=30)
    assert not alive, "a kernel outlives its stage"
    left = done.listing(*outs)
    assert f"{outs[0]}/report.ipynb" not in left, "a report of a run that did not end"
    assert {path: digest for path, digest in left.items() if "/." not in path}.items() <= whole.items()
    done.dvc("repro", FEATURES)
    assert done.listing(*outs) == whole, "other bytes, or remains of the killed run"
    assert "up to date" in done.dvc("status", FEATURES).stdout


@pytest.mark.slow
def test_a_killed_embedding_goes_on_with_the_images_that_are_left(done, reproduced):
    outs = ("outputs/fer_boosting/embed/efficientnet_lite0",)
    partial = done.root / "outputs" / "partial" / "fer_boosting"
    with killed(done, "--force", "--single-item", EMBED):
        first = wait_for(lambda: next(partial.glob("*/00000.npz"), None), 240, "the first images")
    written = first.stat().st_mtime_ns
    with start_repro(done, "--force", "--single-item", EMBED) as process:  # or DVC takes its cached outputs
        wait_for(lambda: next(partial.glob("*/00001.npz"), None), 240, "the next images")
        assert first.stat().st_mtime_ns == written, "the first images were embedded again"
    assert process.returncode == 0
    assert done.listing(*outs, PARTIAL) == reproduced.listing(*outs, PARTIAL)


def epochs(state: Path) -> int:
    "How many epochs a training has kept."
    with safe_open(state, "np") as file: return len(json.loads(file.metadata()["history"]))


@pytest.mark.parametrize(("stage", "states", "outs"), [
    pytest.param("fer_elm_codes@vqvae", "fer_elm/codes-vqvae-*.safetensors",
                 ("outputs/fer_elm/codes/vqvae", "results/fer_elm/codes/vqvae"), marks=pytest.mark.slow),
    pytest.param("kana_mlp_best@resnet", "kana_mlp/best-resnet-*/[0-9]*.safetensors",  # several at a time, in processes
                 ("outputs/kana_mlp/best/resnet", "results/kana_mlp/best/resnet"), marks=pytest.mark.slow),
], ids=["one", "several"])
def test_a_killed_training_ends_at_once_and_goes_on_with_the_next_epoch(done, reproduced, stage, states, outs):
    partial = done.root / "outputs" / "partial"
    with killed(done, "--force", "--single-item", stage) as family:
        state = wait_for(lambda: next(partial.glob(states), None), 240, "the first epoch")
    _, alive = psutil.wait_procs(family, timeout=30)
    assert not alive, "a network is trained for nobody"
    kept, written = epochs(state), state.stat().st_mtime_ns
    with start_repro(done, "--force", "--single-item", stage) as process:
        wait_for(lambda: state.stat().st_mtime_ns != written, 240, "the next epoch")
        assert kept < epochs(state) <= kept + 2, "it began anew"
    assert process.returncode == 0
    assert done.listing(*outs, PARTIAL) == reproduced.listing(*outs, PARTIAL)


@pytest.mark.parametrize(("stage", "first", "next_one", "outs"), [
    ("fer_elm_patches@patches",
     "fer_elm/patches-patches-*/000.safetensors", "fer_elm/patches-patches-*/001.safetensors",
     ("outputs/fer_elm/patches/patches", "results/fer_elm/patches/patches")),
    pytest.param("polymnist_source_models@published",
                 "polymnist/source_models-published-*/cnn_1-*/history.csv",
                 "polymnist/source_models-published-*/dense_128-*/history.csv",
                 ("outputs/polymnist/source_models/published", "results/polymnist/source_models/published"),
                 marks=pytest.mark.slow),
], ids=["patches", "networks"])
def test_what_was_fitted_before_a_run_was_killed_is_not_fitted_again(done, reproduced, stage, first, next_one, outs):
    partial = done.root / "outputs" / "partial"
    with killed(done, "--force", "--single-item", stage):
        one = wait_for(lambda: next(partial.glob(first), None), 240, "the first")
    written = one.stat().st_mtime_ns
    with start_repro(done, "--force", "--single-item", stage) as process:
        wait_for(lambda: next(partial.glob(next_one), None), 240, "the next")
        assert one.stat().st_mtime_ns == written, "the first was fitted again"
    assert process.returncode == 0
    assert done.listing(*outs, PARTIAL) == reproduced.listing(*outs, PARTIAL)


def operations(journal: Path) -> list[dict]:
    "What a search has written down; its last line may still be under way."
    lines = journal.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def finished(journal: Path) -> set[int]:
    "Trials that have ended."
    return {done["trial_id"] for done in operations(journal)
            if done["op_code"] == TRIAL_STATE and done["state"] in FINISHED}


def reports(journal: Path, trials: set[int]) -> Counter:
    "How many values each of these trials has reported: one every ten rounds that it ran."
    return Counter(done["trial_id"] for done in operations(journal)
                   if done["op_code"] == REPORT and done["trial_id"] in trials)


@pytest.fixture(scope="module")
def resumed(reproduced, tmp_path_factory) -> SimpleNamespace:
    "A search that was killed and run again; `journal` is a second name of its journal, which is renamed at the end."
    clone = reproduced.copy(tmp_path_factory.mktemp("resumed"))
    folder, journal = clone.root / "outputs" / "partial" / "fer_boosting", clone.root / "scratch" / "journal"
    with killed(clone, "--force", "--single-item", SEARCH) as family:
        os.link(wait_for(lambda: next(folder.glob("fit-pca_tuned-*.log"), None), 120, "the journal"), journal)
        wait_for(lambda: len(finished(journal)) >= 3, 120, "three finished trials")
    trials = finished(journal)
    found = SimpleNamespace(clone=clone, journal=journal, family=family, trials=trials,
                            reports=reports(journal, trials), left=clone.listing(*SEARCHED))
    clone.dvc("repro", "--force", "--single-item", SEARCH)  # or DVC takes its cached outputs
    return found


def test_a_killed_search_ends_as_if_nothing_had_happened(resumed, reproduced):
    assert not resumed.left, "results of a search that did not end"
    assert resumed.clone.listing(*SEARCHED) == reproduced.listing(*SEARCHED)
    partial = resumed.clone.root / "outputs" / "partial" / "fer_boosting"
    assert [path.name for path in partial.glob("fit-pca_tuned*")] == ["fit-pca_tuned.log"]


def test_trials_that_were_finished_are_not_run_again(resumed):
    assert 3 <= len(resumed.trials) < 8 and finished(resumed.journal) == set(range(8))
    assert reports(resumed.journal, resumed.trials) == resumed.reports


def test_no_worker_outlives_a_killed_search(resumed):
    _, alive = psutil.wait_procs(resumed.family, timeout=30)
    assert not alive


def test_a_killed_run_leaves_nothing_in_the_root(resumed, reproduced):
    assert set(os.listdir(resumed.clone.root)) == set(os.listdir(reproduced.root))


def test_an_unusable_input_leaves_no_report(done):
    outs = "outputs/fer_boosting/fit/neighbours", "results/fer_boosting/fit/neighbours"
    done.edit(fer_boosting__fit__neighbours__classifier__neighbours=100_000)
    failed = done.dvc("repro", "fer_boosting_fit@neighbours", check=False)
    assert failed.returncode and "exited with 2" in failed.stderr and "Traceback" not in failed.stderr
    (error,) = [line for line in failed.stderr.splitlines() if line.startswith("fer-research: ")]
    assert "neighbours=100000: there are only" in error and str(done.root) not in error
    assert not done.listing(*outs)
    notebook = done.root / re.search(r"scratch/failed/\S+\.ipynb", error)[0]
    as_it_failed = notebook.read_bytes()
    done.cli("run", "fer_boosting", "fit", "majority")
    assert notebook.exists() and notebook.read_bytes() == as_it_failed, "another variant's run took the notebook away"


def test_two_variants_can_run_side_by_side(done, reproduced):
    variants = "majority", "neighbours"
    running = [done.start("python", "-m", "fer_research.pipeline.cli", "run", "fer_boosting", "fit", variant)
               for variant in variants]
    errors = [process.communicate()[1] for process in running]
    assert [process.returncode for process in running] == [0, 0], errors
    outs = [f"{folder}/fer_boosting/fit/{variant}" for folder in ("results", "outputs") for variant in variants]
    assert done.listing(*outs) == reproduced.listing(*outs)
