# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""What is not a cluster: plain fields, bright stars, chance blends, clusters off the centre, galaxies, spirals, associations."""

import numpy as np
from scipy.special import gammainccinv

from clustercnn.profiles import elliptical, get_profile
from clustercnn.simulation.scenes import Scenes

__all__ = ["NEGATIVES", "NEGATIVE_KINDS", "draw_negatives"]

#: All kinds of negatives.
NEGATIVE_KINDS = ("field", "star", "blend", "off_centre", "galaxy", "spiral", "association")

#: Shares of the kinds in the reference mocks; the kinds that are not named here have none.
NEGATIVES = {"field": 1 / 3, "star": 1 / 3, "blend": 1 / 6, "off_centre": 1 / 6}

NEAREST_CLUSTER = 4.0  # pixels from the stamp's centre; between 1 and 4 pixels nothing is labelled
APERTURE = 4.0  # pixels: stars are as bright as a cluster's light in this radius
BLEND_RADIUS = 6.0  # pixels
GALAXY_POINTS = 20.0  # per square half-light radius stand for the smooth light of a galaxy: about one per pixel there
SPIRAL_REACH = 64  # pixels from its centre: a spiral is drawn no further
FLATTEST_SPIRAL = 0.3  # axis ratio of the disc
MASSIVE = 8.0  # Msun: an association is told by its stars above this initial mass


def draw_negatives(kind, clusters, centre, rng):
    """
    The scenes of stamps without a cluster at their centres.

    Stars, blends, background galaxies and spirals have the brightness of a cluster drawn from the same space, so that brightness alone tells
    nothing.

    * ``"field"``: nothing is added.
    * ``"star"``: one star at the centre.
    * ``"blend"``: 2 to 6 stars within 6 pixels of the centre.
    * ``"off_centre"``: a cluster 4 to 24 pixels from the centre.
    * ``"galaxy"``: a galaxy behind the disc, with a Sersic profile (semi-major half-light axis 0.1 to 3 arcsec). Half of them are blue
      and disc-like (index 0.7 to 1.5, seen at any inclination down to an axis ratio of 0.15), half red and early (index 2 to 4, axis
      ratio 0.5 to 1).
    * ``"spiral"``: a galaxy behind the disc with two logarithmic spiral arms in an exponential disc (half-light radius 0.3 to 3 arcsec,
      axis ratio 0.3 to 1; drawn to 64 pixels from the centre), a red bulge with up to 0.3 of the light, and 5 to 50 blue knots with
      up to 0.3.
    * ``"association"``: the 10 to 100 stars above 8 Msun of a population younger than 20 Myr, spread evenly over a disc or an ellipse
      (axis ratio 0.4 to 1) of the area of a circle 10 to 40 pixels across, at the distance of the clusters. Their fainter siblings,
      as loose and hardly seen, are left out.

    Parameters
    ----------
    kind : str
        One of `NEGATIVE_KINDS`.
    clusters : `~clustercnn.simulation.scenes.ClusterScenes`
        Draws clusters and stars.
    centre : `~numpy.ndarray`
        ``(x, y)`` of the stamps' centres, jittered, in pixels, shape (n, 2).
    rng : `~numpy.random.Generator`
        Source of randomness.

    Returns
    -------
    scenes : `~clustercnn.simulation.scenes.Scenes`
        Of n stamps.
    """
    if kind not in NEGATIVE_KINDS:
        raise ValueError(f"kind must be one of {NEGATIVE_KINDS}, not {kind!r}")
    n = len(centre)
    coordinates = clusters.space.from_unit(rng.random((n, len(clusters.space))))
    if kind == "off_centre":
        distance, angle = rng.uniform(NEAREST_CLUSTER + 0.75, 24.0, n), rng.uniform(0, 2 * np.pi, n)
        off_centre = centre + np.stack([distance * np.cos(angle), distance * np.sin(angle)], axis=1)
        return clusters.clusters(coordinates, off_centre, rng, rng)
    if kind == "field" or n == 0:
        x, y, rates, stamp = np.zeros(0), np.zeros(0), np.zeros((0, len(clusters.rates))), np.zeros(0, dtype=int)
    elif kind == "star":
        x, y, stamp = 0.0, 0.0, np.arange(n)
        rates = _star_rates(stamp, clusters, coordinates, rng)
    elif kind == "blend":
        stamp = np.repeat(np.arange(n), rng.integers(2, 7, size=n))
        x, y = _in_circle(BLEND_RADIUS, len(stamp), rng)
        rates = _star_rates(stamp, clusters, coordinates, rng)
    else:
        draw = {"galaxy": _galaxy, "spiral": _spiral, "association": _association}[kind]
        drawn = [draw(clusters, point, rng) for point in coordinates]
        stamp = np.repeat(np.arange(n), [len(x) for x, _, _ in drawn])
        x, y, rates = (np.concatenate(values) for values in zip(*drawn, strict=True))
    return Scenes.of_stars(centre[stamp, 0] + x, centre[stamp, 1] + y, rates, stamp, centre, clusters.device)


