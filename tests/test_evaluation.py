"Longer tests of fer_research.evaluation: properties over many inputs, simulations, and values that others published."
import io
import itertools
import re
import zipfile

import matplotlib
import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.model_selection import train_test_split

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

from fer_research.core import InputError, repo_root  # noqa: E402
from fer_research.evaluation import metrics, plots, splits, statistics  # noqa: E402
from fer_research.evaluation.published import citation, published_metrics, read_published  # noqa: E402
from fer_research.pipeline.artifacts import Stage  # noqa: E402
from fer_research.pipeline.variant import write_variant  # noqa: E402

STUDIES = ("fer_boosting", "fer_elm", "fer_transfer", "kana_mlp", "polymnist")


def faces(n: int, k: int = 6, seed: int = 0):
    "Class numbers, probabilities and class names of `n` items of which about two thirds are right."
    rng = np.random.default_rng(seed)
    y = rng.integers(k, size=n)
    scores = rng.normal(size=(n, k))
    scores[np.arange(n), y] += 1.5
    proba = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    return y, proba, [f"class {i}" for i in range(k)]


# --- splits ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("stratify", [True, False])
@pytest.mark.parametrize(("n", "fraction", "seed"), [(15453, .2, 42), (1001, .25, 0), (997, .1, 7), (60, .5, 1)])
def test_holdout_is_train_test_split(n, fraction, seed, stratify):
    labels = np.random.default_rng(n).integers(6, size=n)
    kept, held = train_test_split(np.arange(n), test_size=fraction, random_state=seed,
                                  stratify=labels if stratify else None)
    for groups in (None, [f"sha {i}" for i in range(n)]):
        ours = splits.holdout(labels, fraction, seed, stratify, groups)
        assert np.array_equal(ours[0], kept) and np.array_equal(ours[1], held)


@pytest.mark.parametrize("seed", range(8))
def test_groups_stay_together(seed):
    rng = np.random.default_rng(seed)
    groups = rng.integers(700, size=1000)
    labels = rng.integers(5, size=1000)  # duplicates may carry different labels
    parts = [splits.holdout(labels, .2, seed, groups=groups), *splits.k_fold(labels, 4, seed, groups=groups)]
    three = splits.three_way(labels, seed=seed, groups=groups)
    for part in (*parts, (three.train, three.validation, three.test)):
        splits.check_disjoint(*part, groups=groups)
        assert np.array_equal(np.sort(np.concatenate(part)), np.arange(1000))
    assert abs(len(parts[0][1]) / 1000 - .2) < .05


def test_grouped_holdout_keeps_class_shares():
    labels = np.repeat(np.arange(3), [600, 300, 100])
    groups = np.arange(1000) // 2
    held = splits.holdout(labels, .2, groups=groups)[1]
    assert np.bincount(labels[held]).tolist() == [120, 60, 20]


@pytest.mark.parametrize(("test", "validation", "sizes"), [
    (.2, .1, (700, 100, 200)), (.1, .1, (800, 100, 100)), (.2, .2, (600, 200, 200)), (.3, .15, (550, 150, 300))])
def test_three_way_fractions_are_of_the_whole(test, validation, sizes):
    split = splits.three_way(np.repeat([0, 1], 500), test, validation)
    assert (len(split.train), len(split.validation), len(split.test)) == sizes
    assert np.array_equal(split.test, splits.holdout(np.repeat([0, 1], 500), test)[1])


@pytest.mark.parametrize("names", splits.OFFICIAL)
@pytest.mark.parametrize("seed", range(4))
def test_official_parts_without_shared_images(names, seed):
    rng = np.random.default_rng(seed)
    parts, labels, groups = rng.choice(names, 800), rng.integers(7, size=800), rng.integers(600, size=800)
    whole = splits.official_split(parts, labels, seed, groups)
    clean = splits.official_split(parts, labels, seed, groups, drop_shared=True)
    with pytest.raises(AssertionError, match="groups in more than one place"):
        splits.check_disjoint(whole.train, whole.validation, whole.test, groups=groups)
    splits.check_disjoint(clean.train, clean.validation, clean.test, clean.dropped)
    splits.check_disjoint(clean.train, clean.validation, clean.test, groups=groups)
    assert np.array_equal(clean.test, np.flatnonzero(parts == names[-1])), "the test part stays whole"
    kept = np.isin(groups[clean.dropped], groups[np.concatenate([clean.validation, clean.test, clean.dropped])])
    assert len(clean.dropped) and kept.all() and sum(clean.sizes().values()) == 800
    for name in names[:-1]:  # nothing was dropped that no later part has
        later = np.isin(parts, names[names.index(name) + 1:])
        dropped = clean.dropped[parts[clean.dropped] == name]
        assert np.isin(groups[dropped], groups[later]).all()


