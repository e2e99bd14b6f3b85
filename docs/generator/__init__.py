"""The documentation, made from notebooks: `make docs` runs `python -m docs.generator`.

Three kinds of notebooks become pages: those of the guide; those of the library, with an entry for each public name;
and the reports of the studies, which `make repro` executed. nbconvert writes each as Markdown into scratch/docs/, and
MkDocs with its theme Material makes site/ of these. What lies between the two is here:

- `site`       which page everything becomes, the navigation, and the whole build
- `execute`    notebooks with their outputs, executed anew where something changed that these depend on
- `pages`      a notebook as Markdown: what nbdev's directives show of it, tables, figures
- `links`      links between notebooks as links between pages, public names in backticks as links
- `reference`  an exported cell as reference entries, read from its source
- `mathml`     formulas that a browser draws without a script
- `pictures`   no picture of what may not be shown
- `studies`    pages about studies and data sets
- `cards`      data cards and model cards, which pages of the guide show
- `readme`     README.md, for `make readme` and as the front page

Settings and navigation are in mkdocs.yml, where a notebook of the guide needs a line; studies and library need none.
What is wrong stops the build: a notebook that fails, a link or an anchor that leads nowhere, a page that the navigation
does not name, pictures that may not be shown.
"""
