# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Random tensors: the same distributions from numpy's generator and from a device's own, and a stream on a GPU where there is one.
"""

import numpy as np
import pytest
import torch
from scipy import stats
from small_stream import M83, make_stream

from clustercnn.simulation.random_numbers import RandomTensors

N = 40_000
NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")


@pytest.fixture(name="numbers", params=["numpy", "torch"])
def fixture_numbers(request):
    """Both sources, the device's own on the CPU."""
    numbers = RandomTensors(np.random.default_rng(1))
    if request.param == "torch":
        numbers._on_device = torch.Generator().manual_seed(1)
    return numbers


def test_distributions(numbers):
    for sample, expected in [
        (numbers.uniform(N), stats.uniform()),
        (numbers.normal(N), stats.norm()),
        (numbers.gamma(torch.full((N,), 0.3)), stats.gamma(0.3)),
        (numbers.gamma(torch.full((N,), 5.0)), stats.gamma(5.0)),
    ]:
        assert sample.shape == (N,) and sample.dtype == torch.float32
        assert stats.kstest(sample.numpy(), expected.cdf).pvalue > 1e-3


@pytest.mark.parametrize("mean", [0.02, 3.0, 40.0, 2000.0])
def test_photons(numbers, mean):
    sample = numbers.poisson(torch.full((N,), mean)).numpy()
    np.testing.assert_array_equal(sample, np.rint(sample))
    assert abs(sample.mean() - mean) < 4 * np.sqrt(mean / N)
    assert abs(sample.var() - mean) < 4 * np.sqrt((2 * mean**2 + mean) / N)


def test_digits():
    """Double precision where it is asked for."""
    numbers = RandomTensors(np.random.default_rng(1), dtype=torch.float64)
    assert numbers.uniform(3).dtype == numbers.normal(2, 2).dtype == numbers.poisson(torch.ones(2)).dtype == torch.float64
    sample = numbers.uniform(1000).numpy()
    assert np.any(sample != sample.astype(np.float32))


@NEEDS_GPU
def test_a_stream_on_a_gpu():
    """Other mocks of the same distribution, and the same ones again for the same seed."""
    device, plain = make_stream(device="cuda", positive_fraction=1.0), make_stream(positive_fraction=1.0)
    batch = device.batch(0, 4096)
    assert all(values.device.type == "cuda" for values in batch.values())
    for name, values in make_stream(device="cuda", positive_fraction=1.0).batch(1000, 100).items():
        torch.testing.assert_close(values, batch[name][1000:1100], rtol=1e-3, atol=1e-5)
    reference = plain.batch(0, 4096)
    light = [np.log10(sample["pixels"].cpu().numpy().sum(axis=(2, 3)).clip(1e-3)) for sample in (batch, reference)]
    for band in range(len(M83.bands)):
        assert stats.ks_2samp(light[0][:, band], light[1][:, band]).pvalue > 1e-3
    assert stats.ks_2samp(batch["visibility"].cpu().numpy(), reference["visibility"].numpy()).pvalue > 1e-3
