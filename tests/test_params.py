"What is wrong in params.yaml, on the command line or in a notebook is said in one line, before anything is written."
import json
import re
import sys

import nbformat
import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner

from fer_research.pipeline.cli import app

SPLIT = ("run", "fer_boosting", "split")


@pytest.fixture(scope="module")
def own(clone, tmp_path_factory):
    "The clone of these tests."
    return clone.copy(tmp_path_factory.mktemp("own"))


@pytest.fixture
def work(own):
    "A clone to change, which is put right after each test: what is to be refused changes little."
    yield own
    own.git("restore", ".")
    own.git("clean", "-dq", "--force")


@pytest.fixture
def refused(work, monkeypatch):
    "A command that ends with exit code 2 and one line that names some things, and leaves every file as it was."
    def files() -> tuple[str, str]:
        return work.git("status", "--porcelain", "--ignored", "--untracked-files=all"), work.git("diff")

    def check(command: tuple[str, ...], *named: str) -> None:
        before = files()
        monkeypatch.chdir(work.root)
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 2, done.output
        assert done.stderr.startswith("fer-research: ") and done.stderr.count("\n") == 1, done.stderr
        assert not [name for name in named if name not in done.stderr], done.stderr
        assert files() == before and not list(work.root.glob("scratch"))
    return check


@pytest.mark.parametrize(("path", "value", "named"), [
    ("fer_boosting.common.seed", "42", ["'42'", "integer"]),
    ("fer_boosting.common.seed", True, ["True", "integer"]),
    ("fer_boosting.common.seed", -1, ["-1", "greater than or equal to 0"]),
    ("fer_boosting.split.sound.stratify", 1, ["1: ", "boolean"]),
    ("fer_boosting.split.sound.test", 1.0, ["1.0", "less than 1"]),
    ("fer_boosting.pixels.pca.variance", 1.5, ["1.5", "less than or equal to 1"]),
    ("fer_boosting.pixels.pca.fit_on", "test", ["'test'", "'training' or 'everything'"]),
    ("fer_boosting.fit.pca.classifier.rounds", 500.0, ["500.0", "integer"]),
    ("fer_boosting.fit.pca.classifier", {"kind": "svm"}, ["'svm'", "'neighbours'", "'lightgbm'"]),
    ("fer_boosting.fit.efficientnet_lite0.classifier.patience", 0, ["0: ", "greater than or equal to 1"]),
    ("fer_boosting.embed.efficientnet_lite0.precision", "fp16", ["'fp16'", "'fp32' or 'bf16'"]),
    ("fer_boosting.fit.logistic.classifier.Cs", [], ["[]", "at least 1"]),
    ("fer_boosting.smoke_tests.keras.embed.resnet50.resize", "lanczos",
     ["'lanczos'", "'nearest', 'bilinear' or 'bicubic'"]),
    ("fer_boosting.smoke_tests.keras.embed.resnet50.images", 0, ["0: ", "greater than or equal to 1"]),
    ("fer_boosting.smoke_tests.torch.embed.vit_base_patch16.pool", "max", ["'max'", "'token', 'mean' or 'both'"]),
    ("fer_boosting.classifiers.efficientnet_lite0.mlp.hidden", 0, ["0: ", "greater than or equal to 1"]),
    ("fer_boosting.fit.efficientnet_lite0_proposal.components", 0.9, ["0.9", "integer"]),
    ("fer_boosting.fit.pca_tuned.search.trials", 0, ["0: ", "greater than or equal to 1"]),
    ("datasets.explore.fer6.mode", "rgb", ["'rgb'", "'RGB' or 'L'"]),
    ("datasets.explore.fer6.size", 4, ["4: ", "greater than or equal to 8"]),
    ("fer_elm.codes.vqvae.channels", 7, ["7", "multiple of 2"]),
    ("fer_elm.encodings.one_hot.encoding", "words", ["'words'", "'one_hot'"]),
    ("fer_elm.split.sound.parts", "own", ["'own'", "'official' or 'pooled'"]),
    ("kana_mlp.source_models.sound.models.m0.engine", "jax", ["'jax'", "'numpy' or 'torch'"]),
    ("kana_mlp.best.m5.recipe.epoch", 3, ["epoch: unknown key; there are epochs, "]),
    ("fer_transfer.smoke_tests.keras.final.densenet.report", "last", ["'last'", "'first' or 'best'"]),
    ("fer_transfer.smoke_tests.keras.search.vgg.space", {"colour": ["red"]},
     ["colour: unknown key; there are version, "]),
    ("fer_transfer.smoke_tests.keras.crossval.vgg.folds", 1, ["1", "greater than or equal to 2"]),
    ("polymnist.best.resnet.backgrounds", 1.5, ["1.5", "less than or equal to 1"]),
    ("polymnist.source_models.sound.models.cnn_1.network", "cnn_3", ["'cnn_3'", "'cnn_1'"]),
    ("fer_boosting.fit", None, ["None", "dictionary"]),
    ("compute.engine", "spark", ["'spark'", "'local' or 'dask'"]),
    ("compute", {"engine": "dask"}, ["dask with no address", "an address or slurm"]),
    ("compute", {"engine": "local", "address": "tcp://127.0.0.1:8786"}, ["local with address", "local neither"]),
    ("compute", {"engine": "dask", "address": "localhost"}, ["compute.address: 'localhost'", "tcp"]),
    ("compute", {"engine": "dask", "slurm": {"jobs": 2, "cores": 0, "memory": "16 GB"}},
     ["compute.slurm.cores: 0", "greater than or equal to 1"]),
    ("compute", {"engine": "dask", "slurm": {"jobs": 2, "cores": 4, "memory": "much"}},
     ["compute.slurm.memory: 'much'"]),
    ("compute", {"engine": "dask", "slurm": {"jobs": 2, "cores": 4}}, ["compute.slurm.memory: missing"]),
    ("compute", {"engine": "dask", "slurm": {"jobs": 2, "cores": 4, "memory": "16 GB", "partition": "cpu"}},
     ["compute.slurm.partition: unknown key; there are jobs, cores, memory, queue, walltime"]),
    ("comparison", 3, ["3: ", "dictionary"]),
], ids=str)
def test_a_wrong_value_is_named_with_what_is_allowed(path, value, named, work, refused):
    work.edit(**{path.replace(".", "__"): value})
    refused(SPLIT, "params.yaml: ", path, *named)


