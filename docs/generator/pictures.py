"""No picture of what may not be shown.

Study notebooks draw pictures of a data set only where its `may_show` is true. The site does not rely on that: it
refuses the report of a data set that may not be shown if a cell in it has drawn pictures. Such a cell calls
`image_grid` or `imshow`, or has the tag `shows-images` because it calls something that does. A page of the guide may
draw from any data set: while one may not be shown, the guide goes without such pictures.
"""
import re
from collections.abc import Mapping

from nbformat import NotebookNode

from fer_research.core import InputError

from .studies import Report

DRAWS = re.compile(r"\b(?:image_grid|imshow)\(")


def shows_pictures(
    cell: NotebookNode,  # executed
) -> bool:
    "Whether a cell has drawn pictures of data."
    kinds = [kind for output in cell.get("outputs", []) for kind in output.get("data", {})]
    draws = "shows-images" in cell.metadata.get("tags", []) or bool(DRAWS.search(cell.source))
    return draws and any(kind.startswith("image/") for kind in kinds)


def refuse_pictures(
    notebook: NotebookNode,       # a report
    report: Report,               # which
    sources: Mapping[str, dict],  # of `read_sources`
    params: Mapping,              # of `read_params`
) -> None:
    "`InputError` where a report shows pictures of its data set, or of any where it has none, that may not be shown."
    own = report.key
    if report.study != "datasets": own = params.get(report.study, {}).get("common", {}).get("dataset")
    hidden = [name for name in ([own] if own in sources else sources) if not sources[name].get("may_show")]
    if hidden and any(map(shows_pictures, notebook.cells)):
        raise InputError(f"{report.source}: shows pictures, and {hidden[0]} may not be shown (may_show in "
                         "data/sources.yaml): let the notebook ask before it draws, and run it again")


def without_pictures(
    notebook: NotebookNode,       # a page of the guide
    sources: Mapping[str, dict],  # of `read_sources`
) -> NotebookNode:  # the same
    "Clear what cells drew of data, where a data set may not be shown."
    if not all(source.get("may_show") for source in sources.values()):
        for cell in filter(shows_pictures, notebook.cells): cell.outputs = []
    return notebook
