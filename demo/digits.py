"""The sample set: scikit-learn's handwritten digits as files, some labels wrong on purpose."""

import csv
import hashlib
import io
import json
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from toploss import splits
from toploss.splits import Split

SEED = 42
SIDE = 32  # pixels
HELD_BACK = 200  # to be posted later, as new data
WRONG = 0.03  # share of planted wrong labels, of train and of valid

DATA, NEW, PLANTED = "digits", "new-digits", "planted.csv"


@dataclass(frozen=True, kw_only=True)
class Digit:
    """One image of the set."""

    name: str
    png: bytes
    label: str  # the true one
    given: str  # the one it is filed under
    split: Split

    @property
    def id(self) -> str:
        return hashlib.sha256(self.png).hexdigest()


def make(folder: Path, *, split_seed: int, shares: str) -> None:
    """Write `digits/<class>/…` to learn from, `new-digits/<class>/…` to post later, and
    `planted.csv`, which names the wrong labels. The same files on every machine.

    A folder that is whole already is left as it is.
    """
    done = folder / DATA / ".complete.json"
    if done.is_file():
        return
    digits = _digits(split_seed, shares)
    order = random.Random(SEED)
    order.shuffle(digits)
    held_back, pool = digits[:HELD_BACK], digits[HELD_BACK:]
    planted = _plant(pool, order)
    for name, members in ((DATA, planted), (NEW, held_back)):
        for digit in members:
            file = folder / name / digit.given / digit.name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(digit.png)
    wrong = [digit for digit in planted if digit.given != digit.label]
    with (folder / PLANTED).open("w", newline="") as table:
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(["id", "name", "given", "true", "split"])
        writer.writerows([d.id, d.name, d.given, d.label, d.split] for d in wrong)
    done.write_text(json.dumps({"images": len(planted), "planted": len(wrong), "new": HELD_BACK}))


def _digits(split_seed: int, shares: str) -> list[Digit]:
    """All of scikit-learn's digits: values × 255/16, light on dark, 8 to 32 pixels bicubic."""
    bunch = load_digits()
    made = []
    for number, (values, target) in enumerate(zip(bunch.images, bunch.target, strict=True)):
        grey = np.round(values * 255 / 16).astype(np.uint8)
        image = Image.fromarray(grey).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        out = io.BytesIO()
        image.save(out, "PNG")
        png = out.getvalue()
        split = splits.assign(hashlib.sha256(png).hexdigest(), seed=split_seed, shares=shares)
        label = str(target)
        made.append(Digit(name=f"{number:04}.png", png=png, label=label, given=label, split=split))
    return made


def _plant(pool: list[Digit], order: random.Random) -> list[Digit]:
    """File a share of train and of valid, each, under another digit; none of test."""
    wrong: set[str] = set()
    for split in (Split.TRAIN, Split.VALID):
        members = [digit.name for digit in pool if digit.split is split]
        wrong |= set(order.sample(members, round(WRONG * len(members))))
    planted = []
    for digit in pool:
        given = digit.given
        if digit.name in wrong:
            given = order.choice([str(n) for n in range(10) if str(n) != digit.label])
        planted.append(Digit(**{**vars(digit), "given": given}))
    return planted
