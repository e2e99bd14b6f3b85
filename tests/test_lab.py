"""`make lab`: for this machine alone, in this environment, with notebooks stored clean.

Chromium opens them as a user would.
"""
import json
import os
import re
import shutil
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import nbformat
import psutil
import pytest
from conftest import Clone
from selenium import webdriver
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

STUDY = "nbs/studies/datasets/explore.ipynb"  # needs the sample and nothing else
BROWSER = ("--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
           "--disable-component-update --disable-sync --window-size=1400,1000").split()
PATIENCE = 90  # seconds


class Lab(NamedTuple):
    "A running JupyterLab."
    clone: Clone
    server: psutil.Process
    url: str
    token: str

    def ask(self, path: str, body: dict | None = None, method: str = "GET", token: bool = True) -> dict:
        "One request of its REST API."
        headers = {"Authorization": f"token {self.token}"} if token else {}
        with urlopen(Request(self.url + path, json.dumps(body).encode() if body else None, headers, method=method),
                     timeout=PATIENCE) as answer:
            return json.load(answer)

    def save(self, path: str, notebook: nbformat.NotebookNode) -> Path:
        "Store a notebook as the browser does."
        self.ask(f"api/contents/{path}", {"type": "notebook", "format": "json", "content": notebook}, "PUT")
        return self.clone.root / path


def announced(runtime: Path) -> dict:
    """What a server says about itself, or nothing while it does not answer.

    It writes its file, not under a temporary name, before it listens."""
    for path in runtime.glob("jpserver-*.json"):
        with suppress(json.JSONDecodeError, OSError):
            about = json.loads(path.read_text())
            with socket.create_connection(("127.0.0.1", about["port"]), timeout=1): return about
    return {}


@pytest.fixture(scope="module")
def lab(clone, tmp_path_factory):
    "`make lab` for a user whose own kernelspec python3 is another interpreter."
    folder = tmp_path_factory.mktemp("lab")
    made, home, data = clone.copy(folder), folder / "home", folder / "home" / "jupyter"
    (data / "kernels" / "python3").mkdir(parents=True)
    (home / ".ipython").mkdir()
    other = {"argv": ["another-python", "{connection_file}"], "display_name": "Another", "language": "python"}
    (data / "kernels" / "python3" / "kernel.json").write_text(json.dumps(other))
    arguments = "--no-browser --port=0" + (" --allow-root" if os.geteuid() == 0 else "")
    with (folder / "log").open("w") as log:
        make = made.start("make", "-o", "setup", "lab", f"VENV={sys.prefix}", f"ARGS={arguments}", output=log.fileno(),
                          HOME=str(home), JUPYTER_DATA_DIR=str(data), JUPYTER_PREFER_ENV_PATH="0")
    until = time.monotonic() + PATIENCE
    while not (said := announced(data / "runtime")):
        assert make.poll() is None and time.monotonic() < until, (folder / "log").read_text()
        time.sleep(0.1)
    server = psutil.Process(said["pid"])
    yield Lab(made, server, said["url"], said["token"])
    server.terminate()
    make.wait(PATIENCE)
    print((folder / "log").read_text())


@pytest.fixture(scope="module")
def browser(lab, tmp_path_factory):
    "Chromium without a window and without a past."
    chromium, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if not (chromium and driver):
        (pytest.fail if os.environ.get("CI")
         else pytest.skip)("needs chromium and chromedriver (Debian: chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in [*BROWSER, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"]: options.add_argument(argument)
    with webdriver.Chrome(options, Service(driver)) as opened: yield opened


@pytest.fixture
def page(lab, browser):
    "Opens a notebook and gives a function that finds elements on the page, waiting for the first."
    def find(css: str, wait: float = PATIENCE) -> list:
        return WebDriverWait(browser, wait).until(lambda browser: browser.find_elements(By.CSS_SELECTOR, css), css)

    def open_notebook(path: str):
        browser.get(f"{lab.url}{path}?token={lab.token}&reset")
        find(".jp-Notebook h1")
        WebDriverWait(browser, PATIENCE).until(lambda _: "| Idle" in find("#jp-main-statusbar")[0].text,
                                               "its kernel is not ready")
        return find
    return open_notebook


def finished(browser) -> list[str]:
    "The counters of the code cells that were run to their end."
    return [prompt.text for prompt in browser.find_elements(By.CSS_SELECTOR, ".jp-CodeCell .jp-InputPrompt")
            if re.fullmatch(r"\[\d+\]:", prompt.text)]


def with_outputs(path: Path) -> nbformat.NotebookNode:
    "A notebook as the browser holds it after a run."
    notebook = nbformat.read(path, as_version=4)
    kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    notebook.metadata |= {"kernelspec": kernel, "language_info": {"name": "python"}}
    for count, cell in enumerate((cell for cell in notebook.cells if cell.cell_type == "code"), 1):
        cell.execution_count = count
        cell.metadata |= {"scrolled": True, "trusted": True}
        cell.outputs = [nbformat.v4.new_output("execute_result", {"text/plain": "<object at 0x7f00>"},
                                               execution_count=count)]
    return notebook


# --- the server -----------------------------------------------------------------------------------------------------

