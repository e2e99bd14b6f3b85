"The notebooks are the source: they pass their own tests, give exactly the modules that are there, are stored clean."
import os
import posixpath
import re
import shutil
from concurrent.futures import ThreadPoolExecutor

import nbformat
import pytest
from conftest import ROOT, copy_tree

from fer_research.pipeline.parameters import changed_notebooks

NOTEBOOKS = sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / "nbs").rglob("*.ipynb")
                   if not any(part[0] in "._" for part in p.relative_to(ROOT).parts))
STUDIES = [path for path in NOTEBOOKS if path.startswith("nbs/studies/") and not path.endswith("/schema.ipynb")]
LIBRARY = [path for path in NOTEBOOKS if path not in STUDIES and not path.startswith("nbs/guide/")]
LONGEST = 20  # lines of a study's cell; what is longer belongs in the library


def cells(path: str, kind: str = "") -> list:
    "The cells of a notebook, or those of one kind."
    return [cell for cell in nbformat.read(ROOT / path, as_version=4).cells if cell.cell_type.startswith(kind)]


@pytest.fixture(scope="module")
def tested(request, tmp_path_factory):
    "The outcome of nbdev_test for each notebook that was asked for: two at a time, each in a process of its own."
    clone = copy_tree(tmp_path_factory.mktemp("notebooks") / "clone")
    clone.dvc("pull", "--quiet", "data.dvc")
    name = lambda item: getattr(item, "originalname", "")
    wanted = [item.callspec.params["path"] for item in request.session.items
              if name(item) == "test_a_notebook_passes_its_own_tests"]
    command = lambda path: clone.run("nbdev_test", "--n_workers", "0", "--path", path, check=False)
    with ThreadPoolExecutor(2) as pool:
        yield clone, {path: pool.submit(command, path) for path in wanted}


def is_executed_here(path: str) -> bool:
    "The site executes the others and the guide: tests/test_docs.py."
    return "skip_exec: false" not in cells(path)[0].source.splitlines()


@pytest.mark.parametrize("path", filter(is_executed_here, LIBRARY))
def test_a_notebook_passes_its_own_tests(path, tested):
    done = tested[1][path].result()
    assert done.returncode == 0 and "Success" in done.stdout, (done.stdout + done.stderr)[-4000:]


def test_the_notebooks_leave_no_files_behind(tested):
    clone, outcomes = tested
    for outcome in outcomes.values(): outcome.result()
    assert clone.git("status", "--porcelain") == ""


def test_export_and_clean_change_nothing(tmp_path):
    clone = copy_tree(tmp_path / "clone")
    clone.run("nbdev_export")
    clone.run("nbdev_clean")
    assert clone.git("status", "--porcelain") == "", "run `make export` and commit notebooks and modules together"
    for path in STUDIES:
        tags = [tag for cell in nbformat.read(clone.root / path, as_version=4).cells
                for tag in cell.metadata.get("tags", [])]
        lost = f"{path}: nbdev_clean took the tag, so that papermill would run the defaults"
        assert tags.count("parameters") == 1, lost


def test_study_notebooks_have_the_values_of_params_yaml():
    changed = [path.relative_to(ROOT).as_posix() for path in changed_notebooks(ROOT)]
    assert not changed, "run `make export`: in JupyterLab these would run with other values than in the pipeline"


@pytest.mark.parametrize("path", NOTEBOOKS)
def test_notebooks_are_stored_without_outputs(path):
    assert not [cell.source for cell in cells(path, "code") if cell.outputs or cell.execution_count is not None]


@pytest.mark.parametrize("path", STUDIES)
def test_a_study_notebook_has_the_form_that_papermill_and_nbdev_need(path):
    notebook = nbformat.read(ROOT / path, as_version=4)
    assert notebook.metadata.kernelspec.name == "python3"
    header, title = notebook.cells[:2]
    assert header.cell_type == "raw" and {"skip_exec: true", "skip_showdoc: true"} <= set(header.source.splitlines())
    assert title.cell_type == "markdown" and title.source.startswith("# ")
    assert [cell.cell_type for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])] == ["code"]


@pytest.mark.parametrize("path", STUDIES)
def test_a_study_cell_is_short(path):
    "But for lists of imports and of parameters."
    listing = lambda cell: "parameters" in cell.metadata.get("tags", []) or cell.source.startswith(("import ", "from "))
    lengths = {cell.source.splitlines()[0]: len(cell.source.splitlines())
               for cell in cells(path, "code") if not listing(cell)}
    assert not {first: length for first, length in lengths.items() if length > LONGEST}


@pytest.mark.parametrize("path", [path for path in LIBRARY
                                  if any("default_exp" in cell.source for cell in cells(path, "code"))])
def test_a_notebook_has_the_path_of_its_module(path):
    (module,) = [line.split()[-1] for cell in cells(path, "code")
                 for line in cell.source.splitlines() if line.startswith("#| default_exp")]
    assert path == f"nbs/{module.replace('.', '/')}.ipynb"
    assert (ROOT / "fer_research" / f"{module.replace('.', '/')}.py").is_file()


def links(path: str) -> set[str]:
    "Where the relative links of a notebook lead, seen from the root."
    found = (link for cell in cells(path, "markdown")
             for link in re.findall(r"\]\((?![a-z]+:|#)([^)#\s]+)", cell.source))
    return {posixpath.normpath(posixpath.join(posixpath.dirname(path), link)) for link in found}


def test_the_index_leads_to_every_study_notebook():
    assert set(STUDIES) <= links("nbs/index.ipynb")


@pytest.mark.parametrize("path", NOTEBOOKS)
def test_links_lead_somewhere(path):
    assert not {link for link in links(path) if not (ROOT / link).exists()}


@pytest.mark.slow
@pytest.mark.parametrize("path", STUDIES)
def test_a_study_notebook_runs_on_its_defaults_and_writes_to_scratch(path, done):
    computed = lambda: os.times().children_user + os.times().children_system  # the same on a busy machine
    before, started = done.listing("data", "nbs", "outputs", "results"), computed()
    done.run("jupyter", "execute", path, PYTHONPATH=str(done.root))
    assert 1 < computed() - started < 2 * 120, "more than two minutes on two cores"
    assert done.listing("data", "nbs", "outputs", "results") == before and done.listing("scratch")


@pytest.mark.slow
@pytest.mark.parametrize("path", STUDIES)
def test_a_study_notebook_says_what_to_run_first(path, work):
    shutil.rmtree(work.root / "data")
    stopped = work.run("jupyter", "execute", path, check=False, PYTHONPATH=str(work.root))
    assert stopped.returncode and re.search(r"run `(dvc|make) [^`]+`", stopped.stderr), stopped.stderr[-2000:]
