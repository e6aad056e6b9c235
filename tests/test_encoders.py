# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""The trunks have the sizes they claim, the photometry is photometry, and renormalising forgets the calibration."""

import numpy as np
import pytest
import torch
from torch import nn

from clustercnn.network.encoders import CompactResNet, PhotometryBranch, ResNet50, renormalize, stretch


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(autouse=True)
def keep_random_state():
    with torch.random.fork_rng(devices=[]):
        yield


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def test_compact_size():
    trunk = CompactResNet(3)
    assert 2.0e6 < parameters(trunk) < 2.2e6
    x = trunk.stem(noise(1, 3, 64, 64))
    sizes = [x.shape[-1]]
    for block in trunk.stages:
        x = block(x)
        sizes.append(x.shape[-1])
    assert sizes == [16, 16, 16, 8, 8, 4, 4, 2, 2]
    assert trunk(noise(2, 3, 64, 64)).shape == (2, trunk.features)


def test_compact_does_not_depend_on_the_batch():
    trunk = CompactResNet(3)
    x = noise(4, 3, 64, 64)
    assert torch.allclose(trunk(x)[1:2], trunk(x[1:2]), atol=1e-5)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in trunk.modules())


def test_resnet50_is_table_1():
    trunk = ResNet50(3).eval()
    x = trunk.stem[0](noise(1, 3, 64, 64))
    assert x.shape == (1, 64, 64, 64)  # stride 1
    x = trunk.stem(noise(1, 3, 64, 64))
    assert x.shape == (1, 64, 32, 32)
    shapes = []
    for block in trunk.stages:
        x = block(x)
        shapes.append(tuple(x.shape[1:3]))
    assert shapes == 3 * [(128, 32)] + 4 * [(256, 16)] + 6 * [(512, 8)] + 3 * [(1024, 4)]
    # 49 convolutions and the fully connected layer make the 50
    convolutions = [m for m in trunk.modules() if isinstance(m, nn.Conv2d)]
    shortcuts = sum(isinstance(block.shortcut, nn.Sequential) for block in trunk.stages)
    assert len(convolutions) - shortcuts == 49
    assert trunk(noise(2, 3, 64, 64)).shape == (2, 1024)


def test_apertures_match_photutils():
    photutils = pytest.importorskip("photutils.aperture")
    pixels = noise(2, 3, 64, 64)
    branch = PhotometryBranch(3, (64, 64))
    measured = branch.measure(pixels).numpy()
    sky = measured[..., 4]
    for i, radius in enumerate(branch.radii):
        aperture = photutils.CircularAperture((31.5, 31.5), radius)
        for n in range(2):
            for band in range(3):
                total = aperture.do_photometry(pixels[n, band].numpy().astype(float))[0][0] - sky[n, band] * aperture.area
                assert measured[n, band, i] == pytest.approx(total, abs=0.06 * np.sqrt(aperture.area))


@pytest.mark.parametrize("shape", [(16, 16), (22, 22), (33, 40), (64, 64)])
def test_photometry_sees_flux_sky_and_noise(shape):
    pixels = 3 + 0.1 * noise(1, 1, *shape)
    y, x = torch.meshgrid(*(torch.arange(n) - (n - 1) / 2 for n in shape), indexing="ij")
    pixels = pixels + 100 * torch.exp(-0.5 * (x**2 + y**2)) / (2 * np.pi)
    measured = PhotometryBranch(1, shape).measure(pixels)[0, 0]
    # enclosed flux of a Gaussian of unit width: 1 - exp(-r^2 / 2)
    expected = 100 * (1 - np.exp(-0.5 * np.array([1.5, 3, 5, 10]) ** 2))
    assert measured[:3].numpy() == pytest.approx(expected[:3], abs=6)
    sky = len(PhotometryBranch(1, shape).radii)
    assert sky == (3 if shape == (16, 16) else 4)
    assert measured[sky] == pytest.approx(3, abs=0.05)
    assert measured[sky + 1] == pytest.approx(0.1, rel=0.3)


