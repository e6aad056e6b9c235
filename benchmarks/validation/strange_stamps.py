# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Stamps that are no ordinary mocks: saturated stars, galaxies, cosmic rays, wrong units, zero points and PSFs. Used by out_of_domain.py."""

from functools import cached_property

import numpy as np
from astropy.modeling.models import AiryDisk2D
from scipy.signal import fftconvolve
from scipy.special import gammaincinv
from scipy.stats.qmc import Sobol

from clustercnn.psf import as_psf, builtin_psf
from clustercnn.simulation import BackgroundFields, MockStream
from clustercnn.simulation.background import star_rates
from clustercnn.simulation.noise import Detector
from clustercnn.simulation.render import Renderer
from clustercnn.simulation.scenes import ClusterScenes, Scenes

FULL_WELL = 65_000  # electrons in one exposure, of WFC3/UVIS


class StrangeStamps:
    """
    Batches of strange stamps of an instrument, reproducible by their seed.

    Parameters
    ----------
    space, instrument, distance
        As for `MockStream`.
    seed : int
        Of everything.
    n_fields, field_shape : int, tuple of int
        Synthetic discs, on which all stamps lie, and their pixels.
    """

    shape = (64, 64)

    def __init__(self, space, instrument, distance, seed=20_240, n_fields=6, field_shape=(512, 512)):
        self.space, self.instrument, self.distance = space, instrument, distance
        self.seed, self.n_fields, self.field_shape = seed, n_fields, field_shape
        self.background = self._discs(None)
        self.detector = Detector.from_instrument(instrument)
        self.zero_points = np.array([instrument.zero_point(band).value for band in instrument.bands])
        self.n_exposures = np.array([instrument.n_exposures(band) for band in instrument.bands])

    @cached_property
    def cases(self):
        """Name to function of the number of stamps, which gives their pixels (n, band, ny, nx) in electron/s."""
        cases = {
            "mocks: clusters": self.clusters,
            "mocks: negatives": self.negatives,
            "saturated star, flat core": lambda n: self.saturated(n, bleeding=False),
            "saturated star that bleeds": lambda n: self.saturated(n, bleeding=True),
            "galaxy of 0.1 to 3 arcsec": self.galaxies,
            "galaxy of 1 to 3 arcsec": lambda n: self.extended(n, arms=False),
            "spiral galaxy of 1 to 3 arcsec": lambda n: self.extended(n, arms=True),
            "bad column within 8 pixels": self.bad_columns,
            "cosmic rays within 8 pixels": self.cosmic_rays,
        }
        for error in (0.3, 1.0, 2.0):
            cases[f"zero point of one band off by {error} mag"] = lambda n, error=error: self.zero_point(n, error, all_bands=False)
        for error in (0.3, 1.0, 2.0):
            cases[f"zero points of all bands off by {error} mag"] = lambda n, error=error: self.zero_point(n, error, all_bands=True)
        cases |= {
            "PSF 1.1 times as wide": lambda n: self.other_psf(n, self.widened(1.1)),
            "PSF 1.3 times as wide": lambda n: self.other_psf(n, self.widened(1.3)),
            **{name: lambda n, psf=told["psf"]: self.other_psf(n, psf) for name, told in self.told.items()},
            "PSF twice as wide": lambda n: self.other_psf(n, self.widened(2.0)),
            "PSF of diffraction alone": lambda n: self.other_psf(n, self.diffraction()),
            "PSF a doughnut of 4 pixels radius": lambda n: self.other_psf(n, self.doughnut(4.0)),
            "electrons, not electron / s": lambda n: self.clusters(n) * self.detector.exposure[:, None, None],
            "sky not subtracted": lambda n: self.clusters(n) + self.detector.sky[:, None, None],
        }
        return cases

    @cached_property
    def told(self):
        """What `ClusterNet.predict` is told of the stamps of a case, where it is told something: keywords."""
        return {"PSF 1.3 times as wide, told": {"psf": self.widened(1.3)}}

    def rng(self, salt):
        """A generator of its own for each kind of stamp."""
        return np.random.default_rng([self.seed, salt])

    def stream(self, salt=0, **keywords):
        """A stream of mocks on the fields of all."""
        keywords = {"background": self.background, "distance": self.distance, "positive_fraction": 1.0} | keywords
        return MockStream(self.space, self.instrument, rng=np.random.SeedSequence([self.seed, salt]), **keywords)

    def clusters(self, n):
        """Ordinary mocks."""
        return self.stream().batch(0, n)["pixels"].numpy()

    def negatives(self, n):
        """The ordinary negatives."""
        return self.stream(1, positive_fraction=0.0).batch(0, n)["pixels"].numpy()

    def galaxies(self, n):
        """Those of `clustercnn.simulation.negatives`, small and large."""
        return self.stream(2, positive_fraction=0.0, negatives={"galaxy": 1}).batch(0, n)["pixels"].numpy()

    def saturated(self, n, bleeding):
        """Stars of F438W = 14 to 17.5 mag, cut off at the full well; what is beyond it may flow along the column."""
        rng = self.rng(3)
        middle = rng.uniform(14.0, 17.5, n)
        magnitudes = np.stack([middle + rng.uniform(-1, 1, n), middle, middle - rng.uniform(-0.5, 2, n)], 1)
        rates = 10 ** (0.4 * (self.zero_points - magnitudes))
        centre = 31.5 + rng.uniform(-0.5, 0.5, (n, 2))
        light = self.render(centre[:, 0], centre[:, 1], rates, np.arange(n), centre)
        pixels = self.observe(light, rng)
        full = (FULL_WELL * self.n_exposures / self.detector.exposure)[:, None, None]
        if bleeding:
            pixels = _bled(pixels, full)
        return np.minimum(pixels, full)

    def extended(self, n, arms):
        """Exponential discs with a bulge, of a half-light radius of 1 to 3 arcsec and 19 to 22 mag, with or without spiral arms."""
        rng = self.rng(4)
        n_points = 2**14
        parts = []
        for i in range(n):
            size = 10 ** rng.uniform(0, 0.48) / 0.04
            fraction, circle, choice = Sobol(3, seed=rng).random(n_points).T  # laid out evenly, so that the points do not show
            bulge = choice < rng.uniform(0.05, 0.3)
            radius, angle = np.where(bulge, 0.15, 1.0) * size / 1.68 * gammaincinv(2.0, fraction), 2 * np.pi * circle
            weight = np.ones(n_points)
            if arms:  # two logarithmic spirals with knots in them, over a smooth disc
                phase = 2 * (angle - np.log(radius / size) / np.tan(rng.choice([-1, 1]) * np.radians(rng.uniform(12, 30))))
                weight = np.where(bulge, 1.0, np.exp(2.0 * (np.cos(phase) - 1))) * np.where(rng.random(n_points) < 0.002, 100.0, 1.0)
            tilt, turn = rng.uniform(0.3, 1.0), rng.uniform(0, np.pi)
            x, y = radius * np.cos(angle), radius * np.sin(angle) * tilt
            x, y = x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)
            magnitudes = rng.uniform(19, 22) + np.array([rng.uniform(-0.5, 0.8), 0.0, -rng.uniform(0.5, 2.0)])
            parts.append((31.5 + x, 31.5 + y, weight[:, None] / weight.sum() * 10 ** (0.4 * (self.zero_points - magnitudes))))
        x, y, rates = (np.concatenate(values) for values in zip(*parts, strict=True))
        light = self.render(x, y, rates, np.repeat(np.arange(n), n_points), np.full((n, 2), 31.5))
        return self.observe(light, rng)

    def bad_columns(self, n):
        """Clusters with one or two columns of one band dead or hot, within 8 pixels of the centre."""
        rng, pixels = self.rng(5), self.clusters(n)
        for stamp in pixels:
            column, band = int(rng.integers(24, 40)), rng.integers(len(stamp))
            value = 0.0 if rng.random() < 0.5 else 10 ** rng.uniform(3, 4.5) / self.detector.exposure[band]
            stamp[band, :, column : column + rng.integers(1, 3)] = value
        return pixels

    def cosmic_rays(self, n):
        """Clusters with one to three tracks of 1 to 8 pixels, 1000 to 10,000 electrons each, in one band within 8 pixels of the centre."""
        rng, pixels = self.rng(6), self.clusters(n)
        for stamp in pixels:
            band = rng.integers(len(stamp))
            for _ in range(rng.integers(1, 4)):
                start, angle, length = rng.uniform(24, 40, 2), rng.uniform(0, 2 * np.pi), rng.uniform(1, 8)
                along = np.arange(0, length, 0.25)
                track = np.unique(np.rint(start + along[:, None] * [np.sin(angle), np.cos(angle)]).astype(int), axis=0)
                row, column = track.T
                stamp[band, row, column] += 10 ** rng.uniform(3, 4) / len(track) / self.detector.exposure[band]
        return pixels

    def zero_point(self, n, error, all_bands):
        """Clusters too bright or too faint by some magnitudes, in a band at random or in all."""
        rng, pixels = self.rng(7), self.clusters(n)
        sign = rng.choice([-1, 1], n)
        shift = np.zeros(pixels.shape[:2])
        if all_bands:
            shift += error * sign[:, None]
        else:
            shift[np.arange(n), rng.integers(shift.shape[1], size=n)] = error * sign
        return pixels * 10 ** (-0.4 * shift)[:, :, None, None]

    def other_psf(self, n, psf):
        """Clusters, and the disc behind them, seen through another PSF."""
        return self.stream(8, psf=psf, background=self._discs(psf)).batch(0, n)["pixels"].numpy()

    def _discs(self, psf):
        return BackgroundFields.discs(
            self.instrument, self.n_fields, self.field_shape, rng=self.seed, distance=self.distance, psf=psf
        )

    def widened(self, factor):
        """The built-in PSFs, so many times as wide."""
        return {band: as_psf(psf.data, oversampling=psf.oversampling / factor) for band, psf in builtin_psf(self.instrument).items()}

    def diffraction(self):
        """Airy patterns of a mirror of 2.4 m: what Tiny Tim gives without the diffusion of charge, obstructions apart."""
        psfs = {}
        for band, wavelength in zip(self.instrument.bands, (335.5, 432.6, 804.8), strict=True):
            first_zero = 1.22 * wavelength * 1e-9 / 2.4 * 206265 / 0.04  # pixels
            psfs[band] = as_psf(AiryDisk2D(radius=first_zero), oversampling=4, radius=25)
        return psfs

    def doughnut(self, radius):
        """The built-in PSFs spread over a ring: out of focus."""
        psfs = {}
        for band, psf in builtin_psf(self.instrument).items():
            y, x = (np.indices(psf.data.shape) - len(psf.data) // 2) / psf.oversampling
            ring = np.exp(-0.5 * ((np.hypot(x, y) - radius) / 0.5) ** 2)
            psfs[band] = as_psf(np.maximum(fftconvolve(psf.data, ring, mode="same"), 0), psf.oversampling)
        return psfs

    @cached_property
    def _scenes(self):
        scenes = ClusterScenes(self.space, self.instrument, star_rates(self.instrument, self.distance))
        psf = builtin_psf(self.instrument)
        return scenes, Renderer([psf[band] for band in self.instrument.bands], self.shape, smooth_reach=scenes.reach)

    def render(self, x, y, rates, stamp, centre):
        """Noiseless stamps of points of light."""
        scenes, renderer = self._scenes
        return scenes.render(Scenes.of_stars(x, y, rates, stamp, centre, "cpu"), renderer).numpy()

    def observe(self, light, rng):
        """Light on the background, with the noise of the detector."""
        rate = np.maximum(light, 0) + self.background.stamps(len(light), self.shape, rng).numpy()
        return np.stack([self.detector.expose(stamp, rng) for stamp in rate]).astype(np.float32)


def _bled(pixels, full):
    """What a pixel holds beyond its full well flows to the next free pixels of the column, up and down alike."""
    bled = np.minimum(pixels, full)
    excess = np.maximum(pixels - full, 0)
    for part, step in ((excess / 2, 1), (excess / 2, -1)):
        flowing = np.zeros_like(pixels[:, :, 0])
        rows = range(pixels.shape[2])[::step]
        for row in rows:
            flowing = flowing + part[:, :, row]
            room = full[..., 0] - bled[:, :, row]
            stays = np.minimum(room, flowing)
            bled[:, :, row] += stays
            flowing = flowing - stays
    return bled
