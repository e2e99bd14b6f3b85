"The generator of the documentation, part by part; tests/test_docs.py looks at the whole site."
import ast
import json

import nbformat
import pandas as pd
import pytest
from conftest import ROOT
from markdown import Markdown
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output, new_raw_cell

from docs.generator import cards, execute, links, pages, pictures, readme, reference, site, studies
from docs.generator.mathml import MathML
from fer_research.core import InputError, write_csv
from fer_research.pipeline.artifacts import Stage
from fer_research.pipeline.params import read_params
from fer_research.pipeline.records import record_source, record_variants

PCA = studies.Report("fer_boosting", "fit", "pca", "fit", "Boosting on faces: one fit")
PICTURE = [new_output("display_data", {"image/png": "aGk="})]


@pytest.fixture
def places(tmp_path) -> links.Places:
    "Two pages, a public name and a file that is no page."
    (tmp_path / "params.yaml").touch()
    own = {"nbs/core.ipynb": "api/core.md", "nbs/guide/first.ipynb": "guide/first.md"}
    return links.Places(tmp_path, "https://example.org/blob/main", own, {"repo_root": "api/core.md#repo_root"})


# --- links ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("link", "target"), [
    ("../core.ipynb#seeds", "../api/core.md#seeds"), ("nbs/guide/first.ipynb", "first.md"),
    ("params.yaml", "https://example.org/blob/main/params.yaml"), ("https://dvc.org", "https://dvc.org"),
    ("#below", "#below")])
def test_a_link_leads_to_the_page_of_its_target(places, link, target):
    assert links.relink(f"See [x]({link}).", "nbs/guide/run.ipynb", "guide/run.md", places) == f"See [x]({target})."


def test_a_link_that_leads_nowhere_is_refused(places):
    with pytest.raises(InputError, match="nbs/core.ipynb: the link y.ipynb leads nowhere"):
        links.relink("[x](y.ipynb)", "nbs/core.ipynb", "api/core.md", places)


def test_a_public_name_in_backticks_is_a_link(places):
    text = links.link_names("`repo_root`, `repo_root()` and `other`", "guide/run.md", places)
    assert text == "[`repo_root`](../api/core.md#repo_root), [`repo_root()`](../api/core.md#repo_root) and `other`"


@pytest.mark.parametrize("text", ["# `repo_root`", "[`repo_root`](x.md)", "```\n`repo_root`\n```"])
def test_a_public_name_in_a_heading_a_link_or_code_stays(places, text):
    assert links.link_names(text, "api/core.md", places) == text


# --- notebooks as Markdown --------------------------------------------------------------------------------------------

def test_formulas_are_mathml():
    options = {"pymdownx.arithmatex": {"generic": True}}
    markdown = Markdown(extensions=["pymdownx.arithmatex", MathML()], extension_configs=options)
    page = markdown.convert("The share $b/n$ and\n\n$$\\frac{b}{n}$$\n\n`$b$`")
    assert "<mfrac>" in page and page.count("<math") == 2 and 'display="block"' in page
    assert "<code>$b$</code>" in page and "arithmatex" not in page


@pytest.mark.parametrize(("source", "expected"), [
    ("---\nskip_exec: false\ndeps: [published]\n---", {"skip_exec": False, "deps": ["published"]}),
    ("---\ndeps: []\n---", {"deps": []})])
def test_front_matter_is_yaml(source, expected):
    assert pages.front_matter(new_notebook(cells=[new_raw_cell(source)])) == expected
    assert pages.front_matter(new_notebook(cells=[new_markdown_cell(source)])) == {}


@pytest.mark.parametrize(("source", "expected"), [
    ("#| hide\n1", None), ("#| default_exp core", None), ("#| include: false\n1", None), ("#| echo: false\n1", ""),
    ("1 + 1", "1 + 1"), ("#| export\nimport ast\nif True: import re", "")])
def test_directives_say_what_is_shown(source, expected):
    shown = pages.visible_cells(new_notebook(cells=[new_code_cell(source, outputs=PICTURE)]))
    assert [cell.source for cell in shown] == ([] if expected is None else [expected])


