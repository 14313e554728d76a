"""Pictures on both sides of a split that a pretrained body takes for one: mirrored, turned or
cropped copies, which a perceptual hash does not see."""

from collections.abc import Callable

from toploss import findings, snapshots
from toploss.errors import BadInput, ToplossError
from toploss.findings import Finding
from toploss.home import Home
from toploss.plan import Plan
from toploss.snapshots import Row
from training import features, lesson, memory
from training.data import Pictures, preprocessing


def find(home: Home, plan: Plan, heard: Callable[[float], None] = lambda _: None) -> list[Finding]:
    """Proposals, the likest first; nothing changes but the plan's weights file being kept.

    Args:
        plan: whose architecture and pretrained weights look; at its size. What was trained on the
            pictures will not do: it makes a class look like one picture.
        heard: the share that is done, 0 to 1.

    Pictures that cannot be read are left out; the check of the data set names them.

    Raises:
        BadInput: weights or architecture are not to be had, or are random.
    """
    if plan.from_scratch:
        raise BadInput("random weights see no likeness; give --weights default or a file")
    memory.keep_freed()
    plan = plan.stored(home)
    lesson.check(home, plan)
    pictures = Pictures(home, preprocessing(plan))
    with home.db.read() as connection:
        taking_part = snapshots.taking_part(connection)
    rows = [row for row in taking_part if _readable(pictures, row)]
    if not rows:
        return []
    threads = home.settings.thread_count
    net = lesson.build(home, plan, labels=["one", "other"], threads=threads)
    made = features.pooled(net, pictures, rows, lesson.hardware(home), heard)
    means = made[:, made.shape[1] // 2 :]  # as measured (docs/data.md); the maxima stand before
    return findings.by_features(home, [row.id for row in rows], means)


def _readable(pictures: Pictures, row: Row) -> bool:
    try:
        pictures[row.id]
    except ToplossError:
        return False
    return True
