"""The files that people deploy with: valid, and in step with the settings."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
EXAMPLE = (ROOT / ".env.example").read_text()
# Read by the supervisor and by docker-compose.yml rather than by the settings.
OTHER_READERS = (ROOT / "docker-compose.yml", *(ROOT / "deploy" / "local").glob("*.py"))


def variables_of_settings() -> set[str]:
    source = (ROOT / "config" / "settings.py").read_text()
    return set(re.findall(r'(?:env\.\w+|_secret)\(\s*"([A-Z_]+)"', source))


def variables_of_example() -> set[str]:
    return set(re.findall(r"^#?([A-Z][A-Z_]+)=", EXAMPLE, re.MULTILINE))


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)


def test_example_lists_every_setting() -> None:
    assert variables_of_settings() - variables_of_example() == set()


def test_example_lists_nothing_that_nobody_reads() -> None:
    others = "".join(path.read_text() for path in OTHER_READERS)
    unread = {
        name
        for name in variables_of_example() - variables_of_settings()
        if not re.search(rf'(?:\$\{{|"){name}\b', others)
    }

    assert unread == set()


def test_compose_lists_no_variable_that_the_example_lacks() -> None:
    used = set(re.findall(r"\$\{([A-Z_]+)", (ROOT / "docker-compose.yml").read_text()))

    assert used - variables_of_example() == set()


def test_compose_file_is_valid() -> None:
    done = run(str(BIN / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec", "docker-compose.yml")

    assert done.returncode == 0, done.stdout + done.stderr


def test_dockerfile_is_clean() -> None:
    done = run(str(BIN / "hadolint"), "Dockerfile")

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("command", ["gunicorn", "uvicorn"])
def test_servers_know_the_options_they_are_started_with(command: str) -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    block = re.search(rf"command: >-\n((?: {{6}}.*\n)*? {{6}}{command} .*\n(?: {{6}}.*\n)*)", text)
    assert block
    known = run(str(BIN / command), "--help").stdout

    options = set(re.findall(r"--[a-z-]+", block[1]))
    assert options
    assert {option for option in options if option not in known} == set()
