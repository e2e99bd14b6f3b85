"""`make docs` and the pages of `dvc plots`: complete, with no link that leads nowhere, and without a network.

Chromium reads them as a user would.
"""
import ast
import json
import os
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urldefrag, urlparse

import nbformat
import pytest
from conftest import ROOT, Clone
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from docs.generator.execute import ALWAYS, cache_key
from docs.generator.links import FENCE
from docs.generator.pages import front_matter
from docs.generator.site import TEXTS, notebook_names, page_path
from fer_research.pipeline.compare import COMPARISON

NOTEBOOKS = [f"nbs/{name}" for name in notebook_names(ROOT)]
BUILD = ("-m", "docs.generator")
NO_NETWORK = {f"{scheme}_proxy": "http://127.0.0.1:9" for scheme in ("http", "https", "all")}
CHROMIUM = [*("--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
              "--disable-component-update --disable-sync").split(), "--host-resolver-rules=MAP * ~NOTFOUND"]
PATIENCE = 30  # seconds
# elements that make a browser load something
LOADS = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}
PHONE = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
AUDIT = '''
"Logs each file that the processes of a page open: page, path."
import os, sys
if "JPY_SESSION_NAME" in os.environ:
    log = os.open(os.environ["AUDIT_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def hook(event, arguments):
        if event == "open" and isinstance(arguments[0], str | bytes):
            path = os.path.abspath(os.fsdecode(arguments[0]))
            os.write(log, f"{os.environ['JPY_SESSION_NAME']}\\t{path}\\n".encode())

    sys.addaudithook(hook)
'''
MODULES = ("fer_research/", "docs/")  # followed from a page's imports
ITEM = r"(?:[-*+]|\d+[.)])[ \t]"


class Reader(HTMLParser):
    "Collects what a page loads and links to, the ids in it, and its text."
    def __init__(self, path: Path):
        super().__init__()
        self.loaded, self.links, self.ids, self.words = [], [], set(), []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        if LOADS.get(tag) in given: self.loaded.append(given[LOADS[tag]])
        if tag == "a" and "href" in given: self.links.append(given["href"])
        if "id" in given: self.ids.add(given["id"])

    def handle_data(self, data): self.words.append(data)

    @property
    def text(self) -> str: return " ".join("".join(self.words).split())


class Site(NamedTuple):
    "A built site and the clone it was built in."
    clone: Clone
    folder: Path
    pages: dict[str, Reader]      # by their path in the site
    opened: dict[str, set[str]]   # page's notebook -> files of the clone that it opened, both from the root


@pytest.fixture(scope="module")
def site(reproduced, tmp_path_factory) -> Site:
    "The site, built without a network, and watched."
    audit = tmp_path_factory.mktemp("audit")
    (audit / "sitecustomize.py").write_text(AUDIT)
    (audit / "log").touch()
    clone = reproduced.copy(tmp_path_factory.mktemp("docs"))
    clone.run("python", *BUILD, PYTHONPATH=str(audit), AUDIT_LOG=str(audit / "log"), **NO_NETWORK)
    folder = clone.root / "site"
    pages = {path.relative_to(folder).as_posix(): Reader(path) for path in sorted(folder.rglob("*.html"))}
    return Site(clone, folder, pages, opened_by_pages(audit / "log", clone.root))


def opened_by_pages(log: Path, root: Path) -> dict[str, set[str]]:
    "The files of a clone in a log of AUDIT, by page."
    opened = {}
    for line in log.read_text().splitlines():
        page, path = map(Path, line.split("\t"))
        paths = opened.setdefault(page.relative_to(root).as_posix(), set())
        if path.is_relative_to(root): paths.add(path.relative_to(root).as_posix())
    return opened


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    "Chromium without a window, a past, or a network."
    chromium, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if not (chromium and driver):
        (pytest.fail if os.environ.get("CI")
         else pytest.skip)("needs chromium and chromedriver (Debian: chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in [*CHROMIUM, "--window-size=1280,900", f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"]:
        options.add_argument(argument)
    with webdriver.Chrome(options, Service(driver)) as opened: yield opened


def loaded_from_elsewhere(browser) -> list[str]:
    "What the page in the browser asked for that is no file of this machine."
    return browser.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)"
                                  ".filter(name => !/^(file|data|blob):/.test(name))")


