import random
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from sqlalchemy import func, select

from tests.conftest import picture
from tests.toploss import given
from toploss import classes, decisions, merging, samples, schema, snapshots, trail
from toploss.decisions import Standing
from toploss.errors import BadInput, NotFound, Stale, ToplossError, UnknownLabel
from toploss.figures import Listed


@pytest.fixture
def home(any_home):
    return any_home


def row(home, sample_id):
    with home.db.read() as connection:
        return samples.find(connection, sample_id)


def seen(home, sample_id):
    """Label, state, decision and revision, as the review shows them."""
    with home.db.read() as connection:
        shown = decisions.present(samples.find(connection, sample_id), classes.load(connection))
    return shown["label"], shown["state"], shown["decision"], shown["revision"]


def decide(home, sample_id, action, label=None, **options):
    options = {"revision": row(home, sample_id).revision, "actor": "ann", **options}
    return decisions.decide(home, sample_id, action, label=label, **options)


def settle(home):
    fingerprint = snapshots.freeze(home).fingerprint
    given.settled(home, fingerprint)


def changed(home):
    return snapshots.overview(home)["changed"]


@pytest.fixture
def cat(home):
    """One sample among two classes."""
    classes.add(home, "dog", actor="ann")
    return given.sample(home, 1, "cat").id


@pytest.mark.parametrize(
    ("action", "label", "expected"),
    [
        ("confirm", None, ("cat", "active", "confirm", 2)),
        ("relabel", "dog", ("dog", "active", "relabel", 2)),
        ("relabel", "cat", ("cat", "active", "relabel", 2)),
        ("exclude", None, ("cat", "excluded", "exclude", 2)),
        ("skip", None, ("cat", "active", "skip", 2)),
    ],
)
def test_each_decision_and_its_undo(home, cat, action, label, expected):
    decided = decide(home, cat, action, label)

    assert decided.revision == 2
    assert seen(home, cat) == expected

    undone = decisions.undo(home, decided.id, actor="bob")

    assert (undone.sample, undone.revision) == (cat, 3)
    assert seen(home, cat) == ("cat", "active", None, 3)


def test_excluded_samples_come_back_by_a_confirm_or_a_relabel_not_by_a_skip(home, cat):
    decide(home, cat, "exclude")
    decide(home, cat, "skip")
    assert seen(home, cat)[:2] == ("cat", "excluded")

    decide(home, cat, "confirm")
    assert seen(home, cat)[:2] == ("cat", "active")

    decide(home, cat, "exclude")
    decide(home, cat, "relabel", "dog")
    assert seen(home, cat)[:2] == ("dog", "active")


@pytest.mark.parametrize(
    ("action", "label", "error", "says"),
    [
        ("keep", None, BadInput, "'keep' is none of confirm, relabel, exclude, skip"),
        ("undo", None, BadInput, "none of"),
        ("add", None, BadInput, "none of"),
        ("relabel", None, BadInput, "needs the right `label`"),
        ("confirm", "dog", BadInput, "takes no label, 'dog' was sent"),
        ("relabel", "cow", UnknownLabel, "'cow' is not one of the 2 classes"),
    ],
)
def test_what_is_no_decision_is_told_and_changes_nothing(home, cat, action, label, error, says):
    with pytest.raises(error, match=says):
        decide(home, cat, action, label)

    assert seen(home, cat) == ("cat", "active", None, 1)


def test_unknown_samples_and_decisions(home, cat):
    with pytest.raises(NotFound, match="no sample 'x'"):
        decisions.decide(home, "x", "confirm", revision=1, actor="ann")
    with pytest.raises(NotFound, match="no decision 'x'"):
        decisions.undo(home, "x", actor="ann")
    added = trail.of(home, cat)[0]["id"]
    with pytest.raises(NotFound):
        decisions.undo(home, added, actor="ann")


@pytest.mark.parametrize("revision", [0, 1, 3, -1])
def test_another_revision_is_stale_and_gets_the_present_state(home, cat, revision):
    decide(home, cat, "relabel", "dog")

    with pytest.raises(Stale, match=f"is at revision 2, not at {revision}") as caught:
        decide(home, cat, "confirm", revision=revision)

    assert caught.value.present == {
        "id": cat,
        "label": "dog",
        "split": "train",
        "state": "active",
        "decision": "relabel",
        "revision": 2,
    }
    assert seen(home, cat)[3] == 2


