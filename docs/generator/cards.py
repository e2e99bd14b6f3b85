"""Data cards and model cards: what a data set is and what a fitted variant can do, from the files that say so.

A card that somebody typed is wrong after the next run. These are put together from data/sources.yaml, results/,
records/ and params.yaml; where a file says nothing about something, neither does the card. Their headings follow the
datasheets of Gebru et al. (2021) and the model cards of Mitchell et al. (2019). nbs/guide/data_cards.ipynb and
nbs/guide/model_cards.ipynb show them.
"""
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from ruamel.yaml import YAML

from fer_research.core import made_by
from fer_research.data.sources import read_sources
from fer_research.evaluation.statistics import wilson
from fer_research.features.combined import STEPS
from fer_research.pipeline.compare import markdown_table
from fer_research.pipeline.params import entry_of, read_params, variant_names
from fer_research.pipeline.records import records

ORIGIN = {"sample": "drawn for this repository: shows nobody",
          "standin": "real pictures in place of the published data set", "real": "the published data set"}
UNKNOWN = "not stated"
MEASURES = {"balanced_accuracy": "balanced accuracy", "macro_f1": "macro F1", "weighted_f1": "weighted F1",
            "roc_auc_ovr": "ROC AUC, one against the rest", "log_loss": "log loss (nats)",
            "ece": "expected calibration error"}
PROTOCOL = {True: "the source's own, re-made with its errors: to compare with, not to use",
            False: "sound: the test part was used once, to report"}
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
    shown = "yes" if source.get("may_show") else "no: reports and pages draw none of its pictures"
    return [("title", source.get("title", UNKNOWN)), ("origin", f"{source['origin']}: {ORIGIN[source['origin']]}"),
            ("from", source.get("from", UNKNOWN)), ("licence", source.get("licence", UNKNOWN)),
            ("file", f"`{source['file']}`"), ("may be shown", shown)]


def _classes(counts: Mapping[str, int]) -> str:
    "Images and share of each class."
    total = sum(counts.values())
    rows = [[name, f"{n:,}", f"{n / total:.1%}"] for name, n in counts.items()]
    return markdown_table(["class", "images", "share"], rows)


def _range(values: pd.Series) -> str:
    "The smallest and the largest value, or the only one."
    return str(values.min()) if values.nunique() == 1 else f"{values.min()} to {values.max()}"


def _census(folder: Path) -> list[tuple[str, str]]:
    "Sizes and faults that `prepare` counted, as rows."
    census, sizes = json.loads((folder / "census.json").read_text()), pd.read_csv(folder / "sizes.csv")
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
    census: Path | None = None,  # folder such as results/datasets/fer6; None where nothing was counted
) -> str:  # Markdown
    "The card of a data set."
    rows = _about(source) + (_census(census) if census else [])
    return "\n\n".join([f"### `{name}`", markdown_table(["", ""], rows), _classes(source["counts"])]) + "\n"


def _sources(root: Path) -> dict[str, dict]:
    "data/sources.yaml; `FileNotFoundError` that says how to get it."
    sources = read_sources(root / "data")
    if sources: return sources
    raise FileNotFoundError(f"{root / 'data' / 'sources.yaml'} is not there yet: run `dvc pull data.dvc` first")


def data_cards(
    root: Path,  # the repository
) -> str:  # Markdown
    """Cards of the sets in data/, then of those that records were made on.

    The latter were counted when they were put in place, and only their classes are known here.
    """
    sources = _sources(root)
    names = sources.keys() & read_params(root / "params.yaml")["datasets"]["explore"].keys()
    folders = {name: made_by(root / "results" / "datasets" / name, f"dvc repro prepare@{name}") for name in names}
    here = [data_card(name, source, folders.get(name)) for name, source in sources.items()]
    origins = {name: json.loads((folder / "source.json").read_text()) for name, _, folder in records(root)}
    there = [data_card(name, source) for name, source in origins.items()]
    return "\n".join(["## In data/ now\n", *here, "## Of the records\n", *there])


def settings(
    params: Mapping,  # the content of params.yaml
    study: str,       # such as "fer_boosting"
    variant: str,     # such as "pca"
) -> dict[str, Any]:  # path in params.yaml -> its value
    "All that params.yaml says of a variant: its entry, and the entries of other sections that it names."
    place, entry = entry_of(params, study, variant)
    values = {f"{study}.common": params[study]["common"], place: entry}
    for field in ("of", "first", "second"):
        if field in entry: values |= settings(params, study, entry[field])
    for field, sections in (("split", ["split"]), ("features", STEPS)):
        values |= {f"{study}.{name}.{entry[field]}": params[study][name][entry[field]] for name in sections
                   if field in entry and entry[field] in params[study].get(name, {})}
    return values


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


def _task(source: Mapping, metrics: Mapping[str, float], variant: str) -> list[tuple[str, str]]:
    "What a variant was made for and on what, as rows."
    classes, origin = source["classes"], source["origin"]
    return [("task", f"one of {len(classes)} classes for an image: {', '.join(classes)}"),
            ("data", f"{source.get('title', UNKNOWN)} ({origin}: {ORIGIN[origin]})"),
            ("fitted to, measured on", f"{metrics['n_train']:,} and {metrics['n_test']:,} images"),
            ("protocol", PROTOCOL[variant.endswith("_published")])]


def model_card(
    study: str,       # such as "fer_boosting"
    variant: str,     # such as "pca"
    folder: Path,     # the repository, or a record: holds results/
    source: Mapping,  # what sources.yaml says of the data it was fitted to
    params: Mapping,  # the content of params.yaml
) -> str:  # Markdown
    "The card of a fitted variant."
    results = made_by(folder / "results" / study / variant / "metrics.json", f"make repro STUDY={study}").parent
    metrics, answers = json.loads((results / "metrics.json").read_text()), pd.read_csv(results / "confusion.csv")
    values = [(f"`{path}`", f"`{flow(value)}`") for path, value in settings(params, study, variant).items()]
    rows = _task(source, metrics, variant) + values
    return "\n\n".join([f"### `{study} {variant}`", markdown_table(["", ""], rows), _metrics(metrics, answers),
                        _per_class(results), f"{confusions(answers)} {calibration(metrics)}"]) + "\n"


def _cards(folder: Path, sources: Mapping[str, Mapping]) -> list[str]:
    "Cards of what params.yaml names and results/ has, checks of the pipeline left out."
    params = YAML(typ="safe", pure=True).load(folder / "params.yaml")
    variants = [(study, variant) for study in params for variant in variant_names(params, study)]
    files = {pair: folder.joinpath("results", *pair, "metrics.json") for pair in variants}
    is_check = lambda file: "pipeline_check" in json.loads(file.read_text())
    variants = [pair for pair, file in files.items() if file.exists() and not is_check(file)]
    return [model_card(study, variant, folder, sources[params[study]["common"]["dataset"]], params)
            for study, variant in variants]


def model_cards(
    root: Path,  # the repository
) -> str:  # Markdown
    "Cards of the variants in results/, then of those in records/."
    parts = ["## Fitted here\n", *_cards(root, _sources(root))]
    for name, _, folder in records(root):
        source = json.loads((folder / "source.json").read_text())
        parts += [f"## Record `{name}`\n", *_cards(folder, {source["dataset"]: source})]
    return "\n".join(parts)
