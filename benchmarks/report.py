"""What was measured as tables to read, and as a file."""
import json
import os
import platform
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table

from .suite import BENCHMARKS, FULL_SIZE, Goal, Sides, Summary, cost

AT_FULL_SIZE = {"decode", "components", "study", "embed"}  # benchmarks whose goals are set for `FULL_SIZE` faces
# share of the cores that others may take; beyond it threads wait for one another, and the seconds mean little
QUIET = 0.1
FORMS = {"faces": "{:,} faces", "components": "{} components", "explained_variance": "{:.2%} explained",
         "accuracy": "accuracy {:.2%}",
         "accuracy_alone": "{:.2%} without the validation part", "rounds": "{} rounds", "trials": "{} trials",
         "duplicate_images": "{:,} duplicates", "commit": "commit {}", "gflops": "{:.1f} GFLOP/s",
         "of_limit": "{:.0%} of a matrix product"}
LONG = {"test", "right", "answers", "vectors"}  # what is found of single faces


def ratio(sides: Sides, side: str, what: Callable[[Summary], float]) -> str:
    "The source's figure as a multiple of this side's."
    if side == "source" or "source" not in sides: return ""
    return f"{what(sides['source']) / what(sides[side]):.1f} x"


def sides_table(
    results: Mapping[str, Sides],  # benchmark -> its sides
) -> Table:
    "A row a side."
    table = Table("benchmark", "side", "seconds (range)", "faster", "all cores, s", "peak, MiB", "leaner", "result",
                  title="Measured", title_justify="left")
    for name, sides in results.items():
        for side, s in sides.items():
            result = ", ".join(form.format(s.result[key]) for key, form in FORMS.items() if key in s.result)
            table.add_row(name, side, f"{s.seconds:.1f} ({s.fastest:.1f} to {s.slowest:.1f})", ratio(sides, side, cost),
                          f"{s.cpu:.1f}", f"{s.peak:,.0f}", ratio(sides, side, lambda s: s.peak), result)
    return table


def judge(
    goal: Goal,
    sides: Sides,
) -> tuple[float | None, bool | None]:  # value and whether the goal is met; None where a side was not measured
    "Hold a goal against what was measured."
    try: value = goal.value(sides)
    except KeyError: return None, None
    return value, goal.met(value)


def goals_table(
    results: Mapping[str, Sides],  # benchmark -> its sides
) -> Table:
    "A row a goal."
    table = Table("benchmark", "goal", "measured", "met", title="Goals", title_justify="left")
    for name, sides in results.items():
        for goal in BENCHMARKS[name].goals:
            value, met = judge(goal, sides)
            table.add_row(name, f"{goal.what} {goal.sign} {goal.limit:g}",
                          "not measured" if value is None else f"{value:.2f}",
                          {None: "", True: "yes", False: "no"}[met])
    return table


def paired_test(
    sides: Sides,  # of the study
) -> dict | None:  # n, difference with its interval and p; None where the two were not measured on the same faces
    "Both ways on the same test faces: ours against the source's."
    from fer_research.evaluation.statistics import mcnemar  # only now: see measure

    pair = [sides[name].result for name in ("ours, source's split", "source") if name in sides]
    if len(pair) < 2 or pair[0]["test"] != pair[1]["test"]: return None
    return {"n": len(pair[0]["test"]), **mcnemar(pair[0]["right"], pair[1]["right"])._asdict()}


def paired_line(test: dict) -> str:
    "The paired comparison as a sentence."
    difference, low, high = (f"{100 * test[name]:+.2f}" for name in ("difference", "low", "high"))
    return (f"study: on the same {test['n']:,} test faces ours gains {difference} points of accuracy "
            f"(95 % interval {low} to {high}, McNemar p = {test['p']:.3f})")


def steps_lines(results: Mapping[str, Sides]) -> list[str]:
    "Where the seconds went."
    return [f"{name}, {side}: " + ", ".join(f"{step} {seconds:.1f}" for step, seconds in s.steps.items())
            for name, sides in results.items() for side, s in sides.items() if len(s.steps) > 1]


def machine() -> dict:
    "What it was measured on."
    packages = {name: version(name) for name in ("dvc", "lightgbm", "numpy", "pillow", "scikit-learn")}
    return {"cores": os.cpu_count(), "processor": platform.machine(), "system": platform.system(),
            "python": platform.python_version(), **packages}


def show(
    results: Mapping[str, Sides],  # benchmark -> its sides
    test: dict | None,  # of `paired_test`
    console: Console,
) -> None:
    "Print everything."
    console.print(sides_table(results))
    for line in steps_lines(results): console.print(f"  {line}", highlight=False)
    console.print(goals_table(results))
    if test: console.print(paired_line(test), highlight=False)
    others = max((s.others for sides in results.values() for s in sides.values()), default=0)
    if others > QUIET:
        console.print(f"Other programs took up to {others:.0%} of the cores meanwhile: measure again on a quiet "
                      "machine.")
    faces = {s.result["faces"] for name in AT_FULL_SIZE & results.keys()
             for s in results[name].values() if "faces" in s.result}
    if faces and faces != {FULL_SIZE}:
        measured = ", ".join(f"{n:,}" for n in sorted(faces))
        console.print(f"The goals of {', '.join(sorted(AT_FULL_SIZE))} are set for {FULL_SIZE:,} faces; "
                      f"this was measured on {measured}.")


def write(
    path: Path,  # JSON file
    results: Mapping[str, Sides],  # benchmark -> its sides
    test: dict | None,  # of `paired_test`
) -> None:
    "Write everything but the answers on single faces."

    def as_dict(name: str, sides: Sides) -> dict:
        summaries = {side: s._asdict() | {"result": {k: v for k, v in s.result.items() if k not in LONG}}
                 for side, s in sides.items()}
        goals = []
        for goal in BENCHMARKS[name].goals:
            value, met = judge(goal, sides)
            goals.append({"goal": goal.what, "limit": f"{goal.sign} {goal.limit:g}", "measured": value, "met": met})
        return {"title": BENCHMARKS[name].title, "sides": summaries, "goals": goals}

    content = {"machine": machine(), "benchmarks": {name: as_dict(name, sides) for name, sides in results.items()},
               "paired": test}
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
