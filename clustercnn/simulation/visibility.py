# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""The visibility: signal-to-noise ratio of a cluster against its own background."""

import numpy as np
import torch

__all__ = ["APERTURE_RADIUS", "Visibility", "aperture_weights"]

APERTURE_RADIUS = 4.0  # native pixels; stored in every model


def aperture_weights(shape, x, y, radius):
    """
    Fraction of every pixel inside a circle.

    Parameters
    ----------
    shape : tuple of int
        ``(ny, nx)``.
    x, y : float
        The centre in pixels.
    radius : float
        The radius in pixels.

    Returns
    -------
    weights : `~numpy.ndarray`
        In [0, 1], shape ``(ny, nx)``; from 10 x 10 points in every pixel.

    Examples
    --------
    >>> from clustercnn.simulation.visibility import aperture_weights
    >>> print(aperture_weights((5, 5), 2, 2, radius=2).sum())  # 4 pi, nearly
    12.64
    """
    offset = (np.arange(10) - 4.5) / 10
    in_y = (np.arange(shape[0])[:, None] + offset).ravel() - y
    in_x = (np.arange(shape[1])[:, None] + offset).ravel() - x
    inside = in_y[:, None] ** 2 + in_x**2 < radius**2
    return inside.reshape(shape[0], 10, shape[1], 10).mean(axis=(1, 3))


class Visibility:
    """
    The signal-to-noise label of clusters at the centre of their stamps.

    ``sqrt(sum over bands of (S / N)^2)``, where S is the cluster's flux in the central circle and N^2 the sum of the
    variance of the noiseless background's fluxes in that circle over the stamp (crowding), the Poisson variance of cluster and
    background in it, and the read noise.

    Parameters
    ----------
    detector : `~clustercnn.simulation.noise.Detector`
        Exposure, sky and read noise.
    shape : tuple of int
        ``(ny, nx)`` of the stamps.
    radius : float
        Radius of the circle in native pixels.
    device : str or `~torch.device`
        Where the stamps are.

    Examples
    --------
    >>> import torch
    >>> from clustercnn.instruments import Instrument
    >>> from clustercnn.simulation import Detector, Visibility
    >>> m83 = Instrument.from_name("HST/WFC3/UVIS/M83")
    >>> visibility = Visibility(Detector.from_instrument(m83), shape=(64, 64))
    >>> cluster, background = torch.zeros(1, 3, 64, 64), torch.full((1, 3, 64, 64), 0.01)
    >>> cluster[..., 31:33, 31:33] = 0.1
    >>> print(f"{visibility(cluster, background).item():.0f}")
    20
    """

    def __init__(self, detector, shape, radius=APERTURE_RADIUS, device="cpu"):
        ny, nx = shape
        centres = [((nx - 1) / 2, (ny - 1) / 2)]
        step = 2 * radius
        for y in np.arange(radius - 0.5, ny - radius, step):
            centres += [(x, y) for x in np.arange(radius - 0.5, nx - radius, step)]
        if len(centres) < 3:
            raise ValueError(f"shape must be at least {4 * radius:g} x {2 * radius:g} pixels, to hold two circles, not {shape}")
        # The first circle is the central one, the others tile the stamp.
        masks = np.stack([aperture_weights(shape, x, y, radius).ravel() for x, y in centres])
        self._masks = torch.from_numpy(masks.T).float().to(device)
        self._area = float(masks[0].sum())
        self._exposure, self._sky, self._read_variance = (
            torch.from_numpy(values).float().to(device) for values in (detector.exposure, detector.sky, detector.read_variance)
        )

    def __call__(self, cluster, background, depth=1.0, noisy=False):
        """
        The label.

        Parameters
        ----------
        cluster, background : `~torch.Tensor`
            Rates in electron/s, noiseless (of the background: see ``noisy``), shape (n, n_bands, ny, nx).
        depth : float or `~torch.Tensor`
            Exposure over the detector's, shape (n, n_bands).
        noisy : bool
            Whether the background holds its photon, sky and read noise already, as a real image does. The variance of its circles is
            then all of its noise.

        Returns
        -------
        visibility : `~torch.Tensor`
            Shape (n,).
        """
        exposure = self._exposure * depth
        signal = (cluster.flatten(2) @ self._masks[:, 0]) * exposure
        fields = (background.flatten(2) @ self._masks) * exposure[..., None]
        noise = fields[..., 1:].var(dim=-1)
        if noisy:
            noise = noise + signal.clamp_min(0.0)
        else:
            photons = (signal + fields[..., 0]).clamp_min(0.0)
            noise = noise + photons + self._area * (self._sky * exposure + self._read_variance)
        return (signal**2 / noise).sum(dim=1).sqrt()
