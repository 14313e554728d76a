"""What is left of a sample that was erased, in the database and in the storage; on both
databases."""

import time
from io import BytesIO
from typing import Any

import pytest
from PIL import Image
from sqlalchemy import select, text

from tests.conftest import picture
from tests.toploss import given
from tests.toploss.deciding import consistent, decide, row, seen
from toploss import (
    captures,
    classes,
    decisions,
    erasure,
    evidence,
    feedback,
    findings,
    intake,
    losses,
    policy,
    samples,
    schema,
    snapshots,
    trail,
    trials,
)
from toploss.blobs import image_path
from toploss.captures import Shot, Why
from toploss.database import one_at_a_time
from toploss.erasure import erase
from toploss.errors import BadData, BadInput, Broken, Erased, NotFound
from toploss.home import Home
from toploss.ids import new_id
from toploss.intake import Item, Summary
from toploss.splits import Split
from toploss.trials import Trial


@pytest.fixture
def home(any_home: Home) -> Home:
    classes.add(any_home, "dog", actor="importer")
    return any_home


def rows_of(home: Home, seq: int) -> set[str]:
    """The tables that still name the sample by its number."""
    with home.db.read() as connection:
        return {
            table.name
            for table in schema.metadata.sorted_tables
            for column in table.c
            if column.name == "sample_seq"
            and connection.execute(select(table).where(column == seq)).first() is not None
        }


def as_bmp(data: bytes) -> bytes:
    out = BytesIO()
    Image.open(BytesIO(data)).save(out, "BMP")
    return out.getvalue()


def gone(home: Home, sample: str) -> Any:
    return erase(home, sample, reason="the person asked for it", actor="root")


def test_bytes_and_all_that_was_made_of_them_go_and_a_tombstone_stays(home: Home) -> None:
    added = given.two_classes(home)
    version = given.promoted(home, "cat", "dog")
    ids = [one.id for one in added]
    given.opinion(home, version, ids, [[0.3, 0.7]] * len(ids), ids)
    erased, other = ids[0], ids[1]
    seq = row(home, erased).seq
    decide(home, erased, "relabel", "dog")
    before = time.time()

    stone = gone(home, erased)

    assert not home.blobs.exists(image_path(erased))
    assert home.blobs.exists(image_path(other))
    assert rows_of(home, seq) == {"erasures"}
    assert (stone.reason, stone.actor) == ("the person asked for it", "root")
    assert before <= stone.at <= stone.ended_at <= time.time()
    assert seen(home, erased) == ("dog", "erased", None, 3)
    assert row(home, erased).name == ""
    assert [event["action"] for event in trail.of(home, erased)] == ["add", "relabel", "erase"]
    assert trail.of(home, erased)[-1]["evidence"] == {"reason": "the person asked for it"}
    consistent(home, version)


def test_nobody_meets_it_again(home: Home) -> None:
    ids = [one.id for one in given.two_classes(home, 8)]
    version = given.promoted(home, "cat", "dog")
    given.opinion(home, version, ids, [[0.3, 0.7]] * len(ids), ids)
    given.settled(home, snapshots.freeze(home).fingerprint)
    total = losses.top(home).total

    gone(home, ids[0])

    assert losses.top(home).total == total - 1
    assert ids[0] not in {item.id for item in losses.top(home, limit=500).items}
    assert evidence.of(home, ids[0]) is None
    assert ids[0] not in {row.id for row in snapshots.freeze(home).rows}
    counts = snapshots.overview(home)
    assert (counts["erased"], counts["samples"], counts["excluded"]) == (1, 15, 0)
    assert counts["changed"] == 1  # the next run is to learn without it
    assert policy.due(home).changed == 1
    assert not [found for found in findings.check(home) if ids[0] in found.samples]


def test_its_bytes_do_not_come_in_again(home: Home) -> None:
    sample = given.sample(home, 1, "cat").id
    gone(home, sample)

    with pytest.raises(Erased, match="was erased for good"):
        given.sample(home, 1, "cat")
    item = Item(path="1.png", name="1.png", label="cat", read=lambda: picture(1))
    other = Item(path="2.png", name="2.png", label="cat", read=lambda: picture(2))
    summary = intake.take_in(home, [item, other], Summary(), actor="ann")

    assert (summary.added, summary.known) == (1, 0)
    assert [entry["path"] for entry in summary.refused] == ["1.png"]
    assert not home.blobs.exists(image_path(sample))


def test_bytes_that_were_on_their_way_meanwhile_go_again(home: Home) -> None:
    sample = given.sample(home, 1, "cat").id
    kept = samples.keep(home, picture(1), "1.png")  # an import looked before the erasure
    gone(home, sample)
    home.blobs.put_image(picture(1))  # and wrote after it

    with home.db.write() as connection:
        one_at_a_time(connection)
        class_id = classes.load(connection).id_of("cat")
        with pytest.raises(Erased):
            samples.record(connection, home, kept, class_id, actor="importer")

    assert not home.blobs.exists(image_path(sample))