@pytest.mark.parametrize(("call", "message"), [
    (lambda: splits.holdout([], .2), "at least one item"),
    (lambda: splits.holdout([[0, 1]], .2), r"shape \(1, 2\)"),
    (lambda: splits.holdout([0, 0, 1, 1], 0), "fraction 0"),
    (lambda: splits.holdout([0, 0, 1, 1], -.1), "fraction -0.1"),
    (lambda: splits.holdout(["a", "a", "b"], .5), "class 'b' has 1 item"),
    (lambda: splits.holdout([0, 0, 1, 1], .5, groups=[0, 1, 2, 2]), "class 1 has 1 group"),
    (lambda: splits.holdout([0, 0, 1, 1], .5, groups=[0, 1, 2]), "3 groups for 4 labels"),
    (lambda: splits.holdout([0], .5, stratify=False), "1 items cannot be split"),
    (lambda: splits.official_split(["Training", "test"], [0, 1]), "parts"),
    (lambda: splits.official_split(["train"], [0, 1]), "1 parts for 2 labels"),
    (lambda: splits.official_split(["train", "train"], [0, 1]), "expected exactly"),
])
def test_split_errors_say_what_is_wrong(call, message):
    with pytest.raises(InputError, match=message): call()


# --- metrics --------------------------------------------------------------------------------------------------------

def test_metric_names_are_those_of_every_variant():
    assert list(metrics.evaluate(*faces(50))) == [
        "accuracy", "accuracy_low", "accuracy_high", "balanced_accuracy", "macro_precision", "macro_recall", "macro_f1",
        "weighted_precision", "weighted_recall", "weighted_f1", "log_loss", "roc_auc_ovr", "ece", "n_test"]


@pytest.mark.parametrize("seed", range(3))
def test_metrics_depend_on_no_order(seed):
    y, proba, classes = faces(400, seed=seed)
    proba[:100] = proba[0]  # ties
    expected, rng = metrics.evaluate(y, proba, classes), np.random.default_rng(seed)
    items = rng.permutation(400)
    assert metrics.evaluate(y[items], proba[items], classes) == pytest.approx(expected, abs=1e-12)
    order = rng.permutation(6)
    assert metrics.evaluate(np.argsort(order)[y], proba[:, order], classes) == pytest.approx(expected, abs=1e-12)


def test_every_metric_is_finite_on_odd_samples():
    rng = np.random.default_rng(0)
    for _ in range(200):
        n, k = rng.integers(1, 8), rng.integers(2, 6)
        proba = rng.dirichlet(np.full(k, .1), n) if rng.random() < .7 else np.eye(k)[rng.integers(k, size=n)]
        values = metrics.evaluate(rng.integers(k, size=n), proba, range(k))
        assert np.isfinite(list(values.values())).all(), values
        assert all(0 <= value <= 1 for name, value in values.items() if name not in ("log_loss", "n_test")), values


@pytest.mark.parametrize("n", [15, 100, 1234])
def test_ece_against_plain_loops(n):
    y, proba, _ = faces(n)
    confidence, right = proba.max(1), proba.argmax(1) == y
    bins = np.array_split(np.argsort(confidence), 15)
    sizes = metrics.calibration_table(y, proba).n
    assert sizes.max() - sizes.min() <= 1 and len(sizes) == 15
    if n % 15 == 0:  # otherwise array_split puts the larger bins elsewhere
        expected = sum(len(b) / n * abs(confidence[b].mean() - right[b].mean()) for b in bins)
        assert metrics.expected_calibration_error(y, proba) == pytest.approx(expected)


