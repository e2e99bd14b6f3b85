"""A notebook as Markdown for MkDocs: nbconvert writes the cells; which are shown, nbdev's directives say."""
import ast
import posixpath
import re
from collections.abc import Callable
from functools import cache

import nbformat
from nbconvert import MarkdownExporter
from nbformat import NotebookNode
from ruamel.yaml import YAML

from .links import Places, link_names, relink
from .reference import fenced, reference

DIRECTIVE = re.compile(r"^#\|[ \t]*([\w-]+):?[ \t]*(.*)\n?", re.M)
TEMPLATE = """{% extends 'markdown/index.md.j2' %}
{% block input_group %}{% if cell.source %}{{ super() }}{% endif %}{% endblock %}
{% block input %}
{{ cell.source | fenced('python') }}
{% endblock %}
{% block stream %}
{{ output.text | strip_ansi | trim | fenced('{ .text .printed }') }}
{% endblock %}
{% block data_text %}
{{ output.data['text/plain'] | trim | fenced('{ .text .printed }') }}
{% endblock %}
{% block data_html %}
{{ output.data['text/html'] | plain_table }}
{% endblock %}
{% block data_png %}
![{{ output.metadata.alt }}]({{ output.metadata.filenames['image/png'] | path2url }})
{% endblock %}"""


def directives(
    source: str,  # of a cell
) -> dict[str, str]:  # name -> what follows it
    "nbdev's directives of a cell."
    return dict(DIRECTIVE.findall(source))


def front_matter(
    notebook: NotebookNode,
) -> dict:
    "What the raw cell at the head says, as YAML between lines of dashes."
    head = notebook.cells[0] if notebook.cells else NotebookNode(cell_type="")
    return YAML(typ="safe").load(head.source.strip("-\n")) if head.cell_type == "raw" else {}


def _only_imports(nodes: list[ast.stmt]) -> bool:
    "Whether statements import and do nothing else, be it under a condition."
    imports = lambda node: isinstance(node, ast.Import | ast.ImportFrom)
    return all(imports(node) or (isinstance(node, ast.If) and _only_imports(node.body)) for node in nodes)


def _exported(code: str, level: int, address: str) -> str:
    "The entries of an exported cell, then its code, folded; nothing of a cell that only imports."
    if _only_imports(ast.parse(code).body): return ""
    source = ["<summary>Source</summary>", fenced(code, "python"), f"[In the repository]({address})", "</details>"]
    details = '<details class="source" markdown data-search-exclude>'
    return "\n\n".join([reference(code, level), details, *source]).strip()


def _visible(cell: NotebookNode, level: int, address: str) -> NotebookNode | None:
    "A cell as the page has it, or None."
    if cell.cell_type != "code": return cell if cell.cell_type == "markdown" else None
    options, code = directives(cell.source), DIRECTIVE.sub("", cell.source).strip()
    if {"hide", "default_exp"} & options.keys() or options.get("include") == "false": return None
    if {"export", "exports"} & options.keys(): return nbformat.v4.new_markdown_cell(_exported(code, level, address))
    if options.get("output") == "false": cell.outputs = []
    cell.source = "" if options.get("echo") == "false" else code
    return cell if cell.source or cell.outputs else None


def visible_cells(
    notebook: NotebookNode,  # as saved or executed
    address: Callable[[NotebookNode], str] = lambda cell: "",  # where on the web an exported cell's code is
) -> list[NotebookNode]:
    "The cells of a page, exported ones as reference entries, a level below the notebook's own headings."
    level, cells = 2, []
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and re.search("^## ", cell.source, re.M): level = 3
        cells.append(_visible(cell, level, address(cell)))
    return [cell for cell in cells if cell is not None]


def _plain_table(content: str) -> str:
    "pandas' HTML without its styles, classes and ids, in a frame, so that the site's style applies."
    own = r"<style.*?</style>\s*|\s(?:class|id|border|style|halign|valign)=\"[^\"]*\"|\sscoped"
    return f'<div class="frame">\n{re.sub(own, "", content, flags=re.S).strip()}\n</div>'


def _describe_figures(notebook: NotebookNode) -> None:
    "Give every figure the nearest heading before it as its description."
    heading = ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            heading = (re.findall(r"^#+\s+(.*?)(?:\s*\{.*\})?$", cell.source, re.M) or [heading])[-1]
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}): output.metadata["alt"] = f"Figure: {heading}".replace("`", "")


@cache
def _exporter() -> MarkdownExporter:
    "nbconvert's Markdown with our blocks."
    exporter = MarkdownExporter(filters={"fenced": fenced, "plain_table": _plain_table})
    exporter.raw_template = TEMPLATE
    return exporter


def page_of(
    notebook: NotebookNode,  # its cells as they are to be shown
    source: str,             # its path in the repository
    page: str,               # such as "guide/run.md"
    places: Places,
) -> tuple[str, dict[str, bytes]]:  # Markdown; figures by their path beside the page
    "A notebook as Markdown for MkDocs."
    _describe_figures(notebook)
    link = lambda text: link_names(relink(text, source, page, places), page, places)
    for cell in notebook.cells:
        if cell.cell_type == "markdown": cell.source = link(cell.source)
        for output in cell.get("outputs", []):
            if text := output.get("data", {}).get("text/markdown"): output.data["text/markdown"] = link(text)
    stem = posixpath.basename(page).removesuffix(".md")
    resources = {"unique_key": stem, "output_files_dir": f"{stem}_files"}
    text, resources = _exporter().from_notebook_node(notebook, resources)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n", resources["outputs"]