@pytest.mark.parametrize(("section", "key", "known"), [
    ("fer_boosting.common", "sed", "dataset, seed"),
    ("fer_boosting.fit.majority.classifier", "rounds", "kind"),
    ("datasets", "explor", "explore"),
])
def test_a_wrong_key_is_named_with_those_there_are(section, key, known, work, refused):
    work.edit(**{f"{section}.{key}".replace(".", "__"): 1})
    refused(SPLIT, f"params.yaml: {section}", key, known)


@pytest.mark.parametrize(("path", "value", "named"), [
    ("fer_boosting.pixels.pca.split", "thirds", ["'thirds'", "sound, published"]),
    ("fer_boosting.fit.pca.features", "embed/deep",
     ["'embed/deep'", "pixels/pca, pixels/pca_published, embed/efficientnet_lite0"]),
    ("fer_boosting.fit.efficientnet_lite0.split", "fair", ["'fair'", "sound, published"]),
    ("fer_boosting.smoke_tests.torch.joined.resnet50_vit.second", "vit", ["'vit'", "pixels/pca, pixels/pca_published"]),
    ("fer_boosting.adjust.efficientnet_lite0_adjusted.of.variant", "efficientnet",
     ["'efficientnet'", "majority, neighbours"]),
    ("fer_boosting.analyse.efficientnet_lite0.baseline.stage", "fit/pca",
     ["'fit/pca'", "is made by classifiers/efficientnet_lite0"]),
    ("fer_elm.source_models.sound.features", "codes/vqgan", ["'codes/vqgan'", "codes/vqvae"]),
    ("fer_elm.patches.patches.split", "fair", ["'fair'", "sound, published"]),
    ("kana_mlp.source_models.sound.models.m1.options_from", "search/m9",
     ["'search/m9'", "one_at_a_time/m1_published, search/m1, search/m3"]),
    ("kana_mlp.report.sound.best", "m0_published", ["'m0_published'", "no variant of the split sound"]),
    ("fer_transfer.smoke_tests.keras.crossval.vgg.search", "search/nasnet",
     ["'search/nasnet'", "search/vgg, search/vgg16_residual"]),
    ("fer_transfer.smoke_tests.keras.crossval.vgg.split", "published", ["'published'", "chosen on the split sound"]),
    ("fer_transfer.report.sound.best", "vgg_published", ["'vgg_published'", "no variant of the split sound"]),
    ("polymnist.report.sound.best", "cnn_1_published", ["'cnn_1_published'", "no variant of the split sound"]),
    ("polymnist.source_models.published.models.linear_augmented.after", "linear_augmented",
     ["'linear_augmented'", "cnn_1, cnn_2"]),
    ("polymnist.source_models.sound.weighted", "cnn_9", ["'cnn_9'", "cnn_1, cnn_2"]),
    ("polymnist.transfer.resnet.split", "published", ["'published'", "no validation part"]),
    ("fer_elm.controls.pixels",
     {"split": "sound", "features": "codes/pixels", "hidden": 9, "sizes": [9], "units": [9], "alphas": [1.0],
      "scales": {"numbers": 1.0}, "seeds": 2}, ["'codes/pixels'", "codes/vqvae"]),
    ("fer_elm.encodings.one_hot.split", "published", ["'published'", "no validation part"]),
    ("fer_boosting.common.dataset", "fer7", ["'fer7'", "fer6, fer2013"]),
    ("comparison.studies", ["kuzushiji"], ["'kuzushiji'", "nbs/studies/kuzushiji/schema.ipynb"]),
], ids=str)
def test_a_name_that_another_section_does_not_have_is_refused(path, value, named, work, refused):
    work.edit(**{path.replace(".", "__"): value})
    refused(SPLIT, path.split(".")[0], path.split(".")[-1], *named)


