# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""What shines in stamps, before any pixel: positions and rates of the stars of clusters, drawn fast."""

from dataclasses import dataclass

import numpy as np
import torch
from astropy import units as u

from clustercnn.parameters import as_quantity
from clustercnn.profiles import Profile, get_profile
from clustercnn.simulation.population import StarTables
from clustercnn.simulation.random_numbers import RandomTensors
from clustercnn.stellar.extinction import band_extinction

__all__ = ["ClusterScenes", "Scenes"]

PARAMETERS = {"age": u.yr, "a_v": u.mag, "mass": u.Msun, "half_light_radius": u.arcsec}
BRIGHT_STARS = 800  # drawn one by one in each cluster, the others are their mean light with its scatter
GAMMAS = np.round(np.arange(2.2, 3.501, 0.05), 2)  # slopes of the EFF profiles that clusters have by default
HIGHEST_FREQUENCY = 4.0  # cycles per half-light radius; the profiles have no power beyond
OWN_STEP = 0.01  # cycles per half-light radius, of tabulated transforms
QUANTILES = 1024  # of tabulated radii


@dataclass
class Scenes:
    """
    The light of some stamps: stars, and light that follows a smooth profile; rates in electron/s, lengths in native pixels.

    The arrays of stars are tensors on the device of the stream, the others are numpy's.
    """

    x: torch.Tensor  # (n_stars,)
    y: torch.Tensor
    rate: torch.Tensor  # (n_bands, n_stars)
    stamp: torch.Tensor  # (n_stars,), index of the stamp
    centre: np.ndarray  # (n_stamps, 2), of the smooth light
    smooth_rate: np.ndarray  # (n_stamps, n_bands)
    radius: np.ndarray  # (n_stamps,)
    profile: np.ndarray  # (n_stamps,), index in the profiles of ClusterScenes

    @classmethod
    def of_stars(cls, x, y, rate, stamp, centre, device):
        """Of stars alone: arrays of shape (n_stars,), rate (n_stars, n_bands); ``centre`` is only carried along."""
        n_stamps = len(centre)
        stars = (torch.from_numpy(np.asarray(values)).to(device, torch.float32) for values in (x, y, np.transpose(rate)))
        smooth_rate = np.zeros((n_stamps, np.shape(rate)[1]))
        stamp = torch.from_numpy(np.asarray(stamp)).to(device)
        return cls(*stars, stamp, centre, smooth_rate, np.ones(n_stamps), np.zeros(n_stamps, dtype=int))

    @classmethod
    def join(cls, parts, n_stamps):
        """
        One object of several ones.

        Parameters
        ----------
        parts : list of tuple
            `Scenes`, and the indices of their stamps among all, an array.
        n_stamps : int
            How many stamps there are in all.
        """
        first = parts[0][0]
        joined = cls(
            torch.cat([scenes.x for scenes, _ in parts]),
            torch.cat([scenes.y for scenes, _ in parts]),
            torch.cat([scenes.rate for scenes, _ in parts], dim=1),
            torch.cat([torch.from_numpy(rows).to(scenes.stamp.device)[scenes.stamp] for scenes, rows in parts]),
            np.zeros((n_stamps, 2)), np.zeros((n_stamps, first.smooth_rate.shape[1])), np.ones(n_stamps), np.zeros(n_stamps, dtype=int),
        )
        for scenes, rows in parts:
            for name in ("centre", "smooth_rate", "radius", "profile"):
                getattr(joined, name)[rows] = getattr(scenes, name)
        return joined


