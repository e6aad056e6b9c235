# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
The classical peer of the network: stochastic Bayesian aperture photometry.
"""

import numpy as np
from astropy import units as u
from tqdm import tqdm

from clustercnn.estimate import ClusterEstimate
from clustercnn.stamps import read_stamps

__all__ = ["StochasticPhotometry"]

RADII = 1.5, 3.0, 5.0, 10.0  # pixels: the concentration of the light tells the size
FLOOR = 0.05  # least width of the kernel, in asinh magnitudes
CHUNK = 1024


class StochasticPhotometry:
    """
    Compare the aperture photometry of a source with that of many simulated clusters.

    A library of mocks, drawn star by star and observed as the source was, stands for the likelihood, stochastic
    populations included (Fouesneau & Lancon 2010; Krumholz et al. 2015).  The posterior weights each mock by a Gaussian
    kernel of its distance in photometry; where the library is sparse the kernel widens until enough mocks have a say.

    Parameters
    ----------
    stream : `~clustercnn.simulation.MockStream`
        Where the mocks come from; anything with ``batch(start, size)``, ``space`` and ``contract``.
    samples : int
        Mocks to draw; those that are clusters form the library.
    effective : float
        Least effective number of mocks that make a posterior.
    progress : bool
        Show a progress bar.

    Notes
    -----
    The measurements are the fluxes within 1.5 pixels of the centre and in rings out to 3, 5 and 10 pixels, above the median
    of a ring at 19 to 29 pixels of a stamp of 64, in asinh magnitudes softened by the photometric error.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy import units as u
    >>> from clustercnn.instruments import Instrument
    >>> from clustercnn.parameters import ParameterSpace
    >>> from clustercnn.photometric_inference import StochasticPhotometry
    >>> from clustercnn.simulation import BackgroundFields, MockStream
    >>> m83 = Instrument.from_name("HST/WFC3/UVIS/M83")
    >>> stream = MockStream(ParameterSpace.paper(), m83, background=BackgroundFields([np.zeros((3, 64, 64))]), rng=1)
    >>> peer = StochasticPhotometry(stream, samples=256, effective=20)
    >>> peer.predict(np.zeros((2, 3, 64, 64)) * u.electron / u.s, draws=50)
    <ClusterEstimate of 2 sources, 50 draws of age, a_v, mass, half_light_radius>
    """

    def __init__(self, stream, samples=50_000, effective=100, progress=False):
        if samples < 1 or effective < 1:
            raise ValueError(f"samples and effective must be at least 1, not {samples} and {effective}")
        self.space = stream.space
        #: What the mocks promise: bands, unit, zero points, pixel scale, stamp shape, ...
        self.contract = dict(stream.contract)
        self.effective = effective
        coordinates, fluxes, errors = [], [], []
        for start in tqdm(range(0, samples, CHUNK), unit_scale=CHUNK, unit="mock", desc="library", disable=not progress):
            batch = {name: values.numpy() for name, values in stream.batch(start, min(CHUNK, samples - start)).items()}
            cluster = batch["is_cluster"] > 0.5
            measured = _measure(batch["pixels"][cluster])
            coordinates.append(batch["parameters"][cluster])
            fluxes.append(measured[0])
            errors.append(measured[1])
        self.coordinates = np.concatenate(coordinates)
        if len(self.coordinates) < effective:
            raise ValueError(f"effective must be at most the number of clusters in the library, {len(self.coordinates)}, "
                             f"not {effective}; draw more samples")
        self._softening = np.median(np.concatenate(errors), axis=0)
        self._library = np.arcsinh(np.concatenate(fluxes) / self._softening)

    def predict(self, images, positions=None, draws=200, rng=0, *, instrument=None, pixel_scale=None):
        """
        Posteriors of sources.

        Parameters
        ----------
        images : `~clustercnn.images.MultiBandImage` or `~astropy.units.Quantity`
            Images that hold the bands of the library, or stamps of shape (n, band, ny, nx) in their order, in electron/s.
        positions : array_like, `~astropy.coordinates.SkyCoord` or `~astropy.table.Table`, optional
            Where the sources are in images. Needed with images, not allowed with stamps.
        draws : int
            Posterior draws per source.
        rng : None, int, `~numpy.random.SeedSequence` or `~numpy.random.Generator`
            Source of randomness.
        instrument : `~clustercnn.instruments.Instrument`, optional
            What the data were taken with. Needed for images in electron, adu or flux densities; and where its zero points
            differ from the library's, the pixels are brought to the latter.
        pixel_scale : `~astropy.units.Quantity`, optional
            Angle per pixel of stamps, to be checked against the library's (images know their own).

        Returns
        -------
        estimate : `~clustercnn.estimate.ClusterEstimate`
            With the effective number of mocks behind each posterior in ``effective_sample_size``; it tells neither cluster
            from background nor visibility.

        Raises
        ------
        TypeError
            If stamps are not a Quantity.
        `~astropy.units.UnitsError`
            If their unit does not convert to electron/s.
        ValueError
            For missing bands, other stamp shapes, a pixel scale more than 2 % off the library's, and stamps with pixels that are
            NaN, masked or off the image.
        """
        n, batches = read_stamps(images, positions, self.contract, unit=u.Unit(self.contract["unit"]), instrument=instrument,
                                 pixel_scale=pixel_scale, nan="mask", user="library")
        rng = np.random.default_rng(rng)
        chosen, numbers = np.empty((n, draws), dtype=int), np.empty(n)
        sources = (source for stamps in batches for source in zip(stamps, *_measure(stamps)))
        for i, (stamp, flux, error) in enumerate(sources):
            if not np.isfinite(stamp).all():
                raise ValueError(f"stamp {i} holds NaN, masked or missing pixels: leave the source out, or give stamps in which they "
                                 "are filled, such as with the median of images.cutouts(..., nan='mask') in each band")
            width = np.hypot(error / np.hypot(flux, self._softening), FLOOR)
            distance = (((self._library - np.arcsinh(flux / self._softening)) / width) ** 2).sum(axis=1)
            weights, numbers[i] = _weights(distance, self.effective)
            chosen[i] = rng.choice(len(weights), draws, p=weights)
        estimate = ClusterEstimate(self.coordinates[chosen], self.space, meta={"model": "stochastic aperture photometry"})
        estimate.effective_sample_size = numbers
        return estimate


def _measure(stamps):
    """Fluxes in the central circle and the rings around it, and their errors, of (n, band, ny, nx): both (n, band * 4)."""
    from photutils.aperture import CircularAnnulus, CircularAperture

    shape = stamps.shape[-2:]
    center = (shape[1] - 1) / 2, (shape[0] - 1) / 2
    half = min(shape) / 2
    regions = [CircularAperture(center, RADII[0]), *(CircularAnnulus(center, *ends) for ends in zip(RADII, RADII[1:]))]
    masks = np.stack([region.to_mask(method="exact").to_image(shape) for region in regions])
    around = CircularAnnulus(center, 0.6 * half, 0.9 * half).to_mask(method="center").to_image(shape) > 0
    ring = stamps[..., around]
    sky = np.median(ring, axis=-1, keepdims=True)
    scatter = 1.48 * np.median(np.abs(ring - sky), axis=-1, keepdims=True)
    areas = masks.sum(axis=(1, 2))
    fluxes = np.tensordot(stamps, masks, axes=((-2, -1), (-2, -1))) - sky * areas
    # the scatter of one pixel is zero where a band is empty
    errors = np.maximum(scatter, 1e-6) * np.sqrt(areas)
    return fluxes.reshape(len(stamps), -1), errors.reshape(len(stamps), -1)


def _weights(distance, effective):
    """Weights exp(-distance / 2 t) that sum to 1, with the least t >= 1 of the effective number asked for, and that number."""
    distance = distance - distance.min()

    def at(log_t):
        weights = np.exp(-0.5 * distance / np.exp(log_t))
        weights /= weights.sum()
        return weights, 1 / (weights**2).sum()

    low, high = 0.0, 30.0
    weights, number = at(low)
    if number < effective:
        while high - low > 0.01:
            middle = (low + high) / 2
            weights, number = at(middle)
            low, high = (middle, high) if number < effective else (low, middle)
        weights, number = at(high)
    return weights, number
