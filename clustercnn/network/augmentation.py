# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""What observed stamps suffer and mocks do not: orientations, wrong zero points and sky levels, unknown pixels, missing bands."""

import math

import torch

__all__ = ["Augmentation"]

ZERO_POINT_ERROR = 0.3  # mag, largest standard deviation
LEVEL = 0.5  # largest standard deviation of the sky level, in scales of the stretch (about the noise of a pixel)
HOLE = 6.0  # pixels, largest radius


class Augmentation:
    """
    Change stamps of a batch at random, and say what the network is told of it.

    Half of the stamps have zero points that are wrong, each band by its own normal deviate with a standard deviation of up to 0.3 mag,
    which the network is told; the others have right ones. The level of each band is off by a normal deviate with a standard deviation
    of up to half the noise of a pixel. Holes (8 % of the stamps), bad columns (4 %), pieces beyond the edge of the image (5 %) and
    whole bands (15 %) become NaN. All stamps are turned by multiples of 90 degrees, if they are square, and mirrored.

    Shifts within a pixel, other widths of the PSF and other depths are the mocks' own; see `~clustercnn.simulation.MockStream`.

    Parameters
    ----------
    scales : sequence of float
        Electron/s per pixel of each band at which the stretch turns over.
    calibrated : bool
        Whether zero points and levels mean anything; False for a network with ``scaling='renormalized'``.

    Examples
    --------
    >>> import torch
    >>> from clustercnn.network import Augmentation
    >>> augmentation = Augmentation([0.01, 0.02, 0.05])
    >>> numbers = augmentation.numbers(8, torch.Generator().manual_seed(1))
    >>> batch = augmentation({"pixels": torch.zeros(8, 3, 64, 64)}, numbers)
    >>> batch["zero_point_error"].shape
    torch.Size([8])
    """

    def __init__(self, scales, calibrated=True):
        self.scales = torch.as_tensor(scales, dtype=torch.float32)
        self.calibrated = calibrated

    def numbers(self, n, generator):
        """Uniform random numbers that decide everything for n stamps, shape (n, k); each row stands for itself."""
        return torch.rand(n, 20 + 2 * len(self.scales), generator=generator, device=generator.device)

    def __call__(self, batch, numbers):
        """
        The changed batch.

        Parameters
        ----------
        batch : dict of `~torch.Tensor`
            With ``pixels`` (n, band, ny, nx); left as it is.
        numbers : `~torch.Tensor`
            Of `numbers`, on the same device.

        Returns
        -------
        batch : dict of `~torch.Tensor`
            With changed ``pixels`` and with ``zero_point_error`` (n,), mag.
        """
        numbers = iter(numbers.T)
        pixels = _turned(batch["pixels"], next(numbers), next(numbers))
        n, bands = pixels.shape[:2]

        def uniform():
            return next(numbers)

        def normal():
            deviates = torch.stack([next(numbers) for _ in range(bands)], 1)
            return torch.special.ndtri(deviates.clamp(1e-6, 1 - 1e-6))

        error = torch.where(uniform() < 0.5, 0.0, ZERO_POINT_ERROR * uniform())
        offset, level = error[:, None] * normal(), LEVEL * uniform()[:, None] * normal()
        if self.calibrated:
            scales = self.scales.to(pixels.device)
            pixels = pixels * (10 ** (-0.4 * offset))[:, :, None, None] + (level * scales)[:, :, None, None]
        else:
            error = torch.zeros_like(error)
        unknown = self._unknown(pixels.shape, uniform)
        hit = unknown.flatten(1).any(1)
        pixels[hit] = pixels[hit].masked_fill(unknown[hit], math.nan)
        return batch | {"pixels": pixels, "zero_point_error": error}

    def _unknown(self, shape, uniform):
        """Which pixels are unknown, a bool tensor of the given shape."""
        n, bands, ny, nx = shape
        first = uniform()
        device = first.device
        y, x = torch.arange(ny, device=device)[:, None], torch.arange(nx, device=device)
        # Holes, as of cosmic rays and bad pixels, in one band or in all.
        radius, column, row, which = 1 + (HOLE - 1) * uniform(), nx * uniform(), ny * uniform(), uniform()
        squared = (x - column[:, None, None]) ** 2 + (y - row[:, None, None]) ** 2
        hole = (squared < radius[:, None, None] ** 2) & (first < 0.08)[:, None, None]
        # Bad columns, one or two pixels wide, in one band.
        second, column, wide = uniform(), (nx * uniform()).floor(), 1 + (uniform() < 0.5).long()
        line = (x >= column[:, None, None]) & (x < (column + wide)[:, None, None]) & (second < 0.04)[:, None, None]
        # The edge of the image, in all bands, no nearer to the middle than 2 pixels.
        third, side, part = uniform(), uniform(), uniform()
        depth = (1 + part * (min(ny, nx) // 2 - 3)).floor()[:, None, None]
        sides = torch.stack([(x < depth).expand(n, ny, nx), (x >= nx - depth).expand(n, ny, nx),
                             (y < depth).expand(n, ny, nx), (y >= ny - depth).expand(n, ny, nx)])
        edge = sides[(4 * side).long(), torch.arange(n, device=device)] & (third < 0.05)[:, None, None]
        # Whole bands: one, or now and then one more; never all.
        lost, chosen, more, next_one = uniform(), (bands * uniform()).long(), uniform(), (bands * uniform()).long()
        band = torch.arange(bands, device=device)
        missing = (band == chosen[:, None]) | ((band == next_one[:, None]) & (more < 0.2)[:, None])
        missing &= (lost < 0.15)[:, None] & ~missing.all(1, keepdim=True)
        single = band == (bands * which).long()[:, None]
        in_band = single | (2 * which % 1 < 0.5)[:, None]
        return (
            (hole[:, None] & in_band[:, :, None, None])
            | (line[:, None] & single[:, :, None, None])
            | edge[:, None]
            | missing[:, :, None, None]
        )


def _turned(pixels, turn, mirror):
    """Stamps turned by multiples of 90 degrees (180 unless they are square) and mirrored, each by its own numbers; a copy."""
    square = pixels.shape[-1] == pixels.shape[-2]
    turns = (4 * turn).long() if square else 2 * (2 * turn).long()
    turned = torch.empty_like(pixels)
    for number in range(0, 4, 1 if square else 2):
        for mirrored in (False, True):
            rows = (turns == number) & ((mirror < 0.5) == mirrored)
            part = torch.rot90(pixels[rows], number, (-2, -1))
            turned[rows] = part.flip(-1) if mirrored else part
    return turned
