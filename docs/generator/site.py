"""All pages, the navigation, and the site that MkDocs makes of them."""
import configparser
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
from mkdocs.commands.build import build
from mkdocs.config import load_config
from nbformat import NotebookNode

from fer_research.data.sources import read_sources
from fer_research.pipeline.compare import markdown_table
from fer_research.pipeline.params import read_params

from .execute import execute_once
from .links import Places, relink
from .pages import front_matter, page_of, visible_cells
from .pictures import refuse_pictures, without_pictures
from .readme import readme
from .reference import fenced, public_names
from .studies import SMOKE_TESTS, Report, by_study, datasets_page, stage_reports, studies_page, study_page, study_title

TEXTS = {"CONTRIBUTING.md": "project/contributing.md", "CHANGELOG.md": "project/changelog.md",
         "CITATION.cff": "project/citation.md", "LICENSE": "project/licence.md"}
BLOCKS = {"LICENSE": ("Licence", "text"), "CITATION.cff": ("How to cite", "yaml")}  # no Markdown: title, language


def notebook_names(
    root: Path,  # the repository
) -> list[str]:  # by their path in nbs/
    "All notebooks."
    names = (path.relative_to(root / "nbs") for path in sorted((root / "nbs").rglob("*.ipynb")))
    return [name.as_posix() for name in names if not any(part[0] in "._" for part in name.parts)]


def page_path(
    name: str,  # of a notebook, by its path in nbs/
) -> str:
    "The page of a notebook; one of a study has a page for each of its runs, and leads to the study's own."
    folder, *rest = name.split("/")
    if folder == "studies" and rest[-1] != "schema.ipynb":
        return f"studies/{rest[0]}/{'compare' if rest[0] == 'comparison' else 'index'}.md"
    return (name if folder in ("guide", "index.ipynb") else f"api/{name}").removesuffix(".ipynb") + ".md"


def library_names(
    root: Path,  # the repository
) -> list[str]:  # by their path in nbs/
    "The notebooks that have a page in the API."
    return [name for name in notebook_names(root) if page_path(name).startswith("api/")]


def _files_on_the_web(root: Path) -> str:
    "Address below which the repository's files are, as nbdev has it."
    settings = configparser.ConfigParser(delimiters=["="])
    settings.read(root / "settings.ini")
    return "https://github.com/{user}/{repo}/blob/{branch}".format(**settings["DEFAULT"])


def places_of(
    root: Path,             # the repository
    reports: list[Report],  # all
) -> Places:
    "The page of everything that has one."
    pages = {f"nbs/{name}": page_path(name) for name in notebook_names(root)}
    pages |= {report.source: report.page for report in reports}
    names = public_names(root)
    modules = {file: page for file in names if (page := f"api/{file[13:-3]}.md") in pages.values()}
    count = Counter(name for several in names.values() for name in several)
    symbols = {name: f"{page}#{name}" for file, page in modules.items() for name in names[file] if count[name] == 1}
    symbols |= {file[:-3].replace("/", "."): page for file, page in modules.items()}  # modules, by their dotted names
    symbols |= {study: f"studies/{study}/index.md" for study in by_study(reports)}
    return Places(root, _files_on_the_web(root), {"README.md": "index.md"} | TEXTS | pages | modules, symbols)


def _add_origin(cell: NotebookNode, title: str, origin: str) -> None:
    "A page's title, in which `{}` is the one it had, and below it where the page is from."
    head = lambda match: f"# {title.format(match[1])}\n\n{origin}\n{{ .origin }}"
    cell.source = re.sub(r"^# (.*)$", head, cell.source, count=1, flags=re.M)


def _cell_lines(file: Path) -> dict[str, int]:
    "Line of a module on which each exported cell begins, by the cell's id."
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    marks = ((number, re.match(r"# %% \S+ #(\w+)$", line)) for number, line in enumerate(lines, 1))
    return {mark[1]: number + 1 for number, mark in marks if mark}