def test_tables_agree_with_the_numbers():
    y, proba, classes = faces(500)
    values = metrics.evaluate(y, proba, classes)
    by_class, pairs = metrics.per_class(y, proba, classes), metrics.confusion(y, proba, classes)
    assert by_class.recall.mean() == pytest.approx(values["balanced_accuracy"], abs=1e-5)
    assert by_class.roc_auc.mean() == pytest.approx(values["roc_auc_ovr"], abs=1e-5)
    assert np.average(by_class.f1, weights=by_class.support) == pytest.approx(values["weighted_f1"], abs=1e-5)
    assert (pairs.actual == pairs.predicted).mean() == values["accuracy"]
    recall = (pairs.actual == pairs.predicted).groupby(pairs.actual).mean()
    assert recall.to_numpy() == pytest.approx(by_class.recall.to_numpy(), abs=1e-5)


@pytest.mark.parametrize("n, k", [(500, 6), (40, 6), (300, 2), (5, 3)])
def test_confusions_are_the_largest_counts_off_the_diagonal(n, k):
    y, proba, classes = faces(n, k)
    table, pairs = metrics.per_class(y, proba, classes).set_index("class"), metrics.confusion(y, proba, classes)
    for name, row in table.iterrows():
        answers = pairs.predicted[pairs.actual == name]
        wrong = answers[answers != name].value_counts()
        assert (row.support, row.right) == (len(answers), (answers == name).sum())
        counts = [row[f"count_{i}"] for i in (1, 2, 3) if not pd.isna(row[f"count_{i}"])]
        assert counts == sorted(wrong, reverse=True)[:3]
        for i, count in enumerate(counts, 1):
            assert wrong[row[f"confused_{i}"]] == count
            assert row[f"percent_{i}"] == pytest.approx(100 * count / len(answers))


def test_failed_evaluation_writes_nothing(tmp_path):
    y, proba, classes = faces(20)
    ids, stage = np.arange(20).astype(str), Stage("faces", "fit", "new", ".", tmp_path)
    good, bad = (metrics.Predictions(ids, y, values) for values in (proba, proba * 2))
    with pytest.raises(ValueError, match="val_loss"):
        write_variant(stage, "new", classes, good, good, val_loss=float("nan"))
    with pytest.raises(InputError): write_variant(stage, "new", classes, bad, good)
    assert not list(tmp_path.rglob("*.json")) + list(tmp_path.rglob("*.csv"))


@pytest.mark.parametrize(("y", "proba", "message"), [
    ([0, 1], [[.5, .5]], "y_true of shape"), ([0], [.5, .5], "proba of shape"), ([-1], [[.5, .5]], "class number"),
    (["a"], [[.5, .5]], "class number"), ([0], [[np.inf, 0]], "finite"), ([0], [[1.5, -.5]], "sum to 1"),
    ([0], [[3.2, -1.1]], "sum to 1"),
])
def test_what_is_no_probability_is_refused(y, proba, message):
    with pytest.raises(InputError, match=message): metrics.evaluate(y, proba, ["a", "b"])


def test_metrics_can_be_recomputed_from_predictions(tmp_path):
    y, proba, classes = faces(300)
    metrics.write_predictions(tmp_path / "p.npz", [f"Sad/{i}.png" for i in range(300)], y, proba)
    read = metrics.read_predictions(tmp_path / "p.npz")
    assert metrics.evaluate(read.y_true, read.proba, classes) == metrics.evaluate(y, proba, classes)
    assert [a.dtype.kind for a in read] == ["U", "i", "f"]


class Mine:
    "Unpickling this would create a file."
    def __init__(self, path): self.path = path
    def __reduce__(self): return open, (str(self.path), "w")


