"""Decisions made elsewhere: they come in once, as ordinary events, and overrun nothing."""

import csv
import io
import json

import pytest

from tests.toploss import given
from toploss import classes, decisions, events, imported, samples, tables, trail
from toploss.elsewhere import Format
from toploss.errors import BadInput, TooLarge


@pytest.fixture
def home(request, open_home):
    """On SQLite, and where a test says `BOTH`, on PostgreSQL as well."""
    if getattr(request, "param", "sqlite") == "sqlite":
        return open_home()
    return open_home(database_url=request.getfixturevalue("new_postgres")())


BOTH = pytest.mark.parametrize("home", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture
def ids(home):
    """Four cats, `0.png` to `3.png`, among cats and dogs."""
    classes.add(home, "dog", actor="ann")
    return [given.sample(home, seed, "cat").id for seed in range(4)]


def take_in(home, data, **options):
    data = data if isinstance(data, bytes) else data.encode()
    summary = imported.take_in(home, io.BytesIO(data), **{"actor": "bob", **options})
    counts = {
        key: value
        for key, value in summary.as_json().items()
        if key not in ("format", "dry_run", "conflicts", "refused") and value
    }
    return summary, counts


def seen(home, sample_id):
    with home.db.read() as connection:
        shown = events.present(samples.find(connection, sample_id), classes.load(connection))
    return shown["label"], shown["state"], shown["decision"]


def decide(home, sample_id, action, label=None, actor="ann"):
    with home.db.read() as connection:
        revision = samples.find(connection, sample_id).revision
    return decisions.decide(home, sample_id, action, label=label, revision=revision, actor=actor)


def exported(home, format=trail.Format.CSV):
    return "".join(trail.export(home, format))


def replayed(home, sample_id):
    """What the events alone say, beside what stands."""
    with home.db.read() as connection:
        row = samples.find(connection, sample_id)
        query = trail.select(trail.sample_events).where(
            trail.sample_events.c.sample_id == sample_id
        )
        happened = connection.execute(query.order_by(trail.sample_events.c.seq)).all()
    return events.replay(happened, {}), events.Standing.of(row)


@BOTH
def test_a_table_of_labels_and_actions(home, ids):
    data = (
        f"image,label,action,actor,at\n{ids[0]},dog,,eve,2026-01-02T03:04:05Z\n"
        "some/where/1.png,cat,,,\n2.png,,exclude,,\n3.png,,,,\nnone.png,cat,,,\n3.png,cow,,,\n"
    )
    _, counts = take_in(home, data, dry_run=True)
    assert counts == {"recorded": 3, "undecided": 1, "refused_total": 2}
    assert trail.listed(home) == []

    summary, counts = take_in(home, data)

    assert counts == {"recorded": 3, "undecided": 1, "refused_total": 2}
    assert [seen(home, one) for one in ids] == [
        ("dog", "active", "relabel"),
        ("cat", "active", "confirm"),
        ("cat", "excluded", "exclude"),
        ("cat", "active", None),
    ]
    assert {entry["row"] for entry in summary.refused} == {6, 7}
    assert all(";" in entry["reason"] for entry in summary.refused)
    event = trail.of(home, ids[0])[-1]
    assert event["actor"] == "bob"
    whence = {"from": "csv", "by": "eve", "at": "2026-01-02T03:04:05.000Z"}
    assert event["evidence"]["imported"] == whence
    standing, row = replayed(home, ids[0])
    assert standing == row

    _, again = take_in(home, data)
    assert again == {"known": 3, "undecided": 1, "refused_total": 2}
    assert len(trail.listed(home)) == 3


@BOTH
def test_the_trail_comes_home_and_goes_to_another(home, ids, open_home):
    decide(home, ids[0], "relabel", "dog")
    decide(home, ids[1], "relabel", "dog")
    decisions.undo(home, decide(home, ids[1], "exclude").id, actor="ann")
    decide(home, ids[2], "exclude")
    decisions.undo(home, decide(home, ids[3], "confirm").id, actor="ann")
    data = exported(home)
    as_json = exported(home, trail.Format.JSON)
    lines = exported(home, trail.Format.JSONL)
    assert json.loads(as_json) == [json.loads(line) for line in lines.splitlines()]

    assert take_in(home, data)[1] == {"known": 7}
    assert len(trail.listed(home)) == 7

    for format in (data, as_json, lines):
        other = open_home(f"other-{len(format)}")
        classes.add(other, "dog", actor="ann")
        assert [given.sample(other, seed, "cat").id for seed in range(4)] == ids
        _, counts = take_in(other, format)
        # Undone and undoing rows say nothing any more.
        assert counts == {"recorded": 3, "superseded": 4}
        assert [seen(other, one) for one in ids] == [seen(home, one) for one in ids]
        assert take_in(other, format)[1] == {"known": 3, "superseded": 4}
    row = next(csv.DictReader(io.StringIO(exported(other))))
    assert (row["imported_from"], row["imported_by"], row["actor"]) == ("csv", "ann", "bob")


@BOTH
def test_what_was_taken_back_there_is_told_here(home, ids, open_home):
    other = open_home("other")
    classes.add(other, "dog", actor="ann")
    given.sample(other, 0, "cat")
    made = decide(home, ids[0], "relabel", "dog")
    take_in(other, exported(home))
    decisions.undo(home, made.id, actor="ann")

    summary, counts = take_in(other, exported(home))

    assert counts == {"superseded": 1, "conflicts_total": 1}
    assert "was taken back where it was made" in summary.conflicts[0]["reason"]
    assert seen(other, ids[0])[0] == "dog"


def test_what_was_taken_back_here_does_not_come_back(home, ids):
    data = "image,label\n0.png,dog\n"
    take_in(home, data)
    decisions.undo(home, trail.listed(home)[0]["id"], actor="ann")

    assert take_in(home, data)[1] == {"known": 1}
    assert seen(home, ids[0]) == ("cat", "active", None)

    assert take_in(home, data, force=True)[1] == {"recorded": 1}
    assert take_in(home, data, force=True)[1] == {"known": 1}
    assert seen(home, ids[0]) == ("dog", "active", "relabel")


@pytest.mark.parametrize(
    ("header", "row", "says"),
    [
        ("image,label,before", "0.png,cat,dog", "saw the label 'dog'"),
        ("image,label,revision", "0.png,dog,7", "saw revision 7"),
        ("image,label,action", "0.png,dog,confirm", "confirms 'dog'"),
        ("image,label", "1.png,cat", "ann has decided it here"),
        ("image,label,at", "1.png,cat,2020-01-01", "not known to be later"),
    ],
)
def test_what_goes_against_what_stands_is_left_alone_unless_forced(home, ids, header, row, says):
    decide(home, ids[1], "relabel", "dog")
    before = trail.listed(home)

    summary, counts = take_in(home, f"{header}\n{row}\n2.png{',' * header.count(',')}\n")

    assert counts == {"conflicts_total": 1, "undecided": 1}
    (conflict,) = summary.conflicts
    assert says in conflict["reason"]
    assert conflict["row"] == 2
    assert conflict["sample"] in ids
    assert trail.listed(home) == before
    assert take_in(home, f"{header}\n{row}\n", force=True)[1] == {"recorded": 1}


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("image,label,at", "1.png,cat,2100-01-01"),
        ("image,label,before", "1.png,cat,dog"),
        ("image,label,revision", "1.png,cat,2"),
    ],
)
def test_who_knew_what_stands_may_overrule_it(home, ids, header, row):
    decide(home, ids[1], "relabel", "dog")

    assert take_in(home, f"{header}\n{row}\n")[1] == {"recorded": 1}
    assert seen(home, ids[1]) == ("cat", "active", "relabel")


