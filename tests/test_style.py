"""What keeps notebooks readable and modules apart.

Short lines and cells, an example each, imports one way, one framework a module.
"""
import ast
import re

import nbformat
import pytest
from conftest import ROOT

HELD = [  # notebooks that are held to the limits
    "nbs/core.ipynb", "nbs/compute.ipynb", "nbs/training_*.ipynb", "nbs/data/*.ipynb", "nbs/evaluation/*.ipynb",
    "nbs/features/*.ipynb",
    "nbs/models/*.ipynb", "nbs/sample/*.ipynb", "nbs/studies/*/[!s]*.ipynb", "nbs/studies/*/s[!c]*.ipynb"]
LINE, CELL = 120, 30  # characters, lines
FLOORS = [  # a module imports from its own floor and those that follow
    {"studies"}, {"pipeline"}, {"sample"}, {"models"}, {"features"}, {"evaluation", "data"},
    {"compute", "core", "training_torch", "training_keras"}]
FRAMEWORKS = {"torch": {"torch", "torchvision", "timm", "training_torch"},
              "tensorflow": {"tensorflow", "keras", "training_keras"}}
MODULES = {path.relative_to(ROOT / "fer_research").with_suffix("").as_posix().replace("/", "."): path
           for path in sorted((ROOT / "fer_research").rglob("*.py"))}


def imports(path) -> set[str]:
    "Names of the modules that a module imports when it is imported, ours without the package."
    package, found = ["fer_research", *path.relative_to(ROOT / "fer_research").parts[:-1]], set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import): found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return {name.removeprefix("fer_research.") for name in found}


def floor(module: str) -> int:
    "Its number, from above."
    return next(number for number, names in enumerate(FLOORS) if module.split(".")[0] in names)


@pytest.mark.parametrize("module", [name for name in MODULES if not name.split(".")[-1].startswith("_")])
def test_a_module_imports_from_its_own_floor_and_below(module):
    ours = imports(MODULES[module]) & set(MODULES)
    assert not [other for other in ours if floor(other) < floor(module)]


def reached(module: str) -> set[str]:
    "All modules that come along with one."
    found, left = set(), {module}
    while left:
        name = left.pop()
        found.add(name)
        if name in MODULES: left |= imports(MODULES[name]) - found
    return found


@pytest.mark.parametrize("module", [name for name in MODULES if not name.split(".")[-1].startswith("_")])
def test_torch_and_tensorflow_are_never_imported_by_one_module(module):
    tops = {name.split(".")[0] for name in reached(module)}
    assert not all(tops & names for names in FRAMEWORKS.values())


NOTEBOOKS = sorted(path.relative_to(ROOT).as_posix() for pattern in HELD for path in ROOT.glob(pattern))
EXPORT = re.compile(r"^#\|\s*export\s*$", re.M)


def cells(path: str, *kinds: str) -> list[str]:
    "The sources of a notebook's cells of some kinds."
    return [cell.source for cell in nbformat.read(ROOT / path, as_version=4).cells if cell.cell_type in kinds]


@pytest.mark.parametrize("path", NOTEBOOKS)
def test_lines_and_cells_are_short(path):
    sources = [source.splitlines() for source in cells(path, "code", "markdown")]
    assert not [line for lines in sources for line in lines if len(line) > LINE]
    assert not [lines[:2] for lines in sources if len(lines) > CELL]


@pytest.mark.parametrize("path", NOTEBOOKS)
def test_a_public_function_has_an_example_after_it(path):
    sources = cells(path, "code")
    for number, source in enumerate(sources):
        if not EXPORT.search(source): continue
        examples = "\n".join(later for later in sources[number + 1 :] if not EXPORT.search(later))
        names = [node.name
                 for node in ast.parse(source).body if isinstance(node, ast.FunctionDef) and node.name[0] != "_"]
        assert not [name for name in names if not re.search(rf"\b{name}\b", examples)]
