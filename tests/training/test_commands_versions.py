"""Commands on versions: promoted, rolled back, beside production, asked."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from click.testing import Result

from tests.conftest import coloured
from tests.training.commands import BAD_FILES, RECIPE, Toploss, answer, complaint
from toploss import lineage, models, records, runs, servers, shadow
from toploss.home import Home
from toploss.servers import Standing
from training.run import Result as Trained


def test_what_a_rule_forbids_is_3(toploss: Toploss, learned_home: Callable[..., Home]) -> None:
    home = learned_home()
    ended = records.listed(home)[0]["id"]

    assert "the data or the settings" in complaint(toploss("retrain", home=home), 3)
    assert "nothing is due" in complaint(toploss("retrain", "--if-due", home=home), 3)
    assert "succeeded already" in complaint(toploss("runs", "cancel", ended, home=home), 3)
    assert "toploss models promote" in complaint(toploss("models", "rollback", home=home), 3)
    answer(toploss("retrain", "--force", "--json", home=home))
    assert runs.claim(home, owner="elsewhere:1:1.0") is not None
    assert "toploss runs cancel" in complaint(toploss("train", *RECIPE, home=home), 3)


def test_a_candidate_that_the_gate_refuses_is_3(
    learned: tuple[Path, Trained],
    refused: tuple[Path, Result],
    refused_home: tuple[Home, dict[str, Any]],
) -> None:
    result, (home, told) = refused[1], refused_home

    assert (told["gate"]["verdict"], told["gate"]["promoted"]) == ("reject", False)
    assert {"run", "version", "fingerprint", "metrics", "history", "gate"} <= told.keys()
    assert f"`toploss models promote {told['version']} --reason" in complaint(result, 3)
    alias = models.production(home)
    assert alias is not None
    assert (alias.version, alias.generation) == (learned[1].version, 1)


def test_predict_goes_on_after_a_bad_file(
    toploss: Toploss, learned_home: Callable[..., Home], tmp_path: Path
) -> None:
    (tmp_path / "good.png").write_bytes(coloured("red", 1))
    files = [tmp_path / "good.png"]
    for name, data, _ in BAD_FILES[:4]:
        files.append(tmp_path / name)
        files[-1].write_bytes(data)

    told = answer(toploss("predict", *files, "--json", home=learned_home()))

    assert [entry.get("label") for entry in told["predictions"]] == ["red", *[None] * 4]
    for entry, (_, _, words) in zip(told["predictions"][1:], BAD_FILES[:4], strict=True):
        assert all(word in entry["error"] for word in words)


def test_to_override_the_gate_takes_a_reason_and_is_told(
    toploss: Toploss, refused_home: tuple[Home, dict[str, Any]]
) -> None:
    home, version = refused_home[0], refused_home[1]["version"]

    line = complaint(toploss("models", "promote", version, home=home), 3)
    assert "the gate refused version" in line
    assert f"`toploss models promote {version} --reason TEXT`" in line
    assert complaint(toploss("models", "promote", version, "--reason", " ", home=home), 3) == line
    told = toploss("models", "promote", version, "--reason", "it is small", home=home).stdout

    assert "generation 2, an override of the gate" in told
    assert "an override of the gate" in toploss("models", "list", home=home).stdout
    (latest, first) = answer(toploss("models", "moves", "--json", home=home))["moves"]
    assert (latest["kind"], latest["reason"], latest["actor"]) == (
        "override",
        "it is small",
        "local",
    )
    assert first["kind"] == "promote"


def test_rollback_answers_in_json(
    toploss: Toploss, refused_home: tuple[Home, dict[str, Any]]
) -> None:
    home, second = refused_home[0], refused_home[1]["version"]
    first = models.get(home, "production").name
    answer(toploss("models", "promote", second, "--reason", "to see", "--json", home=home))

    told = answer(toploss("models", "rollback", "--json", home=home))

    assert told == {"version": first, "generation": 3, "kind": "rollback"}
    assert "paused" in toploss("retraining", "status", home=home).stdout


def test_a_server_that_does_not_come_to_production_is_listed(
    toploss: Toploss, learned_home: Callable[..., Home]
) -> None:
    home = learned_home()
    late = Standing(version=None, generation=None, wanted=1, waits_s=99, error="it is full")
    with home.db.write() as connection:
        servers.say(connection, "a", "host:1", late)

    (told,) = answer(toploss("models", "list", "--json", home=home))["behind"]
    assert (told["server"], told["version"], told["error"]) == ("host:1", None, "it is full")
    shown = toploss("models", "list", home=home).stdout
    assert "server host:1 answers with no version, and not with production for 99 s" in shown


def test_a_candidate_beside_production(
    toploss: Toploss, refused_home: tuple[Home, dict[str, Any]]
) -> None:
    home, second = refused_home[0], refused_home[1]["version"]
    first = models.get(home, "production").name
    assert "name another one" in complaint(toploss("models", "shadow", first, home=home), 3)
    assert "scored nothing" in toploss("models", "agreement", first, home=home).stdout

    told = answer(toploss("models", "shadow", second, "--json", home=home))
    assert told == {"version": second, "shadow": True}
    assert "shadow: scores beside production" in toploss("models", "list", home=home).stdout
    shadow.add(home, second, first, {("red", "red"): 3, ("red", "blue"): 1})
    shown = toploss("models", "agreement", second, home=home).stdout
    assert f"3 of 4 as {first} (0.7500)" in shown
    assert "red" in shown
    assert "blue" in shown
    (against,) = answer(toploss("models", "agreement", second, "--json", home=home))["against"]
    assert against["agreement"] == 0.75
    toploss("models", "shadow", second, "--end", home=home)
    listed = answer(toploss("models", "list", "--json", home=home))["versions"]
    assert not any(version["shadow"] for version in listed)
    assert "nothing to end" in complaint(toploss("models", "shadow", second, "--end", home=home), 4)


def test_prune_says_what_goes_and_why_and_then_it_is_gone(
    toploss: Toploss, refused_home: tuple[Home, dict[str, Any]]
) -> None:
    home, second = refused_home[0], refused_home[1]["version"]
    first = models.get(home, "production").name
    hard = ("--keep", "0", "--days", "0", "--checkpoint-days", "0")
    assert "would go: nothing" in toploss("models", "prune", "--dry-run", home=home).stdout

    told = answer(toploss("models", "prune", "--dry-run", "--json", *hard, home=home))
    kinds = sorted((item["kind"], item["name"]) for item in told["going"])
    of_runs = sorted(("checkpoints", run["id"]) for run in records.listed(home))
    assert kinds == [*of_runs, ("version", second)]
    assert told["bytes"] == sum(item["bytes"] for item in told["going"]) > 10_000
    (stays,) = [item for item in told["staying"] if item["kind"] == "version"]
    assert (stays["name"], stays["why"]) == (first, "it is in production")
    assert "it is in production" in toploss("models", "prune", "--dry-run", home=home).stdout

    assert "gone: " in toploss("models", "prune", *hard, home=home).stdout

    listed = toploss("models", "list", home=home).stdout
    assert "pruned 20" in next(line for line in listed.splitlines() if second in line)
    for line in (("models", "promote", second), ("models", "pull", second)):
        assert "was pruned on" in complaint(toploss(*line, home=home), 3)
    run = models.get(home, second).run
    assert "was pruned on" in complaint(toploss("runs", "replay", run, home=home), 3)
    resumed = complaint(toploss("train", "--from", f"{run}/stage-1", home=home), 4)
    assert "TOPLOSS_KEEP_CHECKPOINT_DAYS" in resumed
    assert answer(toploss("models", "show", second, "--json", home=home))["version"] == second


def test_lineage_reads_both_ways(toploss: Toploss, learned_home: Callable[..., Home]) -> None:
    home = learned_home()
    version = models.get(home, "production")
    row = next(lineage.every_row(home, version.name))

    told = toploss("models", "lineage", "production", home=home).stdout
    for said in (version.name, version.run, "toploss train", "began with no network of ours"):
        assert said in told
    assert "48 train, 15 valid, 24 test" in told
    assert "promote to production, generation 1" in told
    told = toploss("samples", "lineage", row.id, home=home).stdout
    assert version.name in told
    assert ("learned" if row.split == "train" else "held-out") in told
    assert "no sample" in complaint(toploss("samples", "lineage", "0" * 64, home=home), 4)
    assert "no version" in complaint(toploss("models", "lineage", "nobody", home=home), 4)