def test_it_is_neither_decided_nor_undone_nor_claimed(home: Home) -> None:
    sample = given.sample(home, 1, "cat").id
    decided = decide(home, sample, "confirm")
    gone(home, sample)

    for change in (
        lambda: decide(home, sample, "exclude"),
        lambda: decisions.undo(home, decided.id, actor="ann"),
        lambda: feedback.claim(home, "dog", actor="caller", data=picture(1)),
    ):
        with pytest.raises(Erased):
            change()


def test_a_capture_of_it_goes_and_none_is_kept_again(home: Home) -> None:
    shot = Shot(id=new_id(), data=picture(1), why=Why.MARGIN)
    assert captures.keep(home, shot)
    feedback.claim(home, "dog", actor="caller", capture_id=shot.id)
    sample = given.sample(home, 1, "dog").id

    gone(home, sample)

    with pytest.raises(NotFound):
        captures.show(home, shot.id)
    assert not home.blobs.exists(captures.path(shot.id))
    assert not captures.keep(home, Shot(id=new_id(), data=picture(1), why=Why.MARGIN))


def test_the_holdout_counts_without_it(home: Home) -> None:
    right, wrong = (given.sample(home, seed, "cat", Split.TEST).id for seed in (1, 2))
    given.sample(home, 3, "dog")
    version = given.promoted(home, "cat", "dog")
    ids = {row.name: row.id for row in _classes(home)}
    with home.db.write() as connection:
        called = {version: [ids["cat"], ids["dog"]]}
        trials.keep(connection, Trial(ids=[right, wrong], called=called))

    gone(home, wrong)

    with home.db.read() as connection:
        (measured,) = trials.measured(connection)
    assert measured.today == {"accuracy": 1.0, "samples": 1}


def test_a_near_duplicate_that_comes_later_does_not_join_it(home: Home) -> None:
    one, other = (given.sample(home, seed, "cat", None).id for seed in (1, 2))
    gone(home, one)

    added = [
        samples.add(home, as_bmp(picture(seed)), "cat", name="a.bmp", actor="ann")
        for seed in (1, 2)
    ]

    assert [again.joined for again in added] == [None, other]


def test_to_erase_it_again_changes_nothing(home: Home) -> None:
    sample = given.sample(home, 1, "cat").id
    first = gone(home, sample)

    assert erase(home, sample, reason="another reason", actor="else") == first
    assert row(home, sample).revision == 2


@pytest.mark.parametrize("reason", ["", "   ", "x" * 1001])
def test_it_needs_a_reason(home: Home, reason: str) -> None:
    sample = given.sample(home, 1, "cat").id

    with pytest.raises(BadInput, match="needs a reason"):
        erase(home, sample, reason=reason, actor="root")

    assert home.blobs.get_image(sample) == picture(1)
    with pytest.raises(NotFound):
        gone(home, "0" * 64)


def test_what_the_storage_did_not_give_up_goes_the_next_time(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = given.sample(home, 1, "cat").id

    def away(*_: object) -> None:
        raise Broken("the storage is away")

    with monkeypatch.context() as patch:
        patch.setattr(home.blobs, "forget", away)
        with pytest.raises(Broken):
            gone(home, sample)

    stone = erasure.of(home, sample)
    assert stone is not None
    assert stone.ended_at is None
    assert home.blobs.exists(image_path(sample))
    assert erasure.finish(home) == 1
    assert not home.blobs.exists(image_path(sample))
    assert erasure.finish(home) == 0


def test_it_stays_open_while_a_run_may_publish_more_of_it(home: Home) -> None:
    sample = given.two_classes(home)[0].id
    snapshot = snapshots.freeze(home)
    lease = given.running(home)

    assert gone(home, sample).ended_at is None

    assert erasure.finish(home) == 0
    given.ended(home, lease)
    assert erasure.finish(home) == 1
    stone = erasure.of(home, sample)
    assert stone is not None
    assert stone.ended_at is not None
    with pytest.raises(BadData, match="1 of the 8 samples"):
        erasure.none_of(home, snapshot)


def test_the_database_keeps_no_copy_of_its_likeness(open_home: Any) -> None:
    home = open_home()
    sample = given.sample(home, 1, "cat").id
    with home.db.read() as connection:
        points = connection.execute(select(schema.likenesses.c.points)).scalar_one()

    gone(home, sample)

    with home.db.write() as connection:
        connection.execute(text("SELECT 1"))
    home.db.close()
    file = home.settings.home / "toploss.db"
    assert points not in file.read_bytes()


def _classes(home: Home) -> Any:
    with home.db.read() as connection:
        return connection.execute(select(schema.classes)).all()
