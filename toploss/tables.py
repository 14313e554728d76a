"""Rows out of a file of anybody's: CSV in UTF-8, a JSON list, or JSON values one after the other.

One row after the other is read, and a bad one spoils no other: it comes as the reason why it is
none. A file that cannot be read as what it is ends in BadInput.
"""

import codecs
import csv
import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from toploss.errors import BadInput

LONGEST_LINE = 256 * 1024  # bytes of a CSV; a cell may have half (the limit of `csv`)
LARGEST_VALUE = 4 * 2**20  # characters of one value of a JSON list
MOST_COLUMNS = 200
PIECE = 64 * 1024  # bytes
DELIMITERS = ",;\t"
BOM = codecs.BOM_UTF8
FORMULA = re.compile(r"'*[=+\-@\t\r]")  # with quotes, so that `bare` undoes `cell` exactly

# The line or the place in the list, from 1, and the row: names to values, or why it is none.
Row = tuple[int, dict[str, Any] | str]


def read(file: BinaryIO) -> Iterator[Row]:
    """The rows of a file that can be sought in.

    Raises:
        BadInput: the file is empty, no CSV in UTF-8 with a header, or no JSON; it may come after
            some rows.
    """
    head = file.read(PIECE).removeprefix(BOM).lstrip()
    file.seek(0)
    if not head:
        raise BadInput("the file is empty; send a CSV with a header, or JSON")
    return _of_json(file) if head[:1] in (b"[", b"{") else _of_csv(file)


def cell(value: Any) -> Any:
    """A value as a CSV carries it to a spreadsheet, which would compute what looks like a formula:
    text that begins so gets a `'` before it (OWASP, "CSV Injection"). Numbers are left."""
    return f"'{value}" if isinstance(value, str) and FORMULA.match(value) else value


def bare(text: str) -> str:
    """The text that `cell` made safe."""
    return text[1:] if text[:1] == "'" and FORMULA.match(text) else text


def _of_csv(file: BinaryIO) -> Iterator[Row]:
    lines = _Lines(file)
    header, delimiter = _header(lines)
    cells = csv.reader(lines, delimiter=delimiter)
    while True:
        at = lines.number + 1
        try:
            row = next(cells)
        except StopIteration:
            return
        except BadInput as exc:
            yield at, str(exc)
            continue
        except csv.Error as exc:
            yield at, f"it is no row of a CSV ({exc}); correct its quotes"
            continue
        if len(row) > len(header):
            yield at, f"it has {len(row)} cells under {len(header)} columns; quote what has a comma"
        elif any(row):
            row += [""] * (len(header) - len(row))
            yield at, dict(zip(header, map(bare, row), strict=True))


def _header(lines: "_Lines") -> tuple[list[str], str]:
    try:
        line = next(lines)
        delimiter = max(DELIMITERS, key=line.count)
        header = [name.strip().lower() for name in next(csv.reader([line], delimiter=delimiter))]
    except (BadInput, csv.Error, StopIteration) as exc:
        raise BadInput(f"the file is no CSV in UTF-8 ({exc}); save it as one") from exc
    twice = next((name for name in header if name and header.count(name) > 1), None)
    if len(header) > MOST_COLUMNS or twice:
        raise BadInput(
            f"the CSV has the column {twice[:40]!r} twice; name each once"
            if twice
            else f"the CSV has {len(header)} columns; leave those that say nothing out"
        )
    return header, delimiter


class _Lines:
    """The lines of a file as text. One that is no line raises, and the next one follows."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.number = 0  # of the last line that was read

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._file.readline(LONGEST_LINE)
        if not line:
            raise StopIteration
        self.number += 1
        if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
            while (rest := self._file.readline(LONGEST_LINE)) and not rest.endswith(b"\n"):
                pass
            raise BadInput(f"its line is longer than {LONGEST_LINE:,} bytes; shorten it")
        if self.number == 1:
            line = line.removeprefix(BOM)
        try:
            return line.decode()
        except UnicodeDecodeError as exc:
            raise BadInput(f"it is not in UTF-8 ({exc}); save the file in UTF-8") from exc


def _of_json(file: BinaryIO) -> Iterator[Row]:
    source = _Source(file)
    listed = source.peek() == "["
    if listed:
        source.take()
    place = 0
    while (ahead := source.peek()) != ("]" if listed else ""):
        if listed and place:
            if ahead != ",":
                raise source.damaged("a comma is missing")
            source.take()
        place += 1
        value = source.value()
        yield place, value if isinstance(value, dict) else "it is no JSON object; send one each"
    if listed:
        source.take()
        if source.peek():
            raise source.damaged("something follows its list")


class _Source:
    """JSON as it is read, no more of it in memory than the next value needs."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decode = codecs.getincrementaldecoder("utf-8-sig")()
        self._text, self._ended, self._done = "", False, 0

    def peek(self) -> str:
        """The next character that is not blank; none at the end."""
        while not (stripped := self._text.lstrip()) and not self._ended:
            self._more()
        self._pass(len(self._text) - len(stripped))
        return self._text[:1]

    def take(self) -> None:
        self._pass(1)

    def value(self) -> Any:
        self.peek()
        while True:
            try:
                value, end = json.JSONDecoder().raw_decode(self._text)
            except json.JSONDecodeError as exc:
                if self._ended or len(self._text) > LARGEST_VALUE:
                    raise self.damaged(exc.msg) from exc
            except (ValueError, RecursionError) as exc:
                raise self.damaged(f"{type(exc).__name__}: a value is beyond all bounds") from exc
            else:
                if end < len(self._text) or self._ended:  # else a number may go on
                    self._pass(end)
                    return value
            self._more()

    def damaged(self, reason: str) -> BadInput:
        return BadInput(
            f"the JSON cannot be read near character {self._done:,} ({reason}), nothing is taken "
            "from it; export it again"
        )

    def _pass(self, number: int) -> None:
        self._text = self._text[number:]
        self._done += number

    def _more(self) -> None:
        """At least as much again, so that a long value is tried only a few times."""
        piece = self._file.read(max(PIECE, len(self._text)))
        self._ended = not piece
        try:
            self._text += self._decode.decode(piece, final=self._ended)
        except UnicodeDecodeError as exc:
            raise self.damaged(f"it is not in UTF-8: {exc}") from exc
