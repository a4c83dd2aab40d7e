"""What ships beside the code: the container's recipe, the citation, the changelog."""

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

import bcd

ROOT = Path(__file__).parents[1]
IGNORED = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()


def instructions() -> list[tuple[str, str]]:
    """Return the Dockerfile's instructions, lines joined and comments left out."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    lines = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ").splitlines()
    return [(line.partition(" ")[0], line.partition(" ")[2].strip()) for line in lines if line.strip()]


def copied() -> list[str]:
    """Return every path that the Dockerfile takes from the checkout."""
    return [path for name, rest in instructions() if name in ("COPY", "ADD") for path in shlex.split(rest)[:-1]]


def test_the_container_copies_what_is_there_and_what_dockerignore_lets_pass() -> None:
    assert {"requirements.lock", "bcd/", "conf/", "scripts/"} <= set(copied())
    for path in copied():
        assert not path.startswith("--")
        assert (ROOT / path).is_dir() if path.endswith("/") else (ROOT / path).is_file()
    assert IGNORED[1] == "*"
    assert {line[1:] for line in IGNORED if line.startswith("!")} == set(copied())


def test_the_container_has_what_the_package_is_built_from() -> None:
    # hatchling reads the readme, the licence, the version in bcd/, and puts conf/ beside it.
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for name, path in (
        ('readme = "README.md"', "README.md"),
        ('license-files = ["LICENSE"]', "LICENSE"),
        ('packages = ["bcd"]', "bcd/"),
    ):
        assert name in project
        assert path in copied()


def test_the_container_names_no_host_and_takes_its_base_by_name_alone() -> None:
    for name in ("Dockerfile", ".dockerignore", "requirements.lock"):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert "://" not in text
        assert not re.search(r"index-url|trusted-host|find-links|@", text)
    (base,) = [rest for name, rest in instructions() if name == "FROM"]
    assert base == "python:3.11-slim"


def test_the_container_trains_as_a_user_who_is_not_root() -> None:
    names = [name for name, _ in instructions()]
    assert names.index("USER") > max(number for number, name in enumerate(names) if name == "RUN")
    assert dict(instructions())["USER"] not in ("root", "0")
    entry = json.loads(dict(instructions())["ENTRYPOINT"])
    assert entry == ["python", "scripts/train.py"]
    assert (ROOT / entry[1]).is_file()


def test_the_citation_is_whole_and_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)  # what CFF 1.2 asks for
    assert (citation["cff-version"], citation["type"], citation["title"]) == ("1.2.0", "software", "bcd")
    assert citation["authors"] == [{"name": "The bcd authors"}]
    assert citation["license"] == "MIT"
    assert citation["version"] == bcd.__version__
    for reference in citation["references"]:
        assert {"type", "title", "authors"} <= set(reference)
        assert re.fullmatch(r"10\.\d{4,}/\S+", reference["doi"])


def test_the_changelog_has_this_version_and_what_is_to_come() -> None:
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert headings[0] == "[Unreleased]"
    assert headings[1].startswith(f"[{bcd.__version__}]")


@pytest.mark.parametrize(
    ("target", "runs"),
    [
        ("app", "scripts/serve.py"),
        ("api", "scripts/serve_api.py"),
        ("dashboard", "scripts/dashboard.py"),
        ("bench", "-m benchmarks.run"),
        ("bench-api", "-m benchmarks.run_api"),
    ],
)
@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_runs_what_its_help_says(target: str, runs: str) -> None:
    told = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stderr == ""  # such as two recipes of one name, of which the last would win
    assert re.search(rf"^\.venv/bin/python {re.escape(runs)}\s*$", told.stdout, flags=re.MULTILINE)
    said = subprocess.run(["make", "-n", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert f"make {target} " in said
