import pytest
import torch

from toploss.network import Exported, build, pool


@pytest.mark.parametrize(
    "arch", ["shufflenet_v2_x0_5", "squeezenet1_1", "test_vit", "test_byobnet"]
)
def test_three_groups_hold_every_parameter_once(arch):
    network = build(arch, 5, size=64)

    groups = network.groups()

    found = [id(parameter) for group in groups for parameter in group]
    assert len(groups) == 3
    assert all(groups)
    assert sorted(found) == sorted(id(parameter) for parameter in network.parameters())
    assert {id(p) for p in groups[2]} == {id(p) for p in network.head.parameters()}


def test_the_same_seed_gives_the_same_network():
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        states.append(build("squeezenet1_1", 3).state_dict())

    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert not all(torch.equal(states[0][key], states[2][key]) for key in states[0])


def test_building_leaves_the_network_as_new():
    """The look at the width of its feature map moved no statistics."""
    network = build("resnet18", 3)

    assert network.training
    assert int(network.body.state_dict()["1.num_batches_tracked"]) == 0


def learned_statistics(network):
    """Which parts, body or head, change their running statistics in a step of training."""
    before = {key: value.clone() for key, value in network.named_buffers()}
    network.train()
    network(torch.randn(4, 3, 32, 32))
    return {k.split(".")[0] for k, v in network.named_buffers() if not torch.equal(v, before[k])}


def test_fixed_statistics_hold_through_training_mode():
    """fastai puts the whole network into training mode at each epoch."""
    network = build("resnet18", 3)
    assert learned_statistics(network) == {"body", "head"}

    network.fix_statistics(True)

    assert learned_statistics(network) == {"head"}
    assert network.training
    assert network.body.training
    network.fix_statistics(False)
    assert learned_statistics(network) == {"body", "head"}


def test_fixing_statistics_leaves_the_mode():
    network = build("resnet18", 3).eval()

    network.fix_statistics(True)
    assert not any(module.training for module in network.modules())

    network.fix_statistics(False)
    assert not any(module.training for module in network.modules())
    assert all(module.training for module in network.train().modules())


def test_convolutions_lie_channels_last_and_other_weights_as_they_are():
    """The lambda layers of timm convolve in three dimensions."""
    made = build("timm/lambda_resnet26t", 3, size=64)
    first = next(layer for layer in made.modules() if isinstance(layer, torch.nn.Conv2d))

    assert first.weight.is_contiguous(memory_format=torch.channels_last)
    assert any(isinstance(layer, torch.nn.Conv3d) for layer in made.modules())
    assert made.eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 3)


def test_pooling():
    feature_map = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]], [[-1.0, -1.0], [-1.0, -5.0]]]])

    assert pool(feature_map).tolist() == [[6.0, -1.0, 3.0, -2.0]]


def test_what_is_exported_agrees_with_the_network():
    network = build("squeezenet1_1", 3).eval()
    images = torch.randn(2, 3, 64, 64)

    with torch.inference_mode():
        logits, features, feature_map = Exported(network)(images)

        assert torch.equal(logits, network(images))
        assert torch.equal(features, pool(feature_map))
