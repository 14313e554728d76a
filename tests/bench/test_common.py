import json
import re
from pathlib import Path

import pytest

from bench import common

BENCH = Path(common.__file__).parent


@pytest.fixture
def parser():
    made = common.options("nothing", "half of it, 50 %")
    made.add_argument("--data", type=Path)
    return made


def test_figures_are_printed_and_written(parser, tmp_path, monkeypatch, capsys):
    file = tmp_path / "figures.json"
    given = ["nothing", "--quick", "--data", "here", "--json", str(file)]
    monkeypatch.setattr("sys.argv", given)

    common.main(parser, lambda args: {"data": str(args.data), "ratio": 2 / 3})

    assert re.search(r"bench.nothing --quick: rough.*ratio +0.6667", capsys.readouterr().out, re.S)
    figures = json.loads(file.read_text())
    assert figures["quick"]
    assert figures["data"] == "here"
    assert figures["machine"]["cores"] >= 1


def test_rows_are_a_table(parser, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["nothing"])
    rows = [{"size": 5, "seconds": 1 / 3}, {"size": 1000, "failed": True}]

    common.main(parser, lambda args: {"rows": rows})

    told = [line.split() for line in capsys.readouterr().out.splitlines()[-3:]]
    assert told == [["size", "seconds", "failed"], ["5", "0.3333"], ["1000", "True"]]


def test_help_names_every_flag_and_an_unknown_one_measures_nothing(parser, monkeypatch, capsys):
    for given, code in (["--help"], 0), (["--dat-a", "here"], 2):
        monkeypatch.setattr("sys.argv", ["nothing", *given])
        with pytest.raises(SystemExit) as ended:
            common.main(parser, lambda args: pytest.fail("it measured"))
        assert ended.value.code == code

    told = capsys.readouterr()
    assert "--data" in told.out
    assert "50 %" in told.out
    assert "--dat-a" in told.err


@pytest.mark.parametrize(
    "path",
    [path for path in BENCH.rglob("*.py") if "__name__ ==" in path.read_text()],
    ids=lambda path: str(path.relative_to(BENCH)),
)
def test_every_measurement_takes_its_options_from_one_parser(path):
    source = path.read_text()

    assert "parse_known_args" not in source
    if "peers" not in path.parts and path.name != "limit.py":  # which a measurement starts
        name = path.parent.name if path.stem == "__main__" else path.stem
        assert f'options("{name}", ' in source
