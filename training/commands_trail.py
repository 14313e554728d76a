"""Commands on the trail of decisions."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from training.edge import FAILED, Answer, command, first_of, write_whole

SUFFIXES = {".csv": "csv", ".json": "json", ".jsonl": "jsonl", ".ndjson": "jsonl"}

decisions = typer.Typer(no_args_is_help=True, help="The trail of decisions: out, and in.")


def add_to(app: typer.Typer) -> None:
    app.add_typer(decisions, name="decisions")


@command(decisions, "export")
def export(
    file: Annotated[
        str, typer.Argument(help="What to write: .csv, .json or .jsonl; - is standard output.")
    ],
    format: Annotated[
        Literal["csv", "json", "jsonl"] | None,
        typer.Option(help="What to write, where the file's name does not say: - has csv."),
    ] = None,
) -> Answer:
    """Write every decision and undo, newest first."""
    from toploss import trail
    from toploss.home import Home

    told = format or ("csv" if file == "-" else SUFFIXES.get(Path(file).suffix.lower()))
    if told is None:
        raise typer.BadParameter(f"{file!r} says no format; end it in .csv, .json or .jsonl")
    pieces = trail.export(Home.open(), trail.Format(told))
    if file == "-":
        sys.stdout.writelines(pieces)
        return Answer(None, "")
    lines = _Counted(pieces)
    write_whole(Path(file), lines)
    # The header, or the bracket that ends a list.
    number = max(0, lines.number - {"csv": 1, "json": 2, "jsonl": 0}[told])
    return Answer({"file": file, "decisions": number}, f"{number} decisions and undos in {file}")


@command(decisions, "import")
def import_(
    file: Annotated[Path, typer.Argument(help="What was decided elsewhere.")],
    format: Annotated[
        Literal["auto", "csv", "cleanlab", "label-studio"],
        typer.Option(help="What wrote it; csv is our own trail, too."),
    ] = "auto",
    actor: Annotated[str, typer.Option(help="Who imports it, for the trail.")] = "import",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Record nothing, tell what would be.")
    ] = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Also against what stands here, and what was taken back since."
        ),
    ] = False,
) -> Answer:
    """Record decisions made elsewhere: our own trail, a CSV, cleanlab's or Label Studio's."""
    from toploss import imported, keys
    from toploss.elsewhere import Format
    from toploss.errors import BadInput, NotFound, TooLarge
    from toploss.home import Home

    if not keys.NAME.fullmatch(actor):
        raise typer.BadParameter(f"actor {actor[:80]!r} is no name; take letters, digits, - _ .")
    home = Home.open()
    try:
        opened = file.open("rb")
    except OSError as exc:
        kind = NotFound if isinstance(exc, FileNotFoundError) else BadInput
        raise kind(f"{str(file)!r} cannot be read ({exc.strerror}); check the path") from exc
    with opened:
        if not opened.seekable():
            raise BadInput(f"{str(file)!r} is no plain file; save it as one")
        size = opened.seek(0, 2)
        opened.seek(0)
        if size > home.settings.max_archive:
            raise TooLarge(
                f"{str(file)!r} has {size:,} bytes, of {home.settings.max_archive:,} taken; import "
                "it in parts, or raise TOPLOSS_MAX_ARCHIVE"
            )
        summary = imported.take_in(
            home, opened, actor=actor, format=Format(format), dry_run=dry_run, force=force
        )
    text = _told(summary)
    if summary.recorded + summary.known + summary.conflicts_total or not summary.refused_total:
        return Answer(summary.as_json(), text)
    first = summary.refused[0]
    complaint = (
        f"nothing was imported: {summary.refused_total} refused, first row {first['row']}: "
        f"{first['reason']}"
    )
    return Answer(summary.as_json(), text, FAILED, complaint)


def _told(summary: Any) -> str:
    would = "would be " * summary.dry_run
    lines = [
        f"{summary.format}: {would}recorded {summary.recorded}, known {summary.known}, superseded "
        f"{summary.superseded}, undecided {summary.undecided}, conflicts "
        f"{summary.conflicts_total}, refused {summary.refused_total}"
    ]
    lines += first_of(
        [f"conflict: row {c['row']}, {c['sample'][:12]}: {c['reason']}" for c in summary.conflicts]
    )
    lines += first_of([f"refused: row {r['row']}: {r['reason']}" for r in summary.refused])
    return "\n".join(lines)


class _Counted:
    """Pieces of text, and how many lines they had."""

    def __init__(self, pieces: Iterator[str]) -> None:
        self._pieces, self.number = pieces, 0

    def __iter__(self) -> Iterator[str]:
        for piece in self._pieces:
            self.number += piece.count("\n")
            yield piece
