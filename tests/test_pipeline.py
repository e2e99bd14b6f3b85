"""What dvc.yaml says is what the stages do.

They read what they declare, write what they declare, and give the same bytes again.
"""
import json
import math
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from xml.etree import ElementTree

import nbformat
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, Clone
from distributed import LocalCluster
from dvc.repo import Repo
from ruamel.yaml import YAML
from safetensors import safe_open

from fer_research.data.catalogue import open_set
from fer_research.pipeline import predict
from fer_research.pipeline.artifacts import find_variant
from fer_research.pipeline.params import read_params, split_of, step_parameters, study_section
from fer_research.pipeline.runner import modules_of, study_notebooks
from fer_research.pipeline.stage import ENVIRONMENT, PORTABLE

PARAMS = read_params(ROOT / "params.yaml")
STUDIES = {study: study_section(PARAMS, study) for study in PARAMS["comparison"]["studies"]}
VARIANTS = [(study, name, placed.group is not None) for study, section in STUDIES.items()
            for name, (_, placed) in section.variants().items()]
FITTED = [(study, name) for study, name, smoke_test in VARIANTS if not smoke_test]
WATCHED = ("data/", "outputs/", "presets/", "published/", "results/")  # reading below these must be declared
FREE = ("scratch/", "outputs/partial/", "outputs/times.csv")  # writing here need not be
METRICS = ("accuracy accuracy_low accuracy_high balanced_accuracy macro_precision macro_recall macro_f1 "
           "weighted_precision weighted_recall weighted_f1 log_loss roc_auc_ovr ece n_train n_test").split()
# A stage for each library that learns; with the slow ones each notebook.
AGAIN = ["fer_boosting_pixels@pca", "fer_boosting_fit@pca", "fer_elm_codes@vqvae", "fer_transfer_ablation@resnet",
         "kana_mlp_report@sound", "comparison"]
AGAIN_TOO = [
    "prepare@fer6",
    *(f"fer_boosting_{name}" for name in (
        "split", "embed@efficientnet_lite0", "fit@pca_tuned", "fit@efficientnet_lite0_proposal",
        "classifiers@efficientnet_lite0", "adjust@efficientnet_lite0_adjusted",
        "ensemble@efficientnet_lite0_pca_ensemble", "analyse@efficientnet_lite0", "smoke_tests")),
    *(f"fer_elm_{name}" for name in (
        "source_models@sound", "encodings@one_hot", "controls@vqvae", "patches@patches", "code_patches@code_patches")),
    *(f"kana_mlp_{name}" for name in (
        "split", "baselines@sound", "search@m3", "one_at_a_time@m1_published", "source_models@sound", "best@resnet")),
    *(f"fer_transfer_{name}" for name in (
        "split", "inputs", "baselines@sound", "smoke_tests", "best@resnet", "report@sound")),
    *(f"polymnist_{name}" for name in (
        "split", "source_models@published", "best@resnet_backgrounds", "transfer@resnet", "report@sound"))]


class Stage(NamedTuple):
    "A stage of dvc.yaml with all names filled in."
    command: tuple[str, ...]  # (study, step[, key]), or ("strip",)
    deps: frozenset[str]
    params: frozenset[str]    # sections of params.yaml
    outs: dict[str, bool]     # path -> whether DVC keeps it in its cache

    def declares(self, path: str, written: bool = False) -> bool:
        "Whether a path is one of the stage's outs (or deps), or below one."
        known = set(self.outs) if written else self.deps | set(self.outs)
        return any(str(part) in known for part in (path, *PurePosixPath(path).parents))


@pytest.fixture(scope="module")
def stages(clone) -> dict[str, Stage]:
    "All stages by name, as DVC understands dvc.yaml."
    with Repo(str(clone.root)) as repo:
        return {stage.addressing.split(":")[-1]: Stage(
            tuple(re.sub("python -m fer_research.pipeline.(cli|stage) | --instructions portable", "",
                         stage.cmd).split()),
            frozenset(dep.def_path for dep in stage.deps if not hasattr(dep, "params")),
            frozenset(name for dep in stage.deps for name in getattr(dep, "params", ())),
            {out.def_path: out.use_cache for out in stage.outs}) for stage in repo.index.stages if stage.cmd}