def test_undos_go_back_one_by_one(home, cat):
    first = decide(home, cat, "relabel", "dog")
    second = decide(home, cat, "exclude")
    third = decide(home, cat, "confirm")

    for early in (first, second):
        with pytest.raises(Stale, match=f"undo {third.id} first"):
            decisions.undo(home, early.id, actor="ann")
    decisions.undo(home, third.id, actor="ann")
    assert seen(home, cat)[:3] == ("dog", "excluded", "exclude")
    decisions.undo(home, second.id, actor="ann")
    assert seen(home, cat)[:3] == ("dog", "active", "relabel")
    decisions.undo(home, first.id, actor="ann")
    assert seen(home, cat) == ("cat", "active", None, 7)


def test_an_undo_twice_is_an_undo_once(home, cat):
    decided = decide(home, cat, "exclude")

    answers = {decisions.undo(home, decided.id, actor=name) for name in ("ann", "bob")}

    assert len(answers) == 1
    assert seen(home, cat)[3] == 3


def test_what_was_undone_can_be_done_again(home, cat):
    first = decide(home, cat, "relabel", "dog")
    decisions.undo(home, first.id, actor="ann")
    second = decide(home, cat, "relabel", "dog")

    assert seen(home, cat) == ("dog", "active", "relabel", 4)
    decisions.undo(home, second.id, actor="ann")
    assert seen(home, cat) == ("cat", "active", None, 5)


def test_a_decision_can_be_undone_though_a_conflict_came_since(home, cat):
    decided = decide(home, cat, "exclude")
    samples.add(home, picture(1), "dog", name="1.png", actor="importer")

    decisions.undo(home, decided.id, actor="ann")

    assert seen(home, cat) == ("cat", "active", None, 3)


def test_an_import_s_new_label_cannot_be_undone_through_an_older_decision(home, cat):
    decided = decide(home, cat, "confirm")
    kept = samples.keep(home, picture(1), "1.png")
    with home.db.write() as connection:
        dog = classes.load(connection).id_of("dog")
        samples.record(connection, home, kept, dog, actor="importer", on_conflict="new-label")

    with pytest.raises(Stale, match="later"):
        decisions.undo(home, decided.id, actor="ann")

    assert seen(home, cat) == ("dog", "active", None, 3)


def test_an_undo_after_a_merge_restores_the_class_that_lives(home, cat):
    decided = decide(home, cat, "relabel", "dog")
    classes.add(home, "feline", actor="ann")
    merging.merge(home, "cat", "feline", actor="ann")

    decisions.undo(home, decided.id, actor="ann")

    assert seen(home, cat)[0] == "feline"


def test_an_undo_after_a_rename_restores_the_class_and_not_the_name(home, cat):
    decided = decide(home, cat, "relabel", "dog")
    classes.rename(home, "cat", "feline", actor="ann")
    classes.add(home, "cat", actor="ann")

    decisions.undo(home, decided.id, actor="ann")

    assert seen(home, cat)[0] == "feline"


def test_the_same_key_gives_the_same_answer_and_changes_nothing(home, cat):
    first = decide(home, cat, "relabel", "dog", revision=1, key="k")
    decide(home, cat, "confirm")

    assert decide(home, cat, "relabel", "dog", revision=1, key="k") == first
    assert seen(home, cat)[3] == 3


def test_a_key_is_for_one_decision(home, cat):
    first = decide(home, cat, "exclude", key="k")

    with pytest.raises(Stale, match="'k' was used for another decision") as caught:
        decide(home, cat, "confirm", key="k")

    assert caught.value.present["id"] == first.id
    assert seen(home, cat)[2:] == ("exclude", 2)


def test_a_refused_decision_does_not_use_up_its_key(home, cat):
    with pytest.raises(Stale):
        decide(home, cat, "confirm", revision=9, key="k")

    assert decide(home, cat, "confirm", revision=1, key="k").revision == 2


def test_one_key_sent_by_many_at_once_is_one_decision(home, cat):
    with ThreadPoolExecutor(20) as pool:
        answers = set(
            pool.map(lambda _: decide(home, cat, "exclude", revision=1, key="k"), range(40))
        )

    assert len(answers) == 1
    assert seen(home, cat)[3] == 2


def test_of_many_reviewers_at_once_one_wins_each_revision(home):
    """20 threads, each with its own reviewer, all on the same three samples."""
    classes.add(home, "dog", actor="ann")
    ids = [given.sample(home, seed, "cat").id for seed in range(3)]
    rounds = 6

    def review(n):
        dice, won, seen_by_losers = random.Random(n), [], []
        for revision in range(1, rounds + 1):
            for sample_id in ids:
                action = dice.choice(["confirm", "relabel", "exclude", "skip"])
                label = dice.choice(["cat", "dog"]) if action == "relabel" else None
                while row(home, sample_id).revision < revision:
                    pass
                try:
                    decided = decide(
                        home, sample_id, action, label, revision=revision, actor=f"r{n}"
                    )
                    won.append((sample_id, decided.revision))
                except Stale as exc:
                    seen_by_losers.append(exc.present["revision"] > revision)
        return won, seen_by_losers

    with ThreadPoolExecutor(20) as pool:
        results = list(pool.map(review, range(20)))

    won = [entry for each, _ in results for entry in each]
    assert sorted(won) == sorted((i, n) for i in ids for n in range(2, rounds + 2))
    newer = [entry for _, each in results for entry in each]
    assert newer == [True] * (20 * 3 * rounds - len(won))
    assert all(len(trail.of(home, sample_id)) == rounds + 1 for sample_id in ids)


