from concurrent.futures import ThreadPoolExecutor

from PIL import Image
from sqlalchemy import select

from tests.toploss import given, pictures
from toploss import classes, decisions, duplicates, quarantine, samples, snapshots
from toploss.schema import likenesses, split_ledger
from toploss.schema import samples as table
from toploss.splits import Split

SCENE = pictures.scene(1)
COPIES = pictures.copies(SCENE)


def add(home, data, label="cat", split=None):
    classes.add(home, label, actor="ann")
    return samples.add(home, data, label, name="x.png", actor="ann", split=split)


def row(home, sample_id):
    with home.db.read() as connection:
        return samples.find(connection, sample_id)


def bridge():
    """Two pictures that are no near-duplicates, and one between them that is one of both."""
    towards = pictures.scene(3)
    return [Image.blend(SCENE, towards, share) for share in (0, 0.1, 0.2)]


def test_near_duplicates_share_a_group_and_so_a_split(home):
    first = add(home, COPIES["png"])
    stranger = add(home, pictures.saved(pictures.scene(2)))

    others = [add(home, data) for kind, data in COPIES.items() if kind != "png"]

    assert {other.split for other in others} == {first.split}
    assert {row(home, other.id).group_id for other in others} == {first.id}
    assert all(other.joined for other in others)
    assert stranger.joined is None
    with home.db.read() as connection:
        groups = connection.execute(select(split_ledger.c.group_id)).scalars().all()
    assert sorted(groups) == sorted([first.id, stranger.id])


def test_two_labels_are_no_reason_for_two_splits(home):
    first, other = add(home, COPIES["png"], "cat"), add(home, COPIES["jpeg"], "dog")

    assert other.joined == first.id
    assert (other.label, other.split) == ("dog", first.split)


def test_many_importers_at_once_make_one_group(home):
    classes.add(home, "cat", actor="ann")

    with ThreadPoolExecutor(8) as pool:
        added = list(pool.map(lambda data: add(home, data), COPIES.values()))

    assert len({row(home, one.id).group_id for one in added}) == 1
    assert len({one.split for one in added}) == 1


def test_given_splits_win_and_the_training_sample_is_quarantined(home):
    train = add(home, COPIES["png"], split=Split.TRAIN)
    test = add(home, COPIES["jpeg"], split=Split.TEST)
    late = add(home, COPIES["smaller"], split=Split.TRAIN)

    assert (train.split, test.split, late.split) == ("train", "test", "train")
    assert test.quarantined == (quarantine.Quarantined(id=train.id, because=test.id),)
    assert late.quarantined == (quarantine.Quarantined(id=late.id, because=test.id),)
    assert [quarantine.state(row(home, one.id)) for one in (train, test, late)] == [
        "quarantined",
        "active",
        "quarantined",
    ]
    overview = snapshots.overview(home)
    assert (overview["quarantined"], overview["splits"]["train"]) == (2, 0)
    assert overview["changed"] == 0
    assert ",train,quarantined," in "".join(snapshots.export(home))


def test_a_bridge_between_splits_quarantines_the_training_ones(home):
    left, middle, right = map(pictures.saved, bridge())
    one, other = add(home, left, split=Split.TRAIN), add(home, right, split=Split.TEST)
    assert not other.quarantined

    crossing = add(home, middle)

    assert crossing.joined in (one.id, other.id)
    wanted = crossing.id if crossing.split == "train" else one.id
    assert [entry.id for entry in crossing.quarantined] == [wanted]
    assert row(home, one.id).split == "train"
    assert row(home, other.id).split == "test"


def test_a_quarantined_sample_is_in_no_snapshot(home):
    for seed in range(10, 14):
        for label, at in (("cat", 0), ("dog", 100)):
            turn = [Split.TRAIN, Split.TRAIN, Split.VALID, Split.TEST][seed % 4]
            add(home, pictures.saved(pictures.scene(seed + at)), label, turn)
    train = add(home, COPIES["png"], split=Split.TRAIN)
    before = snapshots.freeze(home)
    given.settled(home, before.fingerprint)

    add(home, COPIES["jpeg"], split=Split.TEST)
    after = snapshots.freeze(home)

    assert {entry.id for entry in before.rows} - {entry.id for entry in after.rows} == {train.id}
    assert row(home, train.id).changed  # it was learned from, and is not any more
    given.settled(home, after.fingerprint)
    assert snapshots.overview(home)["changed"] == 0


def test_an_exclusion_shows_before_a_quarantine(home):
    train = add(home, COPIES["png"], split=Split.TRAIN)
    add(home, COPIES["jpeg"], split=Split.VALID)
    decisions.decide(home, train.id, "exclude", revision=1, actor="ann")

    assert quarantine.state(row(home, train.id)) == "excluded"
    assert snapshots.overview(home)["quarantined"] == 0


def test_pictures_alike_by_their_making_make_no_group_without_end(home, monkeypatch):
    """A fixed camera: the first few are one group, then each is its own."""
    monkeypatch.setattr(duplicates, "MANY", 3)
    frames = []
    for number in range(8):
        frame = SCENE.copy()
        frame.putpixel((number, 0), (0, 0, 0))
        frames.append(add(home, pictures.saved(frame)))

    assert [frame.joined is not None for frame in frames] == [False] + [True] * 3 + [False] * 4
    assert not any(frame.quarantined for frame in frames)


def test_likenesses_are_filled_in_for_samples_of_before(home):
    first = add(home, COPIES["png"])
    gone = add(home, pictures.saved(pictures.scene(5)))
    path = home.settings.home / f"storage/images/{gone.id[:2]}/{gone.id[2:4]}/{gone.id}"
    path.unlink()
    with home.db.write() as connection:
        connection.execute(likenesses.delete())

    duplicates.fill(home)
    duplicates.fill(home)

    assert add(home, COPIES["jpeg"]).joined == first.id
    with home.db.read() as connection:
        kept = connection.execute(select(likenesses.c.sample_seq)).scalars().all()
        known = connection.execute(select(table.c.seq).where(table.c.id != gone.id)).scalars()
        assert sorted(kept) == sorted(known)


def test_the_look_up_uses_the_indexes(home):
    """A hundred thousand samples are not looked at one by one."""
    with home.db.read() as connection:
        query = duplicates._candidates((1, 2, 3))
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}").all()

    told = " ".join(step.detail for step in plan)
    assert told.count("USING COVERING INDEX likenesses_by_") == 3
    assert "SCAN" not in told
