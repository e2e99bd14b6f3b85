"""What the guide, README.md and CONTRIBUTING.md tell people to type exists.

Commands, options, targets, parameters, files and names.
"""
import ast
import importlib
import re

import nbformat
import pytest
from conftest import ROOT
from ruamel.yaml import YAML
from typer.main import get_command

from docs.generator.pages import front_matter
from fer_research.pipeline.cli import app

PAGES = sorted((ROOT / "nbs" / "guide").glob("*.ipynb"))
TEXTS = {path.stem: "\n\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells) for path in PAGES}
TEXTS |= {name: (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "CONTRIBUTING.md")}
EXAMPLES = re.compile(r"\b(toy|digits8|NAME|STUDY|VARIANT)\b|[*…]")  # made up on a page, or a placeholder
every_page = pytest.mark.parametrize("page", TEXTS)


def unknown_command(line: str) -> str | None:
    "What is wrong with a call of fer-research, given as the words behind it."
    command = get_command(app)
    for word in line.split():
        if hasattr(command, "commands"):
            if word not in command.commands: return word
            command = command.commands[word]
        elif word.startswith("--"):
            if word not in {option for parameter in command.params for option in parameter.opts}: return word
    return None


def fences(text: str, language: str) -> list[str]:
    "The fenced blocks of a language."
    return re.findall(rf"^ *```{language}\n(.*?)^ *```", text, re.M | re.S)


def test_a_wrong_command_is_found():
    assert unknown_command("data put fer6 FILE --may-show") is None and unknown_command("weights") is None
    assert unknown_command("data putt fer6") == "putt" and unknown_command("data put fer6 --show") == "--show"
    assert unknown_command("prdict") == "prdict"


@every_page
def test_commands_and_options_exist(page):
    calls = re.findall(r"fer-research((?: +[^\s`'\x22&;,:)#]+)+)", TEXTS[page])
    assert not [(call, wrong) for call in calls if re.match(r" +[a-z]", call) and (wrong := unknown_command(call))]


@every_page
def test_targets_exist(page):
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    called = set(re.findall(r"(?:^|`)\s*make ([a-z]+)", TEXTS[page], re.M))
    assert not called - targets


@every_page
def test_parameters_exist(page):
    params = YAML(typ="safe").load(ROOT / "params.yaml")
    for name in re.findall(rf"(?<![\w/.])((?:{'|'.join(params)})\.[\w.]*\w)", TEXTS[page]):
        if name.endswith((".yaml", ".ipynb", ".zip")) or EXAMPLES.search(name): continue
        section = params
        for part in name.split("."):
            assert part in section, f"{name}: params.yaml has no {part}"
            section = section[part]


@every_page
def test_files_exist(page):
    named = re.findall(r"`((?:nbs|tests|fer_research|published|presets|benchmarks)/[\w./-]+)`", TEXTS[page])
    assert not [path for path in named if not EXAMPLES.search(path) and not (ROOT / path).exists()]
    folder = ROOT / "nbs" / "guide" if page in {path.stem for path in PAGES} else ROOT
    links = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", TEXTS[page])
    assert not [link for link in links if not (folder / link).exists()]


@every_page
def test_named_tests_exist(page):
    tests = "".join(path.read_text() for path in (ROOT / "tests").glob("*.py"))
    assert not [name for name in re.findall(r"`(test_\w+)`", TEXTS[page]) if f"def {name}(" not in tests]


@every_page
def test_code_in_fences_imports_what_there_is(page):
    for block in fences(TEXTS[page], "python"):
        for node in ast.walk(ast.parse(block)):
            if not isinstance(node, ast.ImportFrom) or node.module.split(".")[0] != "fer_research": continue
            if EXAMPLES.search(node.module): continue
            module = importlib.import_module(node.module)
            assert not [name.name for name in node.names if not hasattr(module, name.name)], node.module


@every_page
def test_yaml_in_fences_is_yaml(page):
    head = (ROOT / "dvc.yaml").read_text().partition("\nstages:\n")[0] + "\nstages:\n"  # anchors, which stages refer to
    for block in fences(TEXTS[page], "yaml"):
        list(YAML(typ="safe").load_all(head + block if "${command}" in block else block))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_a_page_has_the_form_that_the_site_needs(path):
    notebook = nbformat.read(path, as_version=4)
    matter = front_matter(notebook)
    title, *rest = notebook.cells[1:] if matter else notebook.cells
    first, *lines = title.source.splitlines()
    assert first.startswith("# ") and any(line.startswith("> ") for line in lines[:2])
    assert all(cell.cell_type == "markdown" for cell in rest) == matter.get("skip_exec", False)