def test_components_are_not_classified_on_another_split_than_theirs(work, refused):
    work.edit(fer_boosting__fit__pca__split="published")
    refused(SPLIT, "fit.pca.split", "'published'", "sound")


def test_features_that_were_joined_with_components_keep_their_split(work, refused):
    work.edit(fer_boosting__smoke_tests__torch__joined__resnet50_vit__second="pixels/pca_published")
    refused(SPLIT, "joined.resnet50_vit.split", "'sound'", "published")


def test_two_variants_cannot_share_a_folder(work, refused):
    work.edit(fer_boosting__adjust__resnet50_lda={"of": {"stage": "fit/pca", "variant": "pca"}})
    refused(SPLIT, "two variants are called resnet50_lda")


def test_only_a_network_of_timm_runs_in_torch(work, refused):
    work.edit(fer_boosting__smoke_tests__keras__embed__resnet50__engine="torch")
    refused(SPLIT, "fer_boosting.smoke_tests.keras.embed.resnet50", "engine", "timm")


def test_only_a_model_that_stops_early_can_stop_on_the_test_part(work, refused):
    work.edit(fer_boosting__fit__logistic__choose_on="test")
    refused(SPLIT, "fer_boosting.fit.logistic", "choose_on")


def test_parts_larger_than_the_whole_are_refused(work, refused):
    work.edit(fer_boosting__split__sound__test=0.7, fer_boosting__split__sound__validation=0.4)
    refused(SPLIT, "split.sound", "0.7", "0.4")


@pytest.mark.parametrize("text", ["", "- 1\n", "seed: [\n", "seed: 1\nseed: 2\n", "\x00"],
                         ids=["empty", "list", "open bracket", "twice", "binary"])
def test_what_is_not_a_table_of_parameters_is_refused(text, work, refused):
    (work.root / "params.yaml").write_text(text)
    refused(SPLIT, "params.yaml: ")


def test_every_mistake_has_a_line(work, monkeypatch):
    work.edit(fer_boosting__common__seed=-1, datasets__explore__fer6__size="48")
    monkeypatch.chdir(work.root)
    lines = CliRunner().invoke(app, SPLIT).stderr.splitlines()
    assert len(lines) == 2 and "datasets.explore.fer6.size: '48'" in lines[0]
    assert "fer_boosting.common.seed: -1" in lines[1]


@pytest.mark.parametrize(("command", "named"), [
    (("run", "fer_bosting", "fit", "pca"), ["fer_bosting", "fer_boosting, fer_elm"]),
    (("run", "fer_boosting", "fitt", "pca"), ["fer_boosting fitt", "no entries"]),
    (("run", "fer_boosting", "fitt"), ["fer_boosting fitt", "fer_boosting fit"]),
    (("run", "fer_boosting", "fit", "cnn"),
     ["'cnn'", "majority, neighbours, logistic, pca, pca_published, efficientnet_lite0"]),
    (("run", "fer_boosting", "split", "pca"), ["split pca", "no entries"]),
    (("run", "fer_boosting", "fit"), ["None", "majority, neighbours"]),
    (("run", "fer_boosting", "smoke_tests", "jax"), ["'jax'"]),
    (("run", "comparison", "compare", "pca"), ["pca", "no entries"]),
    (("preset", "apply", "publishd"), ["publishd", "published"]),
    (("data", "check", "fer7"), ["fer7", "fer6, fer2013"]),
    (("record", "../name", "--study", "fer_boosting"), ["'../name'"]),
], ids=lambda value: " ".join(value) if isinstance(value, tuple) else "")
def test_an_unknown_name_is_answered_by_the_known_ones(command, named, refused):
    refused(command, *named)


