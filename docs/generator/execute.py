"""Notebooks with their outputs, executed anew where something changed that these depend on.

Executing a page takes seconds, so what comes out is kept in .cache/pages/, under a digest of what the outputs depend
on: the notebook, our modules that it imports, the locked requirements, and files of the repository. These are all that
`make repro` and a data set change (`DEPS`), unless the front matter names fewer, as a stage of dvc.yaml does:
`deps: [published]`, or `deps: []` where all examples are made up. tests/test_docs.py compares what a notebook names
with what it opens. The folder may be deleted at any time, or copied to another clone.
"""
import hashlib
import os
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

from fer_research.core import InputError, atomic
from fer_research.pipeline.runner import modules_of, normalise
from fer_research.pipeline.stage import ENVIRONMENT

from .pages import directives, front_matter

DEPS = ("params.yaml", "presets", "published", "records", "results", "data.dvc", "data/sources.yaml", "dvc.lock")
ALWAYS = ("requirements.txt", "fer_research/pipeline/runner.py", "fer_research/pipeline/stage.py",
          "docs/generator/execute.py")


class ThisEnvironment(AsyncKernelManager):
    "Starts IPython in the interpreter that runs this code."
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        if sys.platform == "win32": return
        self._sockets = tempfile.TemporaryDirectory(prefix="kernel-")  # files need no port, and nobody else opens them
        self.transport, self.ip = "ipc", f"{self._sockets.name}/s"

    @property
    def kernel_spec(self) -> KernelSpec:
        "The kernel, whatever `kernel_name` says."
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=command, display_name="python3", language="python")


def _environment(path: Path, root: Path) -> dict[str, str]:
    "Variables of a kernel: those of a stage, with this interpreter's commands and this clone's modules first."
    first = {"PATH": str(Path(sys.executable).parent), "PYTHONPATH": str(root)}
    first = {name: os.pathsep.join(filter(None, [value, os.environ.get(name)])) for name, value in first.items()}
    jupyter = {"IPYTHONDIR": str(root / "scratch" / "ipython"), "JPY_SESSION_NAME": str(path)}  # as JupyterLab sets it
    return os.environ | ENVIRONMENT | first | jupyter


def execute(
    path: Path,  # a notebook
    root: Path,  # the repository
) -> NotebookNode:
    "A notebook with its outputs, run in its own folder as in JupyterLab; `InputError` where it stops."
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if directives(cell.source).get("eval") == "false":
            cell.metadata["tags"] = [*cell.metadata.get("tags", []), "skip-execution"]
    where = {"metadata": {"path": str(path.parent)}}
    client = NotebookClient(notebook, kernel_manager_class=ThisEnvironment, resources=where)
    try: client.execute(env=_environment(path, root))
    except CellExecutionError as error:
        raise InputError(f"{path.relative_to(root)} stopped: {error.ename}: {error.evalue}") from None
    ids = [cell.id for cell in notebook.cells if cell.cell_type != "raw"]
    for cell, ident in zip(normalise(notebook, root).cells, ids, strict=True): cell.id = ident
    return notebook


def _digest(
    names: Iterable[str],  # of files and folders, from the root
    root: Path,
) -> str:
    "A digest of names and contents of files, and of all files below folders."
    paths = [path for name in names for path in (root / name, *(root / name).rglob("*"))]
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(path for path in set(paths) if path.is_file()):
        digest.update(path.relative_to(root).as_posix().encode() + hashlib.blake2b(path.read_bytes()).digest())
    return digest.hexdigest()


def cache_key(
    path: Path,  # a notebook
    root: Path,  # the repository
) -> str:
    "A digest of all that a notebook's outputs depend on."
    notebook = nbformat.read(path, as_version=4)
    deps = front_matter(notebook).get("deps", DEPS)
    return _digest([path.relative_to(root).as_posix(), *modules_of(notebook, root), *ALWAYS, *deps], root)


def execute_once(
    path: Path,  # a notebook
    root: Path,  # the repository
) -> NotebookNode:
    "A notebook with its outputs, from `.cache/pages/` where nothing has changed that these depend on."
    folder = root / ".cache" / "pages" / path.relative_to(root).with_suffix("")
    copy = folder / f"{cache_key(path, root)}.ipynb"
    if not copy.exists():
        notebook = execute(path, root)
        with atomic(copy) as t: nbformat.write(notebook, t)
    return nbformat.read(copy, as_version=4)
