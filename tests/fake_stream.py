# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""A stream of Gaussian blobs that knows nothing of stars: enough to test the network."""

import math

import torch

from clustercnn.parameters import ParameterSpace


class FakeStream:
    """Clusters are blobs whose colours follow age and A_V, flux the mass and width the size; negatives are noise."""

    def __init__(self, seed=0, shape=(24, 24), bands=("F336W", "F438W", "F814W"), only_clusters=False, independent=False):
        """With ``independent`` a sample depends on its own number, not on the batch that it is asked for in."""
        self.independent = independent
        self.seed, self.shape, self.bands, self.only_clusters = seed, shape, bands, only_clusters
        self.space = ParameterSpace.paper()
        self.contract = {
            "bands": bands,
            "unit": "electron / s",
            "zero_points": dict.fromkeys(bands, 24.0),
            "pixel_scale": 0.04,
            "stamp_shape": shape,
            "parameter_space": self.space.to_dict(),
            "distance_mpc": 4.5,
        }

    def batch(self, start, size):
        if self.independent and size > 1:
            samples = [self.batch(i, 1) for i in range(start, start + size)]
            return {name: torch.cat([sample[name] for sample in samples]) for name in samples[0]}
        generator = torch.Generator().manual_seed(1000003 * self.seed + start % 2**40)
        bounds = torch.tensor(self.space.bounds, dtype=torch.float32)
        unit = torch.rand(size, 4, generator=generator)
        is_cluster = (torch.rand(size, generator=generator) < 0.6).float()
        if self.only_clusters:
            is_cluster[:] = 1.0
        y, x = torch.meshgrid(*(torch.arange(n) - (n - 1) / 2 for n in self.shape), indexing="ij")
        width = (1 + 4 * unit[:, 3])[:, None, None]
        profile = torch.exp(-0.5 * (x**2 + y**2) / width**2) / (2 * math.pi * width**2)
        bright = [
            2.5 * unit[:, 2] - unit[:, 0] * (1 + 0.5 * k) - unit[:, 1] * (1.5 - 0.5 * k) for k in range(len(self.bands))
        ]
        flux = 10 ** (0.7 * torch.stack(bright, 1) + 1) * is_cluster[:, None]
        noise = 0.02 * torch.randn(size, len(self.bands), *self.shape, generator=generator)
        hidden = torch.where(is_cluster > 0.5, 0.0, math.nan)
        return {
            "pixels": 0.1 * flux[:, :, None, None] * profile[:, None] + noise,
            "parameters": bounds[:, 0] + unit * (bounds[:, 1] - bounds[:, 0]) + hidden[:, None],
            "is_cluster": is_cluster,
            "visibility": flux.square().sum(1).sqrt().clamp(min=0.05) + hidden,
        }