def cells(text: str) -> set[str]:
    "The cells of all Markdown tables in a text, without marks."
    rows = [line for line in text.splitlines() if line.startswith("|") and "---" not in line]
    return {" ".join(re.sub(r"[`*]|\]\([^)]*\)|\[", "", cell).split()) for row in rows
            for cell in row.strip("|").split("|")} - {""}


# --- what is on the site --------------------------------------------------------------------------------------------

def test_every_public_name_is_on_the_page_of_its_module(site):
    modules = [path for path in (ROOT / "fer_research").rglob("*.py") if path.name[0] != "_"]
    assert modules
    for path in modules:
        assigned = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Assign)
                    and ast.unparse(node.targets[0]) == "__all__"]
        names = {name for node in assigned for name in ast.literal_eval(node.value)}
        page = site.pages[f"api/{path.relative_to(ROOT / 'fer_research').with_suffix('.html').as_posix()}"]
        assert names <= page.ids, path


def test_an_entry_has_call_docstring_parameters_and_source(site):
    text = site.pages["api/core.html"].text
    assert "six_digits(value)" in text and "Round floats to six significant digits, through dicts and lists." in text
    assert "number, or a nested dict or list of them" in text
    assert "the same with every float rounded to six significant digits" in text
    lines = {int(line) for link in site.pages["api/core.html"].links
             for line in re.findall(r"/fer_research/core\.py#L(\d+)$", link)}
    source = (ROOT / "fer_research" / "core.py").read_text().splitlines()
    assert "def six_digits(" in {source[line - 1] for line in lines}
    assert 'test_eq(six_digits({"a": 0.12345678' in text, "the notebook's example"


def test_every_report_is_there_with_its_figures(site):
    folder = site.clone.root / "outputs"
    made = {*folder.rglob("*/report.ipynb"), *folder.glob("*/smoke_tests/*.ipynb")}
    reports = made - {*folder.glob("notebooks/**/*")}
    assert len(reports) > 50
    for path in reports:
        name = (path.parent if path.name == "report.ipynb" else path.with_suffix("")).relative_to(folder)
        outputs = [output for cell in nbformat.read(path, as_version=4).cells for output in cell.get("outputs", [])]
        figures = list((site.folder / "studies" / name.parent / f"{name.name}_files").glob("*.png"))
        assert len(figures) == sum("image/png" in output.get("data", {}) for output in outputs), name
        study = site.pages["studies/comparison/compare.html" if name.parts[0] == "comparison"
                           else f"studies/{name.parts[0]}/index.html"]
        led = name.parts[0] == "comparison" or f"{name.relative_to(name.parts[0])}.html" in study.links
        assert led, "the study's page does not lead to it"


def test_every_notebook_and_text_is_a_page(site):
    notebooks = [path.relative_to(ROOT / "nbs")
                 for path in (ROOT / "nbs").rglob("*.ipynb") if path.parent.name != ".ipynb_checkpoints"]
    for path in notebooks:
        page = path.with_suffix(".html").as_posix()
        if path.parts[0] == "studies" and path.stem != "schema":
            stem = "compare" if path.parts[1] == "comparison" else "index"
            assert f"studies/{path.parts[1]}/{stem}.html" in site.pages
        else: assert (page if path.parts[0] in ("guide", "index.ipynb") else f"api/{page}") in site.pages
    assert {f"project/{name}.html" for name in ("contributing", "changelog", "citation", "licence")} <= set(site.pages)


@pytest.mark.parametrize(("page", "source"),
                         [("index.html", "README.md"), ("studies/index.html", COMPARISON["markdown"])])
def test_tables_of_results_are_there(site, page, source):
    told = cells((site.clone.root / source).read_text())
    assert len(told) > 10 and not {cell for cell in told if cell not in site.pages[page].text}


def test_search_knows_the_pages(site):
    entries = json.loads((site.folder / "search" / "search_index.json").read_text())["docs"]
    assert any("Tango" in entry["text"] and entry["location"].startswith("api/evaluation/statistics.html")
               for entry in entries)
    found = {entry["location"].partition("#")[0] for entry in entries}
    assert found == {name for name in site.pages if name != "404.html"}
    assert not [entry["location"]
                for entry in entries if "<summary>Source" in entry["text"]], "folded code floods the search"


# --- links ----------------------------------------------------------------------------------------------------------

