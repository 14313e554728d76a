"""Images in: from a folder, a CSV, a DataFrame. One bad file never stops the rest."""

import csv
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from toploss import classes, intake, samples
from toploss.errors import BadInput, NotFound
from toploss.home import Home
from toploss.intake import SPLIT_NAMES, Item, Summary, spelt, unread_suffix
from toploss.preprocess import SUFFIXES
from toploss.samples import OnConflict
from toploss.splits import EVERY, Split, instead


@dataclass(frozen=True, kw_only=True)
class File:
    """A file to import."""

    path: Path
    label: str
    split: Split | None = None  # as the data came; else the hash decides


Progress = Callable[[int, int], None]  # files done, files in all


def from_folder(
    path: str | Path,
    *,
    home: Home | None = None,
    on_conflict: OnConflict = "keep",
    actor: str = "import",
    progress: Progress | None = None,
) -> Summary:
    """Import `train|valid|test/<class>/…` or `<class>/…`, at any depth below the class. What stands
    in for splits that neither come nor are there: `toploss.splits.instead`; the notes tell.

    Returns:
        The summary; files that could not be read are in it, with the reason each.

    Raises:
        NotFound: no such folder. BadInput: it has no image in a class folder.
    """
    root = Path(path).expanduser()
    if root.is_file():
        raise BadInput(f"{str(root)!r} is a file; name a folder, or give a table with --csv")
    if not root.is_dir():
        raise NotFound(f"there is no folder {str(root)!r}; name the one that holds the classes")
    refused: list[dict[str, str]] = []
    files = list(_walk(root, refused))
    if not files and not refused:
        raise BadInput(
            f"{str(root)!r} has no image in a class folder; "
            f"expected {root.name}/<class>/<file> or {root.name}/train/<class>/<file>, "
            f"with one of {', '.join(SUFFIXES)}"
        )
    notes = [*_loose(root), *_beside(root), *_nested(files)]
    summary = Summary(refused=refused, notes=notes)
    home = _home(home)
    _take_in(home, files, summary, on_conflict, actor, progress)
    with_images = [entry["name"] for entry in classes.listed(home) if entry["samples"]]
    if len(with_images) == 1:
        summary.notes.append(f"there is one class, {with_images[0]!r}: a classifier needs two")
    return summary


def from_csv(
    csv_file: str | Path,
    *,
    root: str | Path | None = None,
    image_column: str = "image",
    label_column: str = "label",
    split_column: str | None = None,
    home: Home | None = None,
    on_conflict: OnConflict = "keep",
    actor: str = "import",
    progress: Progress | None = None,
) -> Summary:
    """Import the images that a CSV names, every value read as text; between cells stand commas,
    semicolons or tabs, as the header has them.

    Args:
        root: what relative paths start from; the CSV's own folder if not given.

    Raises:
        NotFound: no such file. BadInput: no such column, or no rows.
    """
    table = Path(csv_file).expanduser()
    if not table.is_file():
        raise NotFound(f"there is no CSV file {str(table)!r}; name one")
    try:
        with table.open(newline="", encoding="utf-8-sig") as lines:
            header = lines.readline()
            delimiter = next((each for each in ",;\t" if image_column in _cells(header, each)), ",")
            rows = list(csv.DictReader(itertools.chain([header], lines), delimiter=delimiter))
    except (UnicodeDecodeError, csv.Error) as exc:
        raise BadInput(f"{str(table)!r} is no CSV in UTF-8 ({exc}); save it as one") from exc
    base = Path(root).expanduser() if root else table.parent
    columns = (image_column, label_column, split_column)
    summary = Summary()
    files = list(_from_rows(rows, base, columns, str(table), summary.refused))
    return _take_in(_home(home), files, summary, on_conflict, actor, progress)


def _cells(header: str, delimiter: str) -> list[str]:
    return next(csv.reader([header], delimiter=delimiter), [])


def from_df(
    df: Any,
    *,
    root: str | Path = ".",
    image_column: str = "image",
    label_column: str = "label",
    split_column: str | None = None,
    home: Home | None = None,
    on_conflict: OnConflict = "keep",
    actor: str = "import",
    progress: Progress | None = None,
) -> Summary:
    """Import the images that a pandas DataFrame names; as `from_csv`, empty cells as no text."""
    text = df.astype("object").where(df.notna(), "")
    rows = [{str(key): str(value) for key, value in row.items()} for row in text.to_dict("records")]
    columns = (image_column, label_column, split_column)
    summary = Summary()
    files = list(_from_rows(rows, Path(root), columns, "the DataFrame", summary.refused))
    return _take_in(_home(home), files, summary, on_conflict, actor, progress)


def _walk(root: Path, refused: list[dict[str, str]]) -> Iterator[File]:
    """The image files in class folders, sorted; hidden files and folders are passed over."""
    splits = _split_folders(root)
    tops: list[tuple[Path, Split | None]] = [*splits.items()] or [(root, None)]
    for top, split in tops:
        for folder in sorted(_folders(top)):
            for file in sorted(folder.rglob("*")):
                hidden = any(part.startswith(".") for part in file.relative_to(top).parts)
                if hidden or not file.is_file():
                    continue
                if reason := unread_suffix(file.suffix):
                    refused.append({"path": spelt(file), "reason": reason})
                else:
                    yield File(path=file, label=spelt(folder.name), split=split)


