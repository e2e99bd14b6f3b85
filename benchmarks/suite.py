"""Which measurements there are, what they are held against, and what is aimed at."""
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from math import hypot
from typing import Literal, NamedTuple

from .digits import BATCHES as FEEDS
from .perceptrons import BATCHES, LAYERS

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
    result: dict  # by the first repeat
    others: float  # share of the cores that other programs took meanwhile, the largest of all repeats


Sides = Mapping[str, Summary]  # "source", "ours", ...


def cost(
    side: Summary,
) -> float:
    "Seconds of a trial or a face, where a side says how many it did; else of all it did."
    return side.seconds / side.result.get("trials", side.result.get("faces", 1))


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


def speed_up(sides: Sides, side: str = "ours") -> float:
    "How many times faster than the source's way one of ours is, by the face or the trial."
    return cost(sides["source"]) / cost(sides[side])


def memory_share(sides: Sides) -> float:
    "Our peak of memory as a share of the source's."
    return sides["ours"].peak / sides["source"].peak


def points_gained(sides: Sides, side: str = "ours, source's split", what: str = "accuracy") -> float:
    "Accuracy on the same test part, ours less the source's, in percentage points."
    return 100 * (sides[side].result[what] - sides["source"].result["accuracy"])


def seconds(sides: Sides) -> float:
    "How long ours takes."
    return sides["ours"].seconds


def memory_growth(sides: Sides) -> float:
    "The peak of memory with all images, as a multiple of that with a quarter of them."
    return sides["ours"].peak / sides["ours, a quarter"].peak


def memory_multiple(sides: Sides) -> float:
    "The peak of memory with 15,453 images, as a multiple of that with 1,000."
    return sides["15,453"].peak / sides["1,000"].peak


def time_multiple(sides: Sides) -> float:
    "The seconds an image with 15,453 images, as a multiple of those with 1,000."
    return cost(sides["15,453"]) / cost(sides["1,000"])


def same_vectors(sides: Sides, side: str) -> float:
    "The least cosine similarity of any image's vectors, the source's and ours."
    pairs = zip(sides["source"].result["vectors"], sides[side].result["vectors"], strict=True)
    return min(sum(x * y for x, y in zip(a, b, strict=True)) / (hypot(*a) * hypot(*b)) for a, b in pairs)


def same_answers(sides: Sides) -> float:
    "Share of the images on which both ways agree."
    pairs = zip(sides["source"].result["answers"], sides["ours"].result["answers"], strict=True)
    return sum(a == b for a, b in pairs) / len(sides["ours"].result["answers"])


def embedding_sides(network: str) -> dict[str, Side]:
    "A network the source's way, and ours in both precisions."
    return {"source": Side(f"source.embed_{network}", "unpacked"),
            "ours, fp32": Side(f"ours.embed_{network}", "archive"),
            "ours, bf16": Side(f"ours.embed_{network}_bf16", "archive")}


def points_apart(sides: Sides) -> float:
    "The largest difference of any model's accuracy, in percentage points."
    pairs = zip(sides["source"].result["accuracies"], sides["ours"].result["accuracies"], strict=True)
    return 100 * max(abs(a - b) for a, b in pairs)


def path_multiple(sides: Sides) -> float:
    "Seconds with 50 alphas as a multiple of those with one."
    return sides["50 alphas"].seconds / sides["1 alpha"].seconds


def times_as_fast(sides: Sides, other: str) -> float:
    "How many times the seconds of ours another way takes."
    return sides[other].seconds / sides["ours"].seconds


def growth_with_faces(sides: Sides) -> float:
    "The peak of memory with 112,000 faces as a multiple of that with 7,000, at 10,000 units."
    return sides["112k x 10k"].peak / sides["7k x 10k"].peak


def points_ahead(sides: Sides) -> float:
    "Our accuracy less the source's, in percentage points."
    return 100 * (sides["ours"].result["accuracy"] - sides["source"].result["accuracy"])


def bytes_share(sides: Sides) -> float:
    "The bytes that our pictures take once they are loaded, as a share of those that the source's take."
    return sides["ours"].result["bytes"] / sides["source"].result["bytes"]


def throughput(sides: Sides, side: str) -> float:
    "Pictures a second."
    return sides[side].result["pictures"] / sides[side].seconds


def waiting(sides: Sides, side: str) -> float:
    "The share of a training in which it waits for its next batch."
    return sides[side].result["waiting"]


