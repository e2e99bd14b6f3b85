"""Formulas as MathML, which browsers draw without a script."""
import html
import re

from latex2mathml.converter import convert
from markdown import Markdown
from markdown.extensions import Extension
from markdown.postprocessors import Postprocessor


def _formula(latex: str, display: str) -> str:
    "A formula, as pymdownx.arithmatex leaves it, in MathML."
    latex = html.unescape(latex).strip().replace("{aligned}", "{align*}")  # the converter knows no other name for it
    return convert(latex, display=display)


class _AsMathML(Postprocessor):
    "Replaces what pymdownx.arithmatex marked as a formula."
    def run(self, text: str) -> str:
        "The page with MathML."
        inline, block = lambda match: _formula(match[1], "inline"), lambda match: _formula(match[1], "block")
        text = re.sub(r'<span class="arithmatex">\\\((.*?)\\\)</span>', inline, text, flags=re.S)
        return re.sub(r'<div class="arithmatex">\\\[(.*?)\\\]</div>', block, text, flags=re.S)


class MathML(Extension):
    "Extension of Python-Markdown, after `pymdownx.arithmatex` with `generic`: formulas as MathML."
    def extendMarkdown(self, md: Markdown) -> None:
        "Register behind everything else."
        md.postprocessors.register(_AsMathML(md), "mathml", -100)
