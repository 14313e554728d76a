"""The command line's manners: exit codes, one line for an error, JSON and nothing else."""

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import coloured, picture
from tests.training.commands import RECIPE, SWEPT, Toploss, answer, complaint, folder
from toploss import attempts, models, records
from toploss.blobs import sha256
from toploss.home import Home
from training.cli import app


@pytest.mark.parametrize(
    "command",
    [
        "runs show X",
        "runs log X",
        "runs cancel X",
        "models show X",
        "models promote X",
        "models pull X",
        "classes rename X other",
        "classes merge X into red",
        "classes merge red into X",
        "models show 0123",
        "runs show 42",
    ],
)
def test_what_is_not_there_is_4(
    toploss: Toploss, learned_home: Callable[..., Home], command: str
) -> None:
    home, words = learned_home(), command.split()

    line = complaint(toploss(*words, home=home), 4)
    in_json = toploss(*words, "--json", home=home)

    assert f"{({'X', '0123', '42'} & set(words)).pop()!r}" in line
    assert "`toploss " in line  # the command that shows what there is
    assert (in_json.exit_code, in_json.stdout) == (4, "")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("nonsense", "nonsense"),
        ("train --bogus", "--bogus"),
        ("train --size big", "--size"),
        ("train --lr quick", "'quick' is neither a number nor auto"),
        ("runs show", "ID"),
        ("top-losses --limit 0", "--limit"),
        ("top-losses --order size", "size"),
        ("import . --on-conflict what", "what"),
        ("classes merge a onto b", "'onto' stands where into belongs"),
    ],
)
def test_wrong_usage_is_2(toploss: Toploss, command: str, words: str) -> None:
    result = toploss(*command.split())

    assert (result.exit_code, result.stdout) == (2, "")
    first, *_, last = result.stderr.strip().splitlines()
    assert first.startswith("Usage: ")  # and how to get help, then what is wrong
    assert words in last


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--epochs-head -1", "epochs_head -1"),
        ("--size 1", "between 8 and 2048"),
        ("--lr nan", "lr nan"),
        ("--folds 1", "folds 1"),
        ("--arch resnet19", "'resnet19' is neither torchvision's nor timm's"),
    ],
)
def test_a_setting_out_of_its_range_is_2(toploss: Toploss, options: str, words: str) -> None:
    assert words in complaint(toploss("train", *options.split()), 2)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("train --weights nowhere.pth", ("'nowhere.pth'", "give a .pth")),
        ("dataset export /nowhere/x.csv", ("'/nowhere/x.csv'", "cannot be written")),
        ("import . --csv nowhere.csv", ("'nowhere.csv'", "name one")),
        ("predict nowhere.png", ("nowhere.png", "check the path")),
        ("top-losses --label X", ("'X'", "not one of the 3 classes", "toploss classes add")),
    ],
)
def test_a_wrong_value_is_named_with_a_remedy(
    toploss: Toploss, learned_home: Callable[..., Home], command: str, words: tuple[str, ...]
) -> None:
    line = complaint(toploss(*command.split(), home=learned_home()), 4 if "--csv" in command else 1)

    assert all(word in line for word in words)


def test_a_broken_storage_is_told_and_loses_nothing(
    toploss: Toploss, home: Home, tmp_path: Path
) -> None:
    root = folder(tmp_path / "in", cat={"1.png": picture(1), "2.png": picture(2)})
    storage = Path(home.settings.storage)
    storage.write_text("a file where the folder should be")

    line = complaint(toploss("import", root, home=home), 1)
    assert "cannot be written to the storage" in line
    assert "check TOPLOSS_STORAGE_URL" in line

    storage.unlink()
    assert answer(toploss("import", root, "--json", home=home))["added"] == 2


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("QUEUE_SIZE", "many", ("TOPLOSS_QUEUE_SIZE='many'", "integer", "correct the variable")),
        ("DATABASE_URL", "foo", ("TOPLOSS_DATABASE_URL='foo'", "give sqlite:///PATH")),
        ("STORAGE_URL", "foo://x", ("TOPLOSS_STORAGE_URL='foo://x'", "give a folder")),
    ],
)
def test_a_wrong_setting_is_named(
    toploss: Toploss,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: str,
    words: tuple[str, ...],
) -> None:
    monkeypatch.setenv(f"TOPLOSS_{name}", value)

    line = complaint(toploss("runs", "list"), 1)

    assert all(word in line for word in words)