def test_output_can_be_left_out():
    (cell,) = pages.visible_cells(new_notebook(cells=[new_code_cell("#| output: false\n1", outputs=PICTURE)]))
    assert cell.outputs == []


def test_an_exported_cell_is_entries_and_folded_code():
    cells = [new_markdown_cell("## Names"), new_code_cell("#| export\ndef first(): return 1")]
    text = pages.visible_cells(new_notebook(cells=cells), lambda cell: "https://example.org/core.py#L3")[1].source
    assert text.startswith("### `first` { #first }") and "<summary>Source</summary>" in text
    assert "def first(): return 1" in text and "https://example.org/core.py#L3" in text


def test_a_page_has_tables_figures_and_links(places):
    row = '<tr style="text-align: right;"><td id="T_a" class="data">1</td></tr>'
    table = f'<style scoped>\n.x {{}}\n</style>\n<table border="1" class="dataframe">\n{row}</table>'
    shown = [{"text/html": table}, {"image/png": "aGk="}, {"text/markdown": "[core](../core.ipynb)"}]
    outputs = [*(new_output("display_data", data) for data in shown), new_output("stream", text="done\n")]
    cells = [new_markdown_cell("# Run\n\nSee `repo_root`."), new_code_cell("plot()", outputs=outputs)]
    notebook = new_notebook(cells=cells)
    text, figures = pages.page_of(notebook, "nbs/guide/run.ipynb", "guide/run.md", places)
    assert figures == {"run_files/run_1_1.png": b"hi"} and "![Figure: Run](run_files/run_1_1.png)" in text
    assert "[core](../api/core.md)" in text and "[`repo_root`](../api/core.md#repo_root)" in text
    assert "<table>\n<tr><td>1</td></tr></table>" in text and "~~~~{ .text .printed }\ndone\n~~~~" in text


# --- reference --------------------------------------------------------------------------------------------------------

FUNCTION = '''
def scaled(
    values: list[float],     # in metres
    by: float | None = 2.0,  # factor
    *more,
    unit="m",                # "m" or "km"
) -> list[float]:  # in `unit`
    "Values times a factor."
    return [by * value for value in values]
'''
CLASS = '''
LIMIT, _hidden = 3, 4  # at most

class Item(NamedTuple):
    "One thing."
    name: str  # in English

    @property
    def short(self) -> str:
        "Its first letter."
        return self.name[0]

    def renamed(self, name: str) -> "Item":
        "The same under another name."
        return self._replace(name=name)

def _helper(): pass
'''


def parameters(source: str) -> list[tuple]:
    "The parameters of the one function in a source."
    return [tuple(row) for row in reference.parameters(ast.parse(source).body[0], reference._comments(source))]


def test_parameters_have_the_comment_beside_them():
    assert parameters(FUNCTION) == [
        ("values", "list[float]", "", "in metres"), ("by", "float | None", "2.0", "factor"), ("*more", "", "", ""),
        ("unit", "", "'m'", '"m" or "km"'), ("returns", "list[float]", "", "in `unit`")]
    assert parameters("def f(): pass") == []


def test_an_option_of_a_command_has_its_help_text():
    source = 'def run(study: Annotated[str, typer.Argument(help="A folder.")]): pass'
    assert parameters(source) == [("study", "str", "", "A folder.")]


@pytest.mark.parametrize(("code", "block"), [
    ("x = 1", "~~~~python\nx = 1\n~~~~"), ("~~~~\nx\n~~~~", "~~~~~python\n~~~~\nx\n~~~~\n~~~~~")])
def test_a_fence_is_longer_than_any_in_the_code(code, block):
    assert reference.fenced(code, "python") == block


def test_a_function_has_an_entry():
    text = reference.reference(FUNCTION)
    call = "scaled(values: list[float], by: float | None = 2.0, *more, unit = 'm') -> list[float]"
    assert f"### `scaled` {{ #scaled }}\n\n~~~~python\n{call}\n~~~~\n\nValues times a factor." in text
    assert "| `by` | `float | None` | `2.0` | factor |" in text
    assert "| *returns* | `list[float]` |  | in `unit` |" in text