def _in_circle(radius, n, rng):
    """Places spread evenly over a circle."""
    distance, angle = radius * np.sqrt(rng.random(n)), rng.uniform(0, 2 * np.pi, n)
    return distance * np.cos(angle), distance * np.sin(angle)


def _star_rates(stamp, clusters, coordinates, rng):
    """Rates of stars of any kind and distance that together are as bright as a cluster's centre, shape (n_stars, n_bands)."""
    tables, target = clusters.tables, _central_light(clusters, coordinates)[stamp]
    n_stars = len(stamp)
    ages = rng.integers(len(tables.log_ages), size=n_stars)
    # Uniform in the logarithm of the rarity: main sequence, giants and supergiants alike.
    luminosity = tables.luminosity[ages, rng.integers(tables.luminosity.shape[1], size=n_stars)]
    luminosity = luminosity * clusters.dimming(rng.uniform(0.0, 1.5, n_stars))
    # Relative to the target, in the root mean square of the bands; foreground stars are near, so that any brightness occurs.
    relative = luminosity / target
    share = 10 ** rng.uniform(-0.7, 0.0, n_stars)
    relative *= (share / np.sqrt((relative**2).mean(axis=1)))[:, None]
    total = np.zeros((len(coordinates), relative.shape[1]))
    np.add.at(total, stamp, relative)
    relative /= np.sqrt((total**2).mean(axis=1))[stamp, None]
    return relative * target * clusters.rates


def _central_light(clusters, coordinates):
    """What clusters show within the aperture on average, 1 for an absolute magnitude of 0, shape (..., n_bands)."""
    age, a_v, mass, radius = clusters.physical(coordinates)
    inside = get_profile("eff", gamma=2.6).enclosed(APERTURE / radius)
    return (inside * mass)[..., None] * clusters.tables.mean_luminosity(age) * clusters.dimming(a_v)


def _galaxy(clusters, coordinates, rng):
    blue = rng.random() < 0.5
    index, axis_ratio = (rng.uniform(0.7, 1.5), rng.uniform(0.15, 1.0)) if blue else (rng.uniform(2.0, 4.0), rng.uniform(0.5, 1.0))
    half_light_radius = 10 ** rng.uniform(-1.0, 0.5) / clusters.pixel_scale * np.sqrt(axis_ratio)
    # Each point lies a golden angle further than the last, as even as points can lie; outer ones carry less light. So they pass for
    # smooth light.
    n_points = max(int(GALAXY_POINTS * half_light_radius**2), 1000)
    beyond = np.linspace(1, 0, n_points + 1) ** 3  # fractions of the light
    radius = half_light_radius * (gammainccinv(2 * index, (beyond[1:] + beyond[:-1]) / 2) / gammainccinv(2 * index, 0.5)) ** index
    angle = np.pi * (3 - np.sqrt(5)) * np.arange(n_points)
    x, y = elliptical(radius * np.cos(angle), radius * np.sin(angle), 1 - axis_ratio, rng.uniform(0, np.pi))
    color = _color(clusters, (7.0, 8.7), 1.0, rng) if blue else _color(clusters, (9.0, 10.1), 2.0, rng)
    return x, y, _as_bright_as_clusters(x, y, -np.diff(beyond)[:, None] * color, clusters, coordinates)