def runs(stages: dict[str, Stage]) -> dict[str, tuple[str, str, str | None]]:
    "Study, step and key of each stage that runs a notebook."
    found = {name: (*stage.command, None)[:3] for name, stage in stages.items() if name != "strip"}
    return {name: run for name, run in found.items() if run[1] != "smoke_tests"}


def notebooks_of(name: str, stages: dict[str, Stage]) -> set[str]:
    "The notebooks that a stage runs."
    study, step, *key = stages[name].command
    if step == "smoke_tests":
        return {f"{study}/{placed.notebook}" for placed in STUDIES[study].entries() if placed.group}
    return {f"{study}/{step_parameters(PARAMS, study, step, *key)[0]}"}


# --- dvc.yaml, params.yaml and the notebooks ------------------------------------------------------------------------

def test_there_is_a_stage_for_each_entry_and_no_other(stages):
    wanted = {"strip": None, "comparison": None, "fer_transfer_inputs": None,
              **{f"prepare@{name}": None for name in PARAMS["datasets"]["explore"]}}
    for study, section in STUDIES.items():
        wanted |= {f"{study}_split": None, **{f"{study}_{placed.section}@{placed.key}": None
                                              for placed in section.entries() if not placed.group}}
        if any(placed.group for placed in section.entries()): wanted[f"{study}_smoke_tests"] = None
    assert set(stages) == set(wanted) and len(stages) <= 65
    locked = YAML(typ="safe").load(ROOT / "dvc.lock")["stages"]
    assert set(locked) == set(stages), "dvc.lock holds stages that are gone, or lacks some"


def test_every_study_notebook_is_run(stages):
    used = {notebook for name in stages if name != "strip" for notebook in notebooks_of(name, stages)}
    assert used == {"/".join(names) for names in study_notebooks(ROOT)}


def test_a_stage_depends_on_the_copies_of_its_notebooks_and_on_no_module_but_through_them(stages):
    for name in set(stages) - {"strip"}:
        copies = {f"outputs/notebooks/{notebook}.ipynb" for notebook in notebooks_of(name, stages)}
        assert {dep for dep in stages[name].deps if dep.startswith("outputs/notebooks")} == copies, name
        assert not [dep for dep in stages[name].deps if dep.startswith("fer_research")], name


def test_a_stage_depends_on_its_own_parameters(stages):
    for name, stage in stages.items():
        if name == "strip": continue
        study, step, *key = stage.command
        if study == "comparison": wanted = {"comparison", *STUDIES}
        elif study == "datasets": wanted = {f"datasets.explore.{key[0]}"}
        elif key or step in ("split", "smoke_tests"): wanted = {f"{study}.common", ".".join([study, step, *key])}
        else: wanted = {f"{study}.common"}
        assert stage.params == wanted, name


def test_what_git_keeps_is_metrics_and_plots_and_the_cache_has_the_rest(stages):
    "A plain output that is not cached would switch DVC's run-cache off for the whole stage."
    for name, stage in stages.items():
        if name == "strip": continue
        place = "/".join(stage.command)
        assert {path for path, cached in stage.outs.items() if cached} == {f"outputs/{place}"}, name
        assert all(path.startswith(f"results/{place}/") for path, cached in stage.outs.items() if not cached), name
    written = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"].values()
    plain = [out for stage in written for out in stage.get("do", stage)["outs"]]
    assert all(isinstance(out, str) for out in plain)


def test_every_variant_is_among_the_metrics_of_dvc(reproduced):
    shown = json.loads(reproduced.dvc("metrics", "show", "--json").stdout)[""]["data"]
    found = {(path.split("/")[1], Path(path).stem) for path in shown}
    found |= {(path.split("/")[1], name) for path, content in shown.items() if path.endswith("smoke_tests.json")
              for name in content["data"]}
    assert {(study, name) for study, name, _ in VARIANTS} <= found


