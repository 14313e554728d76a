"""Images in, two-stage training, a version out. The only package that imports fastai, and late."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from training.fitting import fit
    from training.intake import from_csv, from_df, from_folder

__all__ = ["fit", "from_csv", "from_df", "from_folder"]


def __getattr__(name: str) -> Any:
    import importlib

    modules = {"fit": "training.fitting"} | dict.fromkeys(
        ("from_csv", "from_df", "from_folder"), "training.intake"
    )
    if name not in modules:
        raise AttributeError(f"module 'training' has no attribute {name!r}")
    return getattr(importlib.import_module(modules[name]), name)