def _split_folders(root: Path) -> dict[Path, Split]:
    """The folders that hold the classes of a split, train's first: what comes first decides where
    the same bytes belong. A class may be called `train`: it has no folders of its own."""
    found = {
        folder: SPLIT_NAMES[folder.name.lower()]
        for folder in sorted(_folders(root))
        if folder.name.lower() in SPLIT_NAMES and any(True for _ in _folders(folder))
    }
    order = list(Split)
    return dict(sorted(found.items(), key=lambda entry: order.index(entry[1])))


def _loose(root: Path) -> list[str]:
    """Images that lie in no class folder."""
    found = [
        spelt(file.relative_to(root))
        for top in (root, *_split_folders(root))
        for file in sorted(top.iterdir())
        if file.is_file() and file.suffix.lower() in SUFFIXES
    ]
    if not found:
        return []
    return [
        f"left out {len(found)} image{'s' * (len(found) != 1)} in no class folder: "
        f"{', '.join(found[:5])}{', …' * (len(found) > 5)}; a folder's name is the label"
    ]


def _beside(root: Path) -> list[str]:
    """Folders that were left out, since others are splits."""
    splits = _split_folders(root)
    out = [spelt(folder.name) for folder in sorted(_folders(root)) if folder not in splits]
    if not splits or not out:
        return []
    taken = ", ".join(folder.name for folder in splits)
    return [
        f"left out {', '.join(out[:5])}{', …' * (len(out) > 5)}: {taken} hold the splits; a class "
        "folder goes into one of them"
    ]


def _nested(files: list[File]) -> list[str]:
    """Class folders whose sub-folders may have been meant as the classes."""
    inner: dict[str, set[str]] = {}
    for file in files:
        folder = file.path.parent
        if folder.name != file.label:
            inner.setdefault(file.label, set()).add(folder.name)
    return [
        f"class {label!r} took in the images of its sub-folders {', '.join(sorted(names)[:5])}"
        f"{', …' * (len(names) > 5)}; if those are the classes, import the folder {label!r} "
        "itself, with `--on-conflict new-label`, so that its labels replace those of this import"
        for label, names in inner.items()
        if len(names) > 1
    ]


def _folders(top: Path) -> list[Path]:
    if not top.is_dir():
        return []
    return [path for path in top.iterdir() if path.is_dir() and not path.name.startswith(".")]


def _from_rows(
    rows: list[dict[str, str]],
    base: Path,
    columns: tuple[str, str, str | None],
    source: str,
    refused: list[dict[str, str]],
) -> Iterator[File]:
    if not rows:
        raise BadInput(f"{source} has no rows; expected a header and one row per image")
    image, label, split = columns
    for column in filter(None, columns):
        if column not in rows[0]:
            raise BadInput(
                f"{source} has no column {column!r}, it has {', '.join(filter(None, rows[0]))}; "
                "name it with --image-column, --label-column or --split-column"
            )
    for number, row in enumerate(rows, start=2):
        path = base / (row[image] or "")
        try:
            if not row[image] or not row[label]:
                raise BadInput(f"row {number} lacks its image or its label; fill it in")
            given = _split(row[split], number) if split and row[split] else None
            yield File(path=path, label=row[label], split=given)
        except BadInput as exc:
            refused.append({"path": spelt(path), "reason": str(exc)})


def _split(value: str, number: int) -> Split:
    try:
        return SPLIT_NAMES[value.strip().lower()]
    except KeyError as exc:
        raise BadInput(f"split {value!r} in row {number} is none of train, valid, test") from exc


def _take_in(
    home: Home,
    files: list[File],
    summary: Summary,
    on_conflict: OnConflict,
    actor: str,
    progress: Progress | None,
) -> Summary:
    shared = _shared(home, files, summary)
    return intake.take_in(
        home,
        (_item(home, file, shared) for file in files),
        summary,
        actor=actor,
        on_conflict=on_conflict,
        progress=partial(_told, progress, len(files)) if progress else None,
    )


def _shared(home: Home, files: list[File], summary: Summary) -> tuple[Split, ...]:
    """Among which splits the images of one are shared, where they come split but not into all."""
    given = {file.split for file in files}
    if not given or None in given:
        return ()  # the hash decides
    came = {split for split in given if split}
    there = samples.present(home)
    lacking = [split for split in Split if split not in {*came, *there}]
    if not lacking:
        return ()
    shared = instead(came, there)
    of = next((split for split in shared if split in came), None)
    summary.notes.append(
        f"no images of {' and '.join(lacking)} came: "
        + (
            f"those of {of} are shared among {', '.join(shared)} by hash; to choose them yourself, "
            "begin with an empty home and give all three"
            if of
            else "a training needs some in each of train, valid and test; give them too"
        )
    )
    return shared


def _told(progress: Progress, total: int, done: int) -> None:
    progress(done, total)


def _item(home: Home, file: File, shared: tuple[Split, ...]) -> Item:
    own = (file.split,) if file.split else EVERY
    return Item(
        path=spelt(file.path),
        name=spelt(file.path.name),
        label=file.label,
        among=shared if file.split in shared else own,
        read=partial(_read, home, file.path),
    )


def _read(home: Home, path: Path) -> bytes:
    if not path.is_file():
        raise NotFound(f"there is no file {str(path)!r}; correct the path")
    size = path.stat().st_size
    if size > home.limits.bytes:
        raise BadInput(
            f"the file has {size:,} bytes, more than the {home.limits.bytes:,} allowed; "
            "shrink it or raise TOPLOSS_MAX_BYTES"
        )
    return path.read_bytes()


def _home(home: Home | None) -> Home:
    return home or Home.open()
