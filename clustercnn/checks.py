# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Does the model fit the source?  Sources simulated from the posterior, against the one observed.
"""

from dataclasses import dataclass

import numpy as np
from astropy import units as u

from clustercnn.simulation.background import star_rates
from clustercnn.simulation.noise import Detector
from clustercnn.simulation.render import Renderer, band_psfs
from clustercnn.simulation.scenes import ClusterScenes

__all__ = ["PosteriorPredictive", "posterior_predictive"]

RADIUS = 12.0  # pixels around the centre that are compared


@dataclass
class PosteriorPredictive:
    """
    What `posterior_predictive` found.

    Attributes
    ----------
    p_value : float
        Fraction of simulated stamps that lie at least as far from their mean as the observed one.
    chi_square : float
        That distance of the observed stamp: squared residuals over the variance of the simulated pixels, summed.
    model, residual : `~astropy.units.Quantity`
        Mean of the simulated stamps, and observed minus it, (band, ny, nx).
    """

    p_value: float
    chi_square: float
    model: u.Quantity
    residual: u.Quantity


def posterior_predictive(estimate, i, stamp, instrument, *, distance, psf=None, position=None, n=200, rng=None):
    """
    Simulate a source again and again from its posterior, and compare.

    The stars are drawn anew each time, so the scatter of the simulated stamps counts stochastic populations as well as
    photon noise.  The background of a simulated stamp is drawn from the pixels of the observed one beyond 12 pixels.

    Parameters
    ----------
    estimate : `~clustercnn.estimate.ClusterEstimate`
        Posterior draws of age, A_V, mass and half-light radius.
    i : int
        Which source.
    stamp : `~astropy.units.Quantity`
        The source as observed, shape (band, ny, nx), electron/s.
    instrument : `~clustercnn.instruments.Instrument`
        Bands, in the order of the stamp, and their noise.
    distance : `~astropy.units.Quantity`
        Of the source.
    psf : dict of `~clustercnn.psf.PSF`, optional
        One per band; default: the built-in HST model.
    position : tuple of float, optional
        ``(x, y)`` of the source in the stamp; default the centre.
    n : int
        Simulated stamps.
    rng : None, int, `~numpy.random.SeedSequence` or `~numpy.random.Generator`
        Source of randomness.

    Returns
    -------
    result : `PosteriorPredictive`
        A small ``p_value`` says that no cluster of the posterior looks like the source.
    """
    unit = u.electron / u.s
    if not isinstance(stamp, u.Quantity):
        raise TypeError("stamp must be a Quantity such as array * u.electron / u.s")
    observed = stamp.to_value(unit).astype(float)
    if observed.ndim != 3 or len(observed) != len(instrument.bands):
        raise ValueError(f"stamp must have shape ({len(instrument.bands)}, ny, nx) for the instrument's bands, not {stamp.shape}")
    if n < 2:
        raise ValueError(f"n must be at least 2, not {n}")
    rng = np.random.default_rng(rng)
    shape = observed.shape[1:]
    x, y = ((shape[1] - 1) / 2, (shape[0] - 1) / 2) if position is None else position
    row, column = np.indices(shape)
    near = np.hypot(column - x, row - y) < RADIUS
    good = np.isfinite(observed).all(axis=0)
    if not (near & good).any() or not (~near & good).any():
        raise ValueError(f"stamp must have good pixels within {RADIUS:g} pixels of the source and beyond")

    light = _light(estimate.draws[i], estimate.space, instrument, distance, psf, shape, (x, y), n, rng)
    far = observed[:, ~near & good]
    sky = far[:, rng.integers(far.shape[1], size=(n, *shape))].swapaxes(0, 1)
    # sky pixels bring the noise of sky and detector; the photons of the cluster bring their own
    exposure = Detector.from_instrument(instrument).exposure[:, None, None]
    simulated = rng.poisson(light * exposure) / exposure + sky

    model = simulated.mean(axis=0)
    variance = simulated.var(axis=0, ddof=1) + 1e-12
    compared = near & good

    def chi_square(pixels):
        return ((pixels - model) ** 2 / variance)[..., compared].sum(axis=(-2, -1))

    found = float(chi_square(observed))
    p_value = (1 + np.sum(chi_square(simulated) >= found)) / (n + 1)
    return PosteriorPredictive(float(p_value), found, model * unit, (observed - model) * unit)


def _light(draws, space, instrument, distance, psf, shape, center, n, rng):
    """Noiseless stamps (n, band, ny, nx) of clusters with parameters drawn from the posterior."""
    psf = band_psfs(psf, instrument)
    clusters = ClusterScenes(space, instrument, star_rates(instrument, distance))
    renderer = Renderer([psf[band] for band in instrument.bands], shape, smooth_reach=clusters.reach)
    coordinates = draws[rng.integers(len(draws), size=n)].astype(float)
    light = clusters.render(clusters.clusters(coordinates, np.tile(center, (n, 1)), rng, rng), renderer)
    return np.maximum(light.numpy().astype(float), 0)