def test_an_undo_and_a_decision_at_once_do_not_both_win(home, cat):
    for _ in range(15):
        standing = decide(home, cat, "exclude")

        def undo(standing=standing):
            decisions.undo(home, standing.id, actor="ann")

        def confirm(standing=standing):
            decide(home, cat, "confirm", revision=standing.revision)

        with ThreadPoolExecutor(2) as pool:
            failures = [work.exception() for work in (pool.submit(undo), pool.submit(confirm))]

        assert [type(failure) for failure in failures if failure] == [Stale]


def test_new_samples_count(home):
    given.two_classes(home)

    assert changed(home) == 6  # of 8, two lie in test


def test_after_a_verdict_nothing_counts(home):
    given.two_classes(home)
    settle(home)

    assert changed(home) == 0


@pytest.mark.parametrize(
    ("action", "label", "counts"),
    [
        ("confirm", None, 0),
        ("skip", None, 0),
        ("relabel", "cat", 0),
        ("relabel", "dog", 1),
        ("exclude", None, 1),
    ],
)
def test_what_counts_as_changed(home, action, label, counts):
    learned = given.two_classes(home)[0]
    settle(home)

    decided = decide(home, learned.id, action, label)
    assert changed(home) == counts

    decisions.undo(home, decided.id, actor="ann")
    assert changed(home) == 0


def test_a_sample_counts_once_however_often_it_changes(home):
    learned = given.two_classes(home)[0]
    settle(home)

    decide(home, learned.id, "relabel", "dog")
    decide(home, learned.id, "exclude")
    assert changed(home) == 1
    decide(home, learned.id, "relabel", "cat")
    assert changed(home) == 0


def test_a_conflict_does_not_count(home):
    given.two_classes(home)
    settle(home)

    assert given.sample(home, 0, "dog").conflict
    assert changed(home) == 0


def test_the_holdout_does_not_count(home):
    held = next(entry for entry in given.two_classes(home) if entry.split == "test")
    settle(home)

    decide(home, held.id, "exclude")

    assert changed(home) == 0


def test_a_new_sample_that_is_excluded_again_does_not_count(home):
    given.two_classes(home)
    settle(home)
    new = given.sample(home, 99, "cat")

    decide(home, new.id, "exclude")
    assert changed(home) == 0
    decide(home, new.id, "confirm")
    assert changed(home) == 1


def test_what_came_after_the_freeze_still_counts_after_the_verdict(home):
    learned = given.two_classes(home)
    fingerprint = snapshots.freeze(home).fingerprint
    decide(home, learned[0].id, "relabel", "dog")
    decide(home, learned[4].id, "exclude")
    given.sample(home, 99, "cat")
    undone = decide(home, learned[1].id, "exclude")
    decisions.undo(home, undone.id, actor="ann")

    given.settled(home, fingerprint)

    assert changed(home) == 3


def test_taking_back_what_was_learned_counts(home):
    learned = given.two_classes(home, each=8)[0]
    decided = decide(home, learned.id, "relabel", "dog")
    settle(home)

    decisions.undo(home, decided.id, actor="ann")

    assert changed(home) == 1


def test_the_trail_is_paged_newest_first(home, cat):
    made = [decide(home, cat, "confirm").id for _ in range(5)]
    decisions.undo(home, made[-1], actor="bob")

    whole = trail.listed(home)
    page = trail.listed(home, limit=2)
    rest = trail.listed(home, after=page[-1]["seq"])

    assert [event["action"] for event in whole] == ["undo"] + ["confirm"] * 5
    assert [event["id"] for event in whole[1:]] == made[::-1]
    assert (whole[0]["undoes"], whole[0]["actor"]) == (made[-1], "bob")
    assert page + rest == whole


def test_history_tells_everything_oldest_first(home, cat):
    decided = decide(home, cat, "relabel", "dog")
    decisions.undo(home, decided.id, actor="bob")

    told = [
        (event["action"], event["before"], event["label"], event["revision"], event["actor"])
        for event in trail.of(home, cat)
    ]

    assert told == [
        ("add", None, "cat", 1, "importer"),
        ("relabel", "cat", "dog", 2, "ann"),
        ("undo", "dog", "cat", 3, "bob"),
    ]
    assert trail.of(home, "x") == []


