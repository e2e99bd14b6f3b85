"""Exported code as reference entries, without importing it.

nbdev's `show_doc` imports what it documents, so that a page of a network would import torch or tensorflow, which must
not meet in one process and take seconds each. All that an entry says is in the source as well: names, annotations,
defaults, docstrings, and the comment beside each parameter.
"""
import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from fer_research.pipeline.compare import markdown_table

WIDTH = 88  # characters of a call on one line


class Parameter(NamedTuple):
    "An argument of a function, or a field of a class."
    name: str     # with its stars
    type: str     # as code; empty without an annotation
    default: str  # as code; empty without one
    comment: str  # what the source says beside it


def _comments(source: str) -> dict[int, str]:
    "The comment on each line that has one."
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {token.start[0]: token.string.lstrip("#").strip() for token in tokens if token.type == tokenize.COMMENT}


def _code(node: ast.AST | None) -> str:
    "A piece of the syntax tree as code."
    return ast.unparse(node) if node else ""


def _annotation(node: ast.expr | None) -> tuple[str, str]:
    "Type, and the help text that typer takes from an `Annotated` one."
    if not (isinstance(node, ast.Subscript) and _code(node.value) == "Annotated"): return _code(node), ""
    kind, *marks = node.slice.elts
    words = [word for mark in marks if isinstance(mark, ast.Call) for word in mark.keywords if word.arg == "help"]
    return (_code(kind), _code(words[0].value).strip("'\"")) if words else (_code(node), "")


def _arguments(function: ast.FunctionDef) -> Iterator[tuple[str, ast.arg, ast.expr | None]]:
    "Stars, argument and default of each, in the order of the call."
    args = function.args
    plain = [*args.posonlyargs, *args.args]
    defaults = [None] * (len(plain) - len(args.defaults)) + args.defaults
    yield from zip([""] * len(plain), plain, defaults, strict=True)
    if args.vararg: yield "*", args.vararg, None
    yield from zip([""] * len(args.kwonlyargs), args.kwonlyargs, args.kw_defaults, strict=True)
    if args.kwarg: yield "**", args.kwarg, None


def _returns(function: ast.FunctionDef, comments: dict[int, str], taken: set[int]) -> list[Parameter]:
    "What a function returns, as a parameter named `returns`; the comment on a line in `taken` is an argument's."
    last = function.returns.end_lineno if function.returns else max(function.lineno, function.body[0].lineno - 1)
    result, comment = _code(function.returns), "" if last in taken else comments.get(last, "")
    return [Parameter("returns", result, "", comment)] if comment or result not in ("", "None") else []


def parameters(
    function: ast.FunctionDef,  # as parsed
    comments: dict[int, str],   # line -> comment
) -> list[Parameter]:
    """The arguments of a function without `self`, and what it returns under the name `returns`.

    A comment belongs to the last argument on its line; on the line that ends the header it says what comes back.
    """
    arguments = [entry for entry in _arguments(function) if entry[1].arg not in ("self", "cls")]
    owners = {argument.end_lineno: argument.arg for _, argument, _ in arguments}
    beside = {name: comments.get(line, "") for line, name in owners.items()}
    rows = []
    for stars, argument, default in arguments:
        kind, words = _annotation(argument.annotation)
        rows.append(Parameter(stars + argument.arg, kind, _code(default), beside.get(argument.arg) or words))
    return rows + _returns(function, comments, set(owners))


def fields(
    node: ast.ClassDef,        # as parsed
    comments: dict[int, str],  # line -> comment
) -> list[Parameter]:
    "What a class is made from: the arguments of `__init__`, or the annotated fields of a dataclass and the like."
    for part in node.body:
        if isinstance(part, ast.FunctionDef) and part.name == "__init__":
            return [parameter for parameter in parameters(part, comments) if parameter.name != "returns"]
    parts = [part for part in node.body if isinstance(part, ast.AnnAssign) and part.target.id[0] != "_"]
    return [Parameter(part.target.id, _code(part.annotation), _code(part.value), comments.get(part.end_lineno, ""))
            for part in parts]


def fenced(
    code: str,           # any text
    language: str = "",  # such as "python"
) -> str:  # Markdown
    "A block of code, between fences longer than any in it."
    fence = "~" * (1 + max((len(fence) for fence in re.findall(r"^\s*(`{3,}|~{3,})", code, re.M)), default=3))
    return f"{fence}{language}\n{code}\n{fence}"


