"""What docs/operating.md says is so."""

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from toploss.settings import PREFIX, Settings
from training.cli import app

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/operating.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/\S+\.py)::(\w+)`", PAGE)))


@pytest.mark.parametrize(("file", "test"), NAMED, ids=lambda value: value)
def test_every_test_that_is_named_exists(file: str, test: str) -> None:
    assert re.search(rf"^(async )?def {test}\(", (ROOT / file).read_text(), re.MULTILINE)


def test_every_threat_has_a_test() -> None:
    rows = PAGE[PAGE.index("## Threats") :].split("\n")
    threats = [row for row in rows if row.startswith("| ") and not row.startswith("| threat ")]
    assert len(threats) > 25
    for row in threats:
        assert "::test_" in row.split(" | ")[-1], row


def test_every_setting_that_is_named_exists() -> None:
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    assert set(re.findall(rf"\b{PREFIX}[A-Z0-9_]+\b", PAGE)) <= known


def test_every_command_that_is_named_exists() -> None:
    """Its words, and the options that are given to it."""
    lines = re.findall(r"(?:^|`)(toploss [^`\n]+)", PAGE, re.MULTILINE)
    assert len(lines) > 12
    for line in lines:
        words = shlex.split(line, comments=True)[1:]
        command = get_command(app)
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]  # type: ignore[attr-defined]
        assert not hasattr(command, "commands"), line
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options, line