def test_no_link_leads_nowhere(site):
    broken = []
    for name, page in site.pages.items():
        for link in page.links:
            address, anchor = urldefrag(link)
            if urlparse(address).scheme: continue
            target = os.path.normpath(os.path.join(os.path.dirname(name), unquote(address))) if address else name
            unknown = anchor and target in site.pages and unquote(anchor) not in site.pages[target].ids
            if unknown or not (site.folder / target).is_file(): broken.append((name, link))
    assert not [pair for pair in broken if not pair[0] == "404.html"]


def test_addresses_on_the_web_are_well_formed(site):
    parsed = {link: urlparse(link) for page in site.pages.values() for link in page.links if urlparse(link).scheme}
    assert not [link for link, url in parsed.items() if url.scheme not in ("http", "https", "mailto")
                or not (url.netloc or url.path) or re.search(r"\s", link)]


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_of_a_text_lead_to_files(name):
    links = re.findall(r"\]\((?![a-z]+:|#)([^)#\s]+)", (ROOT / name).read_text())
    assert not [link for link in links if not (ROOT / link).exists()]


# --- what may not be there ------------------------------------------------------------------------------------------

def test_nothing_is_loaded_from_elsewhere(site):
    loaded = [(name, address) for name, page in site.pages.items() for address in page.loaded]
    assert len(loaded) > len(site.pages)
    assert not [pair for pair in loaded if urlparse(pair[1]).scheme not in ("", "data") or pair[1].startswith("//")]
    assert not [path.name for path in site.folder.rglob("*.css")
                if re.search(r"(?:url\(|@import )[\"']?(?:https?:)?//", path.read_text())]


def test_no_path_of_this_machine(site):
    assert not [name for name, page in site.pages.items() if str(site.clone.root) in page.text]


def test_a_report_with_pictures_that_may_not_be_shown_is_refused(done):
    sources = done.root / "data" / "sources.yaml"
    sources.unlink()  # a link to DVC's cache
    sources.write_text((ROOT / "data" / "sources.yaml").read_text().replace("may_show: true", "may_show: false"))
    refused = done.run("python", *BUILD, check=False)
    assert refused.returncode == 2 and not (done.root / "site").exists()
    message = r"docs: outputs/datasets/explore/fer6/report\.ipynb: shows pictures, and fer6 may not be shown .*\n"
    assert re.fullmatch(message, refused.stderr)


def test_every_study_cell_that_draws_pictures_is_known_as_one():
    "A function of the library that draws pictures is known by its name, or the cells that call it have the tag."
    drawing = {"imshow", "image_grid"}
    functions = [node for path in (ROOT / "fer_research").rglob("*.py") if "sample" not in path.parts
                 for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)]
    calls = lambda node: {getattr(call.func, "attr", getattr(call.func, "id", ""))
                          for call in ast.walk(node) if isinstance(call, ast.Call)}
    others = {node.name for node in functions if calls(node) & drawing} - drawing
    for path in (ROOT / "nbs" / "studies").rglob("*.ipynb"):
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "code" and re.search(rf"\b({'|'.join(others) or '(?!)'})\(", cell.source):
                assert "shows-images" in cell.metadata.get("tags", []), (path, cell.source)


def test_without_results_it_says_what_to_run(work):
    asked = work.run("python", *BUILD, check=False)
    assert asked.returncode == 2 and not (work.root / "site").exists()
    assert re.fullmatch(r"docs: \S+/outputs/\S+/report\.ipynb is not there yet: run `make repro` first\n", asked.stderr)


# --- what pages are made of -------------------------------------------------------------------------------------------

