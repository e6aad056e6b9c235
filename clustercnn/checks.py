# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Does the model fit the source?  Sources simulated from the posterior, against the one observed.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from astropy import units as u
from scipy.stats import rankdata

from clustercnn.parameters import as_quantity, in_short, positive_quantity
from clustercnn.simulation.background import star_rates
from clustercnn.simulation.noise import Detector
from clustercnn.simulation.render import Renderer, band_psfs
from clustercnn.simulation.scenes import ClusterScenes
from clustercnn.simulation.stream import BLUR, JITTER

__all__ = ["PosteriorPredictive", "posterior_predictive"]

RADIUS = 12.0  # pixels around the centre that are compared; a quarter of smaller stamps


@dataclass
class PosteriorPredictive:
    """
    What `posterior_predictive` found.

    Attributes
    ----------
    p_value : float
        Fraction of all stamps, the observed one and the simulated, that lie at least as far from the mean of the others as the
        observed one: pixel by pixel or in the summed light of the bands, whichever is the more unusual for a stamp.
    chi_square : float
        Distance of the observed stamp, pixel by pixel: squared residuals over the variance of the simulated pixels, summed.
    model, residual : `~astropy.units.Quantity`
        Mean of the simulated stamps, and observed minus it, (band, ny, nx).
    """

    p_value: float
    chi_square: float
    model: u.Quantity
    residual: u.Quantity


def posterior_predictive(estimate, i, stamp, instrument, *, distance, psf=None, extinction_law="F99", position=None, n=200, rng=None):
    """
    Simulate a source again and again from its posterior, and compare.

    The stars are drawn anew each time, so the scatter of the simulated stamps counts stochastic populations as well as photon noise; their
    centres scatter by half a pixel, as those of the mocks do.  What lies behind a simulated source is the observed stamp without the mean
    model (brought to the brightness of the source), shifted at random so far that the pixels within 12 of the source come from beyond.

    Parameters
    ----------
    estimate : `~clustercnn.estimate.ClusterEstimate`
        Posterior draws of age, A_V, mass and half-light radius.
    i : int
        Which source.
    stamp : `~astropy.units.Quantity`
        The source as observed, shape (band, ny, nx), electron/s. Pixels that are NaN or masked are not compared.
    instrument : `~clustercnn.instruments.Instrument`
        Bands, in the order of the stamp, and their noise.
    distance : `~astropy.units.Quantity`
        Of the source.
    psf : dict of `~clustercnn.psf.PSF`, optional
        One per band; default: the built-in HST model.
    extinction_law : str or dust_extinction model
        Curve of the dust before the source, see `~clustercnn.stellar.get_law`: that of the mocks that the network has learned from.
    position : tuple of float, optional
        ``(x, y)`` of the source in the stamp; default the centre.
    n : int
        Simulated stamps, at least 10; 200 of 64 x 64 pixels in three bands take about a second.
    rng : None, int, `~numpy.random.SeedSequence` or `~numpy.random.Generator`
        Source of randomness.

    Returns
    -------
    result : `PosteriorPredictive`
        A small ``p_value`` says that no cluster of the posterior looks like the source. It cannot be smaller than 1 / (n + 1).

    Raises
    ------
    TypeError, `~astropy.units.UnitsError`
        If the stamp or the distance has no unit or a wrong one.
    ValueError
        For stamps of another shape or without good pixels, another space than that of clusters, more than one distance, and too few simulations.
    IndexError
        If there is no such source.

    Notes
    -----
    The posterior has seen the pixels that it is compared with: p-values of sources that are what the model says are not spread evenly
    over 0..1 but lean upwards, the more so the more the posterior has learned (Gelman, Meng & Stern 1996, Statistica Sinica 6, 733).
    What small ones are worth is told in the manual under Validation. The stars are those of the default
    `~clustercnn.simulation.MockStream`: a source of another metallicity, initial mass function or profile is compared with these.

    Examples
    --------
    A mock, and a narrow posterior around its truth:

    >>> import numpy as np
    >>> from astropy import units as u
    >>> from clustercnn import ClusterEstimate
    >>> from clustercnn.checks import posterior_predictive
    >>> from clustercnn.instruments import Instrument
    >>> from clustercnn.parameters import ParameterSpace
    >>> from clustercnn.simulation import BackgroundFields, MockStream
    >>> space, instrument = ParameterSpace.paper(), Instrument.from_name("HST/WFC3/UVIS/M83")
    >>> dark = BackgroundFields([np.zeros((3, 64, 64))])
    >>> mock = MockStream(space, instrument, background=dark, rng=1, positive_fraction=1.0).batch(0, 1)
    >>> draws = mock["parameters"].numpy()[:, None] + np.random.default_rng(1).normal(0, 0.02, (1, 100, 4))
    >>> stamp = mock["pixels"][0].numpy() * u.electron / u.s
    >>> result = posterior_predictive(ClusterEstimate(draws, space), 0, stamp, instrument, distance=4.5 * u.Mpc, n=20, rng=1)
    >>> result.p_value > 0.1, result.residual.shape
    (True, (3, 64, 64))
    """
    psf = band_psfs(psf, instrument)
    psfs = tuple(psf[band] for band in instrument.bands)
    unit = u.electron / u.s
    stamp = as_quantity(stamp, unit, "stamp")
    observed = (stamp.filled(np.nan) if hasattr(stamp, "filled") else stamp).value.astype(float)
    if observed.ndim != 3 or len(observed) != len(instrument.bands) or min(observed.shape[1:]) < 8:
        raise ValueError(f"stamp must have shape ({len(instrument.bands)}, ny, nx) for the instrument's bands, with at least 8 x 8 pixels, "
                         f"not {stamp.shape}")
    if not n >= 10 or n % 1:
        raise ValueError(f"n must be a whole number of at least 10, not {n}")
    if not isinstance(i, (int, np.integer)) or not -len(estimate) <= i < len(estimate):
        raise IndexError(f"i must be the number of one of the {len(estimate)} sources of the estimate, not {in_short(i)}")
    distance = positive_quantity(distance, u.Mpc, "distance")
    if position is not None and (isinstance(position, u.Quantity) or np.shape(position) != (2,)):
        raise ValueError(f"position must be pixels (x, y) of the source in the stamp, not {in_short(position)}")
    rng = np.random.default_rng(rng)
    shape = observed.shape[1:]
    x, y = ((shape[1] - 1) / 2, (shape[0] - 1) / 2) if position is None else position
    radius = min(RADIUS, min(shape) / 4)
    row, column = np.indices(shape)
    near = np.hypot(column - x, row - y) < radius
    known = np.isfinite(observed)
    if not (near & known).any() or not (~near & known).any():
        raise ValueError(f"stamp must have good pixels within {radius:g} pixels of the source and beyond")

    clusters, renderer = _simulator(estimate.space, instrument, distance, psfs, shape, extinction_law)
    light = _light(estimate.draws[i], clusters, renderer, (x, y), n, rng)
    # photons of the sky and noise of the detector come with the pixels of the sky; those of the cluster bring their own
    exposure = Detector.from_instrument(instrument).exposure[:, None, None]
    sky = _shifted(observed - _scaled(light.mean(axis=0), observed, near & known), known & ~near, 2 * radius, n, rng)
    simulated = rng.poisson(light * exposure) / exposure + sky
    model = simulated.mean(axis=0)
    stamps, compared = np.concatenate([observed[None], simulated]), near & known
    distances = _distances(stamps[:, compared])
    p_value = _p_value(distances, _distances(_magnitudes(stamps, sky, compared)))
    return PosteriorPredictive(p_value, float(distances[0]), model * unit, (observed - model) * unit)


