"""Every side in a process of its own, one after the other, and a file of what was measured.

This process stays small: the kernel counts the memory of the process that starts a child to the child's peak.
"""
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import psutil

from .suite import BENCHMARKS, Summary

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = ("core.py", "compute.py", "pipeline/predict.py", "pipeline/search.py",  # what `ours` uses
           *(f"{folder}/*.py" for folder in ("data", "evaluation", "features", "models")))
CODE = {  # module of a side -> what its measurements depend on beside the data
    "source": ("benchmarks/source.py", "benchmarks/vectors.py"),
    "ours": ("benchmarks/ours.py", "benchmarks/vectors.py", *(f"fer_research/{name}" for name in LIBRARY)),
    "perceptrons": ("benchmarks/perceptrons.py", "fer_research/models/mlp_numpy.py"),
    "digits": ("benchmarks/digits.py", "fer_research/data/polymnist.py", "fer_research/data/prepared.py",
               "fer_research/models/cnn.py", "fer_research/sample/digits.py"),
    "faces": ("benchmarks/faces.py", "fer_research/compute.py", "fer_research/data/fer2013.py",
              "fer_research/models/cnn.py", "fer_research/models/transfer.py"),
    "repository": ("benchmarks/repository.py", "dvc.yaml", "params.yaml", "fer_research/**/*.py",
                   "nbs/studies/**/*.ipynb"),
}


class ArchiveError(ValueError):
    "What was given as the FER-6 archive is none."


@contextmanager
def unpacked(
    archive: Path,  # fer6.zip, or the folder it unpacks to
) -> Iterator[Path]:  # the folder that holds data.csv
    "The archive as files, removed afterwards; `ArchiveError` where it is no archive of that form."
    with tempfile.TemporaryDirectory(prefix="fer-benchmark-") as folder:
        if archive.is_file():
            if not zipfile.is_zipfile(archive): raise ArchiveError(f"{archive}: not a zip archive")
            zipfile.ZipFile(archive).extractall(folder)
        tables = sorted((Path(folder) if archive.is_file() else archive).rglob("data.csv"),
                        key=lambda path: len(path.parts))
        if not tables:
            raise ArchiveError(f"{archive}: no data.csv in it; expected data.csv beside dataset/<Label>/<file>")
        yield tables[0].parent


def stamp(
    function: str,  # MODULE.FUNCTION of this package
    path: Path,  # what it works on
) -> str:  # 16 hexadecimal digits
    "Stands for the code and the data of a side: a measurement with the same stamp need not be repeated."
    state = path.stat()
    data = "" if path == ROOT else f"{path.name} {state.st_size} {state.st_mtime_ns}"
    digest = hashlib.blake2b(data.encode(), digest_size=8)
    for pattern in ("requirements.txt", "benchmarks/child.py", *CODE[function.split(".")[0]]):
        for file in sorted(ROOT.glob(pattern)): digest.update(file.read_bytes())
    return digest.hexdigest()


def log_key(benchmark: str, side: str, repeat: int, stamp: str, **_) -> tuple[str, str, int, str]:
    "What tells one measurement from another."
    return benchmark, side, repeat, stamp


class Log:
    "Measurements in a file of JSON lines, which only ever grows; the last of a kind counts."

    def __init__(
        self,
        path: Path,  # made if need be
        resume: bool,  # whether to take what is already in it
    ):
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text(encoding="utf-8").splitlines() if resume and path.exists() else []
        self._known = {log_key(**line): line for line in map(json.loads, lines) if "seconds" in line}

    def find(self, **key) -> dict | None:
        "An earlier measurement."
        return self._known.get(log_key(**key))

    def add(self, line: dict) -> dict:
        "Append a measurement; gives it back."
        with self.path.open("a", encoding="utf-8") as file: file.write(json.dumps(line) + "\n")
        return line


class Neighbours:
    "What programs other than our children take of the cores, from now on."

    def __init__(self):
        self._started, self._busy = time.perf_counter(), self._busy_now()

    @staticmethod
    def _busy_now() -> float:
        "Seconds that all cores together worked for others since the machine started."
        times, own = psutil.cpu_times(), os.times()
        return times.user + times.system + getattr(times, "nice", 0) - sum(own[:4])

    def share(self) -> float:  # 0: none, 1: all cores
        "Their share of the cores."
        return max(0.0, self._busy_now() - self._busy) / (time.perf_counter() - self._started) / (os.cpu_count() or 1)


def run_side(
    function: str,  # MODULE.FUNCTION of this package
    path: Path,  # what it works on
) -> dict:  # seconds, cpu, steps, peak, result, others; or `skipped` or `failed` with a reason
    "Run one side in a process of its own; `others` is the share of the cores that other programs took meanwhile."
    with tempfile.TemporaryDirectory(prefix="fer-benchmark-") as folder:
        result = Path(folder, "result.json")
        command = [sys.executable, "-m", "benchmarks.child", function, str(path), str(result)]
        neighbours = Neighbours()
        done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode == 0: return json.loads(result.read_text(encoding="utf-8")) | {"others": neighbours.share()}
    killed = f"killed by signal {-done.returncode}; out of memory?"
    reason = killed if done.returncode < 0 else done.stderr.strip()[-1500:]
    return {"failed": reason}


def as_line(
    line: dict,  # a measurement
) -> str:
    "A measurement in a line."
    if "seconds" not in line: return f"skipped: {line['skipped']}" if "skipped" in line else f"FAILED: {line['failed']}"
    steps = ", ".join(f"{name} {value:.1f}" for name, value in line["steps"].items())
    return f"{line['seconds']:.1f} s ({steps}), {line['peak']:,.0f} MiB; others took {line['others']:.0%} of the cores"


def measure(
    name: str,  # of a benchmark
    paths: Mapping[str, Path],  # what the sides need -> where it is
    repeats: int,  # how often each side is measured
    log: Log,
    say: Callable[[str], None],  # prints a line of progress
) -> list[dict]:  # the measurements
    "Measure the sides of a benchmark in turn: A B, A B, A B."
    lines = []
    for repeat in range(repeats):
        for side, (function, needs, once) in BENCHMARKS[name].sides.items():
            if once and repeat: continue
            key = {"benchmark": name, "side": side, "repeat": repeat,
                   "stamp": stamp(function, paths["archive" if needs == "unpacked" else needs])}
            line = log.find(**key)
            say(f"{name}, {side}, {repeat + 1} of {1 if once else repeats} ...")
            if line: say(f"    measured before: {as_line(line)}")
            else: say(f"    {as_line(line := log.add({**key, **run_side(function, paths[needs])}))}")
            lines.append(line)
    return lines


def summarise(
    lines: list[dict],  # measurements of one benchmark
) -> dict[str, Summary]:  # of every side that was measured
    "The repeats of each side together."
    good: dict[str, list[dict]] = {}
    for line in lines:
        if "seconds" in line: good.setdefault(line["side"], []).append(line)
    return {side: _summary(repeats) for side, repeats in good.items()}


def _summary(repeats: list[dict]) -> Summary:
    "Medians over the repeats of one side."
    times = [line["seconds"] for line in repeats]
    steps = {step: median(line["steps"][step] for line in repeats) for step in repeats[0]["steps"]}
    cpu, peak = (median(line[figure] for line in repeats) for figure in ("cpu", "peak"))
    others = max(line["others"] for line in repeats)
    return Summary(median(times), min(times), max(times), cpu, peak, steps, repeats[0]["result"], others)