def test_predictions_never_unpickle(tmp_path):
    np.savez(tmp_path / "bad.npz", id=np.array([Mine(tmp_path / "ran")], dtype=object), y_true=[0], proba=[[1, 0]])
    with pytest.raises(InputError, match="not a predictions file"): metrics.read_predictions(tmp_path / "bad.npz")
    assert not (tmp_path / "ran").exists()
    np.savez(tmp_path / "other.npz", weights=np.ones(3))
    with pytest.raises(InputError, match="expected an .npz with id, y_true, proba"):
        metrics.read_predictions(tmp_path / "other.npz")
    with zipfile.ZipFile(tmp_path / "zip.npz", "w") as archive: archive.writestr("id.npy", b"nonsense")
    with pytest.raises(InputError): metrics.read_predictions(tmp_path / "zip.npz")
    with pytest.raises(FileNotFoundError): metrics.read_predictions(tmp_path / "none.npz")


def test_paired_answers_find_items_by_name():
    y, proba, _ = faces(200)
    ids = np.array([f"{i:04d}" for i in range(200)])
    order = np.random.default_rng(1).permutation(200)[:150]
    whole, part = metrics.Predictions(ids, y, proba), metrics.Predictions(ids[order], y[order], proba[order])
    first, second = metrics.paired_answers(whole, part)
    assert len(first) == 150 and np.array_equal(first, second)
    assert np.array_equal(first, (proba.argmax(1) == y)[np.sort(order)])


@pytest.mark.parametrize("n", [30, 5000])
def test_roc_is_thin_and_true(n):
    y, proba, classes = faces(n)
    for c, (_, curve) in enumerate(metrics.roc(y, proba, classes).groupby("class")):
        assert len(curve) <= 200 and (curve[["fpr", "tpr"]].diff().iloc[1:] >= 0).all(axis=None)
        assert np.trapezoid(curve.tpr, curve.fpr) == pytest.approx(metrics.roc_auc_by_class(y, proba)[c], abs=.002)


# --- statistics -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("n", [20, 100, 3091])
def test_wilson_covers(n):
    hits = np.arange(n + 1)
    low, high = np.array([statistics.wilson(h, n) for h in hits]).T
    for share in (.05, .3, .68, .9):
        assert stats.binom.pmf(hits, n, share)[(low <= share) & (share <= high)].sum() > .92


