import hashlib
import subprocess
import sys

import pytest
import torch
import torchvision
from torch import nn
from torch.nn.utils import convert_conv2d_weight_memory_format

from toploss import architectures
from toploss.architectures import body, check, downloaded_weights, statistics
from toploss.errors import BadInput
from toploss.network import Exported, build

TORCHVISION_S = torchvision.models.list_models(module=torchvision.models)
# One of each layout: convolutions, channels last, tokens with a class token, tokens without.
TIMM_S = ("test_resnet", "test_convnext", "test_mambaout", "test_vit", "test_vit_relpos")


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
    "swin_t": lambda m, x: m.permute(m.norm(m.features(x))),
}


@pytest.mark.parametrize("arch", sorted(FEATURE_MAPS))
def test_a_body_computes_torchvision_s_last_feature_map(arch):
    """With their weights, laid out as ours are, to the last digit: no layer is missing, none is in
    another place."""
    theirs = model(arch)
    images = torch.randn(2, 3, 32, 32)

    ours = build(arch, 5, size=32, weights=theirs.state_dict()).eval()
    convert_conv2d_weight_memory_format(theirs, torch.channels_last)

    with torch.inference_mode():
        assert torch.equal(ours.body(images), FEATURE_MAPS[arch](theirs, images))
        assert ours(images).shape == (2, 5)


@pytest.mark.parametrize("arch", ["resnet18", "swin_t", *TIMM_S])
def test_a_place_of_the_map_is_that_place_of_the_picture(arch):
    """Rows are rows, columns columns, and no class token is taken for a place."""
    torch.manual_seed(0)
    made = body(arch, size=256).eval()
    images = torch.randn(1, 3, 256, 256)
    changed = images.clone()
    changed[:, :, 64:128, 192:] = 3 * torch.randn(1, 3, 64, 64)

    with torch.inference_mode():
        apart = (made(images) - made(changed)).abs().mean(1)

    quarters = nn.functional.adaptive_avg_pool2d(apart, 4)
    assert divmod(int(quarters.argmax()), 4) == (1, 3)


def test_a_transformer_s_class_token_is_no_place():
    made = body("test_vit", size=64).eval()
    images = torch.randn(2, 3, 64, 64)

    with torch.inference_mode():
        feature_map = made(images)
        tokens = made.model.forward_features(images)  # the class's, then 4 × 4 places

    assert torch.equal(feature_map.flatten(2), tokens[:, 1:].transpose(1, 2))


def lightly(arch):
    """Where tensors have no values; RegNet needs some to be made."""
    return torch.device("cpu" if "regnet" in arch else "meta")


def halves(arch, size):
    """The earlier half of the body's tensors, as an image meets them, and the early group."""
    met = {}

    def watch(name, module):
        def note(_module, _inputs):
            met.setdefault(name, len(met))

        module.register_forward_pre_hook(note)

    with lightly(arch):
        network = build(arch, 3, size=size).eval()
        for name, module in network.body.named_modules():
            watch(name, module)
        with torch.no_grad():
            network.body(torch.zeros(1, 3, size, size))

    def depth(key):
        owner = key.rpartition(".")[0]
        while owner not in met:  # some are used without being called: attention's projections
            owner = owner.rpartition(".")[0]
        return met[owner]

    order = sorted((key for key, _ in network.body.named_parameters()), key=depth)
    half = len(order) // 2
    names = {id(value): key for key, value in network.body.named_parameters()}
    early, late, _ = ([names.get(id(p)) for p in group] for group in network.groups())
    assert sorted(early + late) == sorted(order)
    return set(order[:half]), set(early)


# Of what a block has side by side, such as a short cut, either may come first.
ONE_BLOCK = 12


@pytest.mark.parametrize(
    "arch",
    ["resnet18", "densenet121", "efficientnet_b0", "convnext_tiny", "shufflenet_v2_x0_5", *TIMM_S],
)
def test_the_early_group_is_what_an_image_meets_first(arch):
    met, early = halves(arch, 64)

    assert len(met - early) <= ONE_BLOCK


@pytest.mark.slow
@pytest.mark.parametrize("arch", TORCHVISION_S)
def test_every_one_of_torchvision_s_is_built_or_refused(arch):
    if arch in architectures.INSTEAD:
        with pytest.raises(BadInput, match=f"take {architectures.INSTEAD[arch]}"):
            check(arch)
        check(architectures.INSTEAD[arch], 224)
        return
    met, early = halves(arch, 224)
    assert len(met - early) <= ONE_BLOCK
    with lightly(arch):
        network = build(arch, 3)
        theirs = torchvision.models.get_model(arch, weights=None)
    first = next(
        layer
        for name, layer in theirs.named_modules()
        if name.split(".")[0] in ("classifier", "fc", "head")
        and isinstance(layer, nn.Linear | nn.Conv2d)
    )
    takes = getattr(first, "in_features", None) or first.in_channels
    spread = {"vgg": 7 * 7, "alexnet": 6 * 6}.get(arch[:3] if arch[:3] == "vgg" else arch, 1)
    assert network.head[0].num_features == 2 * takes // spread


@pytest.mark.slow
def test_one_of_each_of_timm_s_families_is_built_or_refused():
    import timm

    refused = set()
    for family in timm.list_modules():
        names = timm.list_models(module=family)
        if not names or family in SLOW_ON_META:
            continue
        arch = architectures.TIMM + names[0]
        try:
            check(arch, 224)
            met, early = halves(arch, 224)
        except BadInput:
            refused.add(family)
        else:
            assert len(met - early) <= ONE_BLOCK, arch
    assert refused == WITHOUT_MAP


