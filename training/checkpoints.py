"""Where a training stands after an epoch: enough to go on as if it had never stopped.

A checkpoint is one safetensors file: tensors, and beside them JSON; no pickle. It needs no random
state, since every epoch draws from a seed of its own.
"""

import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save_file
from torch import Tensor, nn

from toploss.errors import Broken
from toploss.home import Home
from training import patience
from training.trained import Trained

MOMENT = "moment"


@dataclass(frozen=True, kw_only=True)
class Moment:
    """A training after so many epochs of a stage."""

    stage: str
    epochs: int  # of that stage, done
    trained: Trained
    weights: dict[str, Tensor]
    optimizer: list[dict[str, Any]]  # fastai's state of each parameter, in order

    def write(self, file: Path) -> None:
        """As one file; straight from the tensors, for memory may be short."""
        tensors = {f"weights.{key}": _plain(value) for key, value in self.weights.items()}
        rest: list[dict[str, Any]] = []
        for place, state in enumerate(self.optimizer):
            rest.append({k: v for k, v in state.items() if not isinstance(v, Tensor)})
            for key, value in state.items():
                if isinstance(value, Tensor):
                    tensors[f"optimizer.{place}.{key}"] = _plain(value)
        told = {
            "stage": self.stage,
            "epochs": self.epochs,
            "trained": asdict(self.trained),
            "optimizer": rest,
        }
        save_file(tensors, file, metadata={"moment": json.dumps(told)})

    @classmethod
    def read(cls, data: bytes) -> "Moment":
        """Raises Broken: damaged."""
        try:
            length = int.from_bytes(data[:8], "little")
            header = json.loads(data[8 : 8 + length])
            told = json.loads(header["__metadata__"]["moment"])
            tensors = load_tensors(data)
        except (ValueError, KeyError, SafetensorError) as exc:
            raise Broken(f"the checkpoint is damaged ({exc}); start the training anew") from exc
        optimizer = told["optimizer"]
        for key, place, name in _keys(tensors, "optimizer"):
            optimizer[int(place)][name] = tensors[key]
        return cls(
            stage=told["stage"],
            epochs=told["epochs"],
            trained=Trained.from_json(told["trained"]),
            weights={
                key.removeprefix("weights."): value
                for key, value in tensors.items()
                if key.startswith("weights.")
            },
            optimizer=optimizer,
        )


class Keeper(Protocol):
    """Keeps a training's checkpoints."""

    def last(self) -> Moment | None:
        """Where to go on; None: at the beginning."""

    def moment(self, moment: Moment) -> None:
        """After an epoch."""

    def stage(self, name: str, network: nn.Module) -> None:
        """After a stage: a network under a name."""


class Forgetful:
    """Keeps nothing."""

    def last(self) -> Moment | None:
        return None

    def moment(self, moment: Moment) -> None:
        pass

    def stage(self, name: str, network: nn.Module) -> None:
        pass


class Checkpoints:
    """A run's checkpoints in the storage.

    Args:
        writes: False for all but the first of processes that train together.
    """

    def __init__(self, home: Home, run: str, *, writes: bool = True) -> None:
        self._home, self._run, self._writes = home, run, writes

    def last(self) -> Moment | None:
        kept = path(self._run, MOMENT)
        return Moment.read(self._home.blobs.get(kept)) if self._home.blobs.exists(kept) else None

    def moment(self, moment: Moment) -> None:
        if self._writes:
            self._put(MOMENT, moment.write)

    def stage(self, name: str, network: nn.Module) -> None:
        if self._writes:
            state = {key: _plain(value) for key, value in network.state_dict().items()}
            self._put(name, lambda file: save_file(state, file))

    def _put(self, name: str, write: Callable[[Path], object]) -> None:
        with tempfile.TemporaryDirectory(prefix="toploss-") as scratch:
            file = Path(scratch) / name
            write(file)
            put = self._home.blobs.put_file
            patience.through(self._home, lambda: put(path(self._run, name), file))

    def clear(self) -> None:
        """The run has ended: its moment is of no more use."""
        self._home.blobs.delete([path(self._run, MOMENT)])


def path(run: str, stage: str) -> str:
    """Where a run's `stage-1`, `stage-2` or last moment lies in the storage."""
    return f"runs/{run}/{stage}.safetensors"


def _plain(value: Tensor) -> Tensor:
    return value.detach().cpu().contiguous()


def _keys(tensors: dict[str, Tensor], kind: str) -> Iterator[tuple[str, str, str]]:
    for key in tensors:
        if key.startswith(f"{kind}."):
            _, place, name = key.split(".", 2)
            yield key, place, name
