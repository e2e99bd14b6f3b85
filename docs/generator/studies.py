"""Pages about studies and data sets: results, reports, parameters.

What they say is read: the citation from published/, rows from results/ and records/, parameters from params.yaml, and
reports from outputs/. Which reports there are, dvc.yaml knows: one that is left over from a variant of yesterday is not
shown, and one that is missing is asked for.
"""
import json
import posixpath
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from dvc.repo import Repo

from fer_research.core import require_path
from fer_research.data.sources import read_sources
from fer_research.evaluation.published import citation
from fer_research.pipeline.artifacts import find_variants
from fer_research.pipeline.compare import (
    COMPARISON,
    add_reported,
    as_markdown,
    data_line,
    markdown_table,
    results_table,
    study_variants,
)
from fer_research.pipeline.params import read_params, step_parameters, study_section
from fer_research.pipeline.records import record_markdown, records

from .reference import fenced

RUN = re.compile(r"pipeline\.stage (\w+) (\w+)(?: (\w+))?")  # STUDY STEP [KEY]
SMOKE_TESTS = "smoke_tests"  # a step that leaves a report of each entry below this name in params.yaml
ONLY_RUNS = "They show on a few pictures that the code runs; no figure in them is a result."
SIDE_BY_SIDE = """## Side by side

Bold is the sound variant that did best on validation. Figures, and paired tests between variants, are in the
[report](comparison/compare.md)."""


class Report(NamedTuple):
    "An executed study notebook."
    study: str          # such as "fer_boosting"
    step: str           # such as "fit"
    key: str = ""       # such as "pca"; empty where the step has no entries; of a smoke test: SECTION_KEY
    notebook: str = ""  # of the study, that ran
    title: str = ""     # its first heading

    @property
    def source(self) -> str:
        "Its path in the repository."
        file = f"{self.key}.ipynb" if self.step == SMOKE_TESTS else posixpath.join(self.key, "report.ipynb")
        return posixpath.join("outputs", self.study, self.step, file)

    @property
    def page(self) -> str:
        "Its page on the site."
        return posixpath.join("studies", self.study, self.step, self.key).rstrip("/") + ".md"


def _title(path: Path) -> str:
    "The first heading of a report; `FileNotFoundError` that says what to run where it is missing."
    cell = json.loads(require_path(path, "make repro").read_text(encoding="utf-8"))["cells"][0]
    return re.search(r"^# (.*)$", "".join(cell["source"]), re.M)[1]


def _reports_of(study: str, step: str, key: str, params: Mapping) -> list[Report]:
    "The reports that a stage leaves: of smoke tests one each."
    if step != SMOKE_TESTS: return [Report(study, step, key, step_parameters(params, study, step, key or None)[0])]
    tests = (placed for placed in study_section(params, study).entries() if placed.group)
    return [Report(study, step, f"{placed.section}_{placed.key}", placed.notebook) for placed in tests]


def stage_reports(
    root: Path,  # the repository
) -> list[Report]:  # in the order of dvc.yaml
    "The reports of all stages that run notebooks."
    params = read_params(root / "params.yaml")
    with Repo(str(root)) as repo: commands = [str(stage.cmd) for stage in repo.index.stages]
    stages = [match.groups("") for command in commands if (match := RUN.search(command))]
    reports = [report for stage in stages for report in _reports_of(*stage, params)]
    return [report._replace(title=_title(root / report.source)) for report in reports]


def by_study(
    reports: Iterable[Report],
) -> dict[str, list[Report]]:  # study -> its reports
    "Reports of each study, without those of the data sets and of the comparison."
    studies = {}
    for report in reports:
        if report.study not in ("datasets", "comparison"): studies.setdefault(report.study, []).append(report)
    return studies


def study_title(
    reports: list[Report],  # of one study
) -> str:
    "What the titles of all its notebooks begin with, up to a colon; its name where they differ."
    begins = {report.title.split(": ")[0] for report in reports}
    return begins.pop() if len(begins) == 1 and len(reports) > 1 else reports[0].study