def test_a_class_and_its_public_methods_have_entries():
    text = reference.reference(CLASS, level=2)
    headings = ["## `LIMIT` { #LIMIT }", "## `Item` { #Item }", "### `Item.short` { #Item.short }",
                "### `Item.renamed` { #Item.renamed }"]
    assert [line for line in text.splitlines() if line.startswith("#")] == headings
    assert "| `name` | `str` |  | in English |" in text and "Item.short: str" in text
    assert "LIMIT, _hidden = 3, 4  # at most" in text


def test_public_names_are_those_of_the_library():
    names = reference.public_names(ROOT)
    assert {"repo_root", "InputError"} <= set(names["fer_research/core.py"]) and len(names) > 50


# --- executing --------------------------------------------------------------------------------------------------------

@pytest.fixture
def toy(tmp_path):
    "A folder with a module, results and a notebook that prints what they say and when it ran."
    files = {"fer_research/__init__.py": "", "fer_research/toy.py": "WORD = 'toy'", "results/m.json": "{}",
             "published/a.yaml": "a: 1", "requirements.txt": "numpy==2.0"}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "scratch").mkdir()
    return tmp_path


def notebook(toy, *sources: str, deps: str = ""):
    "A notebook of the folder with these cells."
    head = [new_raw_cell(f"---\ndeps: {deps}\n---")] if deps else []
    path = toy / "nbs" / "page.ipynb"
    path.parent.mkdir(exist_ok=True)
    nbformat.write(new_notebook(cells=[*head, *map(new_code_cell, sources)]), path)
    return path


def test_a_notebook_is_executed_in_its_folder(toy):
    page = notebook(toy, "import os; os.path.basename(os.getcwd())", "#| eval: false\n1 / 0")
    first, second = execute.execute(page, toy).cells
    assert first.outputs[0].data["text/plain"] == "'nbs'" and not second.outputs


def test_a_notebook_that_stops_says_where(toy):
    with pytest.raises(InputError, match="nbs/page.ipynb stopped: ZeroDivisionError: division by zero"):
        execute.execute(notebook(toy, "1 / 0"), toy)


def test_an_executed_notebook_is_kept_while_nothing_changes(toy):
    page = notebook(toy, "import time; time.time_ns()")
    stamp = lambda: execute.execute_once(page, toy).cells[0].outputs[0].data["text/plain"]
    first = stamp()
    assert stamp() == first
    (toy / "results" / "m.json").write_text('{"accuracy": 1}')
    second = stamp()
    assert second != first
    (toy / "results" / "m.json").write_text("{}")
    assert stamp() == first, "content decides: an edit that is undone executes nothing"


CHANGES = {"fer_research/toy.py": "WORD = 'boat'", "fer_research/core.py": "X = 1", "results/m.json": "[]",
           "results/new.json": "{}", "published/a.yaml": "a: 2", "requirements.txt": "numpy==2.1"}


@pytest.mark.parametrize(("deps", "relevant"), [
    ("", set(CHANGES) - {"fer_research/core.py"}), ("[]", {"fer_research/toy.py", "requirements.txt"}),
    ("[published]", {"fer_research/toy.py", "published/a.yaml", "requirements.txt"})])
def test_outputs_depend_on_imported_modules_and_on_deps(toy, deps, relevant):
    page = notebook(toy, "from fer_research.toy import WORD", deps=deps)
    key = execute.cache_key(page, toy)
    assert key == execute.cache_key(page, toy)
    for name, text in CHANGES.items():
        before = (toy / name).read_bytes() if (toy / name).exists() else None
        (toy / name).write_text(text)
        assert (execute.cache_key(page, toy) != key) == (name in relevant), name
        if before is None: (toy / name).unlink()
        else: (toy / name).write_bytes(before)
    notebook(toy, "from fer_research.toy import WORD", "WORD", deps=deps)
    assert execute.cache_key(page, toy) != key


def test_everything_that_outputs_may_depend_on_is_there():
    names = {*execute.DEPS, *execute.ALWAYS} - {"data/sources.yaml"}  # not in git
    assert not [name for name in names if not (ROOT / name).exists()]


# --- pictures ---------------------------------------------------------------------------------------------------------