def _notebook(name: str, root: Path) -> NotebookNode:
    "A notebook, with outputs unless its front matter says `skip_exec: true`; without that line the guide's have them."
    notebook = nbformat.read(root / "nbs" / name, as_version=4)
    if front_matter(notebook).get("skip_exec", not name.startswith("guide/")): return notebook
    return execute_once(root / "nbs" / name, root)


def library_notebook(
    name: str,  # by its path in nbs/
    places: Places,
) -> NotebookNode:
    "A notebook of the library as its reference page."
    notebook, module = _notebook(name, places.root), name.removesuffix(".ipynb")
    file = f"fer_research/{module}.py"
    lines, address = _cell_lines(places.root / file), f"{places.url}/{file}"
    notebook.cells = visible_cells(notebook, lambda cell: f"{address}#L{lines.get(cell.id, 1)}")
    origin = f"[`nbs/{name}`]({places.url}/nbs/{name})"
    if lines: origin = f"[`{file}`]({address}), exported from {origin}"
    _add_origin(notebook.cells[0], module.replace("/", "."), origin)
    return notebook


def guide_notebook(
    name: str,  # by its path in nbs/
    places: Places,
) -> NotebookNode:
    "A page of the guide."
    notebook = without_pictures(_notebook(name, places.root), read_sources(places.root / "data"))
    notebook.cells = visible_cells(notebook)
    return notebook


def _report_notebook(report: Report, places: Places) -> NotebookNode:
    "A report, with the parameters that it ran with instead of the notebook's defaults."
    notebook = nbformat.read(places.root / report.source, as_version=4)
    has_tag = lambda cell, tag: tag in cell.metadata.get("tags", [])
    if any(has_tag(cell, "injected-parameters") for cell in notebook.cells):
        notebook.cells = [cell for cell in notebook.cells if not has_tag(cell, "parameters")]
    file, smoke_test = f"nbs/studies/{report.study}/{report.notebook}.ipynb", report.step == SMOKE_TESTS
    command = f"fer-research run {report.study} {report.step} {'' if smoke_test else report.key}".strip()
    _add_origin(notebook.cells[0], f"{{}} ({report.key})" if report.key else "{}",
                f"Report of [`{file}`]({places.url}/{file}), made by `{command}`")
    return notebook


def library_page(
    names: Iterable[str],  # notebooks of the library, by their path in nbs/
    root: Path,            # the repository
) -> str:  # Markdown
    "All modules and what they are for."
    rows = []
    for name in names:
        cells, module = nbformat.read(root / "nbs" / name, as_version=4).cells[:2], name.removesuffix(".ipynb")
        head = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        purpose = re.search(r"^> (.*)$", head, re.M)
        rows.append((f"[`{module.replace('/', '.')}`]({module}.md)", purpose[1] if purpose else ""))
    text = ("The library is exported from notebooks. The page of a module is its notebook, "
            "with an entry for each public name.")
    return f"# API\n\n{text}\n\n{markdown_table(['module of `fer_research`', ''], rows)}\n"


def _write(path: Path, content: str | bytes) -> None:
    "A page or a figure."
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def _write_notebook(docs: Path, source: str, notebook: NotebookNode, places: Places, **metadata) -> None:
    "A notebook as a page with its figures; its title is also the browser's."
    page = places.pages[source]
    text, figures = page_of(notebook, source, page, places)
    title = re.search(r"^# (.*)$", text, re.M)[1].replace("`", "")
    _write(docs / page, f"---\n{json.dumps({'title': title} | metadata)}\n---\n\n{text}")
    for name, content in figures.items(): _write((docs / page).parent / name, content)


def _write_reports(docs: Path, places: Places, reports: list[Report]) -> None:
    "The reports, which a search puts below the pages that lead to them."
    sources, params = read_sources(places.root / "data"), read_params(places.root / "params.yaml")
    for report in reports:
        notebook = _report_notebook(report, places)
        refuse_pictures(notebook, report, sources, params)
        _write_notebook(docs, report.source, notebook, places, search={"boost": 0.5})


