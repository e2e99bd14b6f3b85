"""Copies of the working tree to try things in.

Each is a git and DVC repository of its own, with the sample data pulled.
"""
import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pytest
from filelock import FileLock
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[1]
# what could reach in from the terminal that runs the tests
OUTSIDE = ("GIT_", "DVC_", "MAKE", "PYTHON", "JUPYTER", "IPYTHON", "MPL", "MATPLOTLIB", "FER_RESEARCH")
LARGE = 100_000  # bytes
# before NumPy is imported: tests run beside each other, and a waiting thread would take the core of a working one
os.environ |= {"OMP_WAIT_POLICY": "passive", "OPENBLAS_THREAD_TIMEOUT": "4"}
AUDIT = '''
"Logs each file that a stage's processes open: stage, r or w, path."
import os, sys
if "DVC_STAGE" in os.environ:
    log = os.open(os.environ["AUDIT_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    root, original = os.environ["DVC_ROOT"] + os.sep, os.environ["AUDIT_ORIGINAL"] + os.sep

    def hook(event, arguments):
        if event == "open": path, write = arguments[0], arguments[2] & (os.O_WRONLY | os.O_RDWR)
        elif event == "os.rename": path, write = arguments[1], True
        else: return
        if isinstance(path, int) or path is None: return
        path = os.path.abspath(os.fsdecode(path))
        if path.startswith((root, original)):
            fields = os.environ["DVC_STAGE"], "w" if write else "r", path.removeprefix(root)
            os.write(log, ("\\t".join(fields) + "\\n").encode())

    sys.addaudithook(hook)
'''


class Opened(NamedTuple):
    "A file that a stage opened."
    stage: str  # such as "prepare@fer6"
    mode: str  # "r" or "w"; a rename writes its target
    path: str  # relative to the clone's root; absolute for a module of the original working tree


@dataclass(frozen=True)
class Clone:
    "A copy of the working tree."
    root: Path
    opened: tuple[Opened, ...] = field(default=(), repr=False)  # by the stages, where `dvc repro` ran

    @property
    def environment(self) -> dict[str, str]:
        "This interpreter first in PATH, and nothing of the user's settings of git, DVC and Python."
        kept = {key: value for key, value in os.environ.items() if not key.startswith(OUTSIDE)}
        elsewhere = {f"DVC_{kind}_DIR": str(self.root.parent / "dvc")
                     for kind in ("GLOBAL_CONFIG", "SYSTEM_CONFIG", "SITE_CACHE")}
        return kept | elsewhere | {"DVC_NO_ANALYTICS": "1",
                                   "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}

    def start(self, *command: str, output: int = subprocess.PIPE, **environment: str) -> subprocess.Popen:
        "A command in the clone, as the leader of a process group."
        return subprocess.Popen(command, cwd=self.root, env=self.environment | environment, text=True,
                                start_new_session=True, stdin=subprocess.DEVNULL, stdout=output, stderr=output)

    def run(self, *command: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess:
        "A command in the clone, to its end."
        process = self.start(*command, **environment)
        done = subprocess.CompletedProcess(command, None, *process.communicate())
        done.returncode = process.returncode
        printed = f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        assert not check or done.returncode == 0, f"{' '.join(command)}: exit code {done.returncode}\n{printed}"
        return done

    def git(self, *arguments: str) -> str:
        return self.run("git", "-c", "user.name=test", "-c", "user.email=test@example.invalid", *arguments).stdout

    def dvc(self, *arguments: str, **options) -> subprocess.CompletedProcess:
        return self.run(sys.executable, "-m", "dvc", *arguments, **options)

    def cli(self, *arguments: str, **options) -> subprocess.CompletedProcess:
        return self.run(sys.executable, "-m", "fer_research.pipeline.cli", *arguments, **options)

    def copy(self, folder: Path) -> "Clone":
        """The clone once more, with everything that was made in it.

        Git's objects, DVC's cache and large outputs are shared: who changes one of them writes a new file."""
        caches, outputs = {self.root / ".git" / "objects", self.root / ".dvc" / "cache"}, self.root / "outputs"

        def copied(source: str, target: str) -> str:
            above = Path(source).parents
            shared = caches.intersection(above) or outputs in above and Path(source).stat().st_size > LARGE
            return os.link(source, target) if shared else shutil.copy2(source, target)
        return Clone(shutil.copytree(self.root, folder / "clone", symlinks=True, copy_function=copied))

    def listing(self, *below: str) -> dict[str, str]:
        "Path and digest of every file, or of those below some paths; git's and DVC's own and caches left out."
        tops = [self.root / path for path in below] or [self.root]
        paths = [p for top in tops for p in ([top] if top.is_file() else sorted(top.rglob("*"))) if p.is_file()]
        return {path.relative_to(self.root).as_posix(): hashlib.md5(path.read_bytes()).hexdigest()
                for path in paths if not {".git", ".dvc", "__pycache__"} & set(path.relative_to(self.root).parts)}

    def edit(self, **values) -> None:
        "Set values of params.yaml, by dotted names with `__` for the dot."
        yaml, path = YAML(), self.root / "params.yaml"
        params = yaml.load(path)
        for name, value in values.items():
            *sections, key = name.split("__")
            section = params
            for part in sections: section = section[part]
            section[key] = value
        yaml.dump(params, path)


def copy_tree(folder: Path) -> Clone:
    "The working tree in a new repository: what is in git, with its changes, and what is about to be."
    listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT,
                            capture_output=True, text=True)
    if listed.returncode: pytest.skip("not a git checkout")
    clone = Clone(folder)
    for name in filter(None, listed.stdout.split("\0")):
        if not (ROOT / name).is_file(): continue
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    clone.git("init", "--quiet")
    clone.git("add", "--all")
    clone.git("commit", "--quiet", "--message", "copy")
    return clone


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--reproduced", type=Path,
                     help="folder in which the first of several test processes runs all stages, for each of them")


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    "Marks the tests that wait for `reproduced`, and lets the others run first."
    for item in items:
        if "reproduced" in item.fixturenames: item.add_marker(pytest.mark.rebuilt)
    items.sort(key=lambda item: "reproduced" in item.fixturenames)


