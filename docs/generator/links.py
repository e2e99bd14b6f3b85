"""Links between notebooks and other files of the repository, as links between pages."""
import posixpath
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from fer_research.core import InputError

FENCE = re.compile(r"^[ \t]*(`{3,}|~{3,})[^\n]*\n.*?^[ \t]*\1[ \t]*$", re.S | re.M)
LINK = re.compile(r"\]\((?![a-z]+:|#)([^)#\s]+)(#[^)\s]*)?\)")  # a relative one


@dataclass(frozen=True)
class Places:
    "Where on the site everything is."
    root: Path                  # the repository
    url: str                    # of the repository's files on the web
    pages: dict[str, str]       # path in the repository -> page
    symbols: dict[str, str] = field(default_factory=dict)  # public name -> page#name

    def find(
        self,
        link: str,    # as written, without an anchor
        source: str,  # path of the file that has it, in the repository
    ) -> str:  # page, or address of the file on the web
        "What a link leads to, from its file's folder or from the root; `InputError` where there is nothing."
        for start in (posixpath.dirname(source), ""):
            path = posixpath.normpath(posixpath.join(start, link))
            if path in self.pages: return self.pages[path]
            if path[:2] != ".." and (self.root / path).exists(): return f"{self.url}/{path}"
        raise InputError(f"{source}: the link {link} leads nowhere")


def _relative(target: str, page: str) -> str:
    "A page as seen from another."
    return target if "://" in target else posixpath.relpath(target, posixpath.dirname(page) or ".")


def _outside_code(text: str, change: Callable[[str], str]) -> str:
    "Apply a change to Markdown, but not to its fenced blocks."
    parts, end = [], 0
    for block in FENCE.finditer(text):
        parts += [change(text[end : block.start()]), block[0]]
        end = block.end()
    return "".join([*parts, change(text[end:])])


def relink(
    text: str,      # Markdown
    source: str,    # path of the file it is from, in the repository
    page: str,      # the page it goes to
    places: Places,
) -> str:
    "Lead every relative link to where its target is on the site, or to the repository where it is no page."
    def replace(match: re.Match) -> str:
        return f"]({_relative(places.find(match[1], source), page)}{match[2] or ''})"
    return _outside_code(text, lambda part: LINK.sub(replace, part))


def link_names(
    text: str,       # Markdown
    page: str,       # the page it goes to
    places: Places,
) -> str:
    """Make a link of every public name in backticks, except in headings and links.

    Only of names that no prose has, those with an underscore or a capital: `search` in a sentence may be anything.
    """
    def replace(match: re.Match) -> str:
        target = places.symbols.get(match[1]) if re.search("[_A-Z]", match[1] or "") else None
        return f"[{match[0]}]({_relative(target, page)})" if target else match[0]
    names = re.compile(r"(?m)^#.*|(?<![`\[\w])`([\w.]+)(?:\(\))?`(?![`\]\w])")
    return _outside_code(text, lambda part: names.sub(replace, part))
