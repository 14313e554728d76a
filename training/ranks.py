"""Several processes that train one network together, under torchrun or accelerate."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor, nn

from toploss.errors import BadInput
from toploss.settings import torchrun_places


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """This process among those that train together."""

    rank: int = 0  # the first one alone writes anything down
    world: int = 1  # how many there are
    here: int = 1  # of them on this machine

    @property
    def alone(self) -> bool:
        return self.world == 1

    @property
    def first(self) -> bool:
        return self.rank == 0

    def share(self, batch_size: int) -> int:
        """Images of a batch that this process takes. Raises BadInput: too few for all."""
        share = batch_size // self.world
        if share < 2:
            raise BadInput(
                f"a batch of {batch_size} images is too small for {self.world} processes; "
                "give a larger --batch-size or start fewer"
            )
        return share

    def wrap(self, module: nn.Module) -> Callable[[Tensor], Tensor]:
        """The module, or one that averages the gradients of all processes. What is frozen must be
        frozen before."""
        if self.alone:
            return module
        return nn.parallel.DistributedDataParallel(module)

    def agree(self, module: nn.Module) -> None:
        """Give every process the first one's parameters and statistics."""
        if not self.alone:
            for tensor in module.state_dict().values():
                dist.broadcast(tensor, src=0)

    def told(self, something: Any) -> Any:
        """What the first process says, in every process."""
        if self.alone:
            return something
        said = [something]
        dist.broadcast_object_list(said, src=0)
        return said[0]

    def together(self, mine: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Rows that the processes made of every `world`-th item each, in the items' order."""
        if self.alone:
            return mine
        parts: list[Any] = [None] * self.world
        dist.all_gather_object(parts, mine)
        whole = np.empty((sum(map(len, parts)), *mine.shape[1:]), mine.dtype)
        for rank, part in enumerate(parts):
            whole[rank :: self.world] = part
        return whole


ALONE = Ranks()


def first() -> bool:
    """Whether this process is the first one of all, or the only one; before it has met any."""
    return not dist.is_torchelastic_launched() or torchrun_places()[0] == 0


def join(device: str) -> Ranks:
    """Meet the other processes, if torchrun started this one among several.

    Raises:
        BadInput: there are more processes on this machine than GPUs.
    """
    if not dist.is_torchelastic_launched():
        return ALONE
    if not dist.is_initialized():
        if device == "cuda":
            number, there = dist.get_node_local_rank(), torch.cuda.device_count()
            if number >= there:
                raise BadInput(
                    f"{number + 1} processes or more share {there} GPUs; start torchrun with "
                    f"--nproc-per-node {there}, or set TOPLOSS_DEVICE=cpu"
                )
            torch.cuda.set_device(number)
        dist.init_process_group("nccl" if device == "cuda" else "gloo")
    _, here = torchrun_places()
    return Ranks(rank=dist.get_rank(), world=dist.get_world_size(), here=here)


def leave() -> None:
    """Where processes train together, they part here."""
    if dist.is_initialized():
        dist.destroy_process_group()