def test_the_lock_knows_the_modules_and_notebooks_that_are_there(reproduced):
    "They are the same on every machine, whatever a stage computes there."
    before, after = (YAML(typ="safe").load(root / "dvc.lock")["stages"]["strip"] for root in (ROOT, reproduced.root))
    assert before == after, "dvc.lock is older than fer_research/ or nbs/studies/: run `dvc repro` and commit it"


# --- what the stages really did -------------------------------------------------------------------------------------

def test_every_stage_was_watched(stages, reproduced):
    assert {opened.stage for opened in reproduced.opened} == set(stages)


def test_what_is_read_is_declared(stages, reproduced):
    read = {(o.stage, o.path) for o in reproduced.opened
            if o.mode == "r" and o.path.startswith(WATCHED) and not o.path.startswith(FREE)}
    assert not [(stage, path) for stage, path in sorted(read) if not stages[stage].declares(path)]


def test_what_is_written_is_declared(stages, reproduced):
    def allowed(opened) -> bool:
        path, stage = PurePosixPath(opened.path), stages[opened.stage]
        beside = path.name.startswith(".") and path.parent in {PurePosixPath(out).parent for out in stage.outs}
        return (opened.path.startswith(FREE) or "__pycache__" in path.parts or beside
                or stage.declares(opened.path, written=True))
    assert not [(opened.stage, opened.path) for opened in reproduced.opened
                if opened.mode == "w" and not allowed(opened)]


def test_the_modules_that_run_are_the_clones_and_in_the_notebooks_copy(stages, reproduced):
    loaded = {(o.stage, re.sub(r"__pycache__/(\w+)\..*", r"\1.py", o.path)) for o in reproduced.opened
              if "fer_research/" in o.path}
    assert not [path for _, path in loaded if path.startswith("/")], "modules of the original working tree"
    schemas = "\n".join(f"import fer_research.studies.{study}.schema" for study in STUDIES)
    imports = f"import fer_research.pipeline.stage, fer_research.pipeline.runner\n{schemas}"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(imports)])
    runner = modules_of(notebook, reproduced.root)
    for name in set(stages) - {"strip"}:
        copies = [nbformat.read(reproduced.root / "outputs" / "notebooks" / f"{notebook}.ipynb", as_version=4)
                  for notebook in notebooks_of(name, stages)]
        known = {*runner, *(path for copy in copies for path in copy.metadata["modules"])}
        assert not [path for stage, path in sorted(loaded)
                    if stage == name and path not in known and not path.endswith("__init__.py")], name


def test_an_edited_module_re_runs_the_notebooks_that_need_it_and_no_other(stages, done):
    with (done.root / "fer_research" / "models" / "dimensions.py").open("a") as module: module.write("# a comment\n")
    done.dvc("repro", "strip")
    changed = json.loads(done.dvc("status", "--json").stdout)
    assert {stages[name].command[1] for name in changed} == {"analyse", "smoke_tests"}


def test_no_stage_writes_into_data(reproduced):
    assert not [opened for opened in reproduced.opened if opened.mode == "w" and opened.path.startswith("data/")]
    assert "up to date" in reproduced.dvc("status", "data.dvc").stdout


def test_a_second_run_has_nothing_to_do(done, reproduced):
    set_up = any(Path(sys.prefix).glob(".installed-*"))  # by `make setup`, which `make repro` would begin with
    printed = (done.run("make", "repro", f"VENV={sys.prefix}") if set_up else done.dvc("repro")).stdout
    assert "Data and pipelines are up to date." in printed and (not set_up or "polymnist" in printed)
    assert done.listing("results", "outputs", "dvc.lock") == reproduced.listing("results", "outputs", "dvc.lock")


def test_an_edit_that_is_undone_computes_nothing(done):
    times = lambda: (done.root / "outputs" / "times.csv").read_text()
    for value in (7, 500):  # as it is
        done.edit(fer_boosting__fit__pca__classifier__rounds=value)
        before = times()
        done.dvc("repro", "fer_boosting_fit@pca")
        assert (times() != before) == (value == 7)