GRID = new_notebook(cells=[new_code_cell("image_grid(faces)", outputs=PICTURE)])
TAGGED = new_code_cell("mistakes(x)", outputs=PICTURE, metadata={"tags": ["shows-images"]})
HIDDEN, SHOWN = {"fer6": {"may_show": False}}, {"fer6": {"may_show": True}}


@pytest.mark.parametrize(("cell", "shows"), [
    (GRID.cells[0], True), (TAGGED, True), (new_code_cell("image_grid(faces)"), False),
    (new_code_cell("roc_plot(x)", outputs=PICTURE), False)])
def test_a_cell_that_drew_pictures_is_known(cell, shows):
    assert pictures.shows_pictures(cell) == shows


PARAMS = {"fer_boosting": {"common": {"dataset": "fer6"}}}
COMPARISON = studies.Report("comparison", "compare")
SMOKE_TEST = studies.Report("fer_boosting", "smoke_tests", "joined_resnet50_vit", "fit", "Boosting on faces: one fit")


@pytest.mark.parametrize("report", [PCA, COMPARISON, studies.Report("datasets", "explore", "fer6")])
def test_pictures_that_may_not_be_shown_are_refused(report):
    pictures.refuse_pictures(GRID, report, SHOWN, PARAMS)
    with pytest.raises(InputError, match="shows pictures, and fer6 may not be shown"):
        pictures.refuse_pictures(GRID, report, HIDDEN, PARAMS)


def test_other_data_sets_do_not_matter():
    pictures.refuse_pictures(GRID, PCA, SHOWN | {"kana": {"may_show": False}}, PARAMS)


def test_the_guide_goes_without_such_pictures():
    outputs = lambda sources: pictures.without_pictures(nbformat.from_dict(GRID), sources).cells[0].outputs
    assert outputs(SHOWN) == PICTURE and outputs(HIDDEN) == []


# --- pages about studies ----------------------------------------------------------------------------------------------

OWN = [studies.Report("a", "split", "", "split", "Faces: the split"),
       *(studies.Report("a", "fit", key, "fit", "Faces: the fit") for key in ("pca", "resnet")),
       *(studies.Report("a", "smoke_tests", key, "fit", "Faces: the fit") for key in ("fit_vgg", "joined_vgg"))]


@pytest.mark.parametrize(("report", "source", "page"), [
    (PCA, "outputs/fer_boosting/fit/pca/report.ipynb", "studies/fer_boosting/fit/pca.md"),
    (COMPARISON, "outputs/comparison/compare/report.ipynb", "studies/comparison/compare.md"),
    (SMOKE_TEST, "outputs/fer_boosting/smoke_tests/joined_resnet50_vit.ipynb",
     "studies/fer_boosting/smoke_tests/joined_resnet50_vit.md")])
def test_a_report_knows_its_source_and_its_page(report, source, page):
    assert (report.source, report.page) == (source, page)


def test_smoke_tests_leave_a_report_each():
    params = read_params(ROOT / "params.yaml")
    reports = {report.key: report for report in studies._reports_of("fer_boosting", "smoke_tests", "", params)}
    assert reports["joined_resnet50_vit"] == SMOKE_TEST._replace(title="") and "fit_pca" not in reports
    assert studies._reports_of("fer_elm", "code_patches", "code_patches", params)[0].notebook == "patches"


def test_reports_are_those_of_the_stages(clone):
    with pytest.raises(FileNotFoundError, match="is not there yet: run `make repro` first"):
        studies.stage_reports(clone.root)


def test_a_studys_title_is_what_its_notebooks_titles_begin_with():
    assert studies.study_title(OWN) == "Faces" and studies.study_title(OWN[:1]) == "a"


def test_a_study_has_a_row_a_step_and_a_link_a_key():
    results, tests = "\n".join(studies._reports(OWN)).split("## Smoke tests")
    assert "| `split` | the split | [split](split.md) |" in results and "smoke_tests" not in results
    assert "| `fit` | the fit | [pca](fit/pca.md), [resnet](fit/resnet.md) |" in results
    assert "| `fit` | the fit | [fit_vgg](smoke_tests/fit_vgg.md), [joined_vgg](smoke_tests/joined_vgg.md) |" in tests
    assert "## Smoke tests" not in studies._reports(OWN[:3])


