"""What a study notebook depends on, read from its code: modules by their imports, transitively."""
import ast
from pathlib import Path

import nbformat

ROOT = Path(__file__).parents[1]


def module_file(name: str) -> Path | None:
    """`fer_research.data.archive` -> fer_research/data/archive.py; None for other packages."""
    path = ROOT.joinpath(*name.split("."))
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if name.split(".")[0] == "fer_research" and p.is_file()), None)


def imported(source: str, package: str = "") -> set[Path]:
    """Our own modules that a piece of code imports; `package` resolves relative imports."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import): names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        else: continue
        found |= {file for name in names if (file := module_file(name)) and file.name != "__init__.py"}
    return found


def notebook_code(path: Path) -> str:
    """All code of a notebook, magics left out."""
    cells = [c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    return "\n".join(line for cell in cells for line in cell.splitlines() if not line.startswith(("%", "!")))


def modules_of(notebook: Path) -> list[str]:
    """Paths of all our modules that a notebook needs, relative to the root."""
    todo, done = imported(notebook_code(notebook)), set()
    while todo:
        file = todo.pop()
        done.add(file)
        package = ".".join(file.relative_to(ROOT).parent.parts)
        todo |= imported(file.read_text(encoding="utf-8"), package) - done
    return sorted(file.relative_to(ROOT).as_posix() for file in done)


if __name__ == "__main__":
    for path in sorted(ROOT.glob("nbs/studies/*/*.ipynb")):
        print(path.relative_to(ROOT), *modules_of(path), sep="\n      - ")
