import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select

from tests.toploss import given
from toploss import attempts, classes, models, retention, shadow, snapshots
from toploss.blobs import Blobs
from toploss.errors import Broken, NotFound, Pruned, Refused
from toploss.retention import Kind, Rules
from toploss.schema import runs as run_table
from toploss.schema import snapshots as snapshot_table
from toploss.schema import versions
from toploss.settings import read_settings
from toploss.times import DAY_S

NOTHING = Rules(versions=0, rollbacks=1, days=0, checkpoint_days=0, log_days=0)
FILES = ("manifest.json", "weights.safetensors", "report.html")


@pytest.fixture
def home(any_home):
    classes.add(any_home, "cat", actor="ann")
    return any_home


def made(home, promote=False, at=0.0):
    """A version with its files, as its run left them."""
    name = (given.promoted if promote else given.version)(home, "cat", at=at)
    for file in FILES:
        home.blobs.put(f"versions/{name}/{file}", b"x" * 10)
    run = models.get(home, name).run
    for file in ("stage-1.safetensors", "stage-2.safetensors", "log-1.txt"):
        home.blobs.put(f"runs/{run}/{file}", b"y" * 5)
    return name


def aged(home, path, days=2):
    then = time.time() - days * DAY_S
    os.utime(Path(home.settings.storage) / path, (then, then))


def stays(found, kind=Kind.VERSION):
    return {item.name: item.why for item in found.staying if item.kind == kind}


def goes(found, kind=Kind.VERSION):
    return {item.name for item in found.going if item.kind == kind}


def files(home, name):
    return [stored.path.rpartition("/")[2] for stored in home.blobs.below(f"versions/{name}")]


def test_what_is_needed_stays_and_says_why(home):
    old, base, first, before, serves = (made(home, promote=n > 1) for n in range(5))
    beside, fresh = made(home), made(home, at=time.time())
    shadow.begin(home, beside, reason="test", actor="ann")
    lease = given.running(home)
    with home.db.write() as connection:
        plan = given.plan(home).as_json() | {"weights": f"versions/{base}/weights.safetensors"}
        connection.execute(run_table.update().where(run_table.c.id == lease.run).values(plan=plan))
    rules = Rules(versions=0, rollbacks=1, days=1, checkpoint_days=0, log_days=0)

    found = retention.look(home, rules)

    assert goes(found) == {old, first}
    assert stays(found) == {
        base: f"run {lease.run} begins with it",
        before: "a roll-back may return to it",
        serves: "it is in production",
        beside: "it scores beside production",
        fresh: "it is younger than 1 days",
    }
    assert all(files(home, name) == sorted(FILES) for name in (old, first))  # a look
    given.ended(home, lease)  # as failed, just now: it may be resumed for as long as that is kept
    kept = Rules(versions=2, rollbacks=2, days=1, checkpoint_days=7, log_days=0)
    assert goes(retention.look(home, kept)) == {old}
    assert goes(retention.look(home, kept, now=time.time() + 8 * DAY_S)) == {old, base}
    assert retention.prune(home, NOTHING, most=0).going == ()


def test_a_pruned_version_is_known_and_opens_no_more(home):
    first, second, third = (made(home, promote=True) for _ in range(3))
    found = retention.prune(home, NOTHING)

    assert goes(found) == {first}
    assert files(home, first) == ["report.html"]
    assert models.get(home, first).pruned_at is not None
    for act in (models.promote, shadow.begin):
        with pytest.raises(Pruned, match=f"{first} was pruned on 20"):
            act(home, first, reason="test", actor="ann")
    assert models.rollback(home, reason="worse", actor="ann").version == second
    with pytest.raises(Refused, match=f"every version that served before {second} was pruned"):
        models.rollback(home, reason="worse", actor="ann")
    assert models.before(home) is None
    assert goes(retention.prune(home, NOTHING)) == {third}
    assert retention.look(home, NOTHING).going == ()


