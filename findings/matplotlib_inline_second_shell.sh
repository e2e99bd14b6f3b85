#!/usr/bin/env bash
# matplotlib-inline 0.2.2 with IPython 9.18.1 and matplotlib 3.11.2: the inline backend registers the hook that shows figures at the
# end of a cell with the first InteractiveShell of a process, and with no other. Whoever runs several notebooks in one
# process, each in a shell of its own, gets figures in the first notebook alone; the others lose theirs without a word.
# Seen: one figure from the first shell, none from the second; one again after `configure_inline_support` is called for
# it with the module's note of the backend cleared.
# Expected: `configure_inline_support(shell, backend)` takes a shell, so each shell that asks has figures.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check matplotlib-inline==0.2.2 ipython==9.18.1 matplotlib==3.11.2

cat > "$folder/shells.py" <<'PYTHON'
import sys
from IPython.core.displaypub import DisplayPublisher
from IPython.core.interactiveshell import InteractiveShell

figures = []

class Publisher(DisplayPublisher):
    def publish(self, data, *arguments, **options): figures.extend(kind for kind in data if kind == "image/png")

def run(again=False):
    "How many figures a cell shows in a new shell."
    InteractiveShell._instance = None
    shell = InteractiveShell(display_pub_class=Publisher)
    InteractiveShell._instance = shell
    if again:
        inline = sys.modules["matplotlib_inline.backend_inline"]
        inline.configure_inline_support.current_backend = None
        inline.configure_inline_support(shell, "inline")
    figures.clear()
    assert shell.run_cell("import matplotlib.pyplot as plt\nplt.plot([1, 2]);").success
    return len(figures)

print(run(), run(), run(again=True))
PYTHON

seen=$(MPLBACKEND=module://matplotlib_inline.backend_inline "$folder/venv/bin/python" "$folder/shells.py" | tail -n 1)
echo "figures of the first shell, the second, and a third that is registered anew: $seen"
[ "$seen" = "1 0 1" ]
