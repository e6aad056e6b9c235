# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Random numbers as tensors, on whatever device the pixels are made."""

import numpy as np
import torch

__all__ = ["RandomTensors"]


class RandomTensors:
    """
    Random numbers as float32 tensors: of numpy's generator on a CPU, elsewhere of the device's own, seeded by numpy's.

    Parameters
    ----------
    rng : `~numpy.random.Generator`
        Source of randomness.
    device : str or `~torch.device`
        Where the tensors are made.
    dtype : `~torch.dtype`
        Of the tensors.

    Examples
    --------
    >>> import numpy as np
    >>> from clustercnn.simulation.random_numbers import RandomTensors
    >>> numbers = RandomTensors(np.random.default_rng(1))
    >>> numbers.uniform(2)
    tensor([0.4732, 0.5118])
    """

    def __init__(self, rng, device="cpu", dtype=torch.float32):
        self.device, self.dtype = torch.device(device), dtype
        self._rng = rng
        self._on_device = None
        if self.device.type != "cpu":
            self._on_device = torch.Generator(self.device).manual_seed(int(rng.integers(2**63)))

    @property
    def _numpy_dtype(self):
        return np.float64 if self.dtype == torch.float64 else np.float32

    def uniform(self, *shape):
        """Uniform in [0, 1)."""
        if self._on_device is not None:
            return torch.rand(shape, generator=self._on_device, device=self.device, dtype=self.dtype)
        return torch.from_numpy(self._rng.random(shape, self._numpy_dtype))

    def normal(self, *shape):
        """Normal, of mean 0 and variance 1."""
        if self._on_device is not None:
            return torch.randn(shape, generator=self._on_device, device=self.device, dtype=self.dtype)
        return torch.from_numpy(self._rng.standard_normal(shape, self._numpy_dtype))

    def poisson(self, mean):
        """Poisson, one number for each mean of a tensor."""
        if self._on_device is not None:
            return torch.poisson(mean.to(self.dtype), generator=self._on_device)
        return torch.from_numpy(self._rng.poisson(mean.numpy())).to(self.dtype)

    def gamma(self, shape):
        """Of the gamma distribution with scale 1, one number for each shape parameter of a tensor."""
        if self._on_device is not None:
            return torch._standard_gamma(shape.contiguous(), generator=self._on_device)  # of torch.distributions, which takes no generator
        return torch.from_numpy(self._rng.standard_gamma(shape.numpy(), dtype=self._numpy_dtype))