def test_who_is_killed_in_between_is_followed_by_another(home, monkeypatch):
    first, *_ = [made(home, promote=True) for _ in range(3)]

    def away(*_):
        raise Broken("the storage is away")

    with monkeypatch.context() as patched:
        patched.setattr(Blobs, "delete", away)
        with pytest.raises(Broken):
            retention.prune(home, NOTHING)
    while models.get(home, first).pruned_at is None:  # checkpoints and logs may come before
        retention.prune(home, NOTHING, most=1)
    home.blobs.put(f"versions/{first}/weights.safetensors", b"left")

    found = retention.prune(home, NOTHING)

    assert [(item.name, item.why) for item in found.going if item.kind == Kind.VERSION] == [
        (first, "it was pruned, and some of its files are left")
    ]
    assert files(home, first) == ["report.html"]


def test_what_is_promoted_meanwhile_stays(home, monkeypatch):
    first, *_ = [made(home, promote=True) for _ in range(3)]
    real = retention.look

    def slow(*args, **options):
        found = real(*args, **options)
        models.promote(home, first, reason="needed again", actor="ann")
        return found

    monkeypatch.setattr(retention, "look", slow)

    assert goes(retention.prune(home, NOTHING)) == set()
    assert files(home, first) == sorted(FILES)


def test_checkpoints_and_logs_of_ended_runs_have_their_days(home):
    name = made(home, promote=True)
    run = models.get(home, name).run
    rules = Rules(versions=5, rollbacks=1, days=1, checkpoint_days=7, log_days=365)
    now = time.time()
    with home.db.read() as connection:
        assert connection.execute(select(versions.c.pruned_at)).scalar() is None

    assert retention.look(home, rules, now=now + 6 * DAY_S).going == ()
    (item,) = retention.look(home, rules, now=now + 8 * DAY_S).going
    assert (item.kind, item.name, item.bytes, len(item.files)) == (Kind.CHECKPOINTS, run, 10, 2)
    assert goes(retention.look(home, rules, now=now + 366 * DAY_S), Kind.LOGS) == {run}

    lease = given.running(home)  # it goes on from one of them
    with home.db.write() as connection:
        plan = given.plan(home).as_json() | {"start": f"runs/{run}/stage-1.safetensors"}
        connection.execute(run_table.update().where(run_table.c.id == lease.run).values(plan=plan))
    home.blobs.put(f"runs/{lease.run}/moment.safetensors", b"z")
    found = retention.look(home, rules, now=now + 8 * DAY_S)
    assert found.going == ()
    assert stays(found, Kind.CHECKPOINTS) == {run: f"run {lease.run} begins with them"}


def test_what_no_row_speaks_of_goes_after_a_day(home):
    name = made(home, promote=True)
    run = models.get(home, name).run
    half = f"runs/{run}/stage-1.safetensors.1234.part"
    for path in ("versions/dead/manifest.json", "versions/young/manifest.json", half):
        home.blobs.put(path, b"left")
    for path in ("versions/dead/manifest.json", half):
        aged(home, path)
    rules = Rules.from_settings(home.settings)

    found = retention.prune(home, rules)

    assert goes(found, Kind.LEFTOVER) == {"versions/dead", f"runs/{run}"}
    assert found.told() == "2 leftover; 8 bytes"
    assert not home.blobs.exists("versions/dead/manifest.json")
    assert home.blobs.exists("versions/young/manifest.json")
    assert home.blobs.exists(f"runs/{run}/stage-1.safetensors")