def test_the_navigation_names_every_page_of_the_guide():
    listed = re.findall(r"^ +- (?:\w+: )?(\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.M)
    pages = map(page_path, notebook_names(ROOT))
    notebooks = [page for page in pages if not page.startswith(("studies/", "api/"))]
    assert sorted(listed) == sorted([*notebooks, *TEXTS.values(), "studies/index.md", "api/index.md"])


def test_a_page_opens_no_file_that_its_front_matter_does_not_name(site):
    matter = {path: front_matter(nbformat.read(ROOT / path, as_version=4)) for path in NOTEBOOKS}
    deps = {path: values["deps"] for path, values in matter.items() if "deps" in values}
    assert len(deps) > 10 and deps.keys() <= site.opened.keys()
    for page, names in deps.items():
        known = (*MODULES, *ALWAYS, *names, "scratch/")
        assert not [path for path in site.opened[page] if not path.startswith(known)], page


def test_a_second_build_executes_nothing(site):
    root = site.clone.root
    assert len(site.opened) > 20
    for page in site.opened:
        copy = f"{page.removesuffix('.ipynb')}/{cache_key(root / page, root)}.ipynb"
        assert (root / ".cache" / "pages" / copy).is_file(), page


@pytest.mark.parametrize("path", NOTEBOOKS)
def test_a_list_begins_after_an_empty_line_and_one_in_it_with_four_spaces(path):
    "JupyterLab needs neither, Python-Markdown both."
    cells = [cell for cell in nbformat.read(ROOT / path, as_version=4).cells if cell.cell_type == "markdown"]
    text = "\n\n".join(FENCE.sub("", cell.source) for cell in cells)
    assert not re.findall(rf"^(?!\s|{ITEM}).*\S\n{ITEM}.*", text, re.M) + re.findall(rf"^ {{2,3}}{ITEM}.*", text, re.M)


# --- in the browser -------------------------------------------------------------------------------------------------

def test_search_leads_to_a_page(site, browser):
    browser.get((site.folder / "index.html").as_uri())
    browser.find_element(By.CSS_SELECTOR, "input.md-search__input").send_keys("wilson")
    links = lambda browser: browser.find_elements(By.CSS_SELECTOR, ".md-search-result__item a")
    results = WebDriverWait(browser, PATIENCE).until(links, "no result")
    assert "/api/evaluation/statistics.html" in results[0].get_attribute("href")
    browser.get(results[0].get_attribute("href"))
    assert browser.find_element(By.TAG_NAME, "h1").text.startswith("evaluation.statistics")
    assert loaded_from_elsewhere(browser) == []


@pytest.mark.parametrize("page", [
    "index.html", "studies/fer_boosting/index.html", "studies/fer_boosting/fit/pca.html",
    "studies/datasets/explore/fer6.html", "guide/data_cards.html", "guide/concepts.html",
    "api/evaluation/statistics.html", "project/licence.html"])
def test_a_page_fits_a_phone(site, browser, page):
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    browser.get((site.folder / page).as_uri())
    width, widest, sizes = browser.execute_script("""
        const images = [...document.querySelectorAll("article img")];
        const sizes = images.map(image => [image.naturalWidth, image.getBoundingClientRect().right]);
        return [innerWidth, document.documentElement.scrollWidth, sizes]""")
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert widest <= width == PHONE["width"]
    assert all(natural > 50 and right <= width for natural, right in sizes)


def test_formulas_are_drawn(site, browser):
    browser.get((site.folder / "api/evaluation/statistics.html").as_uri())
    heights = browser.execute_script("return [...document.querySelectorAll('math[display=block]')]"
                                     ".map(formula => formula.getBoundingClientRect().height)")
    assert heights and min(heights) > 20
    unread = re.compile(r"<mi>\\|<\w+ class=.arithmatex")  # a formula
    assert not [name for name in site.pages if unread.search((site.folder / name).read_text())]


# --- dvc plots ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("command", [("show",), ("diff", "HEAD")], ids=" ".join)
def test_plots_are_drawn_without_a_network(reproduced, browser, tmp_path, command):
    reproduced.dvc("plots", *command, "--out", str(tmp_path / "plots"), **NO_NETWORK)
    page = Reader(tmp_path / "plots" / "index.html")
    assert not [address for address in page.loaded if not address.startswith("data:")]
    browser.get((tmp_path / "plots" / "index.html").as_uri())
    wanted = (tmp_path / "plots" / "index.html").read_text().count("vegaEmbed('#")
    drawn = lambda browser: [canvas for canvas in browser.find_elements(By.CSS_SELECTOR, ".vega-embed canvas")
                             if canvas.size["height"] > 50]
    WebDriverWait(browser, PATIENCE).until(lambda browser: len(drawn(browser)) == wanted, "not all plots are drawn")
    assert wanted > 5 and loaded_from_elsewhere(browser) == []


def test_plot_templates_have_no_data_from_elsewhere():
    for path in (ROOT / ".dvc" / "plots").glob("*.json"):
        template = json.loads(path.read_text())
        assert template["data"] == {"values": "<DVC_METRIC_DATA>"}
        assert template["$schema"].startswith("https://vega.github.io/schema/vega-lite/v5")
        assert not re.search(r'"url"', path.read_text())
