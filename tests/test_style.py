"""What keeps notebooks readable and modules apart.

Short lines and cells, an example each, imports one way, one framework a module.
"""
import ast
import re
from collections.abc import Iterator

import nbformat
import pytest
from conftest import ROOT

LINE, CELL = 120, 30  # characters, lines
NOTEBOOKS = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "nbs").rglob("*.ipynb")
                   if not any(part[0] in "._" for part in path.relative_to(ROOT).parts))
SCRIPTS = sorted(path.relative_to(ROOT).as_posix() for folder in ("benchmarks", "docs", "tests")
                 for path in (ROOT / folder).rglob("*.py"))
EXPORT = re.compile(r"^#\|\s*export\s*$", re.M)
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


def cells(path: str, *kinds: str) -> list[str]:
    "The sources of a notebook's cells of some kinds."
    return [cell.source for cell in nbformat.read(ROOT / path, as_version=4).cells if cell.cell_type in kinds]


@pytest.mark.parametrize("path", NOTEBOOKS)
def test_lines_and_cells_are_short(path):
    "But for the rows of tables, which Markdown cannot break."
    texts, codes = ([source.splitlines() for source in cells(path, kind)] for kind in ("markdown", "code"))
    prose = [[line for line in lines if not line.lstrip().startswith("|")] for lines in texts]
    assert not [line for lines in codes + prose for line in lines if len(line) > LINE]
    assert not [lines[:2] for lines in codes + texts if len(lines) > CELL]


@pytest.mark.parametrize("path", SCRIPTS)
def test_lines_of_scripts_are_short(path):
    assert not [line for line in (ROOT / path).read_text(encoding="utf-8").splitlines() if len(line) > LINE]


def exported(path: str) -> Iterator[tuple[ast.FunctionDef | ast.ClassDef, str]]:
    "What a notebook exports, with the code of the examples behind it."
    sources = cells(path, "code")
    for number, source in enumerate(sources):
        if not EXPORT.search(source): continue
        examples = "\n".join(later for later in sources[number + 1 :] if not EXPORT.search(later))
        yield from ((node, examples) for node in ast.parse(source).body
                    if isinstance(node, ast.FunctionDef | ast.ClassDef))


def signature(node: ast.FunctionDef | ast.ClassDef) -> set[str]:
    "The words in a function's signature; of a class, in its bases, its fields and the signatures of its methods."
    if isinstance(node, ast.FunctionDef): parts = [node.args, *filter(None, [node.returns])]
    else: parts = [*node.bases, *(part.annotation for part in node.body if isinstance(part, ast.AnnAssign))]
    words = {word for part in parts for word in re.findall(r"\w+", ast.unparse(part))}
    if isinstance(node, ast.FunctionDef): return words
    return words.union(*(signature(part) for part in node.body if isinstance(part, ast.FunctionDef)))


@pytest.mark.parametrize("path", NOTEBOOKS)
def test_what_is_exported_has_an_example_after_it(path):
    "A class has also those of what takes it, gives it, or is made of it."
    found = list(exported(path))
    shown = {node.name for node, examples in found if re.search(rf"\b{node.name}\b", examples)}
    for _ in found:
        words = set().union(*(signature(node) for node, _ in found if node.name in shown))
        shown |= {node.name for node, _ in found if isinstance(node, ast.ClassDef) and node.name in words}
    assert not [node.name for node, _ in found if node.name[0] != "_" and node.name not in shown]
