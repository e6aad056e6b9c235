# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Grids of isochrones and their light; the files are read by ``isochrone_files``."""

import hashlib
import io
import json
import warnings
from functools import lru_cache
from importlib import resources
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.io import registry
from astropy.table import QTable
from astropy.utils.exceptions import AstropyUserWarning

from ..parameters import positive_quantity
from .imf import get_imf
from .isochrone import COLUMNS, STATE, Isochrone, blend, light_share
from .photometry import absolute_magnitudes, resolve_passband

__all__ = ["Isochrone", "IsochroneGrid"]

SOLAR_LOG_G = 4.43797  # cm/s2
SOLAR_LOG_TEFF = 3.76133  # 5772 K
# one node of the grid: ages in single precision are as far from it
TOLERANCE = 2e-6
SSE_PHASES = {
    1: "main sequence",
    2: "Hertzsprung gap",
    3: "red giant branch",
    4: "core helium burning",
    5: "early asymptotic giant branch",
    6: "thermally pulsing asymptotic giant branch",
    7: "naked helium main sequence",
    8: "naked helium Hertzsprung gap",
    9: "naked helium giant branch",
}
# Where the bolometric corrections end; beyond, the nearest edge holds. [M/H] refers to Z_sun = 0.02.
CORRECTED_METALLICITIES = (-0.5, 0.2)
# Supergiants of the shipped grid leave the table by up to 1.6 in log g and lose little accuracy (see the notes of IsochroneGrid);
# farther out nothing is known.
CORRECTED_LOG_TEFF = (3.390 - 0.1, 5.478 + 0.1)
CORRECTED_LOG_G = (0.0 - 2.0, 5.0 + 2.0)
# the share of the light from which on a shortcoming is worth a warning
NOTABLE = 0.01


def corrected_magnitudes(stars, metallicity, passbands):
    """
    Absolute Vega magnitudes of an isochrone's stars from the bolometric corrections, with warnings outside their table.

    Parameters
    ----------
    stars : `Isochrone`
        The stars.
    metallicity : float
        [M/H] for Z_sun = 0.02.
    passbands : sequence of str
        Names, see `resolve_passband`.

    Returns
    -------
    `~numpy.ndarray`, shape (k, band)
    """
    magnitudes = absolute_magnitudes(stars.log_luminosity, stars.log_teff, stars.log_g, metallicity, passbands)
    low, high = CORRECTED_METALLICITIES
    if not low - TOLERANCE <= metallicity <= high + TOLERANCE:
        warnings.warn(
            f"Z = {0.02 * 10**metallicity:.3g} lies outside the bolometric corrections, Z = {0.02 * 10**low:.3g} to "
            f"{0.02 * 10**high:.3g}: those of the nearest edge are used",
            AstropyUserWarning,
        )
    outside = (stars.log_g < CORRECTED_LOG_G[0]) | (stars.log_g > CORRECTED_LOG_G[1])
    outside |= (stars.log_teff < CORRECTED_LOG_TEFF[0]) | (stars.log_teff > CORRECTED_LOG_TEFF[1])
    if outside.any() and len(passbands):
        light = 10 ** (-0.4 * magnitudes) * (stars.initial_mass**-2.35 * np.gradient(stars.initial_mass))[:, None]
        share = (light[outside].sum(axis=0) / light.sum(axis=0)).max()
        if share > NOTABLE:
            warnings.warn(
                f"{outside.sum()} stars with {100 * share:.0f} % of the light lie far outside the bolometric corrections "
                f"in log_g or log_teff: those of the nearest edge are used",
                AstropyUserWarning,
            )
    return magnitudes