def _write_notebooks(docs: Path, places: Places) -> None:
    "The guide and the library, of which some are executed at a time."
    names = [name for name in notebook_names(places.root) if page_path(name).startswith(("guide/", "api/"))]
    make = lambda name: (guide_notebook if name.startswith("guide/") else library_notebook)(name, places)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for name, notebook in zip(names, pool.map(make, names), strict=True):
            _write_notebook(docs, f"nbs/{name}", notebook, places)


def _write_texts(docs: Path, places: Places) -> None:
    "The front page, CONTRIBUTING and the like."
    texts = {name: (places.root / name).read_text(encoding="utf-8") for name in TEXTS}
    texts["README.md"] = "---\nhide: [navigation]\n---\n\n" + readme(places.root).split("\n\n", 1)[1]
    for name, text in texts.items():
        title, language = BLOCKS.get(name, ("", ""))
        block = f"# {title}\n\n{fenced(text.strip(), language)}\n"
        _write(docs / places.pages[name], block if title else relink(text, name, places.pages[name], places))


def write_pages(
    docs: Path,             # folder to write to
    places: Places,
    reports: list[Report],  # all
) -> None:
    "All pages; `InputError` where something may not be shown, or a link leads nowhere."
    root, studies = places.root, by_study(reports)
    _write_reports(docs, places, reports)
    _write_notebooks(docs, places)
    _write_texts(docs, places)
    for study, own in studies.items(): _write(docs / "studies" / study / "index.md", study_page(own, root))
    titles = {study: study_title(own) for study, own in studies.items()}
    _write(docs / "studies" / "index.md", studies_page(titles, root))
    censuses = [report for report in reports if report.study == "datasets"]
    _write(docs / "studies" / "datasets" / "index.md", datasets_page(censuses, read_sources(root / "data")))
    _write(docs / "api" / "index.md", library_page(library_names(root), root))


def _steps(reports: Iterable[Report]) -> list[dict]:
    "Navigation within a study: a section a step, or its page where it has no keys."
    sections = {}
    for report in reports:
        if report.key: sections.setdefault(report.step, []).append({report.key: report.page})
        else: sections[report.step] = report.page
    return [{step: pages} for step, pages in sections.items()]


def _modules(names: Iterable[str]) -> list:
    "Navigation within the API: single modules, then a section for each folder of the library."
    sections = {"": []}
    for name in names: sections.setdefault(name.rpartition("/")[0].partition("/")[0], []).append(page_path(name))
    return [*sections.pop(""), *({folder: pages} for folder, pages in sections.items())]


def navigation(
    nav: list,               # as mkdocs.yml has it
    reports: list[Report],   # all
    modules: Iterable[str],  # notebooks of the library, by their path in nbs/
) -> list:
    "The site's tabs and what is below them: `Studies` gets a section for each study, `API` one for each folder."
    studies = [{study_title(own): [f"studies/{study}/index.md", *_steps(own)]}
               for study, own in by_study(reports).items()]
    censuses = [{report.key: report.page} for report in reports if report.study == "datasets"]
    comparison = [{"Side by side": report.page} for report in reports if report.study == "comparison"]
    pages = ["studies/index.md", *studies, {"Data sets": ["studies/datasets/index.md", *censuses]}, *comparison]
    below = {"Studies": pages, "API": ["api/index.md", *_modules(modules)]}
    return [{tab: below.get(tab, content) for tab, content in entry.items()} for entry in nav]


def build_site(
    root: Path,  # the repository
) -> Path:  # the folder site/
    "Write all pages and make the site of them."
    reports = stage_reports(root)
    docs, places = root / "scratch" / "docs", places_of(root, reports)
    shutil.rmtree(docs, ignore_errors=True)
    shutil.copytree(root / "docs" / "assets", docs / "assets")
    write_pages(docs, places, reports)
    config = load_config(str(root / "mkdocs.yml"), strict=True)
    config.nav = navigation(config.nav, reports, library_names(root))
    config.plugins.on_startup(command="build", dirty=False)
    build(config)
    return Path(config.site_dir)