def change_parameters(path, change) -> None:
    "Change the cell tagged `parameters` of a notebook."
    notebook = nbformat.read(path, as_version=4)
    (cell,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    change(cell)
    nbformat.write(notebook, path)


def test_a_notebook_without_a_parameters_cell_is_refused(work, refused):
    change_parameters(work.root / "nbs/studies/fer_boosting/split.ipynb", lambda cell: cell.metadata.pop("tags"))
    refused(SPLIT, "nbs/studies/fer_boosting/split.ipynb", "`parameters`")


def test_a_parameter_that_the_notebook_does_not_have_is_refused(work, refused):
    change_parameters(work.root / "nbs/studies/fer_boosting/split.ipynb",
                      lambda cell: cell.update(source=re.sub(r"(?m)^seed = .*$", "", cell.source)))
    refused(SPLIT, "nbs/studies/fer_boosting/split.ipynb", "seed")


def test_in_a_terminal_it_is_the_same(work):
    work.edit(fer_boosting__common__seed="42")
    done = work.cli(*SPLIT, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "fer-research: params.yaml: fer_boosting.common.seed: '42': should be a valid integer\n"


# --- presets --------------------------------------------------------------------------------------------------------

def leaves(tree, path=()) -> dict[tuple, object]:
    "The values of nested sections by their paths."
    if not isinstance(tree, dict) or not tree: return {path: tree}
    return {key: value for name, section in tree.items() for key, value in leaves(section, (*path, name)).items()}


def test_a_preset_changes_its_values_adds_its_entries_and_nothing_else(work, monkeypatch):
    monkeypatch.chdir(work.root)
    path, yaml = work.root / "params.yaml", YAML(typ="safe")
    text, params = path.read_text(), leaves(yaml.load(path))
    preset = leaves(yaml.load(work.root / "presets" / "published.yaml"))
    assert CliRunner().invoke(app, ("preset", "apply", "published")).exit_code == 0
    removed = {above for above, value in preset.items() if value is None and above not in params}
    assert {above[1] for above in removed} == {"smoke_tests"}
    kept = {key: value for key, value in params.items() if key[:3] not in removed}
    # a section without entries, before or after
    filled = lambda found: {key: value for key, value in found.items() if value != {}}
    given = {key: value for key, value in preset.items() if key not in removed}
    assert filled(leaves(yaml.load(path))) == filled(kept | given)
    assert set(re.findall(r"#.*", path.read_text())) <= set(re.findall(r"#.*", text))


@pytest.mark.parametrize(("path", "value", "present"), [
    ("fer_elm.nine", {}, "source_models"),
    ("fer_boosting.classifiers.efficientnet_lite0.logistic.penalties", [1.0], "Cs"),
    ("fer_boosting.classifiers.efficientnet_lite0.mlp.penalties", [1.0], "alphas"),
    ("fer_transfer.baselines.sound.penalties", [1.0], "Cs"),
    ("fer_boosting.embed.efficientnet_lite0.mirror", True, "hflip"),
    ("fer_elm.codes.vqvae.codes", 16, "codebook_size"),
    ("fer_elm.codes.vqvae.width", 16, "embedding_dim"),
    ("fer_elm.codes.vqvae.rate", 0.1, "learning_rate"),
    ("fer_elm.codes.vqvae.batch", 8, "batch_size"),
    ("fer_transfer.smoke_tests.keras.final.densenet.half", True, "bf16"),
    ("fer_transfer.smoke_tests.keras.final.densenet.options.rate", 0.1, "learning_rate"),
    ("fer_transfer.smoke_tests.keras.search.vgg.space.batch", [8], "batch_size"),
    ("fer_transfer.ablation.resnet.start.decay", 0.1, "weight_decay"),
    ("fer_transfer.ablation.resnet.start.smoothing", 0.1, "label_smoothing"),
    ("fer_transfer.ablation.resnet.steps.moved.shift", 0.1, "translate"),
    ("fer_transfer.ablation.resnet.steps.moved.turn", 5, "degrees"),
    ("fer_transfer.ablation.resnet.steps.moved.stretch", 0.1, "scale"),
    ("fer_transfer.ablation.resnet.steps.moved.slant", 0.1, "shear"),
    ("fer_transfer.best.resnet.recipe.mirror", True, "hflip"),
    ("fer_transfer.best.resnet.recipe.erase", 3, "erasing"),
    ("fer_transfer.best.resnet.recipe.average", 0.9, "ema_decay"),
    ("fer_transfer.best.resnet.recipe.half", True, "bf16"),
    ("kana_mlp.one_at_a_time.m1_published.options.floor", 0.1, "min_learning_rate"),
    ("kana_mlp.source_models.sound.models.m1.found", "search/m1", "options_from"),
    ("polymnist.source_models.sound.batch", 8, "batch_size"),
], ids=str)
def test_an_earlier_name_is_answered_by_the_present_one(path, value, present, work, refused):
    work.edit(**{path.replace(".", "__"): value})
    refused(SPLIT, f"params.yaml: {path}: is called {present} now\n")


def test_an_earlier_name_is_unknown_where_it_never_was_one(work, refused):
    work.edit(fer_elm__patches__patches__width=8)
    refused(SPLIT, "params.yaml: fer_elm.patches.patches.width: unknown key; there are split, ")


@pytest.mark.parametrize(("override", "lines"), [
    ("fer_boosting.fit.pca.classifier.rounds=7", 1), ("kana_mlp.best.m5.spread=null", 1),
    ("kana_mlp.best.m5.hidden=[9,8]", 2)])  # a line an item
def test_dvc_changes_no_line_but_those_of_the_value(override, lines, work):
    "As `dvc exp run -S` writes it."
    before = (work.root / "params.yaml").read_text().splitlines()
    work.run(sys.executable, "-c",
             "import sys; from dvc.utils.hydra import apply_overrides; apply_overrides('params.yaml', sys.argv[1:])",
             override)
    after = (work.root / "params.yaml").read_text().splitlines()
    assert len(after) == len(before) and sum(new != old for new, old in zip(after, before, strict=True)) == lines


@pytest.mark.parametrize(("text", "named"), [
    ("fer_boosting: {common: {seed: 1, sed: 1}}", "sed"),
    ("fer_boosting: {common: {seed: -1}}", "fer_boosting.common.seed: -1"),
    ("fer_boosting: {common: {seed: {a: 1}}}", "seed"),
    ("- fer_boosting", "presets/mine.yaml"),
    ("fer_boosting: [", "presets/mine.yaml"),
], ids=["unknown key", "out of range", "section for a value", "list", "open bracket"])
def test_a_wrong_preset_changes_nothing(text, named, work, refused):
    (work.root / "presets" / "mine.yaml").write_text(text)
    refused(("preset", "apply", "mine"), "mine.yaml", named)


# --- the user's own settings ----------------------------------------------------------------------------------------

def kernelspec(folder) -> dict[str, str]:
    "A kernel named python3 that cannot start, found before all others."
    (folder / "kernels" / "python3").mkdir(parents=True)
    mine = {"argv": ["false"], "display_name": "mine", "language": "python"}
    (folder / "kernels" / "python3" / "kernel.json").write_text(json.dumps(mine))
    return {"JUPYTER_DATA_DIR": str(folder), "JUPYTER_PATH": str(folder)}


def matplotlibrc(folder) -> dict[str, str]:
    "Small figures of another kind."
    (folder / "matplotlibrc").write_text("savefig.dpi: 30\nfont.size: 5\n")
    return {"MATPLOTLIBRC": str(folder / "matplotlibrc")}


def ipython(folder) -> dict[str, str]:
    "Figures as SVG, and a start-up file for short tables."
    (folder / "profile_default").mkdir()
    (folder / "profile_default" / "ipython_kernel_config.py").write_text("c.InlineBackend.figure_formats = {'svg'}\n")
    (folder / "startup.py").write_text("import pandas\npandas.set_option('display.max_rows', 4)\n")
    return {"IPYTHONDIR": str(folder), "PYTHONSTARTUP": str(folder / "startup.py")}


@pytest.mark.parametrize("settings", [kernelspec, matplotlibrc, ipython], ids=lambda settings: settings.__name__)
def test_settings_of_the_user_change_no_byte(settings, clone, reproduced, tmp_path):
    environment, work = settings(tmp_path), clone.copy(tmp_path)
    if settings is kernelspec:
        asked = work.run(sys.executable, "-c",
                         "from jupyter_client.kernelspec import get_kernel_spec as spec; print(spec('python3').argv)",
                         **environment)
        assert asked.stdout == "['false']\n", "the kernel would not be found"
    work.cli("run", "datasets", "explore", "fer2013", **environment)
    outs = "outputs/datasets/explore/fer2013", "results/datasets/explore/fer2013"
    assert work.listing(*outs) == reproduced.listing(*outs)