def test_photometry_tells_colours():
    """Of bright sources colours are ratios of fluxes, whatever the brightness; those of a missing band are 0."""
    y, x = torch.meshgrid(*2 * [torch.arange(64) - 31.5], indexing="ij")
    source = torch.exp(-0.5 * (x**2 + y**2))
    pixels = 1000 * torch.tensor([1.0, 2.0, 8.0])[:, None, None] * source + 0.1 * noise(1, 3, 64, 64)
    branch = PhotometryBranch(3, (64, 64))
    branch.read = nn.Identity()
    colours = branch(pixels)[0, 18:].reshape(2, 4)
    expected = 1.5 * np.log([[2.0], [4.0]]) * np.ones(4)
    assert colours.numpy() == pytest.approx(expected, abs=0.01)
    assert branch(30 * pixels)[0, 18:].reshape(2, 4).numpy() == pytest.approx(expected, abs=0.01)
    without_last = branch(pixels, torch.tensor([[1.0, 1.0, 0.0]]))[0]
    assert not without_last[22:].any() and torch.equal(without_last[:22], branch(pixels)[0, :22])


def test_photometry_needs_room():
    with pytest.raises(ValueError, match="at least 16 pixels"):
        PhotometryBranch(3, (15, 64))


@pytest.mark.parametrize("encoder", ["compact", "resnet50"])
@pytest.mark.parametrize(("bands", "shape"), [(1, (16, 16)), (2, (17, 40)), (5, (64, 64)), (7, (33, 24))])
def test_any_number_of_bands_and_size_of_stamps(encoder, bands, shape):
    from clustercnn.network import ClusterModule
    from clustercnn.parameters import ParameterSpace

    module = ClusterModule(bands, shape, ParameterSpace.paper(), encoder, "flow", True, "fixed", conditions=True).eval()
    pixels = noise(2, bands, *shape)
    features = module(pixels)
    assert features.shape == (2, 129) and torch.isfinite(features).all()
    pixels[1, 0] = np.nan
    lost = module(pixels)
    assert torch.allclose(lost[0], features[0], atol=1e-5) and torch.isfinite(lost).all() and not torch.allclose(lost[1], features[1])


@pytest.mark.parametrize(("scale", "offset"), [(1e-3, 0), (1e4, 1e3), (1, -5), (255, 17)])
def test_renormalize_forgets_scale_and_offset(scale, offset):
    pixels = noise(3, 2, 32, 32)
    changed = renormalize((scale * pixels.double() + offset).float())
    assert torch.allclose(changed, renormalize(pixels), atol=2e-3)


@pytest.mark.parametrize("part", [0.1, 0.45, 0.8])
def test_renormalize_looks_at_what_is_known(part):
    """At the edge of an image the known pixels keep their scale."""
    pixels = 3 + 0.1 * noise(4, 2, 64, 64)
    edge = torch.arange(64) < 64 * part
    renormalized = renormalize(pixels.masked_fill(edge, np.nan))
    assert torch.isnan(renormalized[..., edge]).all()
    rms = renormalized[..., ~edge].flatten(2).std(-1)
    assert torch.all((rms - 1).abs() < 4 * 1.17 / (2 * (1 - part) * 32**2) ** 0.5)  # standard error of a MAD of every fourth pixel
    assert torch.isnan(renormalize(torch.full((1, 1, 16, 16), np.nan))).all()


def test_the_renormalized_network_is_not_told_the_depth():
    """Nor does a hole change its scale."""
    from clustercnn.network import ClusterModule
    from clustercnn.parameters import ParameterSpace

    pixels = noise(2, 3, 64, 64)
    edge = pixels.clone()
    edge[..., :28] = np.nan
    depth = torch.full((2, 3), 0.3)
    for scaling in ("fixed", "renormalized"):
        module = ClusterModule(3, (64, 64), ParameterSpace.paper(), "compact", "flow", True, scaling, conditions=True).eval()
        assert torch.equal(module(pixels), module(pixels, depth)) == (scaling == "renormalized")
        if scaling == "renormalized":
            assert torch.allclose(module(edge), module(20 * edge + 5), atol=1e-3)
            seen = []
            module.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
            module(edge), module(pixels)
            assert torch.allclose(seen[0][..., 28:], seen[1][..., 28:], atol=0.1)


def test_renormalize_odd_stamps():
    assert torch.equal(renormalize(torch.full((1, 1, 24, 24), 7.0)), torch.zeros(1, 1, 24, 24))  # constant
    flat = torch.zeros(1, 1, 24, 24)
    flat[..., :8, :8] = 3.0  # more than half of the pixels equal, as in 8-bit pictures
    assert torch.isfinite(renormalize(flat)).all() and renormalize(flat).abs().max() > 1
    assert torch.allclose(renormalize(10 * flat), renormalize(flat))


def test_stretch_is_asinh():
    x = torch.tensor([-1e8, -3.0, -1e-4, 0.0, 0.5, 1e6])
    assert torch.allclose(stretch(x), torch.asinh(x) / np.log(10), rtol=1e-6, atol=1e-9)
