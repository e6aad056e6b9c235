# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""One isochrone, and the isochrone between two others, along equivalent phases."""

from dataclasses import dataclass

import numpy as np

__all__ = ["Isochrone"]

COLUMNS = ("initial_mass", "mass", "log_luminosity", "log_teff", "log_g", "phase")
STATE = COLUMNS[1:-1]


@dataclass(frozen=True)
class Isochrone:
    """
    The living stars of one age and metallicity: arrays of shape (k,), ascending in initial mass.

    Attributes
    ----------
    initial_mass, mass : `~numpy.ndarray`
        At birth and now, in Msun.
    log_luminosity, log_teff, log_g : `~numpy.ndarray`
        log10 of the luminosity in Lsun, the effective temperature in K, the surface gravity in cm/s2.
    phase : `~numpy.ndarray` of int
        Evolutionary phase in the numbers of the grid's source, never descending.
    magnitudes : `~numpy.ndarray`, shape (k, band), optional
        Absolute magnitudes that come with the isochrone, in the order of the grid's ``bands``.
    """

    initial_mass: np.ndarray
    mass: np.ndarray
    log_luminosity: np.ndarray
    log_teff: np.ndarray
    log_g: np.ndarray
    phase: np.ndarray
    magnitudes: np.ndarray = None

    def __post_init__(self):
        if self.magnitudes is None:
            object.__setattr__(self, "magnitudes", np.empty((len(self.initial_mass), 0)))


def ascending(mass):
    """Masses strictly ascending: equal ones, where one phase follows another, are set a hair apart."""
    mass = np.maximum.accumulate(mass)
    return mass if (np.diff(mass) > 0).all() else mass * (1 + 1e-13 * np.arange(len(mass)))


def _phases(isochrone, wanted):
    """
    Per phase in ``wanted``: first and last log initial mass, relative positions between them, state (4 + band, k).

    A phase that the isochrone lacks has no width, lies where the one before it ends, and has no state.
    """
    log_mass = np.log10(isochrone.initial_mass)
    states = np.vstack([*(getattr(isochrone, name) for name in STATE), isochrone.magnitudes.T])
    edge = log_mass[0]
    found = []
    for phase in wanted:
        inside = isochrone.phase == phase
        if not inside.any():
            found.append((edge, edge, None, None))
            continue
        x = log_mass[inside]
        edge = x[-1]
        found.append((x[0], edge, (x - x[0]) / max(edge - x[0], 1e-15), states[:, inside]))
    return found


def blend(first, second, weight):
    """
    The isochrone between two others, interpolated at equal relative position within each phase.

    At equal mass one star may shine and its neighbour be dead; at equal phase they are alike.
    """
    wanted = np.union1d(first.phase, second.phase)
    masses, states, phases = [], [], []
    for phase, a, b in zip(wanted, _phases(first, wanted), _phases(second, wanted)):
        start, end = ((1 - weight) * a[i] + weight * b[i] for i in (0, 1))
        if a[2] is None or b[2] is None:
            place, state = (a if b[2] is None else b)[2:]
        else:
            place = np.union1d(a[2], b[2])
            left, right = (np.array([np.interp(place, x[2], row) for row in x[3]]) for x in (a, b))
            state = (1 - weight) * left + weight * right
        masses.append(10 ** (start + place * (end - start)))
        states.append(state)
        phases.append(np.full(len(place), phase))
    states = np.concatenate(states, axis=1)
    n = len(STATE)
    return Isochrone(ascending(np.concatenate(masses)), *states[:n], np.concatenate(phases), states[n:].T)


def light_share(stars, phase):
    """The share of a phase in the bolometric light of a population with the heavy end of any usual IMF, m^-2.35."""
    light = 10**stars.log_luminosity * stars.initial_mass**-2.35
    light = np.diff(stars.initial_mass) * (light[1:] + light[:-1])
    inside = stars.phase == phase
    return np.sum(light * (0.5 * inside[1:] + 0.5 * inside[:-1])) / light.sum()
