"""This build against an earlier commit's, on this machine: `python -m benchmarks.build --help`. Ratios count."""
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
OUTSIDE = ("GIT_", "DVC_", "MAKE", "PYTHON", "PYTEST", "JUPYTER", "IPYTHON", "MPL", "FER_RESEARCH", "VENV")
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

    def run(self, *command: str, check: bool = True) -> Cost:
        "Run a command to its end; `CalledProcessError` where it fails and that is not welcome."
        kept = {key: value for key, value in os.environ.items() if not key.startswith(OUTSIDE)}
        path = os.pathsep.join([str(Path(sys.executable).parent), kept["PATH"]])
        environment = kept | {"PATH": path, "PYTHONPATH": str(self.root), "VENV": sys.prefix, "DVC_NO_ANALYTICS": "1"}
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        subprocess.run(command, cwd=self.root, env=environment, check=check, capture_output=True, text=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return Cost(cpu, time.monotonic() - started)


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
    "A clone with the sample, that of the last time where it is of this commit; `typer.Exit` for other requirements."
    build = Build(side, SCRATCH / side)
    commit = lambda root, name: subprocess.check_output(["git", "rev-parse", name], cwd=root)
    if build.root.exists() and commit(build.root, "HEAD") == commit(ROOT, revision): return build
    shutil.rmtree(build.root, ignore_errors=True)
    subprocess.run(["git", "clone", "--quiet", "--shared", str(ROOT), str(build.root)], check=True)
    build.run("git", "checkout", "--quiet", revision)
    wanted, installed = pins(build.root), pins(ROOT)
    if other := [name for name in wanted if installed.get(name, wanted[name]) != wanted[name]]:
        typer.echo(f"{revision} needs other versions of {', '.join(other)}: its environment cannot be shared", err=True)
        raise typer.Exit(2)
    build.run("dvc", "pull", "--quiet", "data.dvc")
    build.run("dvc", "repro", "strip", "prepare@fer6", NOTHING[side])
    return build


def rebuild(build: Build) -> Cost:
    "All stages from nothing, two studies at a time."
    for made in ("outputs", ".dvc/cache/runs"): shutil.rmtree(build.root / made, ignore_errors=True)
    (build.root / "dvc.lock").unlink(missing_ok=True)
    return build.run("make", "--jobs=2", "all-stages")


def smoke_tests(build: Build) -> Cost:
    "The stages that are nothing but smoke tests, of both studies that have such."
    stages = [f"{study}_smoke_tests" for study in ("fer_boosting", "fer_transfer")]
    return build.run("dvc", "repro", "--force", "--single-item", *stages)


def stages_after_edit(build: Build) -> float:
    "The share of the stages that run again after the body of one classifier's function was edited."
    module = build.root / "fer_research" / "models" / f"{CLASSIFIERS[build.side]}.py"
    listed = lambda *command: subprocess.run(["dvc", *command], cwd=build.root, capture_output=True, text=True).stdout
    text = module.read_text()
    try:
        module.write_text(text.replace('shrinkage="auto"', "shrinkage=0.5"))
        build.run("dvc", "repro", "strip")
        affected = listed("repro", "--dry").count("Running stage")
    finally:
        module.write_text(text)
        build.run("dvc", "repro", "strip")
    return affected / len(listed("stage", "list", "--name-only").split())


class Task(NamedTuple):
    "A command to measure."
    title: str
    run: Callable[[Build], Cost]
    once: bool = False  # of minutes, so that it is not repeated
    sides: tuple[str, ...] = tuple(Side)  # the builds that have such


TASKS = {
    "rebuild": Task("rebuild from nothing", rebuild, once=True),
    "smoke": Task("smoke tests", smoke_tests, once=True, sides=("here",)),
    "docs": Task("make docs after it", lambda build: build.run("make", "docs"), once=True),
    "nothing": Task("a stage that does nothing",
                    lambda build: build.run("dvc", "repro", "--force", "--single-item", NOTHING[build.side])),
    "repro": Task("dvc repro with nothing to do", lambda build: build.run("dvc", "repro")),
    "status": Task("dvc status", lambda build: build.run("dvc", "status")),
    "diff": Task("dvc metrics diff", lambda build: build.run("dvc", "metrics", "diff", "HEAD")),
    "ci": Task(".ci/run", lambda build: build.run(".ci/run", check=False), once=True),
}
Name = StrEnum("Name", [*TASKS, "edit"])


def measure_task(task: Task, builds: list[Build], repeats: int) -> None:
    "Append what a command takes in each build, in turn, to the log."
    for _ in range(1 if task.once else repeats):
        for build in (build for build in builds if build.side in task.sides):
            cost = task.run(build)
            typer.echo(f"{task.title}, {build.side}: CPU {cost.cpu:.1f} s, wall {cost.wall:.1f} s")
            line = json.dumps({"name": task.title, "side": build.side, **cost._asdict()})
            with LOG.open("a") as log: log.write(line + "\n")


def show_ratios() -> None:
    "Medians of each side in the log, and their ratio where there are both."
    table = pd.read_json(LOG, lines=True).groupby(["name", "side"], sort=False).median().unstack()
    for name, row in table.iterrows():
        kinds = [kind for kind in ("cpu", "wall") if row[kind].reindex([*Side]).notna().all()]
        figures = [f"{kind} {row[kind, 'base']:.1f} s and {row[kind, 'here']:.1f} s, "
                   f"{row[kind, 'here'] / row[kind, 'base']:.2f} of it" for kind in kinds]
        typer.echo(f"{name}: {'; '.join(figures) or 'measured on one side only'}")


def main(
    names: Annotated[list[Name] | None, typer.Argument(help="What to measure; all but `ci` by default.")] = None,
    base: Annotated[str, typer.Option(help="The commit to compare with.")] = BASE,
    repeats: Annotated[int, typer.Option(min=1, help="Of the quick commands; what takes minutes runs once.")] = 5,
    only: Annotated[list[Side] | None, typer.Option(help="Measure one build only; both by default.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget what earlier runs measured.")] = False,
) -> None:
    """Build an earlier commit and this one, and compare what they cost. `repro`, `docs` and `edit` look at what
    `rebuild` has made, this time or an earlier one; `ci` takes an hour or two."""
    if fresh: LOG.unlink(missing_ok=True)
    wanted = names or [name for name in Name if name != "ci"]
    builds = [clone_of(side, base if side == "base" else "HEAD") for side in only or Side]
    for name in Name:
        if name not in wanted: continue
        if name in TASKS: measure_task(TASKS[name], builds, repeats)
        for build in builds if name == "edit" else []:
            typer.echo(f"stages that run after an edit of one classifier, {build.side}: {stages_after_edit(build):.0%}")
    show_ratios()


if __name__ == "__main__": typer.run(main)
