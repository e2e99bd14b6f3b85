"""One side of one benchmark in a process of its own: `python -m benchmarks.child source.components PATH RESULT`.

RESULT becomes a JSON file: seconds, the seconds of each step, those of all cores together, the peak of memory in MiB,
and what the side found out. Only what stands in a `with clock(STEP)` block counts as seconds: neither starting Python
nor imports nor preparations do.
"""
import importlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


class Skip(Exception):
    "Raised by a side that cannot be measured here and now; its text is the reason."


class Clock:
    "Seconds of the steps of some work, and of all cores and child processes together."

    def __init__(self):
        self.steps: dict[str, float] = {}
        self.cpu = 0.0

    @contextmanager
    def __call__(
        self,
        step: str,  # what is done in the block
    ) -> Iterator[None]:
        "Count the time that the block takes to a step."
        started, busy = time.perf_counter(), sum(os.times()[:4])
        yield
        self.steps[step] = self.steps.get(step, 0) + time.perf_counter() - started
        self.cpu += sum(os.times()[:4]) - busy


def fitted_model(
    variant: str,  # of fer_boosting
) -> Path:  # its folder
    "A model that `make repro` fitted; `Skip` where it did not."
    from fer_research.pipeline.predict import find_models

    folder = find_models("fer_boosting").get(variant)
    if folder is None: raise Skip(f"{variant} is not fitted here; run `make repro` first")
    return folder


def fitted_extractor(
    variant: str,  # of fer_boosting
) -> Path:  # its folder
    "The extractor of a model that `make repro` fitted."
    model = fitted_model(variant)
    return (model / json.loads((model / "model.json").read_text(encoding="utf-8"))["extractor"]).resolve()


def peak_memory() -> float:
    "The most memory that this process, or a single one of its children, has had so far, in MiB."
    import resource  # not on Windows

    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss: bytes on macOS, KiB elsewhere
    processes = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN
    return max(resource.getrusage(who).ru_maxrss for who in processes) * unit / 2**20


def run(
    side: Callable[[Path, Clock], dict],  # a function of `source` or `ours`
    path: Path,  # what it works on
) -> dict:  # seconds, cpu, steps, peak, result; or skipped
    "Run a side once."
    clock = Clock()
    try:
        result = side(path, clock)
    except Skip as reason:
        return {"skipped": str(reason)}
    return {"seconds": sum(clock.steps.values()), "cpu": clock.cpu, "steps": clock.steps, "peak": peak_memory(),
            "result": result}


def main(name: str, path: str, result: str) -> None:
    "Run the side MODULE.FUNCTION and write its result."
    module, function = name.split(".")
    side = getattr(importlib.import_module(f"{__package__}.{module}"), function)
    Path(result).write_text(json.dumps(run(side, Path(path))), encoding="utf-8")


if __name__ == "__main__":
    from benchmarks.child import main as imported  # so that `Skip` here is the one that the sides raise

    imported(*sys.argv[1:])
