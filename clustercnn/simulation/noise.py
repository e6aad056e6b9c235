# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""What the detector adds: photon noise of everything that shines, sky, read noise."""

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from astropy import units as u
from astropy.utils.exceptions import AstropyUserWarning

from clustercnn.simulation.random_numbers import RandomTensors

__all__ = ["Detector", "add_noise", "correlate", "warn_of_missing_noise"]


@dataclass(frozen=True)
class Detector:
    """
    The numbers of an instrument that make its noise, as plain arrays, one value per band.

    The sky is subtracted from the images, as in calibrated mosaics, but its photons leave their noise.

    Parameters
    ----------
    exposure : `~numpy.ndarray`
        Total exposure in s.
    sky : `~numpy.ndarray`
        Sky rate in electron/s per pixel.
    read_variance : `~numpy.ndarray`
        Variance of the summed exposures' read noise, in electron^2 per pixel.

    Examples
    --------
    >>> import numpy as np
    >>> from clustercnn.simulation import Detector
    >>> detector = Detector(exposure=np.array([100.0]), sky=np.array([0.1]), read_variance=np.array([9.0]))
    >>> rate = np.full((1, 2, 2), 0.5)
    >>> print(detector.variance(rate)[0, 0, 0])  # (0.6 * 100 + 9) / 100^2
    0.0069
    >>> detector.expose(rate, np.random.default_rng(1)).shape
    (1, 2, 2)
    """

    exposure: np.ndarray
    sky: np.ndarray
    read_variance: np.ndarray

    @classmethod
    def from_instrument(cls, instrument):
        """The detector of an `~clustercnn.instruments.Instrument`."""
        return cls(
            np.array([instrument.exposure(band).to_value(u.s) for band in instrument.bands]),
            np.array([instrument.sky(band).to_value(u.electron / u.s) for band in instrument.bands]),
            np.array(
                [instrument.n_exposures(band) * instrument.read_noise(band).to_value(u.electron) ** 2 for band in instrument.bands]
            ),
        )

    def expose(self, rate, rng, correlation=0.0):
        """
        A noisy image.

        Parameters
        ----------
        rate : `~numpy.ndarray`
            Noiseless rates in electron/s, shape (n_bands, ny, nx).
        rng : None, int, `~numpy.random.SeedSequence` or `~numpy.random.Generator`
            Source of randomness; photons and read noise have a child of it each.
        correlation : float
            Share of its noise that each pixel passes on to each neighbour along x and along y, as drizzling does; the noise of
            large apertures stays. 0.12 is typical of HST mosaics, 0 leaves the noise white.

        Returns
        -------
        image : `~numpy.ndarray`
            Rates in electron/s, sky subtracted, same shape.
        """
        if not np.isfinite(rate).all():
            raise ValueError(f"rate must be finite, but holds {np.count_nonzero(~np.isfinite(rate))} NaN or infinite pixels "
                             "(of the background, if there is one: fill them first)")
        photons, readout = (RandomTensors(child, dtype=torch.float64) for child in np.random.default_rng(rng).spawn(2))
        rate = torch.from_numpy(np.asarray(rate, dtype=float))
        image = add_noise(rate, *(torch.from_numpy(a) for a in (self.exposure, self.sky, self.read_variance)), photons, readout)
        if correlation:
            image = rate + correlate(image - rate, torch.tensor(correlation))
        return image.numpy()

    def variance(self, rate):
        """Variance of `expose` at noiseless rates (electron/s)^2, same shape."""
        exposure, sky, read_variance = (a[:, None, None] for a in (self.exposure, self.sky, self.read_variance))
        return (np.maximum(rate + sky, 0.0) * exposure + read_variance) / exposure**2


def warn_of_missing_noise(instrument):
    """
    Warn of bands of an instrument in which dark pixels would have no noise at all.

    Parameters
    ----------
    instrument : `~clustercnn.instruments.Instrument`
        Of the images to be made.

    Warns
    -----
    `~astropy.utils.exceptions.AstropyUserWarning`
        If a band has neither sky nor read noise, as presets have that leave them to the user.
    """
    silent = [band for band in instrument.bands if instrument.sky(band) == 0 and instrument.read_noise(band) == 0]
    if silent:
        warnings.warn(f"{instrument.name} has neither sky nor read noise in {', '.join(silent)}, so that dark pixels have no noise at all: "
                      "give the instrument read_noise= or sky=", AstropyUserWarning, stacklevel=3)


def add_noise(rate, exposure, sky, read_variance, photons, readout):
    """
    Noisy, sky-subtracted rates of images.

    Parameters
    ----------
    rate : `~torch.Tensor`
        Noiseless rates in electron/s, shape (..., n_bands, ny, nx).
    exposure, sky, read_variance : `~torch.Tensor`
        As of `Detector`, of shape (..., n_bands).
    photons, readout : `~clustercnn.simulation.random_numbers.RandomTensors`
        Sources of randomness of the photons and of the read noise.

    Returns
    -------
    image : `~torch.Tensor`
        Rates in electron/s, same shape.
    """
    exposure, sky, read_noise = exposure[..., None, None], sky[..., None, None], read_variance.sqrt()[..., None, None]
    # The FFT leaves rates of -1e-9 where there is no light.
    electrons = photons.poisson((rate + sky).clamp_min(0.0) * exposure)
    return (electrons + read_noise * readout.normal(*rate.shape)) / exposure - sky


def correlate(noise, share):
    """
    Pass on a share of each pixel's noise to each neighbour along x and along y.

    Parameters
    ----------
    noise : `~torch.Tensor`
        Shape (..., n_bands, ny, nx).
    share : `~torch.Tensor`
        Shape (...).

    Returns
    -------
    noise : `~torch.Tensor`
        Same shape.
    """
    share = share[..., None, None, None]
    for axis in (-1, -2):
        n = noise.shape[axis]
        # What lies beyond the edge is as noisy as the pixels next to it; the second one, not the first, stands in, so that the edge is
        # neither noisier nor smoother than the rest.
        before, after = (noise.narrow(axis, i, 1) for i in (min(2, n - 1), max(n - 3, 0)))
        padded = torch.cat([before, noise, after], dim=axis)
        noise = share * (padded.narrow(axis, 0, n) + padded.narrow(axis, 2, n)) + (1 - 2 * share) * noise
    return noise
