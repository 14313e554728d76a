"""Commands that train here and now."""

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from training import telling
from training.edge import REFUSED, Answer, at_end, command

top = typer.Typer()


def add_to(app: typer.Typer) -> None:
    app.add_typer(top)


def _setting(name: str, words: str, otherwise: str, **options: Any) -> Any:
    """An option that a setting stands behind."""
    return typer.Option(
        help=f"{words} Default: TOPLOSS_TRAIN_{name}, {otherwise}.", show_default=False, **options
    )


Arch = Annotated[str | None, _setting("ARCH", "torchvision's or timm's name.", "resnet34")]
Weights = Annotated[
    str | None,
    _setting(
        "WEIGHTS",
        "ImageNet's, random (both stages then train all layers), or a .pth or .safetensors file.",
        "default",
        metavar="default|none|FILE",
    ),
]
Size = Annotated[int | None, _setting("SIZE", "Side of the images in pixels.", "224")]
BatchSize = Annotated[int | None, _setting("BATCH_SIZE", "Images in a step.", "32")]
EpochsHead = Annotated[int | None, _setting("EPOCHS_HEAD", "Epochs of stage one.", "4")]
EpochsAll = Annotated[int | None, _setting("EPOCHS_ALL", "Epochs of stage two.", "8")]
Rate = Annotated[
    str | None,
    _setting("LR", "The rate finder's, or stage one's peak.", "auto", metavar="auto|X"),
]
Seed = Annotated[int | None, _setting("SEED", "The training's seed.", "42")]
Folds = Annotated[
    int | None,
    _setting(
        "FOLDS",
        "Held-out losses of the whole pool by so many folds; 0: of the validation split alone.",
        "5 where a pretrained body makes them cheap or the kind of folds is given, else 0",
        metavar="K",
    ),
]
FullFolds = Annotated[
    bool | None,
    typer.Option(
        "--full-folds/--frozen-folds",
        help="Each fold by the whole recipe, or by a head on the frozen body's features. "
        "Default: the whole recipe from scratch, else a head.",
    ),
]
Flip = Annotated[
    bool | None, typer.Option("--flip/--no-flip", help="Mirror training images. Default: yes.")
]
Balance = Annotated[
    bool | None,
    typer.Option(
        "--balance/--no-balance",
        help="Draw training images so that every class comes as often. Default: no.",
    ),
]
Cache = Annotated[
    bool | None,
    typer.Option(
        "--cache/--no-cache",
        help="Stage one on features that the frozen body makes once, unaugmented. Default: yes.",
    ),
]


@command(top, "train")
def train(
    arch: Arch = None,
    weights: Weights = None,
    size: Size = None,
    batch_size: BatchSize = None,
    epochs_head: EpochsHead = None,
    epochs_all: EpochsAll = None,
    lr: Rate = None,
    seed: Seed = None,
    folds: Folds = None,
    full_folds: FullFolds = None,
    flip: Flip = None,
    balance: Balance = None,
    cache: Cache = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="RUN/STAGE",
            help="Go on from a stage of an earlier run, as in RUN/stage-1, with its settings.",
        ),
    ] = None,
    no_promote: Annotated[
        bool, typer.Option("--no-promote", help="Publish and judge, but leave production.")
    ] = False,
) -> Answer:
    """Train once, here and now: freeze the data, two stages, publish, ask the gate."""
    from toploss.home import Home
    from training.fitting import fit

    settings: dict[str, Any] = {
        "arch": arch,
        "weights": weights,
        "size": size,
        "batch_size": batch_size,
        "epochs_head": epochs_head,
        "epochs_all": epochs_all,
        "lr": _rate(lr),
        "seed": seed,
        "folds": folds,
        "full_folds": full_folds,
        "flip": flip,
        "balance": balance,
        "cache": cache,
    }
    home = Home.open()
    assist_the_first(home)
    result = fit(home=home, start=start, promote=not no_promote, watch=bar(), **settings)
    return answered(result)