FASTER, LEANER = "times as fast as the source", "share of the source's peak memory"
SIMILARITY = "cosine similarity to the source's vectors"
SAME_VECTORS = (Goal(f"{SIMILARITY}, fp32", partial(same_vectors, side="ours, fp32"), ">=", 0.999),
                Goal(f"{SIMILARITY}, bf16", partial(same_vectors, side="ours, bf16"), ">=", 0.99))
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
    "predict": Benchmark(
        "1,000 new images through principal components and boosted trees",
        {"source": Side("source.predict_components", "unpacked"), "ours": Side("ours.predict_components", "archive")},
        (Goal(FASTER, speed_up, ">=", 5), Goal("share of equal answers", same_answers, ">=", 0.995))),
    "predict_deep": Benchmark(
        "1,000 new images through a network and boosted trees; "
        "the source's network is ResNet50, ours EfficientNet-Lite0",
        {"source": Side("source.predict_network", "unpacked"), "ours": Side("ours.predict_network", "archive"),
         "our network, source's way": Side("source.predict_our_network", "unpacked")},
        (Goal(FASTER, speed_up, ">=", 5),)),
    "embed": Benchmark(
        "Embeddings of all faces",
        {"ours": Side("ours.embed", "archive"), "ours, a quarter": Side("ours.embed_quarter", "archive", once=True)},
        (Goal("times the peak memory of a quarter of the faces", memory_growth, "<", 1.25),)),
    "embed_resnet50": Benchmark(
        "Faces through ResNet50, random weights; the source calls Keras once an image",
        embedding_sides("resnet50"),
        (Goal(f"{FASTER}, bf16", partial(speed_up, side="ours, bf16"), ">=", 6), *SAME_VECTORS)),
    "embed_vit": Benchmark(
        "Faces through ViT-B/16, random weights; the source calls torch once an image",
        embedding_sides("vit"),
        (Goal(f"{FASTER}, bf16", partial(speed_up, side="ours, bf16"), ">=", 4), *SAME_VECTORS)),
    "scaling": Benchmark(
        "Embeddings by EfficientNet-Lite0 of ever more faces; those of the archive come again where there are fewer",
        {"1,000": Side("ours.embed_1000", "archive"), "4,000": Side("ours.embed_4000", "archive"),
         "15,453": Side("ours.embed_15453", "archive", once=True)},
        (Goal("times the seconds an image of 1,000", time_multiple, "<", 1.25),
         Goal("times the peak memory of 1,000", memory_multiple, "<", 1.25))),
    "search": Benchmark(
        "A search of 20 trials on 4,000 vectors of 768 dimensions; 5 of the source's are timed",
        {"source": Side("source.search", "unpacked"), "ours": Side("ours.search", "archive")},
        (Goal(FASTER, speed_up, ">=", 4),)),
    "search_result": Benchmark(
        "What such a search finds, for three seeds: accuracy on 3,000 other vectors",
        {"source": Side("source.search_result", "unpacked", once=True),
         "ours": Side("ours.search_result", "archive", once=True)},
        (Goal("points of accuracy gained", partial(points_gained, side="ours"), ">=", 0),
         Goal("points of accuracy gained without the validation part",
              partial(points_gained, side="ours", what="accuracy_alone"), ">=", -0.5))),
    "elm_eight": Benchmark(
        "Eight extreme learning machines of 1,000 units on 28,709 drawn faces of codes",
        {"source": Side("source.elm_eight", "archive"), "ours": Side("ours.elm_eight", "archive")},
        (Goal(FASTER, speed_up, ">=", 5),
         Goal("points of accuracy apart, the largest of eight", points_apart, "<", 0.3))),
    "elm_path": Benchmark(
        "Exact leave-one-out errors of a machine of 1,000 units on 28,709 drawn faces of codes",
        {"1 alpha": Side("ours.elm_path_1", "archive"), "50 alphas": Side("ours.elm_path_50", "archive")},
        (Goal("times the seconds of one alpha", path_multiple, "<", 2),)),
    "elm_patches": Benchmark(
        "9,990 pooled responses of 28,709 drawn pictures and their mirror images, one ridge readout",
        {"ours": Side("ours.elm_patches", "archive", once=True)},
        (Goal("seconds", seconds, "<", 600), Goal("MiB of memory", lambda sides: sides["ours"].peak, "<", 8192))),
    "elm_sizes": Benchmark(
        "A machine with a ridge readout, by thousands of drawn faces and of units",
        {f"{faces}k x {units}k": Side(f"ours.elm_{faces}k_{units}k", "archive", once=True)
         for faces in (7, 28, 112) for units in (1, 4, 10)},
        (Goal("times the peak memory, 112,000 faces against 7,000", growth_with_faces, "<", 1.25),)),
    **{f"mlp_{name}_{batch}": Benchmark(
        f"An epoch of the perceptron {layers} by Adam on 30,000 drawn pictures, {batch} at a time",
        {side: Side(f"perceptrons.{way}_{name}_{batch}", "archive")
         for side, way in (("ours", "by_hand"), ("PyTorch", "by_torch"), ("PyTorch, fused", "by_fused_torch"),
                           ("MLPClassifier", "by_sklearn"))},
        (*[Goal("times as fast as PyTorch", partial(times_as_fast, other="PyTorch"), ">=", 1)] * (batch == 32),
         Goal("times as fast as MLPClassifier", partial(times_as_fast, other="MLPClassifier"), ">=", 1)))
       for name, layers in LAYERS.items() for batch in BATCHES},
    "poly_load": Benchmark(
        "20,000 pictures of PolyMNIST into memory",
        {"source": Side("digits.source_load", "archive"), "ours": Side("digits.ours_load", "archive"),
         "ours, again": Side("digits.ours_load_again", "archive"),
         "ours, again, grey and blurred": Side("digits.ours_load_seen", "archive")},
        (Goal(FASTER, speed_up, ">=", 3),
         Goal(f"{FASTER}, from the prepared file", partial(speed_up, side="ours, again"), ">=", 20),
         Goal("share of the bytes that the source holds", bytes_share, "<", 0.2))),
    "poly_epochs": Benchmark(
        "Three times five epochs of cnn_1 with augmentation on 17,000 pictures, 32 a step",
        {"source": Side("digits.source_epochs", "archive"), "ours": Side("digits.ours_epochs", "archive")},
        (Goal(FASTER, speed_up, ">=", 2),
         Goal("points of accuracy gained after the same epochs", points_ahead, ">=", -1))),
    **{f"poly_feed_{batch}": Benchmark(
        f"An epoch of cnn_1 with augmentation on 17,000 pictures, {batch} a step",
        {"source": Side(f"digits.source_feed_{batch}", "archive"),
         "ours": Side(f"digits.ours_feed_{batch}", "archive")},
        (Goal(FASTER, speed_up, ">=", 2), Goal("pictures a second", partial(throughput, side="ours"), ">=", 0),
         Goal("pictures a second, source", partial(throughput, side="source"), ">=", 0)))
       for batch in FEEDS},
    "poly_draw": Benchmark(
        "All 350,000 pictures drawn", {"ours": Side("digits.draw_all", "archive", once=True)},
        (Goal("seconds", seconds, "<", 300),)),
    "faces_feed": Benchmark(
        "Batches of 8,000 faces of 48 pixels, mirrored and moved, 256 at a time",
        {"source": Side("faces.source_feed", "archive"), "ours": Side("faces.ours_feed", "archive")},
        (Goal(FASTER, speed_up, ">=", 5), Goal("pictures a second", partial(throughput, side="ours"), ">=", 0),
         Goal("pictures a second, source", partial(throughput, side="source"), ">=", 0))),
    "faces_epochs": Benchmark(
        "Twice six epochs of a small network on 8,000 faces, mirrored and moved, 256 a step",
        {"source": Side("faces.source_epochs", "archive"), "ours": Side("faces.ours_epochs", "archive")},
        (Goal(FASTER, speed_up, ">=", 1.5),
         Goal("points of accuracy gained after the same epochs", points_ahead, ">=", -1))),
    "faces_wait": Benchmark(
        "An epoch of VGG16 on 2,000 faces, mirrored and moved, 256 a step",
        {"source": Side("faces.source_wait", "archive"), "ours": Side("faces.ours_wait", "archive")},
        (Goal("share of the time spent waiting for data", partial(waiting, side="ours"), "<", 0.05),
         Goal("the same, source", partial(waiting, side="source"), "<", 1))),
    "faces_folds": Benchmark(
        "Four trainings of VGG16 by one worker and by two",
        {"one worker": Side("faces.one_worker", "archive"), "ours": Side("faces.two_workers", "archive")},
        (Goal("times as fast by two workers as by one", partial(times_as_fast, other="one worker"), ">=", 1.5),)),
    "help": Benchmark("`fer-research --help`", {"ours": Side("repository.show_help", "repository")},
                      (Goal("seconds", seconds, "<", 1),)),
    "predict_one": Benchmark(
        "`fer-research predict` of one image", {"ours": Side("repository.predict_one_components", "repository"),
                                               "ours, a network": Side("repository.predict_one_network", "repository")},
        (Goal("seconds", seconds, "<", 4),
         Goal("seconds with a network", lambda sides: sides["ours, a network"].seconds, "<", 4))),
    "noop": Benchmark(
        "`dvc repro` with nothing to do", {"ours": Side("repository.noop", "repository")},
        (Goal("seconds", seconds, "<", 3),)),
    "pipeline": Benchmark(
        "`dvc repro` of everything on the sample, in a fresh clone",
        {"ours": Side("repository.pipeline", "repository")},
        (Goal("seconds", seconds, "<", 2100),)),
}
