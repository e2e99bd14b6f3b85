"""Data cards and model cards: what a data set is and what a fitted variant can do, from the files that say so.

A card that somebody typed is wrong after the next run. These are put together from data/sources.yaml, records/, and
what stages wrote and dvc.lock says of them; where a file says nothing about something, neither does the card. Their
headings follow the datasheets of Gebru et al. (2021) and the model cards of Mitchell et al. (2019).
nbs/guide/data_cards.ipynb and nbs/guide/model_cards.ipynb show them.
"""
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from ruamel.yaml import YAML

from fer_research.core import require_path
from fer_research.data.sources import read_sources
from fer_research.evaluation.statistics import wilson
from fer_research.pipeline.artifacts import Stage, Variant, find_variants
from fer_research.pipeline.compare import markdown_table, only_results, results_table, study_variants
from fer_research.pipeline.params import read_params
from fer_research.pipeline.records import (
    locked_settings,
    read_lock,
    record_results,
    record_source,
    record_variants,
    records,
)

ORIGIN = {"sample": "drawn for this repository: shows nobody",
          "standin": "real pictures in place of the published data set", "real": "the published data set"}
UNKNOWN = "not stated"
MEASURES = {"balanced_accuracy": "balanced accuracy", "macro_f1": "macro F1", "weighted_f1": "weighted F1",
            "roc_auc_ovr": "ROC AUC, one against the rest", "log_loss": "log loss (nats)",
            "ece": "expected calibration error"}
PROTOCOL = {"published": "the source's own, re-made with its errors: to compare with, not to use",
            "sound": "sound: the test part was used once, to report"}
MAJORITY = "accuracy of always naming the most frequent class"


def flow(
    value: Any,  # what a YAML file can hold
) -> str:  # one line
    "A value as params.yaml writes it."
    yaml, text = YAML(typ="safe", pure=True), io.StringIO()
    yaml.default_flow_style, yaml.width, yaml.sort_base_mapping_type_on_output = True, 10_000, False
    yaml.dump(value, text)
    return text.getvalue().removesuffix("...\n").strip()


def _about(source: Mapping) -> list[tuple[str, str]]:
    "Origin, terms and showing, as rows."
    may_show = "yes" if source.get("may_show") else "no: reports and pages draw none of its pictures"
    return [("title", source.get("title", UNKNOWN)), ("origin", f"{source['origin']}: {ORIGIN[source['origin']]}"),
            ("from", source.get("from", UNKNOWN)), ("licence", source.get("licence", UNKNOWN)),
            ("file", f"`{source['file']}`"), ("may be shown", may_show)]


def _classes(counts: Mapping[str, int]) -> str:
    "Images and share of each class."
    total = sum(counts.values())
    rows = [[name, f"{n:,}", f"{n / total:.1%}"] for name, n in counts.items()]
    return markdown_table(["class", "images", "share"], rows)


def _range(values: pd.Series) -> str:
    "The smallest and the largest value, or the only one."
    return str(values.min()) if values.nunique() == 1 else f"{values.min()} to {values.max()}"


def _census(stage: Stage) -> list[tuple[str, str]]:
    "Sizes and faults that `prepare` counted, as rows."
    census = json.loads((stage.results / "metrics" / f"{stage.key}.json").read_text())
    sizes = pd.read_csv(stage.outputs / "tables" / "sizes.csv")
    smallest, different = f"{census['smallest_class_images']:,}", f"{census['different_sizes']:,}"
    sides = f"width {_range(sizes['width'])}, height {_range(sizes['height'])} pixels"
    return [("images", f"{census['images']:,} in {census['classes']} classes; the smallest has {smallest}"),
            (MAJORITY, f"{census['largest_class_share']:.1%}"), ("sizes", f"{different} different; {sides}"),
            ("cannot be read, left out", f"{census['unreadable']:,}"),
            ("exact copies of another image", f"{census['duplicate_images']:,}"),
            ("images that stand under two labels", f"{census['duplicate_groups_with_different_labels']:,}"),
            ("images that stand in two official parts", f"{census['duplicate_groups_across_parts']:,}")]


def data_card(
    name: str,        # of a data set, such as "fer6"
    source: Mapping,  # its entry in sources.yaml
    stage: Stage | None = None,  # that counted it; None where nothing was counted
) -> str:  # Markdown
    "The card of a data set."
    rows = _about(source) + (_census(stage) if stage else [])
    return "\n\n".join([f"### `{name}`", markdown_table(["", ""], rows), _classes(source["counts"])]) + "\n"


def _sources(root: Path) -> dict[str, dict]:
    "data/sources.yaml; `FileNotFoundError` that says how to get it."
    sources = read_sources(root / "data")
    if sources: return sources
    raise FileNotFoundError(f"{root / 'data' / 'sources.yaml'} is not there yet: run `dvc pull data.dvc` first")


def _prepared(name: str, root: Path) -> Stage:
    "The stage that counted a data set; `FileNotFoundError` that says what to run where it has not."
    stage = Stage("datasets", "explore", name, ".", root)
    for folder in (stage.results, stage.outputs): require_path(folder, f"dvc repro prepare@{name}")
    return stage


