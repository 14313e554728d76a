import pytest

from tests.toploss import given
from toploss import classes, decisions, erasure, lineage, models, snapshots
from toploss.errors import NotFound
from toploss.home import Home
from toploss.ids import new_id
from toploss.lineage import Part
from toploss.schema import runs, versions
from toploss.splits import Split


def trained(home: Home, start: str | None = None, **plan) -> str:
    """A version of today's data; `start`: of the version whose weights it began with."""
    lease, snapshot, name = given.running(home), snapshots.freeze(home), new_id()
    settings = given.plan(home).as_json() | plan
    if start is not None:
        settings |= {"start": f"versions/{start}/weights.safetensors", "warm": "shrink-perturb"}
    told = {"fingerprint": snapshot.fingerprint, "counts": snapshot.counts}
    with home.db.write() as connection:
        connection.execute(
            versions.insert().values(
                name=name,
                run_id=lease.run,
                path=f"versions/{name}",
                manifest_sha256="0" * 64,
                manifest={"labels": list(snapshot.labels), "snapshot": told},
                class_ids=list(snapshot.class_ids),
                created_at=1.0,
            )
        )
        this = {"fingerprint": snapshot.fingerprint, "plan": settings, "version": name}
        changed = runs.update().where(runs.c.id == lease.run)
        connection.execute(changed.values(state="succeeded", **this))
    return name


def exclude(home: Home, sample: str) -> None:
    decisions.decide(home, sample, "exclude", revision=1, actor="ann")


def told(home: Home, sample: str, **more) -> list[tuple[str, Part, str | None]]:
    found, _ = lineage.uses(home, sample, limit=100, **more)
    return [(use.version, use.part, use.through) for use in found]


def run_of(home: Home, version: str) -> str:
    return models.get(home, version).run


def test_where_a_sample_went(any_home):
    home = any_home
    added = given.two_classes(home, each=8)
    train, valid = added[0].id, added[2].id
    first = trained(home)
    exclude(home, train)
    late = given.sample(home, 77, "cat", Split.TRAIN).id
    cold, warm = trained(home), trained(home, start=first)
    warmer = trained(home, start=warm)

    assert told(home, train) == [
        (warmer, Part.LEARNED, run_of(home, first)),
        (warm, Part.LEARNED, run_of(home, first)),
        (first, Part.LEARNED, None),
    ]
    assert told(home, valid) == [(v, Part.HELD_OUT, None) for v in (warmer, warm, cold, first)]
    assert told(home, late) == [(v, Part.LEARNED, None) for v in (warmer, warm, cold)]
    with pytest.raises(NotFound, match="no sample"):
        lineage.uses(home, "0" * 64, limit=1)


def test_a_label_is_told_as_it_was_learned(home):
    added = given.two_classes(home, each=8)
    first = trained(home)
    decisions.decide(home, added[0].id, "relabel", label="dog", revision=1, actor="ann")
    second = trained(home)
    classes.rename(home, "dog", "hound", actor="ann")

    found, _ = lineage.uses(home, added[0].id, limit=9)

    assert [(use.version, use.label) for use in found] == [(second, "dog"), (first, "cat")]


def test_pages_of_versions(home, monkeypatch):
    added = given.two_classes(home)
    names = [trained(home, seed=seed) for seed in range(5)][::-1]
    page, after = lineage.uses(home, added[0].id, limit=2)
    assert [use.version for use in page] == names[:2]
    page, after = lineage.uses(home, added[0].id, after=after, limit=3)
    assert [use.version for use in page] == names[2:]
    assert lineage.uses(home, added[0].id, after=after, limit=3) == ([], None)

    late = given.sample(home, 77, "cat", Split.TRAIN).id
    monkeypatch.setattr(lineage, "AT_ONCE", 2)
    monkeypatch.setattr(lineage, "LOOKED_AT", 4)
    assert lineage.uses(home, late, limit=3) == ([], names[3])
    assert lineage.uses(home, late, after=names[3], limit=3) == ([], None)


def test_a_version_s_lineage(home):
    added = given.two_classes(home, each=8)
    first = trained(home)
    models.promote(home, first, reason="good", actor="ann")
    exclude(home, added[0].id)
    given.sample(home, 77, "cat", Split.TRAIN)
    given.sample(home, 78, "cat", Split.TRAIN)
    erasure.erase(home, added[1].id, reason="asked for", actor="ann")
    erasure.erase(home, given.sample(home, 79, "cat").id, reason="never learned", actor="ann")
    warm = trained(home, start=first)
    warmer = trained(home, start=warm)

    found = lineage.of(home, "production")
    assert found["version"] == first
    assert found["snapshot"]["erased"] == 1
    assert found["began_with"] == []
    assert [(move["generation"], move["reason"]) for move in found["moves"]] == [(1, "good")]
    assert [trigger["reason"] for trigger in found["triggers"]] == ["toploss train"]
    assert lineage.change(home, first) is None

    found = lineage.of(home, warmer)
    assert found["snapshot"]["erased"] == 0
    assert [(one["version"], one["of"], one["how"]) for one in found["began_with"]] == [
        (warm, run_of(home, warmer), "shrink-perturb"),
        (first, run_of(home, warm), "shrink-perturb"),
    ]
    assert found["moves"] == []
    numbers = {"added": 2, "removed": 2, "relabelled": 0, "moved": 0, "renamed": 0}
    change = lineage.change(home, warm)
    assert change is not None
    assert change["version"] == first
    assert numbers.items() <= change.items()


def test_networks_that_are_gone_or_were_never_published(home):
    given.two_classes(home)
    unpublished = trained(home)
    lost = trained(home, start="0" * 26)
    run = run_of(home, unpublished)
    with home.db.write() as connection:
        connection.execute(versions.delete().where(versions.c.name == unpublished))
        connection.execute(runs.update().where(runs.c.id == run).values(version=None))
    went_on = trained(home, start=None, weights=f"runs/{run}/last/weights.safetensors")

    (gone,) = lineage.of(home, lost)["began_with"]
    assert (gone["version"], gone["run"]) == ("0" * 26, None)
    (kept,) = lineage.of(home, went_on)["began_with"]
    assert (kept["version"], kept["run"], kept["how"]) == (None, run, "weights")


def test_the_samples_of_a_version(home):
    given.two_classes(home)
    version = trained(home)
    rows = snapshots.freeze(home).rows

    assert list(lineage.every_row(home, version)) == list(rows)
    assert lineage.sample_rows(home, version, limit=3) == list(rows[:3])
    assert lineage.sample_rows(home, version, after=rows[2].id, limit=99) == list(rows[3:])
    unknown = given.version(home, "cat", "dog")
    with pytest.raises(NotFound, match="is not known"):
        lineage.sample_rows(home, unknown, limit=3)