@pytest.fixture(scope="session")
def clone(tmp_path_factory) -> Clone:
    "The working tree with the sample data, nothing reproduced. Look at it; write only in a copy of it."
    clone = copy_tree(tmp_path_factory.mktemp("clone") / "clone")
    clone.dvc("pull", "--quiet", "data.dvc")
    return clone


@pytest.fixture(scope="session")
def reproduced(clone, request, tmp_path_factory) -> Clone:
    "A clone in which all stages ran, watched. Look at it; write only in a copy of it."
    folder = request.config.getoption("reproduced") or tmp_path_factory.mktemp("reproduced")
    folder.mkdir(parents=True, exist_ok=True)
    made = Clone(folder / "clone")
    with FileLock(folder / "lock"):
        if not made.root.exists():
            clone.copy(folder)
            (made.root / "dvc.lock").unlink()  # DVC reads and writes it whole for each stage; here it grows with them
            (folder / "audit").mkdir()
            (folder / "audit" / "sitecustomize.py").write_text(AUDIT)
            made.run("make", "--jobs=2", "all-stages", f"VENV={sys.prefix}", PYTHONPATH=str(folder / "audit"),
                     AUDIT_LOG=str(folder / "log"), AUDIT_ORIGINAL=str(ROOT / "fer_research"))
            (folder / "log").rename(folder / "opened")
    if not (folder / "opened").exists(): pytest.fail("`make all-stages` failed in another test process")
    return Clone(made.root, tuple(dict.fromkeys(Opened(*line.split("\t"))
                                                for line in (folder / "opened").read_text().splitlines())))


@pytest.fixture
def work(clone, tmp_path) -> Clone:
    "A clone to change, nothing reproduced."
    return clone.copy(tmp_path)


@pytest.fixture
def done(reproduced, tmp_path) -> Clone:
    "A clone to change, everything reproduced."
    return reproduced.copy(tmp_path)