def _magnitudes(stamps, sky, compared):
    """Light of each stamp (n, band) in the pixels that are compared, on a scale that turns from flux to magnitude at the noise of the sky."""
    total, behind = (np.where(compared, pixels, 0.0).sum(axis=(2, 3)) for pixels in (stamps, sky))
    noise = behind.std(axis=0)
    return np.arcsinh((total - np.median(behind, axis=0)) / np.where(noise > 0, noise, 1.0))


def _p_value(*distances):
    """Share of stamps that are at least as far off as the first one, each in the distance (n,) in which it is farther off among all of them."""
    share = np.min([rankdata(-values, method="max") for values in distances], axis=0)
    return float(np.mean(share <= share[0]))


def _scaled(light, observed, near):
    """Mean light (band, ny, nx) as bright as the source observed: its wings are no sky."""
    scaled = []
    for mean, pixels, these in zip(light, observed, near, strict=True):
        offset = mean[these] - mean[these].mean() if these.any() else np.zeros(1)
        brightness = (offset @ pixels[these]) / (offset @ offset) if offset.any() else 0.0
        scaled.append(max(brightness, 0.0) * mean)
    return np.array(scaled)


def _shifted(sky, known, distance, n, rng):
    """A stamp of sky (band, ny, nx) shifted by at least a distance, n times, what leaves at one edge entering at the other."""
    shape = sky.shape[1:]
    middle = [np.nanmedian(np.where(these, band, np.nan)) if these.any() else 0.0 for band, these in zip(sky, known, strict=True)]
    sky = np.where(known, sky, np.array(middle)[:, None, None])
    steps = np.stack(np.indices(shape), axis=-1).reshape(-1, 2)
    steps = steps[np.hypot(*np.minimum(steps, shape - steps).T) >= distance]
    return np.stack([np.roll(sky, step, axis=(1, 2)) for step in steps[rng.integers(len(steps), size=n)]])


def _distances(pixels):
    """Squared distance of each stamp (n, pixels) from the mean of the others, in their variance, summed over the pixels."""
    n = len(pixels)
    apart = pixels - pixels.mean(axis=0)
    variance = ((apart**2).sum(axis=0) - apart**2 * n / (n - 1)) / (n - 2)
    return ((apart * n / (n - 1)) ** 2 / (variance + 1e-12)).sum(axis=1)


def _light(draws, clusters, renderer, center, n, rng):
    """Noiseless stamps (n, band, ny, nx) of clusters with parameters drawn from the posterior."""
    coordinates = draws[rng.integers(len(draws), size=n)].astype(float)
    center = center + rng.uniform(-JITTER, JITTER, (n, 2))
    light = clusters.render(clusters.clusters(coordinates, center, rng, rng), renderer, BLUR * rng.random(n))
    return np.maximum(light.numpy().astype(float), 0)


@lru_cache(maxsize=4)
def _simulator(space, instrument, distance, psfs, shape, extinction_law):
    """Made once for all sources of a catalogue."""
    clusters = ClusterScenes(space, instrument, star_rates(instrument, distance), extinction_law=extinction_law)
    return clusters, Renderer(psfs, shape, smooth_reach=clusters.reach)