def test_wilson_narrows_with_n_and_widens_with_level():
    width = [np.diff(statistics.wilson(n * 7 // 10, n, level)).item()
             for n, level in ((100, .99), (100, .95), (1000, .95))]
    assert width == sorted(width, reverse=True)


def test_cluster_bootstrap_covers_where_the_plain_one_does_not():
    rng, covered = np.random.default_rng(0), np.zeros(2)
    for _ in range(100):  # 40 people with 5 images each; a person is easy or hard
        people = np.repeat(np.arange(40), 5)
        right = (rng.random(200) < rng.beta(.3, .3, 40)[people]).astype(float)
        for i, groups in enumerate((people, None)):
            low, high = statistics.bootstrap(np.mean, right, groups=groups, resamples=300)
            covered[i] += low <= .5 <= high
    assert covered[0] >= 88 and covered[1] <= 80


def test_bootstrap_is_seeded():
    values = np.random.default_rng(0).random(50)
    assert statistics.bootstrap(np.median, values, seed=1) == statistics.bootstrap(np.median, values, seed=1)
    assert statistics.bootstrap(np.mean, values, seed=1) != statistics.bootstrap(np.mean, values, seed=2)
    named = np.array([f"person {i}" for i in np.arange(50) // 5])
    numbered = statistics.bootstrap(np.mean, values, groups=np.arange(50) // 5)
    assert statistics.bootstrap(np.mean, values, groups=named) == numbered


def answers(both, b, c, neither):
    counts = [both, b, c, neither]
    return np.repeat([1, 1, 0, 0], counts), np.repeat([1, 0, 1, 0], counts)


@pytest.mark.parametrize(("b", "c"), [(0, 1), (3, 3), (2, 9), (30, 12), (120, 171)])
def test_mcnemar_is_the_binomial_test(b, c):
    result, mirrored = statistics.mcnemar(*answers(200, b, c, 60)), statistics.mcnemar(*answers(200, c, b, 60))
    assert result.p == pytest.approx(stats.binomtest(b, b + c).pvalue)
    assert (result.p, result.b, result.c) == (mirrored.p, mirrored.c, mirrored.b)
    assert (result.low, result.high) == pytest.approx((-mirrored.high, -mirrored.low))
    assert result.low < result.difference == (b - c) / (260 + b + c) < result.high


@pytest.mark.parametrize(("b", "c", "n"), [(1, 7, 21), (0, 0, 20), (40, 20, 160), (5, 0, 6), (0, 9, 9), (12, 12, 30)])
def test_tango_bounds_are_where_the_likelihood_says(b, c, n):
    "The constrained estimate is found by maximising the likelihood instead of solving the quadratic."
    z = stats.norm.ppf(.975)
    for bound in (statistics.tango_upper(b, c, n, z), -statistics.tango_upper(c, b, n, z)):
        if abs(bound) == 1: continue
        q = np.linspace(max(0, -bound), (1 - bound) / 2, 200_001)[1:-1]  # share of c; that of b is q + bound
        likelihood = b * np.log(q + bound) + c * np.log(q) + (n - b - c) * np.log(1 - 2 * q - bound)
        q = q[likelihood.argmax()]
        assert abs(b - c - n * bound) / np.sqrt(n * (2 * q + bound - bound**2)) == pytest.approx(z, abs=.01)


def test_corrected_t_as_in_scikit_learns_example():
    "Statistical comparison of models using grid search, scikit-learn's documentation: t 0.750, one-sided p 0.227."
    from sklearn.datasets import make_moons
    from sklearn.model_selection import RepeatedStratifiedKFold, cross_val_score
    from sklearn.svm import SVC
    images, labels = make_moons(noise=.352, random_state=1, n_samples=100)
    folds = RepeatedStratifiedKFold(n_splits=10, n_repeats=10, random_state=0)
    rbf, linear = (cross_val_score(SVC(kernel=kernel), images, labels, cv=folds, scoring="roc_auc")
                   for kernel in ("rbf", "linear"))
    result = statistics.corrected_t(rbf - linear, 90, 10)
    assert result.t == pytest.approx(.750, abs=5e-4) and result.p / 2 == pytest.approx(.227, abs=1e-3)


def test_corrected_t_bounds_and_test_agree():
    rng = np.random.default_rng(0)
    for _ in range(200):
        result = statistics.corrected_t(rng.normal(.5, 1, 8), 70, 10)
        assert (result.p < .05) == (result.low > 0 or result.high < 0)
    assert statistics.corrected_t([.1, .1], 80, 20).p == 0


@pytest.mark.parametrize("seed", range(10))
def test_holm_is_the_closure_of_bonferroni(seed):
    "A comparison is rejected when every set that holds it is rejected by Bonferroni (Marcus, Peritz & Gabriel 1976)."
    p = np.random.default_rng(seed).random(5) ** 3
    sets = [subset for size in range(1, 6) for subset in itertools.combinations(range(5), size)]
    closed = [max(min(1, len(subset) * p[list(subset)].min()) for subset in sets if i in subset) for i in range(5)]
    assert list(statistics.holm(dict(enumerate(p))).values()) == pytest.approx(closed)


# --- plots ----------------------------------------------------------------------------------------------------------

def png(drawn) -> bytes:
    buffer = io.BytesIO()
    (drawn if hasattr(drawn, "savefig") else drawn.figure).savefig(buffer, format="png")
    plt.close("all")
    return buffer.getvalue()


def drawings():
    y, proba, classes = faces(300)
    table, curves = metrics.confusion(y, proba, classes), metrics.roc(y, proba, classes)
    bars = pd.DataFrame({"label": ["a", "b"], "value": [.5, .6], "low": [.4, .5], "high": [.6, .7],
                         "published": [.55, np.nan]})
    history = pd.DataFrame({"loss": [2., 1.], "val_loss": [2., 1.5], "accuracy": [.3, .5], "val_accuracy": [.3, .4]})
    return {"confusion": lambda: plots.confusion_plot(table, classes),
            "counts": lambda: plots.confusion_plot(table, classes, normalise=False),
            "roc": lambda: plots.roc_plot(curves), "curves": lambda: plots.curves_plot(history),
            "bars": lambda: plots.bars_plot(bars),
            "classes": lambda: plots.class_counts_plot({"Happy": 3, "Sad": 5}),
            "scree": lambda: plots.scree_plot([.5, .3, .2], .8, 2),
            "ranking": lambda: plots.ranking_plot(pd.Series([3, 1], index=[7, 2]), "splits"),
            "histogram": lambda: plots.histogram_plot(range(9), "splits", "dimensions"),
            "grid": lambda: plots.grid_plot(range(7), "splits"),
            "bands": lambda: plots.bands_plot(bars.assign(x=[1, 10]), "x", "label", ("x", "y"), log=True),
            "images": lambda: plots.image_grid(np.zeros((3, 8, 8), np.uint8), ["a", "b", "c"])}


@pytest.mark.parametrize("name", list(drawings()))
def test_figures_are_the_same_bytes_and_labelled(name):
    draw = drawings()[name]
    assert png(draw()) == png(draw())
    drawn = draw()
    if name != "images":
        assert all(ax.get_xlabel() for ax in (drawn.axes if name == "curves" else [drawn]))
    plt.close("all")


def test_figures_leave_matplotlib_as_it_was():
    before = dict(plt.rcParams)
    for draw in drawings().values(): draw()
    plt.close("all")
    assert before == dict(plt.rcParams)


def test_forty_nine_classes_can_be_drawn():
    y, proba, classes = faces(2000, 49)
    assert not plots.confusion_plot(metrics.confusion(y, proba, classes), classes).texts
    assert len(plots.roc_plot(metrics.roc(y, proba, classes)).lines) == 50
    plt.close("all")


@pytest.mark.parametrize("n", [2, 3, 6, 7, 10, 49])
def test_palette_keeps_its_order_in_grey(n):
    grey = np.array(plots.palette(n)) @ [.2126, .7152, .0722]
    assert (np.diff(grey) > 0).all() and grey.max() < (.9 if n <= 10 else .93)


# --- published ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("study", STUDIES)
def test_published_files_name_their_source_and_nothing_outside(study):
    text = (repo_root() / "published" / f"{study}.yaml").read_text()
    assert not re.search(r"document:|seeds|\.\./|\.txt", text)
    source, readme = read_published(study)["source"], (repo_root() / "published" / "README.md").read_text()
    row = next(line for line in readme.splitlines() if line.startswith(f"| `{study}.yaml`"))
    assert source["title"].rstrip(".") in row
    assert all(author in row for author in source["authors"] if author != "not named")
    assert citation(study).count("\n") == 0 and source["title"] in citation(study)


def test_published_scale_is_what_the_files_say():
    table = published_metrics("fer_boosting").set_index(["variant", "metric"]).value
    assert table["vit_base_patch16", "accuracy"] == 2116 / 3091
    per_class = read_published("fer_boosting")["variants"]["vit_lightgbm_optuna"]["per_class"].values()
    assert sum(entry["correct"] for entry in per_class) == 2116 and sum(entry["support"] for entry in per_class) == 3091
    for entry in read_published("fer_boosting")["variants"].values():  # printed averages follow from printed classes
        rows = pd.DataFrame(entry["per_class"]).T
        for name in ("precision", "recall", "f1"):
            assert rows[name].mean() == pytest.approx(entry["macro"][name], abs=.0101)
            assert np.average(rows[name], weights=rows.support) == pytest.approx(entry["weighted"][name], abs=.0101)


@pytest.mark.parametrize("study", STUDIES)
def test_published_metrics_are_clean(study):
    table = published_metrics(study)
    assert list(table) == ["variant", "metric", "value"] and np.isfinite(table.value).all()
    assert not table.duplicated(["variant", "metric"]).any()
    ours = set(metrics.evaluate(*faces(20))) | {"n_train", "train_accuracy", "train_loss", "val_accuracy", "val_loss",
                                                "parameters"}
    named = table.metric.str.replace(r"^(search|cv)_|_std$|_best_run$", "", regex=True)
    named = named.replace("roc_auc", "roc_auc_ovr")
    assert set(named) <= ours


def test_unknown_study_names_the_known():
    with pytest.raises(InputError, match=", ".join(STUDIES)): read_published("mnist")
    with pytest.raises(InputError): published_metrics("../params")
