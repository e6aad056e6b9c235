# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""What shines in a stamp, before any pixel: positions and rates of the stars of a cluster, drawn fast."""

from dataclasses import dataclass, field

import numpy as np
import torch

from clustercnn.profiles import get_profile
from clustercnn.simulation.population import StarTables
from clustercnn.stellar.extinction import band_extinction

__all__ = ["ClusterScenes", "Scene", "SmoothLight", "render_scenes"]

BRIGHT_STARS = 800  # drawn one by one in each cluster, the others are their mean light with its scatter
GAMMAS = np.round(np.arange(2.2, 3.501, 0.05), 2)  # EFF slopes
HIGHEST_FREQUENCY = 4.0  # cycles per half-light radius; an EFF profile has no power beyond


@dataclass
class Scene:
    """Stars, and light that follows a smooth profile, in one stamp; rates in electron/s, lengths in native pixels."""

    x: np.ndarray
    y: np.ndarray
    rate: np.ndarray  # (n_stars, n_bands)
    smooth_rate: np.ndarray  # (n_bands,)
    centre: tuple = (0.0, 0.0)
    radius: float = 1.0
    gamma: int = 0  # index in GAMMAS
    blur: float = 0.0  # variance of an extra Gaussian blur, pixel^2 per axis
    coordinates: np.ndarray = field(default=None)  # of the cluster, if there is one


class ClusterScenes:
    """
    Draw the scenes of clusters.

    Parameters
    ----------
    space : `~clustercnn.parameters.ParameterSpace`
        With age, a_v, mass and half_light_radius.
    instrument : `~clustercnn.instruments.Instrument`
        Bands, pixel scale, zero points.
    rates : `~numpy.ndarray`
        Rate of a star of absolute magnitude 0, electron/s, shape (n_bands,).
    metallicity, isochrones, imf
        As in `~clustercnn.simulation.population.StarTables`.
    """

    def __init__(self, space, instrument, rates, metallicity=0.0, isochrones=None, imf="kroupa"):
        self.space = space
        self.tables = StarTables(instrument.passbands, metallicity, isochrones, imf)
        self.rates = rates
        self.extinction = band_extinction(instrument.passbands)
        self.pixel_scale = instrument.pixel_scale.to_value("arcsec / pix")
        self.profiles = [get_profile("eff", gamma=float(gamma)) for gamma in GAMMAS]

    def physical(self, coordinates):
        """Index of the nearest age, A_V (mag), mass (Msun) and half-light radius (native pixels) of coordinates."""
        values = self.space.from_coordinates(coordinates)
        age = self.tables.nearest_age(np.log10(values["age"].to_value("yr")))
        radius = values["half_light_radius"].to_value("arcsec") / self.pixel_scale
        return age, values["a_v"].to_value("mag"), values["mass"].to_value("solMass"), radius

    def dimming(self, a_v):
        """Factor that dust leaves of the light, shape (n_bands,)."""
        return 10 ** (-0.4 * a_v * self.extinction)

    def cluster(self, coordinates, centre, rng):
        """
        The scene of one cluster.

        Parameters
        ----------
        coordinates : `~numpy.ndarray`
            A point of the space, shape (4,).
        centre : tuple of float
            ``(x, y)`` in pixels.
        rng : `~numpy.random.Generator`
            Source of randomness.

        Returns
        -------
        scene : `Scene`
        """
        age, a_v, mass, radius = self.physical(coordinates)
        gamma = int(rng.integers(len(GAMMAS)))
        stars = self.tables.draw(age, mass, BRIGHT_STARS, rng)
        x, y = self.profiles[gamma].sample(len(stars.luminosity), rng)
        rates = self.rates * self.dimming(a_v)
        return Scene(
            centre[0] + radius * x,
            centre[1] + radius * y,
            stars.luminosity * rates,
            stars.other(rng) * rates,
            centre,
            radius,
            gamma,
            coordinates=coordinates,
        )


class SmoothLight:
    """
    Transforms of the EFF profiles in `GAMMAS`, tabulated once.

    Parameters
    ----------
    profiles : sequence of `~clustercnn.profiles.Profile`
        One per entry of `GAMMAS`.
    """

    step = 1 / 512  # cycles per native pixel
    _own_step = 0.01  # cycles per half-light radius

    def __init__(self, profiles):
        self._own = np.arange(0.0, HIGHEST_FREQUENCY, self._own_step)
        self._table = np.stack([profile.transform(self._own) for profile in profiles])
        self._table[:, -1] = 0.0
        self._frequency = np.arange(0.0, 1.5, self.step)

    def radial(self, scenes):
        """Transforms on a grid of frequencies in cycles per native pixel, shape (n_scenes, n_frequencies)."""
        rows = np.empty((len(scenes), len(self._frequency)), dtype=np.float32)
        for row, scene in zip(rows, scenes, strict=True):
            row[:] = np.interp(self._frequency * scene.radius, self._own, self._table[scene.gamma])
        return torch.from_numpy(rows)


def render_scenes(scenes, renderer, smooth_light):
    """
    Noiseless pixels of scenes.

    Parameters
    ----------
    scenes : list of `Scene`
        One per stamp.
    renderer : `~clustercnn.simulation.render.Renderer`
        For the stamps' shape and PSF.
    smooth_light : `SmoothLight`
        Transforms of the smooth profiles.

    Returns
    -------
    pixels : `~torch.Tensor`
        Rates, float32, shape (n, n_bands, ny, nx).
    """
    x = torch.from_numpy(np.concatenate([scene.x for scene in scenes]))
    y = torch.from_numpy(np.concatenate([scene.y for scene in scenes]))
    rate = torch.from_numpy(np.concatenate([scene.rate for scene in scenes]).T.astype(np.float32))
    stamp = torch.repeat_interleave(torch.tensor([len(scene.x) for scene in scenes]))
    centre = torch.tensor([scene.centre for scene in scenes])
    smooth_rate = torch.from_numpy(np.stack([scene.smooth_rate for scene in scenes]).astype(np.float32))
    profile = renderer.profile_transform(smooth_light.radial(scenes), smooth_light.step, centre[:, 0], centre[:, 1])
    blur = torch.tensor([scene.blur for scene in scenes])
    return renderer(x, y, rate, stamp, len(scenes), (profile, smooth_rate), blur)