def test_a_studys_own_table_and_parameters(tmp_path):
    (tmp_path / "params.yaml").write_text("a:\n  x: 1  # one\n\n  y: 2\n\n# next\nb:\n  z: 3\n")
    assert studies._parameters("a", tmp_path) == "a:\n  x: 1  # one\n\n  y: 2"
    table = "| study | variant |\n| --- | --- |\n| a | pca |\n"
    assert studies._rows_of("a", table) == "| variant |\n| --- |\n| pca |\n"


def test_data_sets_have_a_row_each():
    source = {"title": "Faces", "origin": "sample", "counts": {"Happy": 1200, "Sad": 3}, "classes": ["Happy", "Sad"]}
    page = studies.datasets_page([studies.Report("datasets", "explore", "fer6")], {"fer6": source})
    assert "| [fer6](explore/fer6.md) | Faces | sample | 1,203 | 2 |  |" in page


# --- cards ------------------------------------------------------------------------------------------------------------

CENSUS = {"images": 4, "classes": 2, "smallest_class_images": 1, "largest_class_share": 0.75, "different_sizes": 2,
          "unreadable": 1, "duplicate_images": 1, "duplicate_groups_with_different_labels": 1,
          "duplicate_groups_across_parts": 0}


@pytest.mark.parametrize(("value", "text"), [
    ({"kind": "lightgbm", "classes": [1, 2], "stratify": True}, "{kind: lightgbm, classes: [1, 2], stratify: true}"),
    ("sound", "sound")])
def test_a_value_is_written_as_in_params_yaml(value, text):
    assert cards.flow(value) == text


def test_a_data_card(tmp_path):
    stage = Stage("datasets", "explore", "fer6", ".", tmp_path)
    stage.write_metrics("fer6", CENSUS)
    stage.write_table("sizes", pd.DataFrame({"width": [48, 48], "height": [48, 60], "count": [3, 1]}))
    entry = {"origin": "standin", "file": "fer6.zip", "counts": {"Happy": 3, "Sad": 1}, "may_show": False}
    card = cards.data_card("fer6", entry, stage)
    sides = "width 48, height 48 to 60 pixels"
    for part in ("| licence | not stated |", "no: reports", sides, "| Happy | 3 | 75.0% |"): assert part in card
    assert "cannot be read" not in cards.data_card("fer6", entry)


def test_what_a_variant_measured(tmp_path):
    table = {"class": ["a", "b"], "precision": [0.5, 1], "recall": [1, 0.2], "f1": [0.667, 0.333], "support": [5, 10]}
    write_csv(tmp_path / "per_class.csv", pd.DataFrame(table))
    answers = pd.DataFrame({"actual": ["a", "b", "b", "b"], "predicted": ["a", "a", "a", "b"]})
    assert "| b | 1.000 | 0.200 (0.057 to 0.510) | 0.333 | 10 |" in cards._per_class(tmp_path)
    assert cards.confusions(answers) == "Most frequent confusions: b taken for a (2)."
    assert cards.confusions(answers[:1]) == "Most frequent confusions: none."
    metrics = cards._metrics({"accuracy": 0.5, "accuracy_low": 0.2, "accuracy_high": 0.8}, answers)
    assert "| accuracy of always naming the most frequent class | 0.750 |" in metrics


def test_a_model_card_says_what_it_was_made_with_and_how_well_it_does():
    folder = ROOT / "records" / "fer6-standin" / "fer_boosting"
    files, source = record_variants(folder)["pca_published"], record_source(folder)
    card = cards.model_card("fer_boosting pca_published", "published", files, source, {"a.b": {"seed": 42}})
    for part in ("### `fer_boosting pca_published`", "| `a.b` | `{seed: 42}` |", "the source's own, re-made",
                 "95 % interval", "test images", "Most frequent confusions"):
        assert part in card


def test_cards_say_what_to_run_where_a_data_set_was_not_counted(clone):
    with pytest.raises(FileNotFoundError, match="run `dvc repro prepare@fer2013` first"):
        cards.data_cards(clone.root)


