"""A run's report: one self-contained page."""

import io
from html import escape
from typing import Any

from training.recipe import Finder, Trained

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 54rem; margin: 2rem auto; padding: 0 1rem;
       color: #1b1f24; background: #fff }
h1 { font-size: 1.5rem; overflow-wrap: anywhere } h2 { font-size: 1.1rem; margin-top: 2rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .2rem .7rem; text-align: right; border-bottom: 1px solid #d5dae0 }
th:first-child, td:first-child { text-align: left; white-space: nowrap }
td.hit { background: #d9f2e3 } td.miss { background: #fbe3df }
.scroll { overflow-x: auto } svg { max-width: 100%; height: auto }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem } dt { color: #59636e }
dd { margin: 0; overflow-wrap: anywhere }
"""


def page(manifest: dict[str, Any], trained: Trained, confusion: list[list[int]]) -> str:
    """The report as HTML; needs nothing beside it.

    Args:
        manifest: of the version, with its gate's verdict.
        confusion: counts on test; row, the true class; column, the predicted one.
    """
    gate = manifest["gate"]
    parts = [
        f"<h1>Version {escape(manifest['version'])}</h1>",
        f"<p><strong>Gate: {escape(gate['verdict'])}.</strong> {escape(gate['reason'])}.</p>",
        "<h2>Metrics</h2>",
        _table(
            ["split", "samples", "accuracy", "loss (nats)"],
            [
                [
                    split,
                    str(sum(manifest["snapshot"]["counts"][split].values())),
                    f"{measured['accuracy']:.4f}",
                    f"{measured['loss']:.4f}",
                ]
                for split, measured in manifest["metrics"].items()
            ],
        ),
        "<h2>Learning curves</h2>",
        _curves(trained),
        _epochs(trained),
    ]
    if trained.finder:
        parts += ["<h2>Rate finder</h2>", _sweep(trained.finder)]
        parts.append(f"<p>Chosen: {trained.finder.chosen:.1e}, {escape(trained.finder.why)}.</p>")
    parts += [
        "<h2>Confusion on test</h2>",
        "<p>Rows are the labels, columns the predictions.</p>",
        _confusion(manifest["labels"], confusion),
        "<h2>Settings</h2>",
        _settings(manifest),
    ]
    title = f"Toploss · {escape(manifest['version'])}"
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}</style><body>{''.join(parts)}</body></html>\n"
    )


def _epochs(trained: Trained) -> str:
    rows = [
        [
            e.stage,
            str(e.epoch),
            f"{e.train_loss:.4f}",
            f"{e.valid_loss:.4f}",
            f"{e.accuracy:.4f}",
        ]
        for e in trained.history
    ]
    return _table(["stage", "epoch", "train loss", "valid loss", "valid accuracy"], rows)


def _confusion(labels: list[str], counts: list[list[int]]) -> str:
    head = "".join(f"<th>{escape(label)}</th>" for label in ["", *labels])
    body = ""
    for place, (label, row) in enumerate(zip(labels, counts, strict=True)):
        cells = ""
        for column, number in enumerate(row):
            kind = "" if not number else " class=hit" if column == place else " class=miss"
            cells += f"<td{kind}>{number or '·'}</td>"
        body += f"<tr><th>{escape(label)}</th>{cells}</tr>"
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'


def _settings(manifest: dict[str, Any]) -> str:
    shown = {
        "run": manifest["run"],
        "snapshot": manifest["snapshot"]["fingerprint"],
        **manifest["settings"],
        "threads": manifest["threads"],
        "parity": ", ".join(
            f"{engine} {apart:.1e}" for engine, apart in manifest["parity"]["difference"].items()
        ),
        "code": f"toploss {manifest['code']['toploss']}",
        **manifest["libraries"],
    }
    items = "".join(
        f"<dt>{escape(key)}</dt><dd>{escape(str(value))}</dd>" for key, value in shown.items()
    )
    return f"<dl>{items}</dl>"


def _table(head: list[str], rows: list[list[str]]) -> str:
    def line(cells: list[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    body = line(head, "th") + "".join(line(row, "td") for row in rows)
    return f'<div class="scroll"><table>{body}</table></div>'


def _curves(trained: Trained) -> str:
    steps = list(range(1, len(trained.history) + 1))
    figure, axes = _figure()
    axes.plot(steps, [e.train_loss for e in trained.history], marker="o", label="train (augmented)")
    axes.plot(steps, [e.valid_loss for e in trained.history], marker="s", label="valid")
    border = sum(e.stage == "stage-1" for e in trained.history) + 0.5
    axes.axvline(border, color="#8a939c", linestyle=":", label="stage two begins")
    axes.set_xlabel("epoch")
    axes.set_ylabel("loss (nats)")
    axes.set_yscale("log")  # the first epoch may be a hundred times the last
    axes.set_xticks(steps)
    axes.legend(frameon=False)
    return _svg(figure, "Loss on train and valid after every epoch")


def _sweep(finder: Finder) -> str:
    figure, axes = _figure()
    axes.plot(finder.rates, finder.losses)
    axes.axvline(finder.chosen, color="#b3261e", linestyle="--", label=f"{finder.chosen:.1e}")
    axes.set_xscale("log")
    axes.set_ylim(top=1.5 * finder.losses[0])
    axes.set_xlabel("learning rate")
    axes.set_ylabel("loss (nats, smoothed)")
    axes.legend(frameon=False)
    return _svg(figure, "Loss over the learning rate, with the chosen rate")


def _figure() -> tuple[Any, Any]:
    # Not pyplot: it keeps figures, and asks for a screen.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _svg(figure: Any, description: str) -> str:
    out = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))  # else RDF about the drawing
    figure.savefig(out, format="svg", metadata=nothing)
    drawing = out.getvalue()
    drawing = drawing[drawing.index("<svg") :]
    return drawing.replace("<svg", f'<svg role="img" aria-label="{escape(description)}"', 1)