def test_of_several_rows_the_newest_counts(home, ids):
    later = "image,label,at\n0.png,dog,2026-01-02\n0.png,cat,2026-01-01\n"
    assert take_in(home, later)[1] == {"recorded": 1, "superseded": 1}
    assert seen(home, ids[0])[0] == "dog"

    assert take_in(home, "image,label\n1.png,dog\n1.png,cat\n")[1]["recorded"] == 1
    assert seen(home, ids[1]) == ("cat", "active", "confirm")


def test_a_name_that_several_have_is_refused(home, ids):
    with home.db.write() as connection:
        connection.execute(imported.samples.update().values(name="same.png"))

    summary, _ = take_in(home, "image,label\nsame.png,dog\n")

    assert "several samples are called 'same.png'" in summary.refused[0]["reason"]


def task(image, *answers, **more):
    """A task of Label Studio, each answer: labels, who, when."""
    annotations = [
        {
            "id": number,
            "completed_by": {"id": 1, "email": who},
            "was_cancelled": False,
            "updated_at": f"2026-01-0{day}T00:00:00.123456Z",
            "result": [{"type": "choices", "from_name": "choice", "value": {"choices": labels}}],
        }
        for number, (labels, who, day) in enumerate(answers)
    ]
    return {"id": 1, "data": {"image": image}, "annotations": annotations, **more}


