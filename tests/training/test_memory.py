"""Out of memory: the batch is taken in parts, and the next run knows."""

import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.conftest import QUICK
from toploss import attempts, records, runs, snapshots
from toploss.home import Home
from toploss.network import build
from toploss.plan import Plan
from training import lesson, randomness, recipe
from training.data import Pictures, preprocessing
from training.follower import Unheard
from training.memory import in_portions
from training.trained import Epoch, Trained


class Heard(Unheard):
    def __init__(self) -> None:
        self.parts: list[int] = []
        self.tensors: list[int] = []  # that there were after each epoch

    def parted(self, images: int) -> None:
        self.parts.append(images)

    def epoch(self, epoch: Epoch) -> None:
        gc.collect()
        self.tensors.append(sum(issubclass(type(kept), Tensor) for kept in gc.get_objects()))


class Small(nn.Module):
    """A body that finds no memory for more than so many images at once, in training."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def forward(self, images: Tensor) -> Tensor:
        if self.training and len(images) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return images


def train(home: Home, most: int, **settings: Any) -> tuple[Trained, Heard, dict[str, Tensor]]:
    plan = Plan.from_settings(home.settings).but(**{**QUICK, "batch_size": 20, **settings})
    material = lesson.material(Pictures(home, preprocessing(plan)), snapshots.freeze(home))
    randomness.seed(1, 2)
    net = build("squeezenet1_1", 3)  # without batch norm in its body
    net.body.insert(0, Small(most))
    heard = Heard()
    trained = recipe.train(net, material, plan, heard)
    return trained, heard, net.state_dict()


def test_the_batch_is_halved_until_it_fits(learned_home: Callable[..., Home]) -> None:
    trained, heard, _ = train(learned_home(), most=6)

    assert heard.parts == [10, 5]
    assert trained.part == 5
    assert len(trained.losses) == 5 * 2  # as many steps as ever: 48 images in batches of 20


def test_no_step_leaves_a_tensor_behind(learned_home: Callable[..., Home]) -> None:
    """fastai's recorder keeps one of each; a long training would grow by them, and by the memory
    that they cut into pieces."""
    _, heard, _ = train(learned_home(), most=20, epochs_head=1, epochs_all=5, batch_size=4)

    assert heard.tensors[2] == heard.tensors[5]


def test_a_network_that_never_fits_is_an_error(learned_home: Callable[..., Home]) -> None:
    with pytest.raises(torch.OutOfMemoryError):
        train(learned_home(), most=1)


def test_parts_make_the_steps_of_the_whole() -> None:
    """Without batch norm and dropout the gradients of uneven parts add up to the batch's."""
    from training.learner import make

    torch.manual_seed(0)
    images, truth = torch.randn(7, 5), torch.randint(0, 3, (7,))

    def stepped(part: int | None) -> Tensor:
        torch.manual_seed(1)
        module = nn.Linear(5, 3)
        pairs = list(zip(images, truth, strict=True))
        learner = make(
            module, _loaders(pairs), [list(module.parameters())], scratch=Path(), part=part
        )
        learner.fit(2, 0.1)
        return module.weight.detach()

    assert torch.allclose(stepped(None), stepped(3), atol=1e-6)


def _loaders(pairs: list[tuple[Tensor, Tensor]], size: int = 4) -> Any:
    from fastai.data.core import DataLoaders, TfmdDL

    return DataLoaders(*[TfmdDL(pairs, bs=size, num_workers=0) for _ in range(2)])


def test_no_part_is_a_single_image() -> None:
    """Five images two at a time are two parts, not three: batch norm has no statistics of one."""
    from training.learner import make

    seen: list[int] = []

    class Norm(nn.BatchNorm1d):
        def forward(self, values: Tensor) -> Tensor:
            seen.append(len(values))
            return super().forward(values)

    module = nn.Sequential(Norm(5), nn.Linear(5, 3))
    pairs = list(zip(torch.randn(5, 5), torch.randint(0, 3, (5,)), strict=True))
    loaders = _loaders(pairs, size=5)
    learner = make(module, loaders, [list(module.parameters())], scratch=Path(), part=2)
    learner.fit(1, 0.1)

    assert seen[:2] == [3, 2]


def test_the_next_run_knows(learned_home: Callable[..., Home]) -> None:
    home = learned_home()
    plan = Plan.from_settings(home.settings).but(**QUICK)
    lease = runs.start(home, plan, owner="", actor="test", promote=False)
    attempts.note(home, lease, plan=plan.as_json() | {"part": 4})

    assert records.parted(home, plan).part == 4
    assert records.parted(home, plan.but(size=64)).part is None


def test_portions_are_halved_where_memory_runs_out() -> None:
    done: list[int] = []

    def work(start: int, stop: int) -> None:
        if stop - start > 3:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        done.extend(range(start, stop))

    in_portions(11, 8, work)

    assert done == list(range(11))
    with pytest.raises(RuntimeError, match="another"):
        in_portions(1, 8, _fails)


def _fails(start: int, stop: int) -> None:
    raise RuntimeError("another fault")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere RLIMIT_DATA is not kept to")
def test_a_limit_is_met_with_an_error_that_we_know() -> None:
    code = """
import re, torch
from pathlib import Path
from training import memory
torch.ones(10).sum()
taken = int(re.search(r"VmData:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
memory.limit(taken + 200 * 2**20)
torch.empty(100 * 2**20, dtype=torch.uint8)
try:
    torch.empty(400 * 2**20, dtype=torch.uint8)
except RuntimeError as exc:
    print(memory.exhausted(exc))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "True\n", done.stderr


# The limit holds from the first epoch to the evaluation: what comes after loads libraries.
LIMITED = """
import json, resource, sys
from pathlib import Path
import torch
torch.backends.mkldnn.set_flags(False)  # oneDNN dies where it finds no room for its own code
from toploss.home import Home
from training import fit
spare = int(sys.argv[2]) * 2**20
_, hard = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (2**46, hard))  # for now, no limit but in name
def watch(stage, done):
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if stage == "stage-1" and soft == 2**46:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + spare, hard))
    elif stage == "evaluate":
        resource.setrlimit(resource.RLIMIT_AS, (2**46, hard))
result = fit(home=Home.open(), promote=False, watch=watch, **json.loads(sys.argv[1]))
print(json.dumps({"run": result.run, "epochs": len(result.history)}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS is Linux's")
def test_a_real_limit_on_allocations(learned_home: Callable[..., Home]) -> None:
    """A batch whose activations do not fit into what is left of the address space."""
    home = learned_home()
    options = {**QUICK, "size": 160, "batch_size": 48, "epochs_head": 1}
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, json.dumps(options), "300"],
        env=os.environ
        | {
            "TOPLOSS_HOME": str(home.settings.home),
            "TOPLOSS_THREADS": "2",
            "TOPLOSS_DEVICE": "cpu",
        },
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr[-4000:]
    assert "out of memory with 48 images at once" in records.read_log(
        home, records.listed(home)[0]["id"]
    )
    assert json.loads(done.stdout)["epochs"] == 2
    plan = records.listed(home)[0]["settings"]
    assert 2 <= plan["part"] <= 24