SLOW_ON_META = {"sequencer"}  # a minute for each of its LSTMs
# Of byobnet's the first takes 256 pixels alone; the others keep their pooling to themselves.
WITHOUT_MAP = {
    "byobnet",
    "coat",
    "crossvit",
    "efficientvim",
    "efficientvit_mit",
    "inception_next",
    "pit",
    "volo",
}


@pytest.mark.parametrize("arch", ["resnet", "resnet19", "", "../resnet18", "hf-hub:timm/resnet18"])
def test_an_unknown_architecture_is_told(arch):
    with pytest.raises(BadInput, match=f"architecture '{arch}' is neither torchvision's nor timm"):
        check(arch)
    with pytest.raises(BadInput, match="is neither"):
        build(arch, 3)


def test_names_near_by_are_told():
    with pytest.raises(BadInput, match=r"try .*mobilenet_v2"):
        check("mobilnet_v2")
    with pytest.raises(BadInput, match=r"try .*vit_tiny_patch16_224"):
        check("vit_tiny_patch16_24")


def test_torchvision_s_names_come_first():
    assert architectures.timm_name("resnet18") is None
    assert architectures.timm_name("timm/resnet18") == "resnet18"
    assert architectures.timm_name("test_vit") == "test_vit"


def test_a_tag_of_weights_must_be_timm_s():
    check("resnet50.a1_in1k")
    with pytest.raises(BadInput, match="is neither"):
        check("resnet50.of_somebody")


@pytest.mark.parametrize(
    ("arch", "size"), [("test_vit", 70), ("pit_ti_224", 224), ("coat_tiny", 224)]
)
def test_what_makes_no_feature_map_is_told(arch, size):
    check(arch)
    with pytest.raises(BadInput, match=f"no feature map, which the head needs, of .* {size} pixel"):
        check(arch, size)


def test_a_check_takes_no_random_numbers():
    torch.manual_seed(0)
    before = torch.get_rng_state()

    check("resnet18", 64)
    check("test_vit", 64)

    assert torch.equal(torch.get_rng_state(), before)


def test_statistics_are_those_of_the_weights():
    assert statistics("resnet18") == (architectures.IMAGENET_MEAN, architectures.IMAGENET_STD)
    assert statistics("efficientnet_v2_l") == ((0.5,) * 3, (0.5,) * 3)
    assert statistics("vit_tiny_patch16_224") == ((0.5,) * 3, (0.5,) * 3)


@pytest.fixture
def published(tmp_path, monkeypatch):
    """torchvision's resnet18, published in a folder of ours: says under which hash."""
    data = tmp_path / "weights.pth"
    torch.save(model("resnet18").state_dict(), data)
    right = hashlib.sha256(data.read_bytes()).hexdigest()[:8]

    def publish(name=right):
        monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
        place = tmp_path / f"resnet18-{name}.pth"
        place.write_bytes(data.read_bytes())
        known = torchvision.models.ResNet18_Weights.DEFAULT.value
        monkeypatch.setattr(known, "url", place.as_uri())
        return tmp_path / "torch" / "hub" / "checkpoints" / place.name

    return publish


def test_torchvision_s_weights_are_fetched_and_kept(published):
    kept = published()

    state = downloaded_weights("resnet18")

    assert build("resnet18", 3, size=64, weights=state)
    assert kept.exists()


def test_what_was_fetched_must_have_its_hash(published):
    kept = published("00000000")

    with pytest.raises(BadInput, match=r"cannot be fetched \(invalid hash.*give a file with --wei"):
        downloaded_weights("resnet18")
    assert not kept.exists()


def test_a_damaged_cache_is_told(published):
    kept = published()
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"half a file")

    with pytest.raises(BadInput, match="cannot be fetched"):
        downloaded_weights("resnet18")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The hub's client without a network, and with an empty cache."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))


def test_without_a_network_timm_s_weights_are_told(hub):
    with pytest.raises(BadInput, match=r"weights of test_vit cannot be fetched .*--weights none"):
        downloaded_weights("test_vit")


def test_where_timm_has_no_weights_it_is_told(hub):
    with pytest.raises(BadInput, match=r"cannot be fetched \(timm has none\)"):
        downloaded_weights("efficientnet_lite4")


def test_torchvision_s_bodies_are_built_without_timm():
    """A server is up the sooner, and timm brings a client of a hub along."""
    code = (
        "import sys; from toploss.network import build; build('resnet18', 3); print(*sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    loaded = done.stdout.split()
    assert "torchvision" in loaded
    assert "timm" not in loaded
    assert "huggingface_hub" not in loaded


@pytest.mark.slow
@pytest.mark.parametrize(
    "arch",
    [
        "timm/resnet18",
        "timm/efficientnet_b0",
        "convnext_atto",
        "vit_tiny_patch16_224",
        "swin_tiny_patch4_window7_224",
        "swin_t",
    ],
)
def test_bodies_are_exported(arch, tmp_path):
    """ONNX gives PyTorch's logits, features and map, for any number of pictures."""
    import onnxruntime

    from training.export import write_onnx

    torch.manual_seed(0)
    network = build(arch, 3, size=96).eval()
    images = torch.randn(3, 3, 96, 96)
    write_onnx(network, tmp_path / "model.onnx", 96)

    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    found = session.run(None, {"images": images.numpy()})

    with torch.inference_mode():
        for ours, theirs in zip(Exported(network)(images), found, strict=True):
            torch.testing.assert_close(torch.from_numpy(theirs), ours, atol=1e-3, rtol=1e-3)
