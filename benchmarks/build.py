"""This build against an earlier commit's, on this machine: `python -m benchmarks.build --help`.

Ratios count, not seconds.
"""
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NamedTuple

import pandas as pd
import typer

from .measure import ROOT

BASE = "a63bdb9"  # the last commit before smoke tests were made small
SCRATCH = ROOT / "scratch" / "benchmarks" / "build"
LOG = SCRATCH / "costs.jsonl"
OUTSIDE = ("GIT_", "DVC_", "MAKE", "PYTHON", "JUPYTER", "IPYTHON", "MPL", "FER_RESEARCH", "VENV")
CLASSIFIERS = {"base": "heads", "here": "classifiers"}  # module of models/ whose function is edited
NOTHING = {"base": "fer_boosting_split@sound", "here": "fer_boosting_split"}  # a stage that computes next to nothing


Side = StrEnum("Side", ["base", "here"])


class Cost(NamedTuple):
    "What a command took."
    cpu: float   # seconds, user and system, of all its processes
    wall: float  # seconds


class Build(NamedTuple):
    "A clone of one commit."
    side: Side
    root: Path

    def run(self, *command: str) -> Cost:
        "Run a command to its end; `CalledProcessError` with what it printed where it fails."
        kept = {key: value for key, value in os.environ.items() if not key.startswith(OUTSIDE)}
        path = os.pathsep.join([str(Path(sys.executable).parent), kept["PATH"]])
        environment = kept | {"PATH": path, "PYTHONPATH": str(self.root), "VENV": sys.prefix, "DVC_NO_ANALYTICS": "1"}
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        subprocess.run(command, cwd=self.root, env=environment, check=True, capture_output=True, text=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return Cost(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, time.monotonic() - started)


def pins(
    root: Path,  # with requirements.txt
) -> dict[str, str]:  # package -> the rest of its line
    "What a commit has locked."
    lines = (line.partition("==") for line in (root / "requirements.txt").read_text().splitlines() if "==" in line)
    return {name: version for name, _, version in lines}


def clone_of(
    side: Side,
    revision: str,  # of git
) -> Build:
    "A fresh clone with the sample; `typer.Exit` where it needs another environment than this one."
    build = Build(side, SCRATCH / side)
    shutil.rmtree(build.root, ignore_errors=True)
    subprocess.run(["git", "clone", "--quiet", "--shared", str(ROOT), str(build.root)], check=True)
    build.run("git", "checkout", "--quiet", revision)
    required, installed = pins(build.root), pins(ROOT)
    if other := [name for name in required if installed.get(name, required[name]) != required[name]]:
        typer.echo(f"{revision} needs other versions of {', '.join(other)}: its environment cannot be shared", err=True)
        raise typer.Exit(2)
    build.run("dvc", "pull", "--quiet", "data.dvc")
    return build


def rebuild(build: Build) -> Cost:
    "All stages from nothing, two studies at a time."
    shutil.rmtree(build.root / "outputs", ignore_errors=True)
    (build.root / "dvc.lock").unlink(missing_ok=True)
    return build.run("make", "--jobs=2", "all-stages")


def stages_after_edit(build: Build) -> float:
    "The share of the stages that run again after the body of one classifier's function was edited."
    module = build.root / "fer_research" / "models" / f"{CLASSIFIERS[build.side]}.py"
    text = module.read_text()
    module.write_text(text.replace('shrinkage="auto"', 'shrinkage=0.5'))
    build.run("dvc", "repro", "strip")
    dry_run = subprocess.run(["dvc", "repro", "--dry"], cwd=build.root, capture_output=True, text=True)
    listed = subprocess.run(["dvc", "stage", "list", "--name-only"], cwd=build.root, capture_output=True, text=True)
    count = len(listed.stdout.split())
    module.write_text(text)
    build.run("dvc", "repro", "strip")
    return dry_run.stdout.count("Running stage") / count


QUICK: dict[str, Callable[[Build], Cost]] = {
    "a stage that does nothing": lambda build: build.run("dvc", "repro", "--force", "--single-item",
                                                         NOTHING[build.side]),
    "dvc repro with nothing to do": lambda build: build.run("dvc", "repro"),
    "dvc status": lambda build: build.run("dvc", "status"),
    "dvc metrics diff": lambda build: build.run("dvc", "metrics", "diff", "HEAD"),
}
LONG: dict[str, Callable[[Build], Cost]] = {
    "rebuild from nothing": rebuild,
    "make docs after it": lambda build: build.run("make", "docs"),
}


def measured(name: str, task: Callable[[Build], Cost], builds: list[Build], repeats: int) -> None:
    "Append what a command takes in each build, in turn, to the log."
    for _ in range(repeats):
        for build in builds:
            cost = task(build)
            typer.echo(f"{name}, {build.side}: CPU {cost.cpu:.1f} s, wall {cost.wall:.1f} s")
            line = json.dumps({"name": name, "side": build.side, **cost._asdict()})
            with LOG.open("a") as log: log.write(line + "\n")


def show_ratios() -> None:
    "Medians of both sides in the log, and how many times less the second takes."
    table = pd.read_json(LOG, lines=True).groupby(["name", "side"], sort=False).median().unstack()
    for name, row in table.iterrows():
        typer.echo(f"{name}: " + "; ".join(
            f"{kind} {row[kind, 'base']:.1f} s and {row[kind, 'here']:.1f} s, "
            f"{row[kind, 'base'] / row[kind, 'here']:.2f} times less" for kind in ("cpu", "wall")))


def main(
    base: Annotated[str, typer.Option(help="The commit to compare with.")] = BASE,
    repeats: Annotated[int, typer.Option(min=1, help="Of the quick commands; whole rebuilds run once.")] = 5,
    only: Annotated[list[Side] | None, typer.Option(help="Measure one build only; both by default.")] = None,
    ci: Annotated[bool, typer.Option("--ci", help="Run .ci/run as well, which takes an hour or two.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget what earlier runs measured.")] = False,
) -> None:
    "Rebuild an earlier commit and this one, and compare what they cost."
    if fresh: LOG.unlink(missing_ok=True)
    builds = [clone_of(side, base if side == "base" else "HEAD") for side in only or Side]
    for name, task in LONG.items(): measured(name, task, builds, 1)
    for name, task in QUICK.items(): measured(name, task, builds, repeats)
    for build in builds:
        typer.echo(f"stages that run after an edit of one classifier, {build.side}: {stages_after_edit(build):.0%}")
    if ci: measured(".ci/run", lambda build: build.run(".ci/run"), builds, 1)
    show_ratios()


if __name__ == "__main__": typer.run(main)
