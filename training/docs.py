"""`docs/commands.md` and `docs/settings.md`, made from the command line and the settings class; and
what a cluster's monitoring needs, made from the files of `monitoring/`."""

from pathlib import Path
from textwrap import indent
from typing import Literal, get_args, get_origin

from typer.cli import get_docs_for_click
from typer.main import get_command

from toploss.settings import PREFIX, Settings
from training.cli import app

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs"
CLUSTER = ROOT / "k8s/components/monitoring"


def commands() -> str:
    """Every command with its arguments and options."""
    import typer

    command = get_command(app)
    context = typer.Context(command, info_name="toploss")
    made = get_docs_for_click(obj=command, ctx=context, name="toploss", title="Commands")
    return made.rstrip() + "\n\n" + EXIT_CODES


EXIT_CODES = """## Exit codes

| code | means |
|---|---|
| 0 | done; an import or a prediction of which some files were refused, too |
| 1 | failed: one line on standard error says what, with which value, and the remedy |
| 2 | wrong usage |
| 3 | refused by a rule: nothing due, the gate said no, a run is active |
| 4 | not found |
"""


def settings() -> str:
    """A row per field of the settings class."""
    rows = []
    for name, field in Settings.model_fields.items():
        default = field.default
        shown = f"`{default}`" if str(default) else ""
        meaning = " ".join((field.description or "").split())
        if get_origin(field.annotation) is Literal:
            choices = ", ".join(f"`{choice}`" for choice in get_args(field.annotation))
            meaning += f" ({choices})"
        rows.append(f"| `{PREFIX}{name.upper()}` | {shown} | {meaning} |")
    return (
        "# Settings\n\nEnvironment variables, or lines of a `.env` file in the working folder; the "
        "environment wins. A wrong value is refused at start, with the variable's name.\n\n"
        "| name | default | meaning |\n|---|---|---|\n" + "\n".join(rows) + "\n"
    )


RULE = """# Made from monitoring/rules.yml by `make docs`.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: toploss
spec:
"""


def rule() -> str:
    """The alerts as the Prometheus operator takes them."""
    return RULE + indent((ROOT / "monitoring/rules.yml").read_text(encoding="utf-8"), "  ")


def dashboard() -> str:
    """The dashboard where kustomize finds it: it reads no file outside its folder."""
    return (ROOT / "monitoring/dashboard.json").read_text(encoding="utf-8")


if __name__ == "__main__":
    (FOLDER / "commands.md").write_text(commands(), encoding="utf-8")
    (FOLDER / "settings.md").write_text(settings(), encoding="utf-8")
    (CLUSTER / "rules.yaml").write_text(rule(), encoding="utf-8")
    (CLUSTER / "dashboard.json").write_text(dashboard(), encoding="utf-8")
