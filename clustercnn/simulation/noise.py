# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""What the detector adds: photon noise of everything that shines, sky, read noise."""

from dataclasses import dataclass, replace

import numpy as np
from astropy import units as u
from scipy.ndimage import correlate1d

__all__ = ["Detector"]


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
        rng : `~numpy.random.Generator`
            Source of randomness.
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
        exposure, sky, read_variance = (a[:, None, None] for a in (self.exposure, self.sky, self.read_variance))
        # The FFT leaves rates of -1e-9 where there is no light.
        electrons = rng.poisson(np.maximum(rate + sky, 0.0) * exposure)
        image = (electrons + np.sqrt(read_variance) * rng.standard_normal(rate.shape)) / exposure - sky
        if correlation == 0:
            return image
        noise = image - rate
        for axis in (-2, -1):
            noise = correlate1d(noise, [correlation, 1 - 2 * correlation, correlation], axis=axis, mode="mirror")
        return rate + noise

    def scaled(self, factor):
        """The detector with its exposures times a factor per band, array of shape (n_bands,)."""
        return replace(self, exposure=self.exposure * factor)

    def variance(self, rate):
        """Variance of `expose` at noiseless rates (electron/s)^2, same shape."""
        exposure, sky, read_variance = (a[:, None, None] for a in (self.exposure, self.sky, self.read_variance))
        return (np.maximum(rate + sky, 0.0) * exposure + read_variance) / exposure**2
