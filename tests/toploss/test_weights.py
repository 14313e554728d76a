import io
import re

import pytest
import torch
import torchvision
from safetensors.torch import save
from torch import nn

from toploss.errors import BadInput
from toploss.network import build
from toploss.weights import is_ours, read_weights


def model(arch):
    torch.manual_seed(0)
    return torchvision.models.get_model(arch, weights=None).eval()


def timm_model(name, **settings):
    import timm

    torch.manual_seed(0)
    return timm.create_model(name, **settings).eval()


def saved(thing, **settings):
    out = io.BytesIO()
    torch.save(thing, out, **settings)
    return out.getvalue()


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


STATE = {"a": torch.arange(3.0)}


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("x.pth", saved(STATE)),
        ("x.pth", saved(STATE, _use_new_zipfile_serialization=False)),
        ("x.safetensors", save(STATE)),
        ("x.pth", saved({"epoch": 3, "model": STATE, "optimizer": {"lr": 0.1}})),
        ("x.pth", saved({"state_dict": {"a": torch.zeros(3)}, "state_dict_ema": STATE})),
        ("x.pth", saved({"model_ema": STATE, "model": {"a": torch.zeros(3)}})),
        ("x.pth", saved({"state_dict": {"module.a": STATE["a"]}})),
        ("x.pth", saved({"_orig_mod.a": STATE["a"]})),
    ],
)
def test_weights_files_are_read(name, data):
    found = read_weights(data, name)

    assert list(found) == ["a"]
    assert torch.equal(found["a"], STATE["a"])


class Boobytrap:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was run",))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("x.pth", b""),
        ("x.pth", b"not a weights file"),
        ("x.pth", saved(STATE)[:-200]),
        ("x.safetensors", b"not one either"),
        ("x.safetensors", b"\xff" * 100),
        ("x.safetensors", save(STATE)[:-4]),
        ("x.pth", saved({"a": 1})),
        ("x.pth", saved({})),
        ("x.pth", saved([torch.zeros(1)])),
        ("x.pth", saved(Boobytrap())),
    ],
)
def test_what_is_no_weights_file_is_told_and_not_run(name, data):
    with pytest.raises(BadInput, match=f"the weights file '{name}' (cannot be read|holds)"):
        read_weights(data, name)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickled_model_is_told_what_to_save_instead(zipped):
    data = saved(nn.Sequential(nn.ReLU()), _use_new_zipfile_serialization=zipped)

    with pytest.raises(BadInput, match=r"pickled Python objects \(torch.nn.modules.*never run"):
        read_weights(data, "export.pkl")


def test_weights_of_another_architecture_are_told():
    with pytest.raises(
        BadInput,
        match=r"not one of resnet18: it lacks conv1.weight and \d+ more, and has features.0.weight",
    ):
        build("resnet18", 3, size=64, weights=model("squeezenet1_1").state_dict())
    with pytest.raises(BadInput, match=r"not one of resnet18: it has layer1.2.conv1.weight and"):
        build("resnet18", 3, size=64, weights=model("resnet34").state_dict())
    wide = model("shufflenet_v2_x1_0").state_dict()
    with pytest.raises(BadInput, match=r"x0_5: stage2.0.branch1.2.weight is \(58,"):
        build("shufflenet_v2_x0_5", 3, size=64, weights=wide)


def test_weights_older_than_batch_norm_s_counters_are_taken():
    state = model("shufflenet_v2_x0_5").state_dict()
    old = {key: value for key, value in state.items() if "num_batches" not in key}

    assert build("shufflenet_v2_x0_5", 3, weights=old)


def test_weights_need_no_classifier():
    state = {k: v for k, v in model("resnet18").state_dict().items() if not k.startswith("fc.")}

    assert build("resnet18", 3, weights=state)


def test_densenet_s_older_names_are_taken():
    theirs = model("densenet121")
    old = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))(\d)", r"\1.\2", key): value
        for key, value in theirs.state_dict().items()
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in old

    assert same(build("densenet121", 3, size=64, weights=old).body, theirs.features)


@pytest.mark.parametrize("arch", ["resnet18", "test_vit"])
def test_a_version_s_own_weights_fill_the_body(arch):
    """For a new run on what an older one has learned; the head is fresh, whatever the classes."""
    older = build(arch, 5, size=64)
    assert is_ours(older.state_dict())

    newer = build(arch, 3, size=64, weights=older.state_dict())

    assert same(newer.body, older.body)
    with pytest.raises(BadInput, match="the weights file is not one of"):
        build("shufflenet_v2_x0_5", 3, size=64, weights=older.state_dict())
    with pytest.raises(BadInput, match="the weights file is not one of"):
        build("test_convnext", 3, size=64, weights=older.state_dict())


def test_a_library_s_weights_are_not_ours():
    assert not is_ours(model("resnet18").state_dict())
    with torch.device("meta"):
        tresnet = timm_model("tresnet_m").state_dict()
    assert {key.split(".")[0] for key in tresnet} == {"body", "head"}
    assert not is_ours(tresnet)


@pytest.mark.parametrize("classes", [0, 7, 1000])
def test_timm_s_weights_fill_a_timm_body_to_the_last_digit(classes):
    theirs = timm_model("test_convnext", num_classes=classes)
    images = torch.randn(2, 3, 64, 64)

    ours = build("test_convnext", 3, size=64, weights=theirs.state_dict()).eval()

    with torch.inference_mode():
        # theirs normalises after its pooling, ours before
        features = theirs.forward_features(images)
        assert torch.equal(ours.body.model.forward_features(images), features)


def test_a_transformer_s_positions_are_fitted_to_the_size():
    theirs = timm_model("test_vit", img_size=160)

    ours = build("test_vit", 3, size=64, weights=theirs.state_dict())

    assert ours.body.model.pos_embed.shape[1] == 1 + 4 * 4
    assert same(ours.body.model.blocks, theirs.blocks)


def test_weights_of_another_of_timm_s_are_told():
    state = timm_model("test_vit").state_dict()

    with pytest.raises(BadInput, match=r"not one of test_vit2: Missing key.*\"reg_token\""):
        build("test_vit2", 3, size=64, weights=state)
    wide = {k: torch.cat([v, v]) if k == "norm.weight" else v for k, v in state.items()}
    with pytest.raises(BadInput, match=r"not one of test_vit: size mismatch for norm\.weight"):
        build("test_vit", 3, size=64, weights=wide)
    extra = {**state, "blocks.9.norm1.weight": torch.zeros(64)}
    with pytest.raises(BadInput, match=r"test_vit: Unexpected key.*\"blocks.9.norm1.weight\""):
        build("test_vit", 3, size=64, weights=extra)


def test_a_wrong_size_is_not_blamed_on_the_weights():
    with pytest.raises(BadInput, match="no feature map, which the head needs, of pictures of 70"):
        build("test_vit", 3, size=70, weights=timm_model("test_vit").state_dict())
