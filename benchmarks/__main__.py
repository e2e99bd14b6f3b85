"""The command line: `python -m benchmarks --help`."""
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from .measure import ROOT, ArchiveError, Log, measure, summarise, unpacked
from .report import paired_test, show, write
from .suite import BENCHMARKS

FER6, SCRATCH = ROOT / "data" / "fer6" / "fer6.zip", ROOT / "scratch" / "benchmarks"
Name = StrEnum("Name", list(BENCHMARKS))
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(epilog=" · ".join(f"{name}: {benchmark.title}" for name, benchmark in BENCHMARKS.items()))
def main(
    names: Annotated[list[Name] | None, typer.Argument(help="What to measure; everything by default.")] = None,
    fer6: Annotated[Path, typer.Option(
        exists=True, show_default="data/fer6/fer6.zip", help="The FER-6 archive, or the folder it unpacks to.")] = FER6,
    repeats: Annotated[int, typer.Option(min=1, help="How often each side is measured; the median counts.")] = 3,
    resume: Annotated[bool, typer.Option(
        "--resume", help="Keep what was measured before with the same archive and the same code.")] = False,
    write_to: Annotated[Path, typer.Option(
        show_default="scratch/benchmarks", help="Folder for measurements.jsonl and last.json.")] = SCRATCH,
):
    "Measure the sources' ways against ours: seconds, peak memory and accuracy, on the same data in one run."
    chosen = [name for name in BENCHMARKS if not names or name in names]
    fer6 = fer6.resolve()
    log = Log(write_to / "measurements.jsonl", resume)
    say = lambda line: print(line, flush=True)
    try:
        with unpacked(fer6) as folder:
            paths = {"archive": fer6, "unpacked": folder, "repository": ROOT}
            lines = {name: measure(name, paths, repeats, log, say) for name in chosen}
    except ArchiveError as error:
        typer.echo(f"benchmarks: {error}", err=True)
        raise typer.Exit(2) from None
    results = {name: summarise(measurements) for name, measurements in lines.items()}
    test = paired_test(results.get("study", {}))
    write(write_to / "last.json", results, test)
    show(results, test, Console(width=None if Console().is_terminal else 150))
    if any("failed" in line for measurements in lines.values() for line in measurements): raise typer.Exit(1)


if __name__ == "__main__":
    app(prog_name="python -m benchmarks")
