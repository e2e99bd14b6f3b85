"""Which measurements there are, what they are held against, and what is aimed at."""
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

FULL_SIZE = 15_453  # faces of the real data set, for which the goals are set


class Side(NamedTuple):
    "One way of doing it."
    function: str  # MODULE.FUNCTION of this package
    needs: Literal["archive", "unpacked", "repository"]  # what it works on
    once: bool = False  # measured for what it finds, not for its time


class Summary(NamedTuple):
    "The repeats of one side together."
    seconds: float  # median
    fastest: float
    slowest: float
    cpu: float  # seconds of all cores together, median
    peak: float  # MiB, median
    steps: dict[str, float]  # seconds, medians
    found: dict  # by the first repeat
    others: float  # share of the cores that other programs took meanwhile, the largest of all repeats


Sides = Mapping[str, Summary]  # "source", "ours", ...


class Goal(NamedTuple):
    "A number to reach."
    what: str
    value: Callable[[Sides], float]  # `KeyError` where a side was not measured
    sign: Literal[">=", "<"]
    limit: float

    def met(
        self,
        value: float,  # of `value`
    ) -> bool:
        "Whether a value reaches it."
        return value >= self.limit if self.sign == ">=" else value < self.limit


@dataclass(frozen=True)
class Benchmark:
    "Sides that are measured in turn."
    title: str
    sides: dict[str, Side]
    goals: tuple[Goal, ...]


def speed_up(sides: Sides) -> float:
    "How many times faster than the source's way ours is."
    return sides["source"].seconds / sides["ours"].seconds


def memory_share(sides: Sides) -> float:
    "Our peak of memory as a share of the source's."
    return sides["ours"].peak / sides["source"].peak


def points_gained(sides: Sides) -> float:
    "Accuracy on the same test faces, ours less the source's, in percentage points."
    return 100 * (sides["ours, source's split"].found["accuracy"] - sides["source"].found["accuracy"])


def seconds(sides: Sides) -> float:
    "How long ours takes."
    return sides["ours"].seconds


FASTER, LEANER = "times as fast as the source", "share of the source's peak memory"
BENCHMARKS = {
    "decode": Benchmark(
        "All faces decoded, with the census",
        {"source": Side("source.decode", "unpacked"), "ours": Side("ours.decode", "archive")},
        (Goal("seconds", seconds, "<", 15),)),
    "components": Benchmark(
        "From the archive to the principal components of 90 % of the variance",
        {"source": Side("source.components", "unpacked"), "ours": Side("ours.components", "archive")},
        (Goal(FASTER, speed_up, ">=", 15), Goal(LEANER, memory_share, "<", 0.5))),
    "study": Benchmark(
        "From the archive to the accuracy of boosted trees",
        {"source": Side("source.study", "unpacked"), "ours": Side("ours.study", "archive"),
         "ours, source's split": Side("ours.study_on_source_split", "archive", once=True)},
        (Goal(FASTER, speed_up, ">=", 3), Goal(LEANER, memory_share, "<", 0.5),
         Goal("points of accuracy gained on the same faces", points_gained, ">=", -0.5))),
    "noop": Benchmark(
        "`dvc repro` with nothing to do", {"ours": Side("repository.noop", "repository")}, (Goal("seconds", seconds, "<", 3),)),
    "pipeline": Benchmark(
        "`dvc repro` of everything on the sample, in a fresh clone", {"ours": Side("repository.pipeline", "repository")},
        (Goal("seconds", seconds, "<", 240),)),
}