class ClusterScenes:
    """
    Draw the scenes of clusters, and render scenes.

    Parameters
    ----------
    space : `~clustercnn.parameters.ParameterSpace`
        With age, a_v, mass and half_light_radius (an angle); ages no more than half a step beyond the isochrones.
    instrument : `~clustercnn.instruments.Instrument`
        Bands, pixel scale, zero points.
    rates : `~numpy.ndarray`
        Rate of a star of absolute magnitude 0, electron/s, shape (n_bands,).
    metallicity, isochrones, imf
        As in `~clustercnn.simulation.population.StarTables`.
    device : str or `~torch.device`
        Where stars are drawn.
    extinction_law : str or dust_extinction model
        Curve of the dust before the clusters, see `~clustercnn.stellar.get_law`.
    r_v : float, optional
        Of the dust; default 3.1.
    profiles : sequence of `~clustercnn.profiles.Profile`, optional
        Each cluster has one of them, all equally likely. Default: EFF with slopes of 2.2 to 3.5.

    Raises
    ------
    ValueError
        If the space lacks one of the four or has others, or there are no isochrones for its ages.
    """

    def __init__(self, space, instrument, rates, metallicity=0.0, isochrones=None, imf="kroupa", device="cpu",
                 extinction_law="F99", r_v=None, profiles=None):
        if missing := [name for name in PARAMETERS if name not in space.names]:
            raise ValueError(f"space must have {missing} too, not only {space.names}")
        if unknown := [name for name in space.names if name not in PARAMETERS]:
            raise ValueError(f"space must have {tuple(PARAMETERS)} alone: mock clusters do not depend on {unknown}")
        for name, unit in PARAMETERS.items():
            as_quantity(space[name].lower, unit, f"{name} of space")
        self.space = space
        self.device = torch.device(device)
        self.tables = StarTables(instrument.passbands, metallicity, isochrones, imf, device, midpoints=True)
        self.tables.check_ages(space["age"])
        self.rates = rates
        self.extinction = band_extinction(instrument.passbands, r_v, extinction_law)
        self.pixel_scale = instrument.pixel_scale.to_value("arcsec / pix")
        profiles = [get_profile("eff", gamma=float(gamma)) for gamma in GAMMAS] if profiles is None else list(profiles)
        if not profiles:
            raise ValueError("profiles must hold at least one profile, such as get_profile('plummer')")
        if unfit := [profile for profile in profiles if not isinstance(profile, Profile)]:
            raise TypeError(f"profiles must hold profiles, such as get_profile('plummer'), not {unfit[0]!r}")
        own = np.arange(0.0, HIGHEST_FREQUENCY, OWN_STEP)
        transforms = np.stack([profile.transform(own) for profile in profiles])
        transforms[:, -1] = 0.0
        # Radii are tabulated against the root of the light within, in which they are smooth down to the centre.
        radii = np.stack([profile.radius(np.linspace(0.0, 1.0, QUANTILES + 1) ** 2) for profile in profiles])
        self._transforms, self._radii = (torch.from_numpy(table).to(device, torch.float32) for table in (transforms, radii))
        widest = space["half_light_radius"].upper.to_value("arcsec") / self.pixel_scale
        self.reach = widest * max(profile.truncation for profile in profiles)  # native pixels

    def physical(self, coordinates):
        """Index of the nearest age, A_V (mag), mass (Msun) and half-light radius (native pixels) of coordinates (..., 4)."""
        values = self.space.from_coordinates(coordinates)
        age = self.tables.nearest_age(np.log10(values["age"].to_value("yr")))
        radius = values["half_light_radius"].to_value("arcsec") / self.pixel_scale
        return age, values["a_v"].to_value("mag"), values["mass"].to_value("solMass"), radius

    def dimming(self, a_v):
        """Factor that dust leaves of the light, shape (..., n_bands)."""
        return 10 ** (-0.4 * np.multiply.outer(a_v, self.extinction))

    def clusters(self, coordinates, centre, stars_rng, positions_rng):
        """
        The scenes of clusters.

        Parameters
        ----------
        coordinates : `~numpy.ndarray`
            Points of the space, shape (n, 4).
        centre : `~numpy.ndarray`
            ``(x, y)`` in pixels, shape (n, 2).
        stars_rng, positions_rng : `~numpy.random.Generator`
            Sources of randomness for the stars, and for the profiles and the places in them.

        Returns
        -------
        scenes : `Scenes`
        """
        age, a_v, mass, radius = self.physical(coordinates)
        profile = positions_rng.integers(len(self._radii), size=len(age))
        stars = self.tables.draw(age, mass, BRIGHT_STARS, stars_rng)
        rates = self.rates * self.dimming(a_v)
        on_device = [torch.from_numpy(v).to(self.device, torch.float32) for v in (centre[:, 0], centre[:, 1], radius, rates.T)]
        x, y, scale, factor = (values[..., stars.population] for values in on_device)
        r, angle = RandomTensors(positions_rng, self.device).uniform(2, len(stars.population))
        r, angle = scale * self._radius(torch.from_numpy(profile).to(self.device)[stars.population], r), 2 * np.pi * angle
        return Scenes(
            x + r * torch.cos(angle),
            y + r * torch.sin(angle),
            stars.luminosity.T * factor,
            stars.population,
            centre,
            stars.other * rates,
            radius,
            profile,
        )

    def _radius(self, profile, fraction):
        """Radii that enclose fractions of the light of profiles (their indices), in half-light radii; tensors of one shape."""
        place = torch.sqrt(fraction) * QUANTILES
        index = place.long().clamp_max(QUANTILES - 1)  # the root of the largest random number below 1 is 1
        row = profile * (QUANTILES + 1) + index
        table = self._radii.reshape(-1)
        return torch.lerp(table[row], table[row + 1], place - index)

    def render(self, scenes, renderer, blur=None, powers=None):
        """
        Noiseless pixels.

        Parameters
        ----------
        scenes : `Scenes`
            Of n stamps.
        renderer : `~clustercnn.simulation.render.Renderer`
            For the stamps' shape and PSF, on the same device.
        blur : `~numpy.ndarray`, optional
            Variance of an extra Gaussian blur, pixel^2 per axis, shape (n,).
        powers : `~torch.Tensor`, optional
            How much sharper or wider the PSFs are, shape (n, n_bands, 3).

        Returns
        -------
        pixels : `~torch.Tensor`
            Rates, float32, shape (n, n_bands, ny, nx).
        """
        centre, rate, radius = (
            torch.from_numpy(values).to(self.device, torch.float32) for values in (scenes.centre, scenes.smooth_rate, scenes.radius)
        )
        place = (renderer.radial_frequency * radius[:, None] / OWN_STEP).clamp_max(self._transforms.shape[1] - 1.001)
        index, rows = place.long(), self._transforms[torch.from_numpy(scenes.profile).to(self.device)]
        radial = torch.lerp(rows.gather(1, index), rows.gather(1, index + 1), place - index)
        blur = None if blur is None else torch.from_numpy(blur).to(self.device, torch.float32)
        return renderer(scenes.x, scenes.y, scenes.rate, scenes.stamp, len(radius), (radial, centre, rate), blur, powers)