def test_a_second_clone_that_shares_the_cache_computes_nothing(clone, reproduced, tmp_path):
    second = clone.copy(tmp_path)
    shutil.rmtree(second.root / ".dvc" / "cache")
    shutil.copytree(reproduced.root / ".dvc" / "cache", second.root / ".dvc" / "cache", copy_function=os.link)
    shutil.copy2(reproduced.root / "dvc.lock", second.root / "dvc.lock")
    second.dvc("repro")
    assert not (second.root / "outputs" / "times.csv").exists(), "a notebook was run"
    assert second.listing("results") == reproduced.listing("results")


@pytest.fixture(scope="module")
def again(request, reproduced, tmp_path_factory) -> Clone:
    "The clone once more, in which the stages that are asked for ran a second time, in other surroundings."
    made = reproduced.copy(tmp_path_factory.mktemp("again"))
    wanted = [item.callspec.params["name"] for item in request.session.items
              if getattr(item, "originalname", "") == "test_a_stage_gives_the_same_bytes_again"]
    made.dvc("repro", "--force", "--single-item", *wanted, PYTHONHASHSEED="7", TZ="Pacific/Auckland",
             OMP_NUM_THREADS="3", COLUMNS="40", MPLBACKEND="agg")
    times = [len(pd.read_csv(one.root / "outputs" / "times.csv")) for one in (made, reproduced)]
    assert times[0] == times[1] + len(wanted), "a stage did not run"
    return made


@pytest.mark.parametrize("name", [*AGAIN, *(pytest.param(name, marks=pytest.mark.slow) for name in AGAIN_TOO)])
def test_a_stage_gives_the_same_bytes_again(name, stages, again, reproduced):
    before = reproduced.listing(*stages[name].outs)
    assert set(stages[name].outs) <= {str(p) for path in before for p in (path, *PurePosixPath(path).parents)}
    assert again.listing(*stages[name].outs) == before


ON_SEVERAL = "kana_mlp", "search", "m1"  # trials in processes