def test_every_command_answers_in_json_and_nothing_else(
    toploss: Toploss,
    learned_home: Callable[..., Home],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    bentoml_home: Path,
) -> None:
    home = learned_home()
    version, run = models.listed(home)[0].name, records.listed(home)[0]["id"]
    image = folder(tmp_path / "in", red={"new.png": coloured("red", 4_321)}) / "red" / "new.png"
    sample = sha256(image.read_bytes())
    commands = f"""
        import {tmp_path / "in"}
        dataset show
        dataset check
        dataset diff {run} {version}
        dataset export {tmp_path / "all.csv"}
        decisions export {tmp_path / "decisions.csv"}
        decisions import {tmp_path / "decisions.csv"}
        classes list
        classes add violet
        classes rename violet purple
        classes merge purple into blue
        top-losses
        predict {image}
        drift
        models list
        models show {version}
        models promote {version}
        models moves
        models agreement {version}
        models lineage {version}
        models pull production
        models prune --dry-run
        runs list
        runs show {run}
        runs log {run}
        runs report {run} --out {tmp_path / "report.html"}
        runs replay {run}
        lr-find --out {tmp_path / "sweep.png"} {" ".join(SWEPT)}
        retraining status
        retraining pause
        retraining resume
        retrain
        dispatch --once
        samples show {sample}
        samples lineage {sample}
        samples erased {tmp_path / "erased.csv"}
        captures list --state all
        captures prune --all
        keys create ann --role review
        keys create shop --role predict --file {tmp_path / "keys.txt"}
        keys list
        keys revoke ann
        db upgrade
        db backup {tmp_path / "backup.db"}
    """.strip().splitlines()
    asked = {tuple(line.split())[: 2 if line.split()[0] in GROUPS else 1] for line in commands}

    class Ended:
        """Launches nothing, so that a run is lost at once: what a dispatcher says, not does."""

        outlives = False

        def __init__(self, *_: object) -> None: ...
        def launch(self, lease: attempts.Lease) -> None: ...
        def poll(self) -> int:
            return 1

        def reason(self) -> str:
            return ""

        def stop(self) -> None: ...

    monkeypatch.setattr("training.launchers.SubprocessLauncher", Ended)

    for line in commands:
        result = toploss(*line.split(), "--json", home=home)
        assert isinstance(answer(result), dict), line
    queued = records.listed(home)[0]["id"]
    assert answer(toploss("runs", "cancel", queued, "--json", home=home))["state"] == "cancelled"

    # Those that another test asks for in JSON, or that can only be refused here.
    elsewhere = {
        ("train",),
        ("runs", "cancel"),
        ("runs", "resume"),
        ("models", "rollback"),
        ("models", "shadow"),
        ("captures", "erase"),
        ("samples", "erase"),
    }
    assert asked | elsewhere == set(_commands())


GROUPS = {
    *(
        "dataset",
        "samples",
        "decisions",
        "classes",
        "models",
        "runs",
        "retraining",
        "captures",
        "keys",
        "db",
    )
}


def test_what_lr_find_advises_names_what_it_was_given(
    toploss: Toploss, learned_home: Callable[..., Home], tmp_path: Path
) -> None:
    curve = tmp_path / "sweep.png"
    told = toploss("lr-find", *SWEPT, "--no-flip", "--out", curve, home=learned_home()).stdout

    (advice,) = [line for line in told.splitlines() if line.startswith("use it")]
    assert advice.split()[2:4] == ["toploss", "train"]
    for option in (*SWEPT, "--no-flip"):
        assert f" {option.replace('=', ' ')} " in advice


@pytest.mark.parametrize(
    "command",
    [("dataset", "export"), ("runs", "report", "{run}", "--out"), ("lr-find", "--out")],
    ids=" ".join,
)
def test_a_file_that_cannot_be_written_is_named(
    toploss: Toploss, learned_home: Callable[..., Home], tmp_path: Path, command: tuple[str, ...]
) -> None:
    home = learned_home()
    given = [part.format(run=records.listed(home)[0]["id"]) for part in command]

    line = complaint(toploss(*given, tmp_path / "none" / "file", home=home), 1)

    assert "cannot be written" in line
    assert "name another file" in line


def test_control_c_in_a_training_says_how_it_goes_on(
    toploss: Toploss, learned_home: Callable[..., Home], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = learned_home()

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("training.run.appraise", stopped)

    line = complaint(toploss("train", *RECIPE, "--epochs-head=1", home=home), 130)

    run = records.listed(home)[0]
    assert run["state"] == "cancelled"
    assert f"`toploss runs resume {run['id']}` goes on where it stood" in line


def test_on_a_terminal_the_bar_goes_and_spoils_no_line(learned_home: Callable[..., Home]) -> None:
    """The real command, in a terminal of its own."""
    home = learned_home()
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "training.cli", "train", *RECIPE, "--epochs-head=1"]
    environment = {
        **os.environ,
        "TOPLOSS_HOME": str(home.settings.home),
        "TERM": "xterm",
        "COLUMNS": "200",
    }
    run = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # so Linux says that the other end is gone
        while piece := os.read(ours, 4096):
            shown += piece
    os.close(ours)
    run.wait(60)

    text = shown.decode()
    assert text.count("\x1b[?25h") >= text.count("\x1b[?25l") > 0, "the cursor stays hidden"
    told = re.findall(r"[^\n]*valid accuracy[^\n]*", text)
    assert told
    for line in told:
        left = line.rpartition("\x1b[2K")[2]  # the bar was wiped away before
        assert re.match(r"\d\d:\d\d:\d\d stage-\d: epoch", left), repr(line)


def test_a_dispatcher_with_nothing_to_do_says_so(toploss: Toploss, tmp_path: Path) -> None:
    assert toploss("dispatch", "--once").stdout == "nothing is waiting\n"


def _commands() -> Iterator[tuple[str, ...]]:
    from typer.main import get_command

    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        for inner in getattr(command, "commands", [None]):
            yield (name, inner) if inner else (name,)


def test_help_is_light_and_every_command_has_it() -> None:
    """In one process: the first page, and then the help of every command."""
    code = f"""
import sys
from typer.testing import CliRunner
from training.cli import app
heavy = {{"torch", "torchvision", "fastai", "bentoml", "sqlalchemy", "PIL"}}
for command in {[(), *_commands()]}:
    shown = CliRunner().invoke(app, [*command, "--help"])
    assert shown.exit_code == 0, shown.output
    told = shown.stdout.partition("\\n\\n")[2].strip()
    assert told and not told.startswith("Options"), command
    # Typer itself takes pydantic to describe options.
    print(sorted(sys.modules.keys() & (heavy if command else heavy | {{"pydantic"}})))
"""

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2]
    )

    assert done.returncode == 0, done.stderr
    assert set(done.stdout.splitlines()) == {"[]"}