def warn_of_missing_masses(imf, lowest, faintest, total):
    """
    Warn if stars below the lowest mass of an isochrone, were they as bright as the lowest, would give notable light.

    Parameters
    ----------
    imf : `InitialMassFunction`
        The stars born.
    lowest : float
        Msun.
    faintest, total : `~numpy.ndarray`, shape (band,)
        Light of the lowest star, and of all stars above it per star born.
    """
    if imf.lower < lowest:
        share = np.max(imf.number_fraction(imf.lower, lowest) * faintest / total)
        if share > NOTABLE:
            warnings.warn(
                f"the isochrones begin at {lowest:.3g} Msun, the IMF at {imf.lower:.3g} Msun: the stars between, up to "
                f"{100 * share:.0f} % of the light, count as dark",
                AstropyUserWarning,
            )


def _age_text(log_age):
    with np.errstate(over="ignore"):  # of ages that are no logarithms by mistake
        return f"{np.power(10.0, log_age - 6):.6g} Myr (log age {log_age:.6g})"


class IsochroneGrid:
    """
    Isochrones on a grid of ages and metallicities; between the nodes they are interpolated phase by phase.

    Parameters
    ----------
    isochrones : mapping
        ``(metallicity, log_age)`` to `Isochrone`: [M/H] in dex and log10 of the age in yr. Every metallicity has every age.
    z_sun : float
        The mass fraction of metals to which [M/H] refers.
    source : str
        Where the isochrones come from.
    provenance : dict, optional
        What is known about their making.
    magnitude_systems : dict, optional
        For each band in which the isochrones bring magnitudes, in the order of their columns, ``"Vega"``, ``"AB"``, ``"ST"`` or
        ``"unknown"``.
    phase_names : dict, optional
        Names of the numbers of phases in the isochrones.
    sha256 : dict, optional
        Checksums of the files read, by name.

    Attributes
    ----------
    metallicities, log_ages : `~numpy.ndarray`
        The nodes: [M/H] in dex, log10 of the age in yr.
    z_sun, source, provenance, magnitude_systems, phase_names, sha256
        As given.

    Raises
    ------
    ValueError
        If there is no isochrone, an age is missing at some metallicity, an isochrone has less than two stars or not in the order
        of their initial masses and phases, or its magnitudes are not those of ``magnitude_systems``.

    Warns
    -----
    astropy.utils.exceptions.AstropyUserWarning
        Between two nodes of which only one has a phase with more than 1 % of the bolometric light; where stars with more than
        1 % of the light in a band lie far outside the bolometric corrections ([M/H] beyond -0.5 to 0.2 of Z_sun = 0.02, log g
        beyond -2 to 7, log Teff beyond 3.29 to 5.58); where an IMF begins below the lowest mass and the stars between could
        give more than 1 % of the light.

    Notes
    -----
    Between two ages a phase keeps its inner structure while its edges move. In the shipped grid that holds to 0.03 mag in
    integrated light (0.05 at worst), except where the models themselves jump: log age 6.6 to 6.75 (single supergiants or
    Wolf-Rayet stars), 7.2 to 7.25, and a spike 0.01 dex wide at 9.175, when stars of 1.98 Msun, just too massive for a
    helium flash, crowd the giant branch (up to 0.6, 0.4 and 1.3 mag). Mocks should sample the ages of the grid.

    A phase that only one neighbour has shrinks to nothing towards the other. With every second age of the shipped grid left out,
    interpolation misses it by 0.01 mag in the median, but by 0.13 mag where a phase with over 1 % of the light comes or goes.
    Those places warn: 2 to 4 % of the ages between the nodes, uniformly drawn in log age.

    Where the bolometric corrections end the nearest edge holds. Cool supergiants of the shipped grid lie beyond it, down to
    log g = -1.6; linear extrapolation would change single ones by up to 1 mag in F336W and 0.4 mag in F438W, but integrated
    light by 0.015 mag at most.

    Examples
    --------
    >>> from clustercnn.stellar import IsochroneGrid
    >>> IsochroneGrid.default()
    <IsochroneGrid: Hurley, Pols & Tout (2000), 71 ages 10^6.6 to 10^10.1 yr, [M/H] -0.155, 0, 0.176 of Z_sun 0.02, 0.08 to 113 Msun>
    """

    def __init__(
        self, isochrones, z_sun, source, provenance=None, *, magnitude_systems=None, phase_names=None, sha256=None
    ):
        self._nodes = dict(isochrones)
        if not self._nodes:
            raise ValueError("isochrones has no entries, but must have at least one, (metallicity, log_age) to Isochrone")
        self.metallicities = np.unique([m for m, _ in self._nodes])
        self.log_ages = np.unique([t for _, t in self._nodes])
        lacking = [(m, t) for m in self.metallicities for t in self.log_ages if (m, t) not in self._nodes]
        if lacking:
            names = ", ".join(f"log age {t:.6g} at [M/H] {m:.3g}" for m, t in lacking[:5])
            more = f" and {len(lacking) - 5} more" if len(lacking) > 5 else ""
            raise ValueError(f"isochrones lacks {names}{more}: every metallicity needs every age")
        self.magnitude_systems = dict(magnitude_systems or {})
        for (metallicity, log_age), stars in self._nodes.items():
            if len(stars.mass) < 2 or stars.magnitudes.shape[1] != len(self.bands):
                raise ValueError(
                    f"the isochrone of log age {log_age:.6g} at [M/H] {metallicity:.3g} has {len(stars.mass)} stars and "
                    f"magnitudes in {stars.magnitudes.shape[1]} bands, but needs two stars or more and {len(self.bands)} bands"
                )
            if not ((np.diff(stars.initial_mass) > 0).all() and (np.diff(stars.phase) >= 0).all()):
                raise ValueError(
                    f"the isochrone of log age {log_age:.6g} at [M/H] {metallicity:.3g} must ascend in initial_mass, "
                    "and its phase must never descend"
                )
        self.z_sun = float(z_sun)
        if not 0 < self.z_sun < 1:
            raise ValueError(f"z_sun must be a mass fraction of metals, such as 0.02, not {z_sun}")
        self.source = source
        self.provenance = dict(provenance or {})
        self.phase_names = dict(phase_names or {})
        self.sha256 = dict(sha256 or {})

    @property
    def bands(self):
        """Bands in which the isochrones bring magnitudes, a tuple of str; other passbands come from bolometric corrections."""
        return tuple(self.magnitude_systems)

    @property
    def ages(self):
        """The ages of the grid, a `~astropy.units.Quantity` in Myr, ascending."""
        return 10 ** (self.log_ages - 6) * u.Myr

    @property
    def mass_range(self):
        """Initial masses of the lightest and the heaviest star, a `~astropy.units.Quantity` in Msun."""
        ends = np.array([stars.initial_mass[[0, -1]] for stars in self._nodes.values()])
        return [ends[:, 0].min(), ends[:, 1].max()] * u.Msun

    def __repr__(self):
        ages = f"{len(self.log_ages)} ages 10^{self.log_ages[0]:.4g} to 10^{self.log_ages[-1]:.4g} yr"
        metallicities = ", ".join(f"{m:.3g}" for m in self.metallicities)
        low, high = self.mass_range.value
        bands = f", magnitudes in {', '.join(self.bands)}" if self.bands else ""
        return (
            f"<IsochroneGrid: {self.source}, {ages}, [M/H] {metallicities} of Z_sun {self.z_sun:g}, "
            f"{low:.3g} to {high:.3g} Msun{bands}>"
        )

    @staticmethod
    @lru_cache(maxsize=1)
    def default():
        """
        The grid that the package ships: SSE tracks (Hurley, Pols & Tout 2000), log age 6.6 to 10.1, Z = 0.014, 0.02, 0.03.

        Returns
        -------
        `IsochroneGrid`
            Always the same object.
        """
        content = (resources.files("clustercnn.stellar") / "data" / "isochrones_sse.npz").read_bytes()
        with np.load(io.BytesIO(content), allow_pickle=False) as data:
            table = {name: data[name] for name in data.files}
        z_sun = float(table["z_sun"])
        state = {name: table[name].astype(float) for name in ("mass", "log_luminosity", "log_teff")}
        state["log_g"] = (
            SOLAR_LOG_G + np.log10(state["mass"]) + 4 * (state["log_teff"] - SOLAR_LOG_TEFF) - state["log_luminosity"]
        )
        mass, phase = table["initial_mass"], table["phase"].astype(int)
        for array in (mass, phase, *state.values()):
            array.setflags(write=False)  # the grid is everybody's
        nodes = {}
        for i, z in enumerate(table["z"]):
            for j, log_age in enumerate(table["log_ages"]):
                rows = (state[name][i, j] for name in STATE)
                key = float(np.log10(z / z_sun)), float(log_age)
                nodes[key] = Isochrone(mass[i, j], *rows, phase[i, j])
        return IsochroneGrid(
            nodes,
            z_sun,
            "Hurley, Pols & Tout (2000)",
            json.loads(str(table["provenance"])),
            phase_names=SSE_PHASES,
            sha256={"isochrones_sse.npz": hashlib.sha256(content).hexdigest()},
        )

    @staticmethod
    def _bracket(nodes, value, name, told):
        """The two nodes around a value, and the weight of the second; ``told`` writes a value for people."""
        if not nodes[0] - TOLERANCE <= value <= nodes[-1] + TOLERANCE:
            raise ValueError(f"{name} is {told(value)}, but the isochrones reach from {told(nodes[0])} to {told(nodes[-1])}")
        nearest = int(np.argmin(np.abs(nodes - value)))
        if abs(nodes[nearest] - value) <= TOLERANCE:
            return nearest, nearest, 0.0
        after = int(np.searchsorted(nodes, value))
        return after - 1, after, (value - nodes[after - 1]) / (nodes[after] - nodes[after - 1])

    def knots(self, log_age, metallicity=0.0):
        """
        The stars along one isochrone, as arrays.

        Parameters
        ----------
        log_age : float
            log10 of the age in yr, within ``log_ages``.
        metallicity : float, optional
            [M/H] in dex, within ``metallicities``.

        Returns
        -------
        `Isochrone`
            The node itself at an age and metallicity of the grid. Stars heavier than its last are dead.

        Raises
        ------
        ValueError
            Outside the grid.
        """
        *metals, along_metal = self._bracket(self.metallicities, float(metallicity), "metallicity", "{:.6g} dex".format)
        *ages, along_age = self._bracket(self.log_ages, float(log_age), "age", _age_text)
        metals, ages = self.metallicities[metals], self.log_ages[ages]
        pair = []
        for metal in np.unique(metals):
            first, second = (self._nodes[metal, age] for age in ages)
            if along_age:
                where = f"between log age {ages[0]:.6g} and {ages[1]:.6g} at [M/H] {metal:.3g}"
                first = self._between(first, second, along_age, where)
            pair.append(first)
        if not along_metal:
            return pair[0]
        when = " to ".join(f"{age:.6g}" for age in np.unique(ages))
        return self._between(*pair, along_metal, f"between [M/H] {metals[0]:.3g} and {metals[1]:.3g} at log age {when}")

    def _between(self, first, second, weight, where):
        """Interpolate, with a warning if only one of the two has a phase that matters."""
        for phase in np.setxor1d(first.phase, second.phase):
            ends = phase in first.phase
            share = light_share(first if ends else second, phase)
            if share > NOTABLE:
                name = f" ({self.phase_names[int(phase)]})" if int(phase) in self.phase_names else ""
                warnings.warn(
                    f"{where} phase {phase}{name} {'ends' if ends else 'appears'}, {100 * share:.0f} % of the light: "
                    "magnitudes are rough there, those of the grid's own ages and metallicities are not",
                    AstropyUserWarning,
                )
        return blend(first, second, weight)

    def resolve_band(self, name):
        """
        Full name of a band: the isochrones' own come first, then the passbands of the package.

        Parameters
        ----------
        name : str
            A full name, or what follows its last instrument: ``"F814W"`` is ``"ACS_WFC_F814W"`` in a grid that brings it.

        Returns
        -------
        str

        Raises
        ------
        ValueError
            If no band has this name, or several of the isochrones' own have.

        Examples
        --------
        >>> from clustercnn.stellar import IsochroneGrid
        >>> IsochroneGrid.default().resolve_band("F814W")
        'WFC3_UVIS_F814W'
        """
        if name in self.magnitude_systems:
            return name
        own = [band for band in self.bands if band.endswith(f"_{name}")]
        if len(own) == 1:
            return own[0]
        try:
            passband = resolve_passband(name)
        except ValueError as error:
            if own:
                raise ValueError(f"band {name!r} may be {' or '.join(own)}: give the full name") from None
            own = f"; the isochrones bring {', '.join(self.bands)}" if self.bands else ""
            raise ValueError(f"{error}{own}") from None
        if own and passband not in own:
            raise ValueError(f"band {name!r} may be {' or '.join(own)}: give the full name")
        return passband

    def magnitudes(self, log_age, metallicity, passbands):
        """
        Absolute magnitudes along one isochrone, as arrays.

        Those that came with the isochrones are used where there are any, bolometric corrections elsewhere. They are Vega
        magnitudes unless ``magnitude_systems`` says otherwise for a band that the package has no passband of.

        Parameters
        ----------
        log_age : float
            log10 of the age in yr.
        metallicity : float
            [M/H] in dex.
        passbands : sequence of str
            Names, see `resolve_band`.

        Returns
        -------
        initial_mass : `~numpy.ndarray`, shape (k,)
            In Msun, ascending.
        magnitudes : `~numpy.ndarray`, shape (k, band)
            A star of another mass has ``np.interp(mass, initial_mass, magnitudes[:, band], right=np.inf)``: beyond the
            last mass it is dead.

        Examples
        --------
        >>> from clustercnn.stellar import IsochroneGrid
        >>> mass, magnitudes = IsochroneGrid.default().magnitudes(7.0, 0.0, ["F438W", "F814W"])
        >>> print(mass[-1].round(1), magnitudes.shape)
        19.7 (200, 2)
        """
        stars, magnitudes = self._stars(log_age, metallicity, passbands)
        return stars.initial_mass, magnitudes

    def _stars(self, log_age, metallicity, passbands):
        """The isochrone, and its magnitudes."""
        names = [self.resolve_band(name) for name in ([passbands] if isinstance(passbands, str) else passbands)]
        stars = self.knots(log_age, metallicity)
        columns = {band: stars.magnitudes[:, i] for i, band in enumerate(self.bands)}
        others = [name for name in names if name not in columns]
        if others:
            # corrections are tabulated against [M/H] with Z_sun = 0.02
            shifted = float(metallicity) + np.log10(self.z_sun / 0.02)
            columns.update(zip(others, corrected_magnitudes(stars, shifted, others).T))
        return stars, np.array([columns[name] for name in names]).reshape(len(names), len(stars.mass)).T

    def isochrone(self, age, metallicity=0.0, passbands=()):
        """
        The stars along one isochrone, as a table.

        Parameters
        ----------
        age : `~astropy.units.Quantity`
            Time since the birth of the stars.
        metallicity : float, optional
            [M/H] in dex.
        passbands : sequence of str, optional
            For each a column of absolute magnitudes, under the name given; see `magnitudes`.

        Returns
        -------
        `~astropy.table.QTable`
            Columns initial_mass, mass (Msun), log_luminosity (log10 Lsun), log_teff (log10 K), log_g (log10 cm/s2), phase.

        Raises
        ------
        TypeError
            If ``age`` is no `~astropy.units.Quantity`.
        ValueError
            Outside the grid, or if ``age`` is not one number.

        Examples
        --------
        >>> from astropy import units as u
        >>> from clustercnn.stellar import IsochroneGrid
        >>> stars = IsochroneGrid.default().isochrone(20 * u.Myr, passbands=["F814W"])
        >>> bool(stars["F814W"].min() < -7 * u.mag)
        True
        """
        log_age = np.log10(float(positive_quantity(age, u.yr, "age").value))
        passbands = [passbands] if isinstance(passbands, str) else passbands
        stars, magnitudes = self._stars(log_age, metallicity, passbands)
        table = QTable({name: getattr(stars, name) for name in COLUMNS})
        for name in ("initial_mass", "mass"):
            table[name] = table[name] << u.Msun
        for name, column in zip(passbands, magnitudes.T):
            table[name] = column << u.mag
        table.meta.update(age=age, metallicity=metallicity, z_sun=self.z_sun, source=self.source)
        table.meta["magnitude_systems"] = {n: self.magnitude_systems.get(self.resolve_band(n), "Vega") for n in passbands}
        return table

    def ssp_magnitudes(self, age, metallicity=0.0, imf="kroupa", passbands=("F336W", "F438W", "F814W")):
        """
        Integrated light of a simple stellar population: the mean over infinitely many clusters.

        Parameters
        ----------
        age : `~astropy.units.Quantity`
            Time since the birth of the stars.
        metallicity : float, optional
            [M/H] in dex.
        imf : str or `InitialMassFunction`, optional
            See `get_imf`.
        passbands : sequence of str, optional
            Names, see `resolve_band`.

        Returns
        -------
        `~astropy.units.Quantity`, shape (band,)
            Absolute magnitude per Msun formed. Stars below the lowest mass of the isochrone count as dark, stars above its
            highest as dead.

        Examples
        --------
        >>> from astropy import units as u
        >>> from clustercnn.stellar import IsochroneGrid
        >>> IsochroneGrid.default().ssp_magnitudes(100 * u.Myr, passbands=["F438W"]).round(1)
        <Quantity [3.] mag>
        """
        _, light = self._light(age, metallicity, imf, passbands)
        return -2.5 * np.log10(light.sum(axis=(0, 1))) * u.mag

    def phase_fractions(self, age, metallicity=0.0, imf="kroupa", passband="F814W"):
        """
        Which evolutionary phases the light of a simple stellar population comes from.

        Parameters
        ----------
        age : `~astropy.units.Quantity`
            Time since the birth of the stars.
        metallicity : float, optional
            [M/H] in dex.
        imf : str or `InitialMassFunction`, optional
            See `get_imf`.
        passband : str, optional
            Name, see `resolve_band`.

        Returns
        -------
        `~astropy.table.QTable`
            Columns phase (numbers of the source), name (empty where the source has none) and fraction; the fractions sum to 1.

        Examples
        --------
        >>> from astropy import units as u
        >>> from clustercnn.stellar import IsochroneGrid
        >>> table = IsochroneGrid.default().phase_fractions(10 * u.Gyr, passband="F814W")
        >>> print(table["name"][table["fraction"].argmax()])
        red giant branch
        """
        stars, light = self._light(age, metallicity, imf, [passband])
        # between two knots of different phase the nearer one counts; of five points in an interval, the third lies halfway
        right = np.array([0, 0, 0.5, 1, 1])
        left, right = (light[:, :, 0] * side for side in (1 - right, right))
        phases = np.unique(stars.phase)
        total = [left[stars.phase[:-1] == p].sum() + right[stars.phase[1:] == p].sum() for p in phases]
        table = QTable({"phase": phases, "name": [self.phase_names.get(int(p), "") for p in phases]})
        table["fraction"] = np.divide(total, light.sum())
        table.meta.update(age=age, metallicity=metallicity, passband=self.resolve_band(passband), source=self.source)
        return table

    def _light(self, age, metallicity, imf, passbands):
        """The isochrone, and its light per Msun formed at five points of each of its intervals, (k - 1, 5, band)."""
        imf = get_imf(imf)
        log_age = np.log10(float(positive_quantity(age, u.yr, "age").value))
        stars, magnitudes = self._stars(log_age, metallicity, passbands)
        if not magnitudes.shape[1]:
            raise ValueError("passbands must hold at least one name, such as 'F814W'")
        mass = stars.initial_mass
        # Gauss-Legendre in each interval: magnitudes are linear there, the number of stars smooth
        nodes, weights = np.polynomial.legendre.leggauss(5)
        fraction = 0.5 * (nodes + 1)
        width = np.diff(mass)[:, None]
        number = 0.5 * weights * width * imf.pdf(mass[:-1, None] + width * fraction)
        steps = np.diff(magnitudes, axis=0)[:, None] * fraction[:, None]
        light = number[..., None] * 10 ** (-0.4 * (magnitudes[:-1, None] + steps))
        warn_of_missing_masses(imf, mass[0], 10 ** (-0.4 * magnitudes[0]), light.sum(axis=(0, 1)))
        return stars, light / imf.mean_mass

    @classmethod
    def read(cls, paths, format=None, **kwargs):
        """
        Read isochrones from one file or from several that belong together, one per metallicity for example.

        Parameters
        ----------
        paths : str, `~pathlib.Path`, file-like, or a list of these
            Files, compressed or not, or open ones.
        format : {"parsec", "mist", "ecsv"}, optional
            Recognised by the header if not given. ``"parsec"``: what the CMD web form gives in any photometric system, and
            tables without magnitudes, with the columns ``log(age) Mini Mact logl logt logg ... Phase``; Z is a column, stands in
            comment lines, or in the file name (``..._z0.0200.dat``). ``"mist"``: ``.iso`` and ``.iso.cmd``. ``"ecsv"``: what
            `write` makes, or a table of one's own with the same columns.
        **kwargs
            For ``"parsec"`` and ``"mist"``: ``z_sun``, 0.0152 and 0.0142857 unless told otherwise, and ``passbands``, a dict from
            columns of magnitudes to names of bands, for those that the header does not tell,
            ``{"F336Wmag": "WFC3_UVIS_F336W"}``.

        Returns
        -------
        `IsochroneGrid`

        Raises
        ------
        ValueError
            If a file is none of these, empty, truncated or damaged, or if files do not fit together: the same age and metallicity
            in two, or different ``z_sun``, bands or numbers of phases.

        Notes
        -----
        Magnitudes of the files win over the package's bolometric corrections. AB and ST magnitudes become Vega magnitudes where the
        band is a passband of the package, else stay as they are, see ``magnitude_systems``. Missing ones (beyond -90 or 90, or
        NaN) come from the bolometric corrections if the band is a passband of the package, else, with a warning, from the
        stars next to them on the isochrone. Dead stars of PARSEC (log L of -9 and less) and white dwarfs of MIST
        (log g > 7) are left out.

        Examples
        --------
        >>> import tempfile
        >>> from clustercnn.stellar import IsochroneGrid
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     IsochroneGrid.default().write(f"{folder}/grid.ecsv")
        ...     grid = IsochroneGrid.read(f"{folder}/grid.ecsv")
        >>> len(grid.log_ages)
        71
        """
        files = list(paths) if isinstance(paths, (list, tuple)) else [paths]
        if not files:
            raise ValueError("paths is empty, but must name at least one file")
        return registry.read(cls, files, format=format or cls._identify(files[0]), **kwargs)

    @classmethod
    def _identify(cls, file):
        """The format of a file; registry.read would hand the readers an open one, which has no metallicity in its name."""
        path, opened = (None, file) if hasattr(file, "read") else (Path(file), None)
        formats = registry.identify_format("read", cls, path, opened, (file,), {})
        if formats:
            return formats[0]
        raise ValueError(
            f"{path or getattr(file, 'name', 'the file')} is no table of isochrones that clustercnn knows; formats are "
            "'parsec', 'mist' and 'ecsv'"
        )

    def write(self, path, overwrite=False):
        """
        Write the grid as an ECSV table, from which `read` makes the same grid.

        Parameters
        ----------
        path : str or `~pathlib.Path`
            The file.
        overwrite : bool, optional
            Replace a file that exists.

        Raises
        ------
        OSError
            If the file exists and is not to be replaced.
        """
        registry.write(self, path, format="ecsv", overwrite=overwrite)