def test_a_stage_gives_the_same_bytes_on_a_cluster_and_does_not_depend_on_it(stages, done):
    outs = stages["kana_mlp_search@m1"].outs
    before = done.listing(*outs)
    with LocalCluster(n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0") as cluster:
        done.edit(compute__engine="dask", compute__address=cluster.scheduler_address)
        assert "up to date" in done.dvc("status", "kana_mlp_search@m1").stdout
        shutil.rmtree(done.root / "outputs" / "kana_mlp" / "search" / "m1")
        done.cli("run", *ON_SEVERAL)
        there = "task" in cluster.scheduler.task_prefixes
    assert there and done.listing(*outs) == before


def test_a_stage_whose_cluster_is_gone_says_so(done):
    done.edit(compute__engine="dask", compute__address="tcp://127.0.0.1:1")
    stopped = done.cli("run", *ON_SEVERAL, check=False)
    assert stopped.returncode == 2
    assert "InputError: compute: address: tcp://127.0.0.1:1: no scheduler of Dask answers" in stopped.stderr


# --- what every fitted variant writes -------------------------------------------------------------------------------

@pytest.mark.parametrize(("study", "variant"), FITTED)
def test_a_variant_writes_its_metrics(study, variant, reproduced):
    files = find_variant(study, variant, reproduced.root)
    metrics = json.loads(files.metrics.read_text())
    assert not set(METRICS) - set(metrics)
    assert all(isinstance(value, int | float) and math.isfinite(value) for value in metrics.values())
    assert all(isinstance(value, int) or value == float(f"{value:.6g}") for value in metrics.values())
    assert metrics["accuracy_low"] <= metrics["accuracy"] <= metrics["accuracy_high"]
    answers, results = pd.read_csv(files.confusion), files.metrics.parents[1]
    assert list(answers) == ["actual", "predicted"] and len(answers) == metrics["n_test"]
    assert len(pd.read_csv(results / "roc" / f"{variant}.csv")) and len(pd.read_csv(files.tables / "per_class.csv"))


@pytest.mark.parametrize(("study", "variant"), FITTED)
def test_predictions_are_those_of_the_test_part(study, variant, reproduced):
    files, split = find_variant(study, variant, reproduced.root), split_of(STUDIES[study], variant)
    items = pd.read_csv(reproduced.root / "outputs" / study / "split" / f"{split}.csv",
                        dtype=str, keep_default_na=False)
    table, metrics = items.query("part == 'test'"), json.loads(files.metrics.read_text())
    arrays = np.load(files.predictions, allow_pickle=False)
    assert set(arrays) == {"id", "y_true", "proba"} and arrays["id"].dtype.kind == "U"
    assert arrays["id"].tolist() == table["id"].tolist() and len(table)
    assert np.array(sorted(set(items["label"])))[arrays["y_true"]].tolist() == table["label"].tolist()
    assert metrics["accuracy"] == float(f"{(arrays['proba'].argmax(axis=1) == arrays['y_true']).mean():.6g}")
    assert ("val_accuracy" in metrics) == ("val_loss" in metrics)
    assert "val_loss" in metrics or "validation" not in set(items["part"])


@pytest.mark.parametrize(("study", "variant"), FITTED)
def test_a_stored_model_predicts_the_same_from_the_images(study, variant, reproduced):
    arrays = np.load(find_variant(study, variant, reproduced.root).predictions, allow_pickle=False)
    images = open_set(PARAMS[study]["common"]["dataset"], reproduced.root / "data")
    model = predict.load(study, variant, reproduced.root)
    assert list(model.classes_) == images.classes
    some = np.unique(np.linspace(0, len(arrays["id"]) - 1, 10).astype(int))  # from the first class to the last
    answers = model.predict_proba([images.read(name) for name in arrays["id"][some]])
    # OpenVINO, which runs a stored network in float32, rounds otherwise.
    np.testing.assert_allclose(answers, arrays["proba"][some], rtol=1e-5, atol=1e-5)


def read_safely(path) -> None:
    "Read a model's file in a form that cannot hold code; fails for any other form."
    if path.suffix == ".json": json.loads(path.read_text())
    elif path.suffix == ".txt": assert path.read_text().startswith("tree\n")
    elif path.suffix == ".safetensors":
        with safe_open(path, "numpy") as tensors:
            assert all(tensors.get_tensor(name).dtype != object for name in tensors.keys())
    elif path.suffix == ".xml":
        versions = [layer.get("version") for layer in ElementTree.parse(path).iter("layer")]
        assert all(re.fullmatch(r"opset\d+", version) for version in versions), "an operation of somebody's library"
    elif path.suffix == ".bin": assert path.with_suffix(".xml").exists(), "numbers of no network"
    else: pytest.fail(f"{path.name}: a form that is not known to be safe")


def test_no_model_can_hold_code(reproduced):
    files = [path for path in (reproduced.root / "outputs").glob("*/*/*/models/*/**/*") if path.is_file()]
    places = [path.relative_to(reproduced.root / "outputs").parts for path in files]
    assert {(place[0], place[4]) for place in places} == set(FITTED)
    for path in files:
        if path.suffix != ".safetensors":  # those begin with a length
            assert not path.read_bytes().startswith(b"\x80"), f"{path}: a pickle"
        read_safely(path)


PROCESSOR = """import json, torch
from numpy._core._multiarray_umath import __cpu_features__
from threadpoolctl import threadpool_info
print(json.dumps([torch.backends.cpu.get_cpu_capability(), __cpu_features__["X86_V4"],
                  [i["architecture"] for i in threadpool_info() if i["internal_api"] == "openblas"]]))"""


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="the instructions are those of x86")
def test_a_portable_stage_computes_with_avx2_alone():
    environment = {**os.environ, **ENVIRONMENT, **PORTABLE}
    ran = subprocess.run([sys.executable, "-c", PROCESSOR], env=environment, capture_output=True, text=True, check=True)
    capability, wide, blas = json.loads(ran.stdout)
    assert (capability, wide) == ("AVX2", False) and set(blas) == {"Haswell"}


