"What is said in several places is the same in all of them, and nothing ties the repository to one machine."
import configparser
import re
import subprocess
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from ruamel.yaml import YAML

import fer_research

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
LOCKED = (ROOT / "requirements.txt").read_text().splitlines()
MACHINES = {
    "linux": ("linux", "x86_64", "posix"),
    "linux-arm": ("linux", "aarch64", "posix"),
    "mac": ("darwin", "arm64", "posix"),
    "mac-intel": ("darwin", "x86_64", "posix"),
    "windows": ("win32", "AMD64", "nt"),
}


@pytest.fixture(scope="module")
def settings() -> configparser.SectionProxy:
    parser = configparser.ConfigParser(delimiters=["="])
    parser.read(ROOT / "settings.ini")
    return parser["DEFAULT"]


def on(machine: str) -> dict[str, str]:
    "The marker variables of Python 3.11 on a kind of machine."
    platform, processor, os_name = MACHINES[machine]
    python = {"python_version": "3.11", "python_full_version": "3.11.9", "implementation_name": "cpython"}
    return python | {"sys_platform": platform, "platform_machine": processor, "os_name": os_name}


def applying(lines: list[str], machine: str) -> dict[str, list[Requirement]]:
    "The requirements that hold on a machine, by name."
    found = {}
    for requirement in map(Requirement, lines):
        if requirement.marker is None or requirement.marker.evaluate(on(machine)):
            found.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return found


def test_settings_agree_with_pyproject(settings):
    assert settings["lib_name"] == PROJECT["name"]
    assert settings["version"] == PROJECT["version"] == fer_research.__version__
    assert settings["description"] == PROJECT["description"]
    assert settings["keywords"].split(", ") == PROJECT["keywords"]
    assert {"apache2": "Apache-2.0"}[settings["license"]] == PROJECT["license"]
    assert dict(line.split("=", 1) for line in settings["console_scripts"].splitlines()) == PROJECT["scripts"]


def test_oldest_python_is_that_of_pyproject(settings):
    major, minor = map(int, settings["min_python"].split("."))
    supported = SpecifierSet(PROJECT["requires-python"])
    assert f"{major}.{minor}.0" in supported and f"{major}.{minor - 1}.99" not in supported


def test_nbdev_finds_the_module_index(settings):
    assert PROJECT["entry-points"]["nbdev"] == {settings["lib_name"]: f"{settings['lib_path']}._modidx:d"}


def test_every_locked_line_is_a_name_and_a_version():
    wrong = [line for line in LOCKED if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*==[0-9][a-z0-9.]*( ; [^@]+)?", line)]
    assert not wrong, "requirements.txt: expected `name==version` with an optional ` ; marker`; run `make lock`"


@pytest.mark.parametrize("machine", MACHINES)
def test_direct_dependencies_are_locked(machine):
    extras = PROJECT["optional-dependencies"]
    wanted = applying(PROJECT["dependencies"] + extras["cluster"] + extras["dev"], machine)
    locked = applying(LOCKED, machine)
    assert not wanted.keys() - locked.keys(), "not in requirements.txt: run `make lock`"
    for name, (requirement,) in wanted.items():
        (pin,) = locked[name]
        (version,) = (specifier.version for specifier in pin.specifier)
        assert version in requirement.specifier, f"requirements.txt has {pin}, pyproject.toml asks for {requirement}"


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("source", [PROJECT["dependencies"], LOCKED], ids=["pyproject", "requirements"])
def test_one_tensorflow_a_machine(source, machine):
    found = applying(source, machine).keys() & {"tensorflow", "tensorflow-cpu"}
    assert found == {"tensorflow-cpu" if machine == "linux" else "tensorflow"}


def texts():
    "Every text file that is in git or about to be, with its path."
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode: pytest.skip("not a git checkout")
    for path in filter(Path.is_file, (ROOT / name for name in listed.stdout.split("\0") if name)):
        try: yield path.relative_to(ROOT), path.read_text(encoding="utf-8")
        except UnicodeDecodeError: continue


def matches(pattern: str) -> list[str]:
    "`path:line: match` of every match."
    expression = re.compile(pattern)
    lines = ((path, number, line) for path, text in texts() for number, line in enumerate(text.splitlines(), 1))
    return [f"{path}:{number}: {found[0]}" for path, number, line in lines for found in expression.finditer(line)]


def test_no_paths_of_a_machine():  # a pattern of an ignore file begins at the repository
    found = matches(r"(?<![\w.~)}\]*])/(root|work|tmp|home/\w+|Users/\w+)\b")
    assert not [match for match in found if not match.split(":")[0].endswith("ignore")]


def test_no_address_of_a_package_registry():
    assert not matches(r"pypi\.org|pythonhosted\.org|registry\.npmjs\.org|download\.pytorch\.org|"
                       r"conda\.anaconda\.org|--(extra-)?index-url")


def test_license_is_apache():
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text and "Version 2.0, January 2004" in text and "END OF TERMS AND CONDITIONS" in text
    assert PROJECT["license-files"] == ["LICENSE"]


def test_citation_names_the_project_and_its_sources():
    yaml = YAML(typ="safe")
    citation = yaml.load(ROOT / "CITATION.cff")
    assert citation["cff-version"] == "1.2.0"
    for name in ("version", "license", "keywords"): assert citation[name] == PROJECT[name]
    references = {reference["title"]: reference for reference in citation["references"]}
    paths = [*(ROOT / "published").glob("*.yaml")]
    assert len(references) == len(paths)
    for path in paths:
        source = yaml.load(path)["source"]
        reference = references[source["title"]]
        names = [author.get("name") or f"{author['given-names']} {author['family-names']}"
                 for author in reference["authors"]]
        assert names == ["Author not named" if author == "not named" else author for author in source["authors"]]
        year = re.match(r"\d{4}", str(source["date"]))
        assert reference.get("year") == (int(year[0]) if year else None)
        assert path.stem in reference["notes"]


def test_converting_a_network_reports_to_nobody():
    "findings/openvino_telemetry.sh: where this package is there, each conversion forks the process to send reports."
    older = "the environment is older than requirements.txt: pip uninstall openvino-telemetry"
    assert find_spec("openvino_telemetry") is None, older