def _argument(parameter: Parameter) -> str:
    "An argument in a call: `name: type = default`."
    kind = f": {parameter.type}" if parameter.type else ""
    return parameter.name + kind + (f" = {parameter.default}" if parameter.default else "")


def _call(name: str, entries: list[Parameter]) -> str:
    "How a function or a class is called, on one line where it fits."
    arguments = [_argument(entry) for entry in entries if entry.name != "returns"]
    result = next((f" -> {entry.type}" for entry in entries if entry.name == "returns" and entry.type), "")
    line = f"{name}({', '.join(arguments)}){result}"
    lines = [f"{name}(", *(f"    {argument}," for argument in arguments), f"){result}"]
    return line if len(line) <= WIDTH else "\n".join(lines)


def _table(entries: list[Parameter]) -> str:
    "The parameters as a Markdown table; nothing where no comment says more than the call."
    if not any(entry.comment for entry in entries): return ""
    quote = lambda code: f"`{code}`" if code else ""
    name = lambda entry: "*returns*" if entry.name == "returns" else quote(entry.name)
    rows = [(name(entry), quote(entry.type), quote(entry.default), entry.comment) for entry in entries]
    return markdown_table(["", "type", "default", ""], rows)


def _entry(name: str, level: int, code: str, doc: str | None, table: str = "") -> str:
    "Heading with the name as its anchor, code, docstring and table."
    parts = [f"{'#' * level} `{name}` {{ #{name} }}", fenced(code, "python"), doc, table]
    return "\n\n".join(part for part in parts if part)


def _function(node: ast.FunctionDef, level: int, comments: dict[int, str], prefix: str = "") -> str:
    "The entry of a function, a method or a property."
    entries, name, doc = parameters(node, comments), prefix + node.name, ast.get_docstring(node)
    if any(_code(mark).endswith("property") for mark in node.decorator_list):
        return _entry(name, level, name + "".join(f": {entry.type}" for entry in entries), doc)
    return _entry(name, level, _call(name, entries), doc, _table(entries))


def _class(node: ast.ClassDef, level: int, comments: dict[int, str]) -> str:
    "The entry of a class, and a level below it those of its public methods."
    entries, bases = fields(node, comments), ", ".join(map(_code, node.bases))
    code = f"class {node.name}" + (f"({bases})" if bases else "")
    if entries: code += f"\n\n{_call(node.name, entries)}"
    methods = [part for part in node.body if isinstance(part, ast.FunctionDef) and part.name[0] != "_"]
    below = [_function(method, level + 1, comments, f"{node.name}.") for method in methods]
    return "\n\n".join([_entry(node.name, level, code, ast.get_docstring(node), _table(entries)), *below])


def _constants(node: ast.Assign | ast.AnnAssign, level: int, lines: list[str]) -> str:
    "The entries of assigned names, each with the whole assignment."
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    parts = [part for target in targets for part in ast.walk(target)]
    names = [part.id for part in parts if isinstance(part, ast.Name) and part.id[0] != "_"]
    code = "\n".join(lines[node.lineno - 1 : node.end_lineno])
    return "\n\n".join(_entry(name, level, code, None) for name in names)


def reference(
    source: str,     # an exported cell
    level: int = 3,  # of the headings
) -> str:  # Markdown; empty where the cell has no public names
    "An entry for each public name that the cell defines."
    comments, entries = _comments(source), []
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign | ast.AnnAssign): entries.append(_constants(node, level, source.splitlines()))
        elif getattr(node, "name", "_")[0] == "_": continue
        elif isinstance(node, ast.ClassDef): entries.append(_class(node, level, comments))
        elif isinstance(node, ast.FunctionDef): entries.append(_function(node, level, comments))
    return "\n\n".join(filter(None, entries))


def _declared(source: str) -> list[str]:
    "The value of `__all__`."
    assignments = [node for node in ast.parse(source).body if isinstance(node, ast.Assign)]
    values = [ast.literal_eval(node.value) for node in assignments if _code(node.targets[0]) == "__all__"]
    return values[0] if values else []


def public_names(
    root: Path,  # the repository
) -> dict[str, list[str]]:  # module's file, from the root -> its names
    "`__all__` of every module of the library."
    files = sorted(path for path in (root / "fer_research").rglob("*.py") if path.name[0] != "_")
    return {file.relative_to(root).as_posix(): _declared(file.read_text(encoding="utf-8")) for file in files}
