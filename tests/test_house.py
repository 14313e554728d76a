"""The few rules that keep the house standing: who imports whom, and the tables as migrated."""

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from toploss import schema
from toploss.database import MIGRATIONS

ROOT = Path(__file__).parent.parent
PACKAGES = ("toploss", "training", "service")


def modules(package: str) -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted((ROOT / package).rglob("*.py")):
        yield path.relative_to(ROOT), ast.parse(path.read_text(), str(path))


def imported(tree: ast.Module) -> Iterator[str]:
    """Names of the top-level packages that a module imports, at its head or late."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute, so that their direction shows"
            assert node.module is not None
            yield node.module.partition(".")[0]


@pytest.mark.parametrize(
    ("package", "never"),
    [
        ("toploss", {"training", "service", "demo", "bench", "tests", "fastai", "fastcore"}),
        ("training", {"service", "demo", "bench", "tests"}),
        ("service", {"training", "demo", "bench", "tests", "fastai", "fastcore"}),
    ],
)
def test_imports_go_one_way(package: str, never: set[str]) -> None:
    found = {
        f"{path} imports {name}"
        for path, tree in modules(package)
        for name in set(imported(tree)) & never
    }

    assert not found


def needed(tree: ast.Module, names: set[str]) -> Iterator[str]:
    """Names of our own modules that a module imports, at its head or late."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            yield from inner & names or {node.module} & names


def test_no_two_modules_need_each_other() -> None:
    """An order in which they can be read, each after what it stands on."""
    trees = {
        ".".join(path.with_suffix("").parts): tree
        for package in (*PACKAGES, "bench")
        for path, tree in modules(package)
        if path.stem != "__init__"
    }

    order = graphlib.TopologicalSorter(
        {name: set(needed(tree, set(trees))) - {name} for name, tree in trees.items()}
    )

    order.prepare()  # raises CycleError, which names them


def test_only_the_settings_read_the_environment() -> None:
    """`os.environ` and `os.getenv`, under whatever name they were imported. To set a default for
    another library, as a statement of its own, is not to read."""
    found = set()
    for package in PACKAGES:
        for path, tree in modules(package):
            told = {
                node.value.func.value
                for node in ast.walk(tree)
                if isinstance(node, ast.Expr)
                and isinstance(node.value, ast.Call)
                and isinstance(node.value.func, ast.Attribute)
                and node.value.func.attr == "setdefault"
            }
            for node in set(ast.walk(tree)) - told:
                names = []
                if isinstance(node, ast.Attribute):
                    names = [node.attr]
                elif isinstance(node, ast.ImportFrom) and node.module == "os":
                    names = [alias.name for alias in node.names]
                if {"environ", "environb", "getenv"} & set(names):
                    found.add(str(path))

    assert found <= {"toploss/settings.py"}


def test_the_ground_floor_is_light() -> None:
    """What a command needs before it does anything brings none of the heavy libraries."""
    light = "toploss.home, toploss.samples, toploss.runs, toploss.models, toploss.losses"
    heavy = "{'torch', 'torchvision', 'fastai', 'bentoml', 'onnxruntime', 'pandas', 'alembic'}"

    done = subprocess.run(
        [sys.executable, "-c", f"import sys, {light}; print(sorted({heavy} & set(sys.modules)))"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )

    assert done.stdout.strip() == "[]"


def test_the_newest_migration_is_the_schema_s_revision() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))

    assert ScriptDirectory.from_config(config).get_heads() == [schema.REVISION]


# SQLite's reflection does not see indexes on expressions; the test below looks at those itself.
@pytest.mark.filterwarnings("ignore:.*expression-based index")
def test_migrated_tables_are_those_of_the_schema(home) -> None:
    with home.db.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        differences = [
            difference
            for difference in compare_metadata(context, schema.metadata)
            if not (
                difference[0] == "add_index"
                and difference[1].name in ("one_active_run", "one_queued_run")
            )
        ]

    assert differences == []


def test_migrated_indexes_are_those_of_the_schema_word_for_word(home, tmp_path) -> None:
    def indexes(connection):
        query = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
        return dict(tuple(row) for row in connection.exec_driver_sql(query))

    made = create_engine(f"sqlite:///{tmp_path}/made.db")
    schema.metadata.create_all(made)
    with made.connect() as connection, home.db.read() as migrated:
        wanted, found = indexes(connection), indexes(migrated)
    made.dispose()

    assert found == wanted
    assert "UNIQUE" in found["one_active_run"]
    assert "state = 'queued'" in found["one_queued_run"]
