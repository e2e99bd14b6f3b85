"""The command line, and the pipeline with nothing to do and from nothing.

All functions take the root of the repository.
"""
import json
import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from PIL import Image

from .child import Clock, Skip, fitted_model

DVC = (sys.executable, "-m", "dvc")
CLI = (sys.executable, "-m", "fer_research.pipeline.cli")


def call(
    folder: Path,  # where to run it
    *command: str,
    code: Path | None = None,  # folder of the package, where it is not the installed one
) -> str:  # what it printed
    "Run a program beside this Python; `RuntimeError` with the end of its output where it fails."
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = os.environ | {"PATH": path} | ({"PYTHONPATH": str(code)} if code else {})
    done = subprocess.run(command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True,
                          text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit code {done.returncode}\n{(done.stdout + done.stderr)[-2000:]}")
    return done.stdout


def show_help(root: Path, clock: Clock) -> dict:
    "`fer-research --help`."
    with clock("fer-research --help"):
        call(root, *CLI, "--help")
    return {}


def predict_one(root: Path, clock: Clock, variant: str) -> dict:
    "`fer-research predict` of one image, from the start of the program."
    fitted_model(variant)
    with tempfile.TemporaryDirectory(prefix="fer-benchmark-") as folder:
        image = Path(folder, "image.png")
        Image.effect_noise((200, 200), 60).convert("RGB").save(image)
        with clock(f"fer-research predict fer_boosting {variant}"):
            call(root, *CLI, "predict", "fer_boosting", variant, str(image))
    return {}


predict_one_components = partial(predict_one, variant="pca")
predict_one_network = partial(predict_one, variant="efficientnet_lite0")


def noop(root: Path, clock: Clock) -> dict:
    "`dvc repro` with nothing to do."
    stale = json.loads(call(root, *DVC, "status", "--json"))
    if stale:
        names = ", ".join(list(stale)[:3]) + (" ..." if len(stale) > 3 else "")
        raise Skip(f"`dvc status` is not clean: {names}; run `make repro` first")
    with clock("dvc repro"):
        call(root, *DVC, "repro")
    return {}


def pipeline(root: Path, clock: Clock) -> dict:
    "All stages on the sample in a fresh clone of HEAD; cloning and fetching the sample do not count."
    with tempfile.TemporaryDirectory(prefix="fer-benchmark-") as folder:
        clone = Path(folder, "clone")
        call(root, "git", "clone", "--quiet", "--no-local", str(root), str(clone))
        call(clone, *DVC, "pull", "--quiet", "data.dvc")
        with clock("dvc repro"):
            call(clone, *DVC, "repro", "--no-run-cache", code=clone)
        if call(clone, *DVC, "status", "--json").strip() != "{}":
            raise RuntimeError("`dvc repro` left stages that are not up to date")
        return {"commit": call(clone, "git", "rev-parse", "--short", "HEAD").strip()}