def _spiral(clusters, coordinates, rng):
    scale = 10 ** rng.uniform(-0.5, 0.5) / clusters.pixel_scale / 1.678  # of the exponential disc, from its half-light radius
    side = np.arange(-SPIRAL_REACH, SPIRAL_REACH + 1)
    x, y = (plane.ravel() for plane in np.meshgrid(side, side))
    along, across = elliptical(x, y, 0.0, rng.uniform(0, np.pi))
    across = across / rng.uniform(FLATTEST_SPIRAL, 1.0)  # in the plane of the disc
    radius, angle = np.hypot(along, across), np.arctan2(across, along)
    pitch = np.radians(rng.uniform(10, 35)) * rng.choice([-1, 1])
    arms = np.cos(2 * (angle - np.log(np.maximum(radius, 0.5) / scale) / np.tan(pitch)))
    disc = np.exp(-radius / scale + rng.uniform(0.5, 2.0) * (arms - 1))
    bulge = np.exp(-np.hypot(x, y) / (scale * rng.uniform(0.05, 0.3)))
    disc, bulge = disc / disc.sum(), bulge / bulge.sum()
    knots = np.zeros_like(disc)
    places = rng.choice(len(disc), rng.integers(5, 51), p=disc)
    np.add.at(knots, places, rng.exponential(size=len(places)))
    knots /= knots.sum()
    in_bulge, in_knots = rng.uniform(0, 0.3, 2)
    light = (
        (1 - in_bulge - in_knots) * disc[:, None] * _color(clusters, (7.5, 9.0), 1.0, rng)
        + in_bulge * bulge[:, None] * _color(clusters, (9.0, 10.1), 1.0, rng)
        + in_knots * knots[:, None] * _color(clusters, (6.6, 7.5), 1.0, rng)
    )
    return x, y, _as_bright_as_clusters(x, y, light, clusters, coordinates)


def _color(clusters, log_ages, most_reddening, rng):
    """Light of an age in the bands, 1 in their mean; mixtures of ages and a redshift make it redder, about as dust does."""
    luminosity = clusters.tables.mean_luminosity(clusters.tables.nearest_age(rng.uniform(*log_ages)))
    color = luminosity * clusters.dimming(rng.uniform(0.0, most_reddening))
    return color / color.mean()


def _as_bright_as_clusters(x, y, light, clusters, coordinates):
    """Rates of points of light that show as much within the aperture as a cluster does, in the root mean square of the bands."""
    inside = light[np.hypot(x, y) < APERTURE].sum(0)
    return light / np.sqrt(np.mean((inside / _central_light(clusters, coordinates)) ** 2)) * clusters.rates


def _association(clusters, coordinates, rng):
    tables = clusters.tables
    _, a_v, _, _ = clusters.physical(coordinates)
    age = int(rng.choice(np.flatnonzero(tables.log_ages < 7.3)))
    n_stars = int(np.rint(10 ** rng.uniform(1.0, 2.0)))
    # The table runs down in mass: massive stars are its first entries.
    n_massive = tables.number[age, np.count_nonzero(tables.mass[age] >= MASSIVE) - 1]
    entry = tables.entry(age, rng.random(n_stars) * n_massive)
    rates = tables.luminosity[age, entry] * clusters.dimming(a_v) * clusters.rates
    x, y = elliptical(*_in_circle(rng.uniform(5.0, 20.0), n_stars, rng), rng.uniform(0.0, 0.6), rng.uniform(0, np.pi))
    return x, y, rates
