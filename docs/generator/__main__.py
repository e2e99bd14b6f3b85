"""`make docs`: builds site/, or says in a line what is in the way."""
import logging
import sys

from mkdocs.exceptions import Abort

from fer_research.core import InputError, repo_root

from .site import build_site

logging.basicConfig(format="docs: %(message)s", level=logging.WARNING)  # what MkDocs finds
try: print(build_site(repo_root()) / "index.html")
except (InputError, FileNotFoundError, Abort) as error:
    print(f"docs: {error}", file=sys.stderr)
    sys.exit(2)
