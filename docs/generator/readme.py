"""README.md from nbs/index.ipynb: figures in it are computed, and nobody types one."""
import posixpath
import re
from pathlib import Path

from nbconvert import MarkdownExporter

from fer_research.core import atomic, repo_root

from .execute import execute_once
from .links import LINK

NOTE = "<!-- Made from nbs/index.ipynb by `make readme`: edit that. -->"


def from_root(
    text: str,    # Markdown
    folder: str,  # where its relative links start
) -> str:
    "Let relative links start at the root: those of the notebook start in nbs/, and README.md stands one folder higher."
    target = lambda link: posixpath.normpath(posixpath.join(folder, link[1])) + (link[2] or "")
    return LINK.sub(lambda link: f"]({target(link)})", text)


def readme(
    root: Path,  # the repository
) -> str:  # Markdown
    "The text of README.md: nbs/index.ipynb with what its code cells give, without their code."
    notebook = execute_once(root / "nbs" / "index.ipynb", root)
    text = MarkdownExporter(exclude_input=True).from_notebook_node(notebook)[0]
    return NOTE + "\n\n" + re.sub(r"\n{3,}", "\n\n", from_root(text, "nbs")).strip() + "\n"


if __name__ == "__main__":
    with atomic(repo_root() / "README.md") as t: t.write_text(readme(repo_root()), encoding="utf-8")
