# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""What is not a cluster: plain fields, bright stars, chance blends, clusters off the centre."""

import numpy as np

from clustercnn.profiles import get_profile
from clustercnn.simulation.scenes import Scene

__all__ = ["NEGATIVES", "draw_negative"]

#: Kinds of negatives and their shares.
NEGATIVES = {"field": 1 / 3, "star": 1 / 3, "blend": 1 / 6, "off_centre": 1 / 6}

NEAREST_CLUSTER = 4.0  # pixels from the stamp's centre; between 1 and 4 pixels nothing is labelled
APERTURE = 4.0  # pixels: stars are as bright as a cluster's light in this radius
BLEND_RADIUS = 6.0  # pixels


def draw_negative(kind, clusters, centre, rng):
    """
    The scene of a stamp without a cluster at its centre.

    Stars and blends have the brightness of a cluster drawn from the same space, so that brightness alone tells nothing.

    Parameters
    ----------
    kind : str
        One of `NEGATIVES`.
    clusters : `~clustercnn.simulation.scenes.ClusterScenes`
        Draws clusters and stars.
    centre : tuple of float
        ``(x, y)`` of the stamp's centre, jittered, in pixels.
    rng : `~numpy.random.Generator`
        Source of randomness.

    Returns
    -------
    scene : `~clustercnn.simulation.scenes.Scene`
    """
    coordinates = clusters.space.from_unit(rng.random(len(clusters.space)))
    if kind == "field":
        return _scene_of_stars(np.zeros((0, 2)), np.zeros((0, len(clusters.rates))), centre)
    if kind == "star":
        return _scene_of_stars(np.array([centre]), _star_rates(1, clusters, coordinates, rng), centre)
    if kind == "blend":
        n_stars = int(rng.integers(2, 7))
        distance, angle = BLEND_RADIUS * np.sqrt(rng.random(n_stars)), rng.uniform(0, 2 * np.pi, n_stars)
        positions = np.array(centre) + np.stack([distance * np.cos(angle), distance * np.sin(angle)], axis=1)
        return _scene_of_stars(positions, _star_rates(n_stars, clusters, coordinates, rng), centre)
    if kind == "off_centre":
        distance, angle = rng.uniform(NEAREST_CLUSTER + 0.75, 24.0), rng.uniform(0, 2 * np.pi)
        off_centre = (centre[0] + distance * np.cos(angle), centre[1] + distance * np.sin(angle))
        return clusters.cluster(coordinates, off_centre, rng)
    raise ValueError(f"kind must be one of {tuple(NEGATIVES)}, not {kind!r}")


def _scene_of_stars(positions, rates, centre):
    return Scene(positions[:, 0], positions[:, 1], rates, np.zeros(rates.shape[1]), centre)


def _star_rates(n_stars, clusters, coordinates, rng):
    """Rates of stars of any kind and distance that together are as bright as a cluster's centre, shape (n_stars, n_bands)."""
    age, a_v, mass, radius = clusters.physical(coordinates)
    tables = clusters.tables
    inside = get_profile("eff", gamma=2.6).enclosed(APERTURE / radius)
    target = inside * mass * tables.mean_luminosity(age) * clusters.dimming(a_v)
    ages = rng.integers(len(tables.log_ages), size=n_stars)
    # Uniform in the logarithm of the rarity: main sequence, giants and supergiants alike.
    luminosity = tables.luminosity[ages, rng.integers(tables.luminosity.shape[1], size=n_stars)]
    luminosity = luminosity * np.stack([clusters.dimming(dust) for dust in rng.uniform(0.0, 1.5, n_stars)])
    # Relative to the target, in the root mean square of the bands; foreground stars are near, so that any brightness occurs.
    relative = luminosity / target
    share = 10 ** rng.uniform(-0.7, 0.0, n_stars)
    relative *= (share / np.sqrt((relative**2).mean(axis=1)))[:, None]
    relative /= np.sqrt((relative.sum(axis=0) ** 2).mean())
    return relative * target * clusters.rates
