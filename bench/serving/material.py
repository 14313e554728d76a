"""What is served: a version of each network, and photographs to send."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

import training
from toploss import models
from toploss.home import Home
from toploss.settings import read_settings

SENT = (512, 384)  # pixels, width and height
PHOTOGRAPHS = 16
CLASSES = 6


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A network to serve, in a home of its own."""

    arch: str
    folder: Path
    home: Path
    versions: tuple[str, ...]  # two, production's first
    version: Path  # production's folder
    learner: Path  # the same network, pickled by fastai
    photographs: list[Path]

    @classmethod
    def make(cls, folder: Path, arch: str, size: int) -> Self:
        home = folder / "home"
        names = _trained(home, arch, size)
        return cls(
            arch=arch,
            folder=folder,
            home=home,
            versions=names,
            version=home / "storage" / "versions" / names[0],
            learner=_learner(home, arch, size),
            photographs=_photographs(folder / "photographs"),
        )


def _photographs(folder: Path) -> list[Path]:
    """JPEG files: cut-outs of scikit-learn's two photographs, of the size that phones' pictures
    have in data sets like TrashNet."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    scenes = [Image.fromarray(scene) for scene in load_sample_images().images]
    paths = []
    for number in range(PHOTOGRAPHS):
        scene = scenes[number % len(scenes)]
        width = int(random.integers(400, scene.height * SENT[0] // SENT[1]))
        height = width * SENT[1] // SENT[0]
        left = int(random.integers(0, scene.width - width + 1))
        top = int(random.integers(0, scene.height - height + 1))
        cut = scene.crop((left, top, left + width, top + height)).resize(SENT)
        out = io.BytesIO()
        cut.save(out, "JPEG", quality=90)
        paths.append(folder / f"{number}.jpg")
        paths[-1].write_bytes(out.getvalue())
    return paths


def _trained(folder: Path, arch: str, size: int) -> tuple[str, ...]:
    """A home with two versions of this network; the first of them is its production.

    It learns next to nothing, of noise, from scratch: what it costs to serve does not depend on
    what its weights are.
    """
    home = Home.open(read_settings(home=folder))
    random = np.random.default_rng(0)
    for split, each in (("train", 4), ("valid", 3), ("test", 3)):
        for label in range(CLASSES):
            for number in range(each):
                path = folder / "images" / split / f"class-{label}" / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                values = random.integers(0, 256, (64, 64, 3), np.uint8)
                Image.fromarray(values).save(path)
    training.from_folder(folder / "images", home=home)
    names = tuple(
        training.fit(
            home=home,
            arch=arch,
            weights="none",
            size=size,
            batch_size=8,
            epochs_head=0,
            epochs_all=1,
            lr=1e-4,
            folds=0,
            seed=seed,
        ).version
        for seed in range(2)
    )
    models.promote(home, names[0], reason="to be measured", actor="bench")
    return names


def _learner(folder: Path, arch: str, size: int) -> Path:
    """What `learn.predict` is asked of: a pickled learner of the same network, as the course
    exports it."""
    from fastai.vision import models as bodies
    from fastai.vision.all import ImageDataLoaders, Resize, ResizeMethod, vision_learner

    dls = ImageDataLoaders.from_folder(
        folder / "images",
        train="train",
        valid="valid",
        item_tfms=Resize(size, method=ResizeMethod.Squish),
        bs=8,
        num_workers=0,
    )
    learn = vision_learner(dls, getattr(bodies, arch), pretrained=False)
    path = folder / "learner.pkl"
    learn.export(path)
    return path