def test_it_listens_on_this_machine_only(lab):
    port = urlsplit(lab.url).port
    with socket.create_connection(("127.0.0.1", port), PATIENCE): pass
    addresses = {address.address for interface in psutil.net_if_addrs().values()
                 for address in interface if address.family == socket.AF_INET}
    # 127.0.0.2 reaches, where there is no other, a server that listens everywhere
    for address in {*addresses, "127.0.0.2"} - {"127.0.0.1"}:
        with pytest.raises(OSError): socket.create_connection((address, port), timeout=5)


@pytest.mark.parametrize("path", ["api/contents", "api/kernels", "api/terminals"])
def test_it_answers_nobody_without_the_token(lab, path):
    with pytest.raises(HTTPError, match="403"): lab.ask(path, token=False)
    with urlopen(lab.url + "files/params.yaml", timeout=PATIENCE) as answer: assert "/login?" in answer.url
    assert len(lab.token) >= 40


def test_the_users_kernelspec_does_not_choose_the_environment(lab):
    found = lab.ask("api/kernelspecs")
    assert found["default"] == "python3" and list(found["kernelspecs"]) == ["python3"]
    assert Path(found["kernelspecs"]["python3"]["spec"]["argv"][0]).parent == Path(sys.executable).parent


def test_a_saved_notebook_is_what_nbdev_clean_leaves_and_has_no_outputs(lab):
    before = (lab.clone.root / STUDY).read_bytes()
    saved = lab.save("nbs/studies/datasets/trial.ipynb", with_outputs(lab.clone.root / STUDY))
    assert saved.read_bytes() == before
    lab.clone.run("nbdev_clean", "--fname", str(saved))
    assert saved.read_bytes() == before
    cells = nbformat.read(saved, as_version=4).cells
    assert [cell.metadata.tags for cell in cells if "tags" in cell.metadata] == [["parameters"]]
    saved.unlink()


def test_outside_of_nbs_outputs_are_stored(lab):
    (lab.clone.root / "scratch").mkdir(exist_ok=True)
    notebook = with_outputs(lab.clone.root / STUDY)
    saved = nbformat.read(lab.save("scratch/trial.ipynb", notebook), as_version=4)
    outputs = lambda notebook: [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    assert outputs(saved) == outputs(notebook)


# --- the browser ----------------------------------------------------------------------------------------------------

def test_it_opens_on_the_index_which_leads_to_a_study(lab, browser, page):
    find = page("")
    assert "/lab/tree/nbs/index.ipynb" in browser.current_url
    shown = browser.find_elements(By.CSS_SELECTOR, ".jp-Dialog, .jp-toastContainer .Toastify__toast")
    assert not shown, "something pops up"
    (link,) = [link for link in find(".jp-RenderedMarkdown a") if link.text == "compare"]
    link.click()
    find(".lm-TabBar-tab[title*='Path: nbs/studies/comparison/compare.ipynb']")


def test_a_study_notebook_runs_to_its_end_and_is_stored_clean(lab, browser, page):
    path = lab.clone.root / STUDY
    before, kept = path.stat().st_mtime_ns, lab.clone.listing("results", "data")
    cells = sum(cell.cell_type == "code" for cell in nbformat.read(path, as_version=4).cells)
    find = page(f"lab/tree/{STUDY}")
    next(item for item in find(".lm-MenuBar-item") if item.text == "Run").click()
    find("[data-command='runmenu:run-all']")[0].click()
    WebDriverWait(browser, 120).until(lambda browser: len(finished(browser)) == cells, "cells did not finish")
    wrong = (f"[data-mime-type='application/vnd.jupyter.{kind}']" for kind in ("error", "stderr"))
    assert not browser.find_elements(By.CSS_SELECTOR, ", ".join(wrong))
    figures = lambda: [image for image in find(".jp-OutputArea img") if int(image.get_property("naturalWidth")) > 100]
    assert len(figures()) == 2

    ActionChains(browser).key_down(Keys.CONTROL).send_keys("s").key_up(Keys.CONTROL).perform()
    WebDriverWait(browser, PATIENCE).until(lambda _: path.stat().st_mtime_ns > before, "was not saved")
    assert lab.clone.git("status", "--porcelain") == "", "saving changed the notebook, or JupyterLab left files"
    assert figures() and len(finished(browser)) == cells, "the open tab lost its outputs"
    assert lab.clone.listing("results", "data") == kept
    assert (lab.clone.root / "scratch/results/datasets/explore/fer6/counts/fer6.csv").is_file()


def test_the_difference_to_the_last_commit_opens(lab, browser, page):
    path = lab.clone.root / "nbs/studies/comparison/compare.ipynb"
    committed = path.read_text()
    path.write_text(committed.replace("Everything side by side", "All of it side by side"))
    find = page("lab/tree/nbs/studies/comparison/compare.ipynb")
    find("[title='Display nbdiff from git HEAD to currently saved version']")[0].click()
    titles = {"# Everything side by side", "# All of it side by side"}
    shown = lambda _: titles <= set(find(".nbdime-Widget")[0].text.splitlines())
    WebDriverWait(browser, PATIENCE).until(shown, "no difference is shown")
    path.write_text(committed)