def test_cards_of_this_repository(reproduced):
    data, models = cards.data_cards(reproduced.root), cards.model_cards(reproduced.root)
    assert "### `fer6`" in data and "### `fer6-standin`" in data
    assert "### `fer_boosting pca`" in models and "## Record `fer6-standin`" in models
    parts = "`fer_boosting.fit.pca`", "`fer_boosting.pixels.pca`", "`fer_boosting.variants.pca`"  # the last: a record
    assert not [part for part in parts if part not in models]


# --- README and the site ----------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("text", "expected"), [
    ("[a](studies/a.ipynb#data), [b](../CONTRIBUTING.md)", "[a](nbs/studies/a.ipynb#data), [b](CONTRIBUTING.md)"),
    ("[DVC](https://dvc.org), [results](#results)", "[DVC](https://dvc.org), [results](#results)")])
def test_links_of_readme_start_at_the_root(text, expected):
    assert readme.from_root(text, "nbs") == expected


def test_everything_has_its_place():
    places = site.places_of(ROOT, [PCA])
    assert places.find("../data/archive.ipynb", "nbs/guide/run.ipynb") == "api/data/archive.md"
    assert places.find("nbs/studies/fer_boosting/fit.ipynb", "README.md") == "studies/fer_boosting/index.md"
    assert places.find("fer_research/core.py", "README.md") == "api/core.md"
    assert places.symbols["repo_root"] == "api/core.md#repo_root"
    assert places.symbols["fer_boosting"] == "studies/fer_boosting/index.md", "and not the reader of its source"
    assert places.symbols["fer_research.data.archive"] == "api/data/archive.md"
    assert places.find("schema.ipynb", "nbs/studies/fer_boosting/fit.ipynb") == "api/studies/fer_boosting/schema.md"


def test_a_page_of_the_library_leads_to_its_source():
    notebook = site.library_notebook("data/archive.ipynb", site.places_of(ROOT, [PCA]))
    assert notebook.cells[0].source.startswith("# data.archive\n\n[`fer_research/data/archive.py`](https://")
    entry = next(cell.source for cell in notebook.cells if "### `Archive`" in cell.source)
    line = int(entry.rpartition("archive.py#L")[2].partition(")")[0])
    assert (ROOT / "fer_research/data/archive.py").read_text().splitlines()[line - 1] == "class Archive(Listing):"


def test_the_library_has_a_table_of_its_modules():
    assert "| [`data.archive`](data/archive.md) | Images from a zip" in site.library_page(["data/archive.ipynb"], ROOT)


NAV = [{"Home": "index.md"}, {"Studies": "studies/index.md"}, {"API": "api/index.md"}]


def test_studies_are_put_below_their_tab():
    home, tab, _ = site.navigation(NAV, [studies.Report("datasets", "explore", "fer6"), *OWN[:3]], [])
    index, study, data = tab["Studies"]
    assert (home, index) == (NAV[0], "studies/index.md")
    assert study == {"Faces": ["studies/a/index.md", {"split": "studies/a/split.md"},
                               {"fit": [{"pca": "studies/a/fit/pca.md"}, {"resnet": "studies/a/fit/resnet.md"}]}]}
    assert data == {"Data sets": ["studies/datasets/index.md", {"fer6": "studies/datasets/explore/fer6.md"}]}


def test_the_library_is_put_below_its_tab():
    names = ["core.ipynb", "data/archive.ipynb", "data/kana.ipynb", "studies/a/schema.ipynb"]
    *_, tab = site.navigation(NAV, [], names)
    assert tab["API"] == ["api/index.md", "api/core.md", {"data": ["api/data/archive.md", "api/data/kana.md"]},
                          {"studies": ["api/studies/a/schema.md"]}]


def test_a_page_has_its_title_in_the_browser(tmp_path, places):
    notebook = new_notebook(cells=[new_markdown_cell("# The `core`")])
    site._write_notebook(tmp_path, "nbs/core.ipynb", notebook, places, search={"boost": 0.5})
    head = (tmp_path / "api" / "core.md").read_text().splitlines()[1]
    assert json.loads(head) == {"title": "The core", "search": {"boost": 0.5}}
