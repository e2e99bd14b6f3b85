"""This build against an earlier commit's, on this machine: `python -m benchmarks.build --help`. Ratios count, not seconds."""
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Annotated, NamedTuple

import typer

from .measure import ROOT

BASE = "a63bdb9"  # the last commit before smoke tests were made small
SCRATCH = ROOT / "scratch" / "benchmarks" / "build"
OUTSIDE = ("GIT_", "DVC_", "MAKE", "PYTHON", "JUPYTER", "IPYTHON", "MPL", "FER_RESEARCH", "VENV")
CLASSIFIERS = {"base": "heads", "here": "classifiers"}  # module of models/ whose function is edited
NOTHING = {"base": "fer_boosting_split@sound", "here": "fer_boosting_split"}  # a stage that computes next to nothing


class Cost(NamedTuple):
    "What a command took."
    cpu: float   # seconds, user and system, of all its processes
    wall: float  # seconds


class Build(NamedTuple):
    "A clone of one commit."
    side: str  # "base" or "here"
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


def clone_of(
    side: str,      # "base" or "here"
    revision: str,  # of git
) -> Build:
    "A fresh clone with the sample; `typer.Exit` where it needs another environment than this one."
    build = Build(side, SCRATCH / side)
    shutil.rmtree(build.root, ignore_errors=True)
    subprocess.run(["git", "clone", "--quiet", "--shared", str(ROOT), str(build.root)], check=True)
    build.run("git", "checkout", "--quiet", revision)
    if (build.root / "requirements.txt").read_bytes() != (ROOT / "requirements.txt").read_bytes():
        typer.echo(f"{revision} has another requirements.txt: its environment cannot be shared", err=True)
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
    asked = subprocess.run(["dvc", "repro", "--dry"], cwd=build.root, capture_output=True, text=True)
    count = len(subprocess.run(["dvc", "stage", "list", "--name-only"], cwd=build.root, capture_output=True, text=True).stdout.split())
    module.write_text(text)
    build.run("dvc", "repro", "strip")
    return asked.stdout.count("Running stage") / count


QUICK: dict[str, Callable[[Build], Cost]] = {
    "a stage that does nothing": lambda build: build.run("dvc", "repro", "--force", "--single-item", NOTHING[build.side]),
    "dvc repro with nothing to do": lambda build: build.run("dvc", "repro"),
    "dvc status": lambda build: build.run("dvc", "status"),
    "dvc metrics diff": lambda build: build.run("dvc", "metrics", "diff", "HEAD"),
}
LONG: dict[str, Callable[[Build], Cost]] = {
    "rebuild from nothing": rebuild,
    "make docs after it": lambda build: build.run("make", "docs"),
}
CI: dict[str, Callable[[Build], Cost]] = {".ci/run": lambda build: build.run(".ci/run")}


def compared(name: str, task: Callable[[Build], Cost], builds: list[Build], repeats: int) -> dict:
    "Medians of both sides, measured in turn, and how many times less the second takes."
    costs: dict[str, list[Cost]] = {build.side: [] for build in builds}
    for _ in range(repeats):
        for build in builds: costs[build.side].append(task(build))
    middle = {side: Cost(median(c.cpu for c in found), median(c.wall for c in found)) for side, found in costs.items()}
    base, here = middle["base"], middle["here"]
    typer.echo(f"{name}: CPU {base.cpu:.1f} s and {here.cpu:.1f} s, {base.cpu / here.cpu:.2f} times less; "
               f"wall {base.wall:.1f} s and {here.wall:.1f} s, {base.wall / here.wall:.2f} times less")
    return {"name": name, "repeats": repeats, **{side: cost._asdict() for side, cost in middle.items()}}


def main(
    base: Annotated[str, typer.Option(help="The commit to compare with.")] = BASE,
    repeats: Annotated[int, typer.Option(min=1, help="Of the quick commands; whole rebuilds run once.")] = 5,
    ci: Annotated[bool, typer.Option("--ci", help="Run .ci/run of both as well, which takes an hour or two.")] = False,
) -> None:
    "Rebuild an earlier commit and this one, and compare what they cost."
    builds = [clone_of("base", base), clone_of("here", "HEAD")]
    found = [compared(name, task, builds, 1) for name, task in LONG.items()]
    found += [compared(name, task, builds, repeats) for name, task in QUICK.items()]
    shares = {build.side: stages_after_edit(build) for build in builds}
    typer.echo(f"stages that run after an edit of one classifier: {shares['base']:.0%} and {shares['here']:.0%}")
    if ci: found += [compared(name, task, builds, 1) for name, task in CI.items()]
    (SCRATCH / "last.json").write_text(json.dumps({"costs": found, "stages after an edit": shares}, indent=2))


if __name__ == "__main__": typer.run(main)