def assist_the_first(home: Any) -> None:
    """Of processes that train together, all but the first train along as it says, and end here: it
    alone has something to say."""
    from training import ranks
    from training.lesson import assist, hardware

    if not ranks.join(hardware(home)).first:
        assist(home)
        raise typer.Exit


@command(top, "lr-find")
def lr_find(
    stage: Annotated[
        int, typer.Option(min=1, max=2, help="At the beginning of which stage; 2 trains 1 first.")
    ] = 1,
    out: Annotated[Path, typer.Option(help="Where to write the curve.")] = Path("lr-find.png"),
    arch: Arch = None,
    weights: Weights = None,
    size: Size = None,
    batch_size: BatchSize = None,
    epochs_head: EpochsHead = None,
    seed: Seed = None,
    flip: Flip = None,
    balance: Balance = None,
    cache: Cache = None,
) -> Answer:
    """Sweep the learning rate alone: the curve as PNG, the suggestion and why."""
    from toploss.errors import BadInput
    from toploss.home import Home
    from toploss.plan import Plan
    from training.sweeps import draw, sweep
    from training.watching import Watching

    if not out.parent.is_dir():  # known before a sweep that takes minutes
        raise BadInput(
            f"{str(out)!r} cannot be written (there is no folder {str(out.parent)!r}); "
            "name another file"
        )
    home = Home.open()
    settings = {
        "arch": arch,
        "weights": weights,
        "size": size,
        "batch_size": batch_size,
        "epochs_head": epochs_head,
        "seed": seed,
        "flip": flip,
        "balance": balance,
        "cache": cache,
    }
    plan = Plan.from_settings(home.settings).but(**settings)
    found = sweep(home, plan, stage, Watching(bar()))
    draw(found, out)
    rate = found.chosen if stage == 1 else 3 * found.chosen
    text = (
        f"rate     {found.chosen:.1e}, {found.why}\n"
        f"curve    {out}\n"
        f"use it   toploss train {_options(settings)}--lr {rate:.1e}"
        + ("" if stage == 1 else "  (stage two's peak is a third of --lr)")
    )
    return Answer({"stage": stage, "curve": str(out), **vars(found)}, text)


def _options(settings: dict[str, Any]) -> str:
    """What was given, as it is given again."""
    text = ""
    for name, value in settings.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            text += f"--{option} " if value else f"--no-{option} "
        elif value is not None:
            text += f"--{option} {shlex.quote(str(value))} "
    return text


def answered(result: Any) -> Answer:
    """How a run ended, for programs and for people; refused, when it was not promoted as wanted."""
    if result.gate["promoted"] or not result.gate["wanted"]:
        return Answer(vars(result), _told(result))
    complaint = (
        f"version {result.version} was {result.gate['outcome']}; "
        f"`toploss models promote {result.version} --reason TEXT` promotes it all the same"
    )
    return Answer(vars(result), _told(result), REFUSED, complaint)


def bar() -> Callable[[str, float], None]:
    """A bar per stage on standard error, and only on a terminal."""
    if not sys.stderr.isatty():
        return lambda *_: None
    from rich.console import Console
    from rich.progress import Progress

    shown = Progress(console=Console(stderr=True), transient=True)
    at_end(shown.stop)
    tasks: dict[str, Any] = {}

    def follow(stage: str, done: float) -> None:
        if stage not in tasks:
            for task in tasks.values():
                shown.remove_task(task)
            tasks.clear()
            tasks[stage] = shown.add_task(stage, total=1.0)
            shown.start()
        shown.update(tasks[stage], completed=done)

    return follow


def _rate(text: str | None) -> float | str | None:
    if text is None or text == "auto":
        return text
    try:
        return float(text)
    except ValueError as exc:
        raise typer.BadParameter(
            f"{text!r} is neither a number nor auto; give one of them", param_hint="--lr"
        ) from exc


def _told(result: Any) -> str:
    run, report = f"run      {result.run}", f"report   toploss runs report {result.run}"
    return "\n".join([run, *telling.outcome(vars(result)), report])