def data_cards(
    root: Path,  # the repository
) -> str:  # Markdown
    """Cards of the sets in data/, then of those that records were made on.

    The latter were counted when they were put in place, and only their classes are known here.
    """
    sources = _sources(root)
    counted = read_params(root / "params.yaml")["datasets"]["explore"]
    stages = {name: _prepared(name, root) for name in sources if name in counted}
    here = [data_card(name, source, stages.get(name)) for name, source in sources.items()]
    origins = {name: record_source(folder) for name, _, folder in records(root)}
    there = [data_card(name, source) for name, source in origins.items()]
    return "\n".join(["## In data/ now\n", *here, "## Of the records\n", *there])


def _metrics(metrics: Mapping[str, float], answers: pd.DataFrame) -> str:
    "The metrics of a variant as a table."
    low, high = metrics["accuracy_low"], metrics["accuracy_high"]
    rows = [("accuracy", f"{metrics['accuracy']:.3f} (95 % interval {low:.3f} to {high:.3f})"),
            (MAJORITY, f"{answers['actual'].value_counts(normalize=True).max():.3f}")]
    rows += [(label, f"{metrics[name]:.3f}") for name, label in MEASURES.items() if name in metrics]
    return markdown_table(["measure", "on the test part"], rows)


def _per_class(folder: Path) -> str:
    """Precision, recall with its interval, F1 and images of each class.

    A recall is a share of the class's test images, so Wilson's interval applies to it as it does to accuracy.
    """
    rows = []
    for row in pd.read_csv(folder / "per_class.csv").itertuples(index=False):
        low, high = wilson(round(row.recall * row.support), row.support) if row.support else (0, 1)
        recall = f"{row.recall:.3f} ({low:.3f} to {high:.3f})"
        rows.append([row[0], f"{row.precision:.3f}", recall, f"{row.f1:.3f}", f"{row.support:,}"])
    return markdown_table(["class", "precision", "recall (95 % interval)", "F1", "test images"], rows)


def confusions(
    answers: pd.DataFrame,  # actual, predicted: `confusion.csv`
    n: int = 3,             # how many
) -> str:  # a sentence
    "The most frequent confusions."
    wrong = answers[answers["actual"] != answers["predicted"]].value_counts().head(n)
    words = [f"{actual} taken for {predicted} ({count:,})" for (actual, predicted), count in wrong.items()]
    return f"Most frequent confusions: {', '.join(words) or 'none'}."


def calibration(
    metrics: Mapping[str, float],  # with `ece`
) -> str:  # a sentence
    "The calibration error in words."
    return (f"Its probabilities and how often it is right differ by {100 * metrics['ece']:.1f} percentage points on "
            "average (15 bins of equal mass).")


def _task(source: Mapping, metrics: Mapping[str, float], protocol: str) -> list[tuple[str, str]]:
    "What a variant was made for and on what, as rows."
    classes, origin = source["classes"], source["origin"]
    return [("task", f"one of {len(classes)} classes for an image: {', '.join(classes)}"),
            ("data", f"{source.get('title', UNKNOWN)} ({origin}: {ORIGIN[origin]})"),
            ("fitted to, measured on", f"{metrics['n_train']:,} and {metrics['n_test']:,} images"),
            ("protocol", PROTOCOL[protocol])]


def model_card(
    title: str,       # such as "fer_boosting pca"
    protocol: str,    # "sound" or "published"
    files: Variant,   # what its stage wrote
    source: Mapping,  # what sources.yaml says of the data it was fitted to
    settings: Mapping[str, Any],  # path in params.yaml -> its value
) -> str:  # Markdown
    "The card of a fitted variant."
    metrics, answers = json.loads(files.metrics.read_text()), pd.read_csv(files.confusion)
    rows = _task(source, metrics, protocol) + [(f"`{path}`", f"`{flow(value)}`") for path, value in settings.items()]
    return "\n\n".join([f"### `{title}`", markdown_table(["", ""], rows), _metrics(metrics, answers),
                        _per_class(files.tables), f"{confusions(answers)} {calibration(metrics)}"]) + "\n"


def _cards(
    table: pd.DataFrame,  # of `results_table`, one study, without smoke tests
    files: Mapping[str, Variant],  # by name
    source: Mapping,      # what sources.yaml says of the data
    folder: Path,         # the repository, or one study in a record: holds dvc.lock
) -> list[str]:
    "Cards of the variants of a study."
    lock = read_lock(folder)
    settings = lambda name: locked_settings(files[name].metrics.relative_to(folder).as_posix(), lock)
    return [model_card(f"{row.study} {row.variant}", row.role, files[row.variant], source, settings(row.variant))
            for row in table.itertuples()]


def _cards_here(root: Path) -> list[str]:
    "Cards of all variants of the repository that are results."
    params, sources, cards = read_params(root / "params.yaml"), _sources(root), []
    for study in params["comparison"]["studies"]:
        files, variants = find_variants(study, root), only_results(study_variants(study, params))
        table, source = results_table(variants, files), sources[params[study]["common"]["dataset"]]
        for name in table["variant"]: require_path(files[name].tables, f"make repro STUDY={study}")
        cards += _cards(table, files, source, root)
    return cards


def model_cards(
    root: Path,  # the repository
) -> str:  # Markdown
    "Cards of the variants in results/, then of those in records/."
    parts = ["## Fitted here\n", *_cards_here(root)]
    for name, _, folder in records(root):
        cards = _cards(record_results(folder), record_variants(folder), record_source(folder), folder)
        parts += [f"## Record `{name}`\n", *cards]
    return "\n".join(parts)