def test_a_decision_keeps_what_the_reviewer_saw(home, cat):
    version = given.promoted(home, "cat", "dog")
    given.opinion(home, version, [cat], [[0.25, 0.75]])

    decide(home, cat, "relabel", "dog")

    evidence = trail.of(home, cat)[-1]["evidence"]
    assert evidence["version"] == version
    assert (evidence["predicted"], evidence["confidence"]) == ("dog", 0.75)
    assert evidence["loss"] == pytest.approx(np.log(4))
    assert evidence["loss_after"] == pytest.approx(np.log(4 / 3))


def consistent(home, version):
    """Whether every projection is what its events, and the last verdict, add up to."""
    with home.db.read() as connection:
        rows = connection.execute(select(schema.samples)).all()
        stored = connection.execute(select(schema.classes)).all()
        events = defaultdict(list)
        for event in connection.execute(
            select(schema.sample_events).order_by(schema.sample_events.c.seq)
        ):
            events[event.sample_id].append(event)
        learned_by = connection.execute(
            select(schema.versions.c.class_ids).where(schema.versions.c.name == version)
        ).scalar_one()
        scored = connection.execute(select(schema.scores)).all()
        tallied = connection.execute(select(schema.tallies)).all()
    merged = {entry.id: entry.merged_into for entry in stored if entry.merged_into}
    of_seq = {entry.seq: entry for entry in rows}
    for entry in rows:
        assert decisions.replay(events[entry.id], merged) == Standing.of(entry)
        assert entry.revision == max(event.revision for event in events[entry.id])
        assert entry.class_id not in merged
        learned = entry.class_id if entry.state == "active" else None
        assert entry.changed == (learned != entry.settled_class_id)
    outputs = np.array([merged.get(class_id, class_id) for class_id in learned_by])
    for score in scored:
        entry = of_seq[score.sample_seq]
        assert score.class_id == entry.class_id
        if entry.class_id not in outputs:
            assert score.listed == Listed.OUT
        else:
            decided = entry.decision is not None and not score.returned
            assert score.listed == (Listed.DECIDED if decided else Listed.PENDING)
            p = np.frombuffer(score.probabilities, "<f4")[outputs == entry.class_id].sum()
            assert score.loss == pytest.approx(-np.log(p), abs=1e-6)
    assert {tuple(cell[:5]): cell.samples for cell in tallied if cell.samples} == Counter(
        (score.scoring, score.listed, score.split, score.class_id, score.predicted_class_id)
        for score in scored
    )


@pytest.mark.parametrize("seed", [1, 2])
def test_whatever_happens_the_projection_is_the_replay(home, seed):
    dice = random.Random(seed)
    ids = [entry.id for entry in given.two_classes(home, each=8)]
    version = given.promoted(home, "cat", "dog")
    shares = np.random.default_rng(seed).dirichlet([1, 1], len(ids)).astype(np.float32)
    given.opinion(home, version, ids, shares)
    made, frozen, refused = [], [], 0

    def names():
        with home.db.read() as connection:
            return classes.load(connection).open

    def act():
        sample_id, label = dice.choice(ids), dice.choice(names())
        match dice.choices(range(8), [12, 6, 4, 3, 1, 1, 2, 2])[0]:
            case 0:
                action = dice.choice(["confirm", "relabel", "relabel", "exclude", "skip"])
                label = label if action == "relabel" else None
                made.append(decide(home, sample_id, action, label).id)
            case 1 if made:
                decisions.undo(home, dice.choice(made[-6:]), actor="ann")
            case 2:
                ids.append(given.sample(home, dice.randrange(1000), label).id)
            case 3:
                kept = samples.keep(home, picture(dice.randrange(16)), "again")
                how = dice.choice(["keep", "new-label"])
                with home.db.write() as connection:
                    class_id = classes.load(connection).id_of(label)
                    samples.record(connection, home, kept, class_id, actor="ann", on_conflict=how)
            case 4:
                classes.rename(home, label, f"name-{dice.randrange(50)}", actor="ann")
            case 5 if len(names()) > 2:
                merging.merge(home, label, dice.choice(names()), actor="ann")
            case 6:
                classes.add(home, f"class-{dice.randrange(50)}", actor="ann")
            case 7:
                frozen.append(snapshots.freeze(home).fingerprint)
                given.settled(home, dice.choice(frozen[-2:]))

    for n in range(200):
        try:
            act()
        except ToplossError:
            refused += 1
        if n % 20 == 0:
            consistent(home, version)

    consistent(home, version)
    assert refused < 100
    with home.db.read() as connection:
        events = connection.execute(select(func.count()).select_from(schema.sample_events)).scalar()
    assert events > 100
