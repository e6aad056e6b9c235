# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
What augmentation does to stamps: each change as often and as large as it says, and each stamp by its own numbers.
"""

import numpy as np
import pytest
import torch

from clustercnn.network import Augmentation

N = 4000
SCALES = [0.01, 0.02, 0.05]


def changed(pixels, seed=1, **settings):
    augmentation = Augmentation(SCALES[: pixels.shape[1]], **settings)
    numbers = augmentation.numbers(len(pixels), torch.Generator().manual_seed(seed))
    return augmentation({"pixels": pixels, "is_cluster": torch.ones(len(pixels))}, numbers), numbers


def share(flags, expected):
    """A share within 4 standard errors of the expected one."""
    flags = np.asarray(flags)
    return abs(flags.mean() - expected) < 4 * np.sqrt(expected * (1 - expected) / len(flags))


@pytest.fixture(name="batch", scope="module")
def fixture_batch():
    """4000 stamps of ones."""
    return changed(torch.ones(N, 3, 24, 24))[0]


def test_the_input_is_left_alone():
    pixels = torch.rand(16, 3, 20, 20, generator=torch.Generator().manual_seed(3))
    before = pixels.clone()
    batch, _ = changed(pixels)
    assert torch.equal(pixels, before) and not torch.equal(batch["pixels"], before)
    assert torch.equal(batch["is_cluster"], torch.ones(16))


def test_zero_points(batch):
    """Wrong in half of the stamps, by as much as the network is told."""
    error = batch["zero_point_error"].numpy()
    assert share(error > 0, 0.5) and error.max() <= 0.3 and 0.27 < error.max()
    assert error[error > 0].mean() == pytest.approx(0.15, abs=0.01)
    plain, _ = changed(torch.full((N, 3, 8, 8), 1000.0))  # brighter than any level
    known = torch.isfinite(plain["pixels"]).all(dim=(1, 2, 3)).numpy()
    offset = -2.5 * np.log10(plain["pixels"][:, :, 0, 0].numpy() / 1000)[known & (error > 0.01)]
    deviate = offset / error[known & (error > 0.01), None]
    assert abs(deviate.mean()) < 4 / np.sqrt(deviate.size) and deviate.std() == pytest.approx(1, abs=0.03)
    assert abs(np.corrcoef(deviate.T)[0, 1]) < 0.08  # each band by itself
    assert np.abs(-2.5 * np.log10(plain["pixels"][:, :, 0, 0].numpy() / 1000)[known & (error == 0)]).max() < 1e-3


def test_levels():
    """Up to half of the scale of each band, the same in all pixels."""
    pixels = changed(torch.zeros(N, 3, 8, 8))[0]["pixels"]
    pixels = pixels.numpy()[torch.isfinite(pixels).all(dim=(1, 2, 3))]
    assert np.ptp(pixels, axis=(2, 3)).max() < 1e-7
    assert (pixels[:, :, 0, 0] / SCALES).std() == pytest.approx(0.5 / np.sqrt(3), rel=0.05)


def test_unknown_pixels(batch):
    """Holes, columns, edges and bands in their shares; some of every stamp is left."""
    unknown = torch.isnan(batch["pixels"]).numpy()
    whole_bands = unknown.all(axis=(2, 3))
    assert share(whole_bands.any(axis=1), 0.15) and not whole_bands.all(axis=1).any()
    assert share(whole_bands[whole_bands.any(axis=1)].sum(axis=1) == 2, 0.2 * 2 / 3)
    partly = unknown & ~whole_bands[:, :, None, None]
    assert share(partly.any(axis=(1, 2, 3)), 1 - 0.92 * 0.96 * 0.95 * 1.0)
    # holes at the middle occur, edges come no nearer than two pixels
    assert partly[:, :, 11:13, 11:13].any()
    corner = partly.all(axis=1)[:, 0, 0] | partly.all(axis=1)[:, -1, -1]
    assert not (corner & partly.all(axis=1)[:, 12, 12]).any()


def test_orientations():
    """All eight of a square, four of a rectangle, and the same for all bands."""
    for shape, number in [((6, 6), 8), ((6, 8), 4)]:
        stamp = torch.arange(float(np.prod(shape))).reshape(1, 1, *shape) * 1e4
        batch, _ = changed((stamp + torch.tensor([0.0, 1e3]).reshape(1, 2, 1, 1)).repeat(400, 1, 1, 1), calibrated=False)
        pixels = batch["pixels"]
        whole = pixels[torch.isfinite(pixels).flatten(1).all(1)]
        assert len({tuple(picture) for picture in whole[:, 0].flatten(1).tolist()}) == number
        assert torch.all(whole[:, 1] - whole[:, 0] == 1e3)
        assert torch.equal(whole.flatten(1).sort(1).values, whole[:1].flatten(1).sort(1).values.expand(len(whole), -1))


def test_without_calibration_levels_stay():
    batch, _ = changed(torch.ones(200, 3, 8, 8), calibrated=False)
    assert set(batch["pixels"][torch.isfinite(batch["pixels"])].tolist()) == {1.0}
    assert not batch["zero_point_error"].any()


def test_each_stamp_by_its_own_numbers():
    """A part of a batch with its part of the numbers is that part of the changed batch, as the processes of a training need it."""
    pixels = torch.rand(64, 3, 20, 20, generator=torch.Generator().manual_seed(3))
    batch, numbers = changed(pixels)
    part = Augmentation(SCALES)({"pixels": pixels[24:40]}, numbers[24:40])
    for name in part:
        torch.testing.assert_close(part[name], batch[name][24:40], rtol=0, atol=0, equal_nan=True)


def test_one_band():
    batch, _ = changed(torch.ones(500, 1, 16, 16))
    assert torch.isfinite(batch["pixels"]).flatten(1).any(1).all()