def _report_table(
    reports: Iterable[Report],  # of one study
    group: str = "step",        # what has a row: a step, or a notebook
) -> str:
    "A row a step or a notebook, with a link for each key."
    rows = {}
    for report in reports: rows.setdefault(getattr(report, group), []).append(report)
    target = lambda report: posixpath.relpath(report.page, f"studies/{report.study}")
    link = lambda report: f"[{report.key or report.step}]({target(report)})"
    cells = [(f"`{name}`", row[0].title.split(": ")[-1], ", ".join(map(link, row))) for name, row in rows.items()]
    return markdown_table([group, "", "reports"], cells)


def _reports(reports: list[Report]) -> list[str]:
    "What leads to the reports of a study, those of its smoke tests below a heading of their own."
    tests = [report for report in reports if report.step == SMOKE_TESTS]
    results = _report_table(report for report in reports if report.step != SMOKE_TESTS)
    parts = ["## Reports", "Each is a notebook as it ran, with its tables and figures.", results]
    return [*parts, "## Smoke tests", ONLY_RUNS, _report_table(tests, "notebook")] if tests else parts


def _rows_of(study: str, table: str) -> str:
    "A table of `as_markdown` without its first column, which names the study."
    return re.sub(rf"^\| (?:study|---|{study}) \| ", "| ", table, flags=re.M)


def _parameters(study: str, root: Path) -> str:
    "The study's section of params.yaml, with its comments."
    text = (root / "params.yaml").read_text(encoding="utf-8")
    return re.search(rf"^{study}:.*\n(?:[ \t]+.*\n|\n)*", text + "\n", re.M)[0].strip()


def _results(study: str, root: Path) -> str:
    "The table of a study's results in this repository."
    params = read_params(root / "params.yaml")
    origin = read_sources(root / "data")[params[study]["common"]["dataset"]]["origin"]
    table = results_table(study_variants(study, params), find_variants(study, root))
    return _rows_of(study, as_markdown(add_reported(table, origin), data_line({study: origin})))


def study_page(
    reports: list[Report],  # of one study
    root: Path,             # the repository
) -> str:  # Markdown
    "A study's results on real pictures and here, its reports and its parameters."
    study = reports[0].study
    tables = [_rows_of(study, record_markdown(name, folder)) for name, of, folder in records(root) if of == study]
    return "\n\n".join([
        f"# {study_title(reports)}", f"> After {citation(study)}",
        *(["## On real pictures", *tables] if tables else []), "## In this repository", _results(study, root),
        *_reports(reports), "## Parameters",
        f"Its section of `params.yaml`. `make repro STUDY={study}` makes what is on this page anew.",
        fenced(_parameters(study, root), "yaml")]) + "\n"


def studies_page(
    titles: Mapping[str, str],  # study -> title
    root: Path,                 # the repository
) -> str:  # Markdown
    "All studies, and the comparison of their variants."
    rows = [(f"[{title}]({study}/index.md)", f"`{study}`", citation(study)) for study, title in titles.items()]
    comparison = require_path(root / COMPARISON["markdown"], "make repro").read_text(encoding="utf-8")
    return "\n\n".join(["# Studies", markdown_table(["study", "", "after"], rows), SIDE_BY_SIDE, comparison])


def datasets_page(
    reports: Iterable[Report],    # the censuses
    sources: Mapping[str, dict],  # of `read_sources`
) -> str:  # Markdown
    "What data sets there are, each with a link to its census."
    rows = []
    for report in reports:
        source = sources[report.key]
        link, images = f"[{report.key}]({report.step}/{report.key}.md)", f"{sum(source['counts'].values()):,}"
        rows.append((link, source.get("title", ""), source["origin"], images, str(len(source["classes"])),
                     source.get("licence", "")))
    table = markdown_table(["data set", "", "origin", "images", "classes", "licence"], rows)
    return f"# Data sets\n\nFrom `data/sources.yaml`; a name leads to the census of its data set.\n\n{table}\n"
