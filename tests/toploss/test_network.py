import pytest
import torch
import torchvision
from torch import nn

from toploss.errors import BadInput
from toploss.network import Exported, build, pool, read_weights


def model(arch):
    torch.manual_seed(0)
    return torchvision.models.get_model(arch, weights=None).eval()


FEATURE_MAPS = {
    "resnet18": lambda m, x: nn.Sequential(*list(m.children())[:-2])(x),
    "squeezenet1_1": lambda m, x: m.features(x),
    "densenet121": lambda m, x: nn.functional.relu(m.features(x)),
    "mnasnet0_5": lambda m, x: m.layers(x),
    "shufflenet_v2_x0_5": lambda m, x: nn.Sequential(*list(m.children())[:-1])(x),
    "regnet_x_400mf": lambda m, x: m.trunk_output(m.stem(x)),
}


@pytest.mark.parametrize("arch", sorted(FEATURE_MAPS))
def test_a_body_computes_torchvision_s_last_feature_map(arch):
    """With their weights, to the last digit: no layer is missing, none is in another place."""
    theirs = model(arch)
    images = torch.randn(2, 3, 32, 32)

    ours = build(arch, 5, weights=theirs.state_dict()).eval()

    with torch.inference_mode():
        assert torch.equal(ours.body(images), FEATURE_MAPS[arch](theirs, images))
        assert ours(images).shape == (2, 5)


@pytest.mark.parametrize("arch", ["shufflenet_v2_x0_5", "squeezenet1_1"])
def test_three_groups_hold_every_parameter_once(arch):
    network = build(arch, 5)

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


@pytest.mark.parametrize("arch", ["resnet", "resnet19", "", "vit", "get_model", "../resnet18"])
def test_an_unknown_architecture_is_told(arch):
    with pytest.raises(BadInput, match=f"architecture '{arch}' is not one of torchvision's; try"):
        build(arch, 3)


def test_an_architecture_without_a_feature_map_is_told():
    with pytest.raises(BadInput, match="no convolutional feature map that a head can stand on"):
        build("swin_t", 3)


def test_weights_of_another_architecture_are_told():
    with pytest.raises(BadInput, match=r"not one of resnet18: it lacks conv1.weight and \d+ more"):
        build("resnet18", 3, weights=model("squeezenet1_1").state_dict())
    with pytest.raises(BadInput, match=r"not one of resnet18: it has layer1.2.conv1.weight and"):
        build("resnet18", 3, weights=model("resnet34").state_dict())
    wide = model("shufflenet_v2_x1_0").state_dict()
    with pytest.raises(BadInput, match=r"x0_5: stage2.0.branch1.2.weight is \(58,"):
        build("shufflenet_v2_x0_5", 3, weights=wide)


def test_weights_older_than_batch_norm_s_counters_are_taken():
    state = model("shufflenet_v2_x0_5").state_dict()
    old = {key: value for key, value in state.items() if "num_batches" not in key}

    assert build("shufflenet_v2_x0_5", 3, weights=old)


def test_weights_need_no_classifier():
    state = {k: v for k, v in model("resnet18").state_dict().items() if not k.startswith("fc.")}

    assert build("resnet18", 3, weights=state)


def saved(thing):
    import io

    out = io.BytesIO()
    torch.save(thing, out)
    return out.getvalue()


def test_weights_files_are_read():
    from safetensors.torch import save

    state = {"a": torch.arange(3.0)}

    for name, data in (
        ("x.pth", saved(state)),
        ("x.pth", saved({"state_dict": state})),
        ("x.safetensors", save(state)),
    ):
        assert torch.equal(read_weights(data, name)["a"], state["a"])


class Boobytrap:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was run",))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("x.pth", b""),
        ("x.pth", b"not a weights file"),
        ("x.safetensors", b"not one either"),
        ("x.safetensors", b"\xff" * 100),
        ("x.pth", saved({"a": 1})),
        ("x.pth", saved([torch.zeros(1)])),
        ("x.pth", saved(Boobytrap())),
    ],
)
def test_what_is_no_weights_file_is_told_and_not_run(name, data):
    with pytest.raises(BadInput, match=f"the weights file '{name}'"):
        read_weights(data, name)
