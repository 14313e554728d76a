"""A run in words, for a terminal."""

from typing import Any

from toploss.states import WORDS, Cause
from toploss.times import left
from training.edge import table, when

LOST = 3  # classes
COURSE = ("stage", "epoch", "train_loss", "valid_loss", "accuracy")


def run(found: dict[str, Any]) -> str:
    """As `toploss.records.show` gives it: how it stands, its course, and what came of it."""
    lines = [
        f"run      {found['id']}",
        f"state    {_state(found)}",
        *[f"asked    {when(a['at'])} by {_whom(a)}: {a['reason']}" for a in found["reasons"]],
        *_times(found),
    ]
    if found["fingerprint"]:
        lines.append(f"data     snapshot {found['fingerprint'][:12]}")
    if found["settings"]:
        lines.append(f"recipe   {_recipe(found['settings'])}")
    if found["error"]:
        lines.append(f"error    {found['error']}")
    if found["state"] == "failed" and found["cause"]:
        lines.append(f"why      {WORDS[Cause(found['cause'])]}")
    if found["history"]:
        rows = [[_short(epoch.get(name)) for name in COURSE] for epoch in found["history"]]
        lines += ["", table([name.replace("_", " ") for name in COURSE], rows), ""]
    if found["metrics"]:
        lines += outcome(found)
    return "\n".join(lines)


def outcome(found: dict[str, Any]) -> list[str]:
    """What came of a run: its version, metrics, findings, the gate's word."""
    valid, test = (found["metrics"][split] for split in ("valid", "test"))
    findings = found["diagnosis"] or []
    sound = [finding for finding in findings if finding["verdict"] == "found"]
    open_ = [f["rule"].replace("_", " ") for f in findings if f["verdict"] == "cannot_tell"]
    gate = found["gate"]
    return [
        *([f"version  {found['version']}"] if found["version"] else []),
        f"valid    accuracy {valid['accuracy']:.4f}, loss {valid['loss']:.4f}",
        f"test     accuracy {test['accuracy']:.4f}, loss {test['loss']:.4f}",
        *[f"found    {finding['words']} {finding['remedy']}" for finding in sound],
        *([] if sound else ["found    nothing beyond its threshold"]),
        *([f"         cannot tell: {', '.join(open_)}"] if open_ else []),
        *([f"gate     {gate['verdict']}: {gate['reason']}"] if gate else []),
        *(_evidence(gate) if gate and gate.get("lower") is not None else []),
        *([f"         {gate['outcome']}"] if gate and "outcome" in gate else []),
    ]


def _whom(trigger: dict[str, Any]) -> str:
    """ann (http); local (command); policy."""
    kind, actor = trigger["kind"], trigger["actor"]
    return str(actor) if kind == actor else f"{actor} ({kind})"


def _evidence(gate: dict[str, Any]) -> list[str]:
    """What the verdict's words leave out."""
    lost = [
        f"{one['label']} {one['production']:.3f} to {one['candidate']:.3f} of {one['samples']}"
        for one in gate["classes"][:LOST]
    ]
    return [
        f"         right alone: the candidate on {gate['gained']}, production on {gate['lost']} "
        f"(McNemar's exact p {gate['mcnemar']:.2g})",
        *([f"         lost most: {'; '.join(lost)}"] if lost else []),
    ]


def _state(found: dict[str, Any]) -> str:
    if found["state"] == "queued" and found["not_before"]:
        lost = f"{found['losses']} lost attempt{'s' if found['losses'] > 1 else ''}"
        return f"queued again after {lost}, not before {when(found['not_before'])}"
    if found["state"] in ("succeeded", "failed", "cancelled") or not found["stage"]:
        return str(found["state"])
    epoch = f", epoch {found['epoch']} of {found['epochs']}" if found["epochs"] else ""
    asked = "; asked to stop" if found["cancel_asked"] else ""
    time_left = left(found["left_s"], found["stage_left_s"])
    return f"{found['state']}: {found['stage']}{epoch}{time_left}{asked}"


def _times(found: dict[str, Any]) -> list[str]:
    began, ended = found["started_at"], found["ended_at"]
    if began is None:
        return []
    tries = f", attempt {found['attempt']}" if found["attempt"] > 1 else ""
    took = f", took {ended - began:.0f} s" if ended else ""
    return [f"began    {when(began)}{took}{tries}"]


def _recipe(settings: dict[str, Any]) -> str:
    epochs = f"{settings['epochs_head']} and {settings['epochs_all']} epochs"
    return (
        f"{settings['arch']} at {settings['size']} px, batches of {settings['batch_size']}, "
        f"{epochs}, seed {settings['seed']}"
    )


def _short(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value