# --- reports --------------------------------------------------------------------------------------------------------

def find_reports(clone: Clone) -> list[Path]:
    "The notebooks that stages ran, without the copies that they depend on."
    return sorted(path for path in (clone.root / "outputs").rglob("*.ipynb") if "notebooks" not in path.parts)


def test_reports_tell_nothing_of_when_and_where(stages, reproduced):
    paths = find_reports(reproduced)
    wanted = {Path("outputs", *stages[name].command, "report.ipynb").as_posix() for name in runs(stages)}
    found = {path.relative_to(reproduced.root).as_posix() for path in paths if path.parent.name != "smoke_tests"}
    assert found == wanted
    for path in paths:
        report = nbformat.read(path, as_version=4)
        outputs = [output for cell in report.cells for output in cell.get("outputs", [])]
        for output in outputs:
            data = output.get("data", {})
            output["data"] = {kind: content for kind, content in data.items() if not kind.startswith("image/")}
        text = json.dumps(report)
        for told in (str(reproduced.root), sys.prefix, "0x7f", "start_time", "duration"):
            assert told not in text, f"{path}: {told}"
        assert not re.search(r"20\d\d-\d\d-\d\d[T ]\d\d:\d\d", text), f"{path}: a time"
        assert not [cell for cell in report.cells if cell.get("execution_count") is not None]
        assert not [output for output in outputs if output.get("execution_count") or output.output_type == "error"]


DRAWS = re.compile(r"^(?:ax = |figure = )?\w*(?:_plots?|image_grid)\(", re.MULTILINE)


def test_cells_that_draw_show_their_figures(reproduced):
    drawing = [(path, cell) for path in find_reports(reproduced) for cell in nbformat.read(path, as_version=4).cells
               if cell.cell_type == "code" and DRAWS.search(cell.source)]
    without = [f"{path}: {cell.source}" for path, cell in drawing
               if not any("image/png" in output.get("data", {}) for output in cell.outputs)]
    assert drawing and not without


def drop_none(values: dict) -> dict:
    "Those that say something."
    return {name: value for name, value in values.items() if value is not None}


def test_reports_show_the_parameters_of_params_yaml(stages, reproduced):
    for study, step, key in runs(stages).values():
        report = reproduced.root.joinpath("outputs", study, step, key or "", "report.ipynb")
        cells = nbformat.read(report, as_version=4).cells
        (injected,) = [cell.source for cell in cells if "injected-parameters" in cell.metadata.get("tags", [])]
        values = {}
        exec(injected, {}, values)
        given = step_parameters(PARAMS, study, step, key)[1] | {"write_to": "."}
        if "step" in values: given |= {"step": step}
        assert drop_none(values) == drop_none(given)


# --- the sample and its remote --------------------------------------------------------------------------------------

def test_the_remote_in_the_repository_holds_the_sample_and_nothing_else(clone):
    (data,) = YAML(typ="safe").load(clone.root / "data.dvc")["outs"]
    held = {path.parent.name + path.name for path in (clone.root / "sample").rglob("*") if path.is_file()}
    digest = data["md5"]
    listed = json.loads((clone.root / "sample" / "files" / "md5" / digest[:2] / digest[2:]).read_text())
    assert held == {digest, *(entry["md5"] for entry in listed)}
    assert {f"data/{entry['relpath']}": entry["md5"] for entry in listed} == clone.listing("data")


def test_nothing_can_be_pushed_into_git_by_accident(clone):
    (data,) = YAML(typ="safe").load(clone.root / "data.dvc")["outs"]
    assert data["remote"] == "sample" and data["push"] is False
    assert clone.dvc("remote", "list").stdout.split()[0] == "sample"
    assert "core.remote" not in clone.dvc("config", "--list").stdout