@BOTH
def test_label_studio_s_json(home, ids):
    tasks = [
        task("/data/upload/7/0123abcd-0.png", (["cat"], "ann@x", 1), (["dog"], "ann@x", 2)),
        task("s3://bucket/1.png", (["cat"], "ann@x", 1), (["dog"], "bob@x", 2)),
        task("/data/local-files/?d=some/2.png", (["cat", "dog"], "ann@x", 1)),
        task(f"https://x.test/v1/samples/{ids[3]}/image?a=b", (["cat"], "bob@x", 1)),
        task("3.png", predictions=[{"result": [{"value": {"choices": ["dog"]}}]}]),
    ]
    tasks[0]["annotations"].append({**tasks[0]["annotations"][0], "was_cancelled": True})

    summary, counts = take_in(home, json.dumps(tasks))

    assert summary.format == "label-studio"
    assert counts == {"recorded": 2, "superseded": 2, "undecided": 1, "conflicts_total": 2}
    assert {one["row"]: one["reason"] for one in summary.conflicts} == {
        2: "people disagree: 'cat', 'dog'; decide it in the review",
        3: "it was called 'cat', 'dog'; decide it in the review",
    }
    assert seen(home, ids[0]) == ("dog", "active", "relabel")
    assert seen(home, ids[3]) == ("cat", "active", "confirm")
    assert trail.of(home, ids[0])[-1]["evidence"]["imported"] == {
        "from": "label-studio",
        "by": "ann@x",
        "at": "2026-01-02T00:00:00.123Z",
    }
    assert take_in(home, json.dumps(tasks))[1]["known"] == 2


@pytest.mark.parametrize("choice", ["choice", "animal"])
def test_label_studio_s_min_json_and_csv(home, ids, choice):
    about = {"annotator": 1, "annotation_id": 2, "lead_time": 1.5, "updated_at": "2026-01-02"}
    some = [
        {"image": "/data/upload/1/aaaabbbb-0.png", "id": 1, choice: "dog", **about},
        {"image": "1.png", "id": 2, choice: {"choices": ["cat", "dog"]}, **about},
    ]
    out = io.StringIO()
    writer = csv.DictWriter(out, some[0])
    writer.writeheader()
    writer.writerows({**row, choice: row[choice]} for row in some[:1])
    writer.writerow({**some[1], choice: json.dumps(some[1][choice])})

    assert take_in(home, json.dumps(some))[1] == {"recorded": 1, "conflicts_total": 1}
    assert take_in(home, out.getvalue())[1] == {"known": 1, "conflicts_total": 1}
    assert seen(home, ids[0]) == ("dog", "active", "relabel")


