"""What is kept of production, listed and forgotten; on both databases."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import text

from tests.conftest import picture
from tests.toploss import given
from tests.toploss.capturing import in_days, kept, listed, number_of
from toploss import captures, classes, feedback, labelling, samples
from toploss.captures import Shot, Why
from toploss.database import one_at_a_time
from toploss.errors import Broken, CapReached, NotFound, NotKept
from toploss.home import Home
from toploss.ids import new_id
from toploss.schema import capture_claims
from toploss.schema import captures as table
from toploss.times import DAY_S


@pytest.fixture
def home(any_home: Home) -> Home:
    for label in ("cat", "dog"):
        classes.add(any_home, label, actor="importer")
    return any_home


def test_it_is_kept_with_what_was_said_of_it(home: Home) -> None:
    version = given.version(home, "dog", "cat")
    top = ((1, 0.6), (0, 0.4))
    before = time.time()
    capture_id = kept(home, 1, version=version, top=top, margin=0.2, novelty=0.1)

    row = captures.show(home, capture_id)

    guesses = [{"label": "cat", "confidence": 0.6}, {"label": "dog", "confidence": 0.4}]
    assert row["prediction"] == {**guesses[0], "top": guesses}
    assert (row["why"], row["margin"], row["novelty"], row["model"]) == (
        "margin",
        0.2,
        0.1,
        version,
    )
    assert (row["state"], row["claimed"], row["decided"], row["sample"]) == ("waiting", *[None] * 3)
    assert (row["width"], row["height"], row["format"]) == (8, 8, "PNG")
    assert row["until"] - row["at"] == pytest.approx(30 * DAY_S)
    assert before <= row["at"] <= time.time()
    with home.db.read() as connection:
        found = captures.find(connection, capture_id)
    assert captures.image(home, found) == picture(1)
    assert number_of(home, samples.samples) == 0


def test_the_same_bytes_are_kept_once_and_never_those_of_a_sample(home: Home) -> None:
    first = kept(home, 1)
    given.sample(home, 2, "cat")

    for seed in (1, 2):
        assert not captures.keep(home, Shot(id=new_id(), data=picture(seed), why=Why.RANDOM))
    labelling.discard(home, first, actor="ann")
    assert not captures.keep(home, Shot(id=new_id(), data=picture(1), why=Why.RANDOM))

    assert listed(home, "all") == [first]


def test_several_servers_keep_an_image_once_and_a_day_has_one_cap(
    home: Home, open_home: Any
) -> None:
    replicas = [
        open_home(database_url=str(home.settings.database), capture_per_day=5, name=name)
        if home.db.url.startswith("postgresql")
        else open_home(capture_per_day=5)
        for name in ("home", "home", "home")
    ]
    together = threading.Barrier(3)

    def offered(replica: Home) -> list[str]:
        outcomes = []
        together.wait()
        for seed in range(8):
            shot = Shot(id=new_id(), data=picture(seed), why=Why.RANDOM)
            try:
                outcomes.append("kept" if captures.keep(replica, shot) else "known")
            except CapReached as exc:
                outcomes.append("cap" if 0 < exc.retry_after_s <= DAY_S + 1 else "wrong")
        return outcomes

    with ThreadPoolExecutor(3) as pool:
        found = [outcome for many in pool.map(offered, replicas) for outcome in many]

    assert found.count("kept") == 5
    assert len(listed(home)) == 5


def test_what_is_erased_does_not_make_room_and_tomorrow_there_is_some(
    open_home: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = open_home(capture_per_day=1)
    captures.erase(home, kept(home, 1))
    with pytest.raises(CapReached, match="TOPLOSS_CAPTURE_PER_DAY"):
        kept(home, 2)
    kept(home, 3, Why.FEEDBACK)  # what people send is counted apart
    with pytest.raises(CapReached, match="with feedback"):
        kept(home, 4, Why.FEEDBACK)
    in_days(monkeypatch, 1)
    kept(home, 2)


def test_claimed_ones_come_first_then_the_newest_in_pages(home: Home) -> None:
    ids = []
    for seed in range(6):
        time.sleep(0.002)  # names sort by the millisecond
        ids.append(kept(home, seed))
    for capture_id in (ids[1], ids[4]):
        feedback.claim(home, "cat", actor="shop", capture_id=capture_id)
    labelling.discard(home, ids[5], actor="ann")
    order = [ids[4], ids[1], ids[3], ids[2], ids[0]]

    assert listed(home) == order
    found: list[str] = []
    after = None
    while page := captures.listed(home, "waiting", limit=2, after=after)[0]:
        found += [row["id"] for row in page]
        after = (page[-1]["claimed"] is not None, page[-1]["id"])
    assert found == order
    assert listed(home, "discarded") == [ids[5]]
    assert set(listed(home, "all")) == set(ids)


def test_after_its_days_it_is_gone_also_where_nobody_swept(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting, discarded, labelled = (kept(home, seed) for seed in range(3))
    feedback.claim(home, "cat", actor="shop", capture_id=waiting)
    labelling.discard(home, discarded, actor="ann")
    labelling.label(home, labelled, "cat", actor="ann")
    in_days(monkeypatch, 29)
    assert captures.expire(home) == 0
    in_days(monkeypatch, 1.01)

    assert listed(home, "all") == [labelled]
    with pytest.raises(NotFound):
        captures.show(home, waiting)
    with pytest.raises(NotFound):
        labelling.label(home, waiting, "cat", actor="ann")
    with pytest.raises(NotKept):
        feedback.claim(home, "cat", actor="shop", capture_id=waiting)
    assert captures.expire(home) == 2
    assert not home.blobs.exists(captures.path(waiting))
    assert (number_of(home, table), number_of(home, capture_claims)) == (1, 0)
    kept(home, 0)  # it may come again


def test_what_is_over_stands_in_no_newcomers_way(
    open_home: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = open_home()
    first = kept(home, 1)
    in_days(monkeypatch, 31)  # and nobody swept
    second = kept(home, 1)
    assert listed(home, "all") == [second]
    assert not home.blobs.exists(captures.path(first))


def test_everything_that_is_no_sample_goes_when_asked(home: Home) -> None:
    waiting, labelled = kept(home, 1), kept(home, 2)
    made = labelling.label(home, labelled, "cat", actor="ann")

    assert captures.expire(home, all_of_them=True) == 1

    assert listed(home, "all") == [labelled]
    assert not home.blobs.exists(captures.path(waiting))
    assert captures.erase(home, labelled) == made["id"]
    assert home.blobs.get_image(made["id"]) == picture(2)
    with pytest.raises(NotFound):
        captures.erase(home, labelled)


def test_whatever_fails_in_between_leaves_no_image_for_ever(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = home.blobs.put
    lost = Shot(id=new_id(), data=picture(1), why=Why.RANDOM)

    def dies(path: str, data: bytes, **more: Any) -> None:
        put(path, data, **more)
        raise RuntimeError("killed")

    with monkeypatch.context() as patched:
        patched.setattr(home.blobs, "put", dies)
        with pytest.raises(RuntimeError):
            captures.keep(home, lost)
    labelled = kept(home, 2)
    with monkeypatch.context() as patched:
        patched.setattr(home.blobs, "delete", lambda paths: None)
        labelling.label(home, labelled, "cat", actor="ann")
        with home.db.write() as connection:
            connection.execute(table.update().where(table.c.id == labelled).values(stored=True))
    assert listed(home) == []  # what has not come to its end is shown to nobody
    assert home.blobs.exists(captures.path(lost.id))
    assert home.blobs.exists(captures.path(labelled))

    in_days(monkeypatch, 31)
    assert captures.expire(home) == 1

    assert not home.blobs.exists(captures.path(lost.id))
    assert not home.blobs.exists(captures.path(labelled))
    assert captures.show(home, labelled)["state"] == "labelled"


def test_what_was_labelled_just_now_is_not_swept(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    capture_id, let_go = kept(home, 1), captures._let_go

    def late(*args: Any) -> bool:
        monkeypatch.setattr(captures, "clear", lambda *_: None)  # it has not come so far
        labelling.label(home, capture_id, "cat", actor="ann")
        return let_go(*args)

    monkeypatch.setattr(captures, "_let_go", late)

    assert captures.expire(home, all_of_them=True) == 0
    assert captures.show(home, capture_id)["state"] == "labelled"


def test_an_image_that_cannot_be_deleted_holds_up_no_other_and_is_shown_to_nobody(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [kept(home, seed) for seed in range(3)]
    delete = home.blobs.delete

    def stuck(paths: list[str]) -> None:
        if captures.path(ids[0]) in paths:
            raise Broken("it is read-only")
        delete(paths)

    with monkeypatch.context() as patched:
        patched.setattr(home.blobs, "delete", stuck)
        with pytest.raises(Broken, match=f"of 3 captures 2 were deleted; {ids[0]}: it is read"):
            captures.expire(home, all_of_them=True)

    assert listed(home, "all") == []
    assert number_of(home, table) == 1
    assert captures.expire(home) == 1
    assert not home.blobs.exists(captures.path(ids[0]))


def test_no_lock_is_held_while_the_storage_works(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def label_another() -> None:
        with home.db.write() as connection:
            one_at_a_time(connection)

    with ThreadPoolExecutor(1) as pool:

        def others_write(name: str) -> Any:
            work = getattr(home.blobs, name)

            def worked(*args: Any, **more: Any) -> Any:
                pool.submit(label_another).result(timeout=5)
                return work(*args, **more)

            return worked

        one, two = kept(home, 1), kept(home, 2)
        for name in ("put", "delete"):
            monkeypatch.setattr(home.blobs, name, others_write(name))
        labelling.label(home, one, "cat", actor="ann")
        captures.erase(home, two)
        captures.erase(home, one)


def test_half_an_image_that_a_kill_left_goes_after_an_hour(
    open_home: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = open_home()
    captures.tidy(home)  # there is no such folder yet
    capture_id = kept(home, 1)
    half = f"{captures.path(capture_id)}.{new_id()}.part"
    (home.blobs.folder / half).write_bytes(b"half")

    captures.tidy(home)
    assert home.blobs.exists(half)
    in_days(monkeypatch, 1.1 / 24)
    captures.tidy(home)
    assert not home.blobs.exists(half)
    assert home.blobs.exists(captures.path(capture_id))
    (home.blobs.folder / half).write_bytes(b"half")
    monkeypatch.undo()
    captures.tidy(home, older_s=0.0)
    assert not home.blobs.exists(half)


def test_an_image_whose_keeping_was_broken_off_is_kept_the_next_time(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Shot(id=new_id(), data=picture(1), why=Why.RANDOM)
    with monkeypatch.context() as patched:
        patched.setattr(home.blobs, "put", lambda *_: (_ for _ in ()).throw(RuntimeError("killed")))
        with pytest.raises(RuntimeError):
            captures.keep(home, first)

    assert not captures.keep(home, Shot(id=new_id(), data=picture(1), why=Why.MARGIN))

    assert listed(home) == [first.id]


def test_pages_and_sweeps_are_read_from_an_index(open_home: Any) -> None:
    home = open_home()
    queries = (
        "SELECT * FROM captures WHERE state = 'waiting' AND stored AND until > 1 "
        "AND (claimed, id) < (1, 'a') ORDER BY claimed DESC, id DESC LIMIT 50",
        "SELECT * FROM captures WHERE (claimed, id) < (1, 'a') ORDER BY claimed DESC, id DESC",
        "SELECT * FROM captures WHERE (stored OR state <> 'labelled') AND until <= 1 "
        "ORDER BY until LIMIT 100",
    )
    with home.db.read() as connection:
        for query in queries:
            plan = str(connection.execute(text(f"EXPLAIN QUERY PLAN {query}")).all())
            assert "USING INDEX captures_by" in plan
            assert "TEMP B-TREE" not in plan
