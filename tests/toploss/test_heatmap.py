import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from toploss import heatmap
from toploss.artifact import WEIGHTS, Loaded
from toploss.head import Head
from toploss.network import build, pool

SIZE = 64


@pytest.fixture
def network():
    torch.manual_seed(3)
    made = build("resnet18", 4, size=SIZE)
    made.train()
    with torch.no_grad():  # batch norm learns some statistics, so that it changes something
        made(torch.randn(8, 3, SIZE, SIZE) * 2 + 1)
    return made.eval()


@pytest.fixture
def head(network, tmp_path):
    state = {key: value.contiguous() for key, value in network.state_dict().items()}
    save_file(state, tmp_path / WEIGHTS)
    return Head.of(Loaded(folder=tmp_path, manifest={}))


@pytest.mark.parametrize("place", range(4))
def test_it_is_the_gradient_times_the_map(network, head, place):
    feature_map = network.body(torch.randn(1, 3, SIZE, SIZE)).detach().requires_grad_()
    pooled = pool(feature_map)
    network.head(pooled)[0, place].backward()
    wanted = (feature_map.grad * feature_map).sum(1)[0].detach().numpy()

    found = heatmap.heat(head, pooled[0].detach().numpy(), feature_map[0].detach().numpy(), place)

    assert found.shape == wanted.shape == (2, 2)
    np.testing.assert_allclose(found, wanted, atol=1e-4, rtol=1e-3)


def test_the_picture_shows_through_where_nothing_speaks_for_the_class():
    grey = Image.new("RGB", (800, 400), (128, 128, 128))
    shares = np.zeros((4, 4), np.float32)
    shares[0, 0], shares[3, 3] = 2.0, -5.0

    shown = np.asarray(heatmap.laid_over(grey, shares))

    assert shown.shape == (256, 512, 3)
    np.testing.assert_allclose(shown[-1, -1], 128, atol=1)
    assert abs(shown[0, 0].astype(int) - 128).max() > 60


def test_a_map_of_nothing_leaves_the_picture_as_it_is():
    grey = Image.new("RGB", (40, 40), (128, 128, 128))

    shown = heatmap.laid_over(grey, np.zeros((2, 2), np.float32))

    np.testing.assert_array_equal(np.asarray(shown), np.asarray(grey))