def test_weights_that_were_given_stay_while_a_run_may_need_them(home, tmp_path):
    """One file for each that may: of a version that stays, of a run that failed long ago, of the
    setting, of just now. Who has nothing but a version that was pruned needs none."""
    pruned, _, serves = (made(home, promote=True) for _ in range(3))
    failed = given.running(home)
    given.ended(home, failed)
    ours = {models.get(home, pruned).run: "old", models.get(home, serves).run: "serves"}
    with home.db.write() as connection:
        for run, name in (ours | {failed.run: "failed"}).items():
            plan = given.plan(home).as_json() | {"weights": f"weights/{name}/w.pth"}
            this = run_table.c.id == run
            connection.execute(run_table.update().where(this).values(plan=plan, ended_at=1.0))
    for name in ("old", "serves", "failed", "nobody", "setting", "young"):
        home.blobs.put(f"weights/{name}/w.pth", b"w")
        if name != "young":
            aged(home, f"weights/{name}/w.pth", days=40)
    rules = Rules(versions=0, rollbacks=1, days=30, checkpoint_days=7, log_days=365)
    home = replace(home, settings=read_settings(train_weights="weights/setting/w.pth"))

    first = retention.prune(home, rules)
    second = retention.prune(home, rules)  # by now the version of one run is gone

    assert goes(first, Kind.WEIGHTS) | goes(second, Kind.WEIGHTS) == {
        "weights/old/w.pth",
        "weights/nobody/w.pth",
    }
    assert {path.split("/")[1]: why for path, why in stays(second, Kind.WEIGHTS).items()} == {
        "serves": f"run {ours_of(ours, 'serves')} needs them",
        "failed": f"run {failed.run} needs them",
        "setting": "TOPLOSS_TRAIN_WEIGHTS names them",
        "young": "they are younger than 30 days",
    }
    assert len(home.blobs.below("weights")) == 4


def ours_of(runs_by_id, name):
    (found,) = [run for run, whose in runs_by_id.items() if whose == name]
    return found


def test_a_file_that_is_given_again_is_as_new(home, tmp_path):
    file = tmp_path / "w.pth"
    file.write_bytes(b"w")
    plan = replace(given.plan(home), weights=str(file))
    kept = plan.stored(home).weights
    aged(home, kept, days=40)

    assert plan.stored(home).weights == kept

    assert goes(retention.look(home, Rules.from_settings(home.settings)), Kind.WEIGHTS) == set()


def test_a_snapshot_goes_that_no_run_has_and_no_other(home):
    given.two_classes(home)
    of_run = snapshots.freeze(home).fingerprint
    lease = given.running(home)
    attempts.note(home, lease, fingerprint=of_run)
    given.ended(home, lease)
    given.sample(home, 100, "cat")
    of_sweep = snapshots.freeze(home).fingerprint
    rules = Rules.from_settings(home.settings)
    assert goes(retention.look(home, rules), Kind.SNAPSHOT) == set()
    later = time.time() + 31 * DAY_S
    assert goes(retention.look(home, rules, now=later), Kind.SNAPSHOT) == {of_sweep}

    ancient(home)
    assert snapshots.freeze(home).fingerprint == of_sweep  # it is of today again
    assert goes(retention.prune(home, rules), Kind.SNAPSHOT) == set()
    ancient(home)
    assert goes(retention.prune(home, rules), Kind.SNAPSHOT) == {of_sweep}

    with pytest.raises(NotFound):
        snapshots.load(home, of_sweep)
    assert not home.blobs.exists(f"snapshots/{of_sweep}.csv")
    assert snapshots.load(home, of_run).fingerprint == of_run
    again = snapshots.freeze(home)
    assert snapshots.load(home, of_sweep).rows == again.rows


def ancient(home):
    with home.db.write() as connection:
        connection.execute(snapshot_table.update().values(at=1.0))


def test_a_snapshot_that_a_run_takes_meanwhile_stays(home, monkeypatch):
    given.two_classes(home)
    fingerprint = snapshots.freeze(home).fingerprint
    ancient(home)
    real = retention.look

    def slow(*args, **options):
        found = real(*args, **options)
        attempts.note(home, given.running(home), fingerprint=fingerprint)
        return found

    monkeypatch.setattr(retention, "look", slow)

    assert goes(retention.prune(home, NOTHING), Kind.SNAPSHOT) == set()
    assert snapshots.load(home, fingerprint).rows