def test_cleanlab_s_suggestions_are_no_decisions(home, ids):
    issues = (
        "image,is_label_issue,label_score,given_label,predicted_label\n0.png,True,0.01,cat,dog\n"
    )

    with pytest.raises(BadInput, match=r"suggestions .* nothing that a person decided; fill"):
        take_in(home, issues)

    resolved = (
        "image,is_label_issue,label_score,given_label,predicted_label,action,corrected_label\n"
        "0.png,True,0.01,cat,dog,,dog\n1.png,True,0.01,cat,dog,,\n2.png,True,0.1,cat,dog,exclude,\n"
        "3.png,True,0.1,cat,dog,keep,\n3.png,True,0.1,cat,dog,auto-fix,dog\n17,,,,,,dog\n"
    )
    summary, counts = take_in(home, resolved)
    assert summary.format == "cleanlab"
    assert counts == {"recorded": 3, "undecided": 1, "refused_total": 2}
    assert [seen(home, one)[2] for one in ids] == ["relabel", None, "exclude", "confirm"]

    stale = resolved.replace("0.png,True,0.01,cat", "1.png,True,0.01,dog")
    assert "saw the label 'dog'" in take_in(home, stale)[0].conflicts[0]["reason"]


def test_the_data_set_s_own_export_is_no_list_of_decisions(home, ids):
    data = f"id,name,label,split,state,decision,revision\n{ids[0]},0.png,dog,train,active,,1\n"

    with pytest.raises(BadInput, match="lists the data set"):
        take_in(home, data)


WRONG = (7, -1.5, True, None, "", "\0", "\ud800", "x" * 3000, [], {}, [[]], {"a": []}, 1e308)


@BOTH
@pytest.mark.parametrize("format", [Format.CSV, Format.CLEANLAB, Format.LABEL_STUDIO])
def test_wrong_types_everywhere_are_told(home, ids, format):
    good = {
        Format.CSV: {"sample": ids[0], "action": "", "label": "cat", "at": "2026-01-01", "id": "1",
                     "revision": 1, "undoes": "", "before": "cat", "actor": "eve"},
        Format.CLEANLAB: {"image": "0.png", "corrected_label": "cat", "action": "relabel",
                          "given_label": "cat"},
        Format.LABEL_STUDIO: task("0.png", (["cat"], "ann@x", 1)),
    }[format]  # fmt: skip
    rows = [good | {key: wrong} for key in good for wrong in WRONG]
    if format is Format.LABEL_STUDIO:
        one = good["annotations"][0]
        rows += [good | {"annotations": [one | {k: w}]} for k in one for w in WRONG]
        rows += [good | {"data": {"image": wrong}} for wrong in WRONG]
        result = one["result"][0]
        for wrong in WRONG:
            for inner in (result | {"value": wrong}, result | {"value": {"choices": wrong}},
                          result | {"value": {"choices": [wrong]}}):  # fmt: skip
                rows.append(good | {"annotations": [one | {"result": [inner]}]})
    data = json.dumps([good, *rows])

    summary, counts = take_in(home, data, format=format, dry_run=True)

    assert counts["refused_total"] > 5
    assert all(entry["reason"] for entry in summary.refused)
    take_in(home, data, format=format, force=True)
    standing, row = replayed(home, ids[0])
    assert standing == row


def test_too_many_are_refused_and_lists_are_capped(home, ids, monkeypatch):
    many = "image,label\n" + "none.png,cat\n" * 20
    monkeypatch.setattr(imported, "MOST_TOLD", 3)
    summary, counts = take_in(home, many)
    assert counts == {"refused_total": 20}
    assert len(summary.refused) == 3

    monkeypatch.setattr(imported, "MOST_ROWS", 10)
    with pytest.raises(TooLarge, match="more than 10 decisions"):
        take_in(home, many)


def test_a_formula_in_the_export_is_text_and_comes_back(home, ids, open_home):
    classes.add(home, "=1+1", actor="ann")
    decide(home, ids[0], "relabel", "=1+1", actor="@eve")
    data = exported(home)
    row = next(csv.DictReader(io.StringIO(data)))
    assert (row["label"], row["actor"]) == ("'=1+1", "'@eve")
    assert tables.bare(row["label"]) == "=1+1"

    other = open_home("other")
    given.sample(other, 0, "cat")
    classes.add(other, "=1+1", actor="ann")
    assert take_in(other, data)[1] == {"recorded": 1}
    assert seen(other, ids[0])[0] == "=1+1"
