# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Grids of isochrones: the shipped one, and tables that users bring."""

import json
import re
from dataclasses import dataclass, fields
from functools import lru_cache
from importlib import resources
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.io import registry
from astropy.table import QTable, Table

from ..parameters import as_quantity
from .imf import get_imf
from .photometry import absolute_magnitudes

__all__ = ["Isochrone", "IsochroneGrid"]

SOLAR_LOG_G = 4.43797  # cm/s2
SOLAR_LOG_TEFF = 3.76133  # 5772 K
PARSEC_Z_SUN = 0.0152
# one node of the grid: reading 20 Myr as log10 yr leaves rounding errors
TOLERANCE = 1e-7


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
    """

    initial_mass: np.ndarray
    mass: np.ndarray
    log_luminosity: np.ndarray
    log_teff: np.ndarray
    log_g: np.ndarray
    phase: np.ndarray


COLUMNS = tuple(field.name for field in fields(Isochrone))
STATE = COLUMNS[1:-1]


def _ascending(mass):
    """Masses strictly ascending: equal ones, where one phase follows another, are set a hair apart."""
    return np.maximum.accumulate(mass) * (1 + 1e-13 * np.arange(len(mass)))


def _phases(isochrone, wanted):
    """
    Per phase in ``wanted``: first and last log initial mass, relative positions between them, state (4, k).

    A phase that the isochrone lacks has no width, lies where the one before it ends, and has no state.
    """
    log_mass = np.log10(isochrone.initial_mass)
    edge = log_mass[0]
    found = []
    for phase in wanted:
        inside = isochrone.phase == phase
        if not inside.any():
            found.append((edge, edge, None, None))
            continue
        x = log_mass[inside]
        edge = x[-1]
        state = np.array([getattr(isochrone, name)[inside] for name in STATE])
        found.append((x[0], edge, (x - x[0]) / max(edge - x[0], 1e-15), state))
    return found


def _blend(first, second, weight):
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
    return Isochrone(_ascending(np.concatenate(masses)), *np.concatenate(states, axis=1), np.concatenate(phases))


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

    Raises
    ------
    ValueError
        If there is no isochrone, or an age is missing at some metallicity.

    Notes
    -----
    Between two ages a phase keeps its inner structure while its edges move. In the shipped grid that holds to 0.03 mag in
    integrated light (0.05 at worst), except where the models themselves jump: log age 6.6 to 6.75 (single supergiants or
    Wolf-Rayet stars), 7.2 to 7.25, and a spike 0.01 dex wide at 9.175, when stars of 1.98 Msun, just too massive for a
    helium flash, crowd the giant branch (up to 0.6, 0.4 and 1.3 mag). Mocks should sample the ages of the grid.

    Examples
    --------
    >>> from clustercnn.stellar import IsochroneGrid
    >>> IsochroneGrid.default()
    <IsochroneGrid: Hurley, Pols & Tout (2000), 71 ages 10^6.6 to 10^10.1 yr, [M/H] -0.155, 0, 0.176 of Z_sun 0.02>
    """

    def __init__(self, isochrones, z_sun, source, provenance=None):
        self._nodes = dict(isochrones)
        self.metallicities = np.unique([m for m, _ in self._nodes])
        self.log_ages = np.unique([t for _, t in self._nodes])
        if not self._nodes or len(self._nodes) != len(self.metallicities) * len(self.log_ages):
            raise ValueError(
                f"isochrones has {len(self._nodes)} entries, but must have one for each of "
                f"{len(self.metallicities)} metallicities "
                f"and {len(self.log_ages)} ages"
            )
        self.z_sun = float(z_sun)
        self.source = source
        self.provenance = {} if provenance is None else dict(provenance)

    def __repr__(self):
        ages = f"{len(self.log_ages)} ages 10^{self.log_ages[0]:.4g} to 10^{self.log_ages[-1]:.4g} yr"
        metallicities = ", ".join(f"{m:.3g}" for m in self.metallicities)
        return f"<IsochroneGrid: {self.source}, {ages}, [M/H] {metallicities} of Z_sun {self.z_sun:g}>"

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
        path = resources.files("clustercnn.stellar") / "data" / "isochrones_sse.npz"
        with path.open("rb") as file, np.load(file, allow_pickle=False) as data:
            table = {name: data[name] for name in data.files}
        z_sun = float(table["z_sun"])
        state = {name: table[name].astype(float) for name in ("mass", "log_luminosity", "log_teff")}
        state["log_g"] = (
            SOLAR_LOG_G + np.log10(state["mass"]) + 4 * (state["log_teff"] - SOLAR_LOG_TEFF) - state["log_luminosity"]
        )
        nodes = {}
        for i, z in enumerate(table["z"]):
            for j, log_age in enumerate(table["log_ages"]):
                rows = (state[name][i, j] for name in STATE)
                key = float(np.log10(z / z_sun)), float(log_age)
                nodes[key] = Isochrone(table["initial_mass"][i, j], *rows, table["phase"][i, j].astype(int))
        return IsochroneGrid(nodes, z_sun, "Hurley, Pols & Tout (2000)", json.loads(str(table["provenance"])))

    @staticmethod
    def _bracket(nodes, value, name, unit):
        """The two nodes around a value, and the weight of the second."""
        if not nodes[0] - TOLERANCE <= value <= nodes[-1] + TOLERANCE:
            raise ValueError(
                f"{name} is {value:.6g}{unit}, but the isochrones reach from {nodes[0]:.6g} to {nodes[-1]:.6g}{unit}"
            )
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
        *metals, along_metal = self._bracket(self.metallicities, float(metallicity), "metallicity", " dex")
        *ages, along_age = self._bracket(self.log_ages, float(log_age), "log_age", " (log10 yr)")
        pair = []
        for metal in dict.fromkeys(metals):
            first, second = (self._nodes[self.metallicities[metal], self.log_ages[age]] for age in ages)
            pair.append(_blend(first, second, along_age) if along_age else first)
        return _blend(*pair, along_metal) if along_metal else pair[0]

    def magnitudes(self, log_age, metallicity, passbands):
        """
        Absolute Vega magnitudes along one isochrone, as arrays.

        Parameters
        ----------
        log_age : float
            log10 of the age in yr.
        metallicity : float
            [M/H] in dex.
        passbands : sequence of str
            Names, see `resolve_passband`.

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
        stars = self.knots(log_age, metallicity)
        # corrections are tabulated against [M/H] with Z_sun = 0.02
        shifted = float(metallicity) + np.log10(self.z_sun / 0.02)
        return stars.initial_mass, absolute_magnitudes(
            stars.log_luminosity, stars.log_teff, stars.log_g, shifted, passbands
        )

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
            For each a column of absolute Vega magnitudes, under the name given.

        Returns
        -------
        `~astropy.table.QTable`
            Columns initial_mass, mass (Msun), log_luminosity (log10 Lsun), log_teff (log10 K), log_g (log10 cm/s2), phase.

        Raises
        ------
        TypeError
            If ``age`` is no `~astropy.units.Quantity`.
        ValueError
            Outside the grid.

        Examples
        --------
        >>> from astropy import units as u
        >>> from clustercnn.stellar import IsochroneGrid
        >>> stars = IsochroneGrid.default().isochrone(20 * u.Myr, passbands=["F814W"])
        >>> bool(stars["F814W"].min() < -7 * u.mag)
        True
        """
        log_age = np.log10(as_quantity(age, u.yr, "age").value)
        stars = self.knots(log_age, metallicity)
        table = QTable({name: getattr(stars, name) for name in COLUMNS})
        for name in ("initial_mass", "mass"):
            table[name] = table[name] << u.Msun
        if len(passbands):
            _, magnitudes = self.magnitudes(log_age, metallicity, passbands)
            for name, column in zip(passbands, magnitudes.T):
                table[name] = column << u.mag
        table.meta.update(age=age, metallicity=metallicity, z_sun=self.z_sun, source=self.source)
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
            Names, see `resolve_passband`.

        Returns
        -------
        `~astropy.units.Quantity`, shape (band,)
            Absolute Vega magnitude per Msun formed.

        Examples
        --------
        >>> from astropy import units as u
        >>> from clustercnn.stellar import IsochroneGrid
        >>> IsochroneGrid.default().ssp_magnitudes(100 * u.Myr, passbands=["F438W"]).round(1)
        <Quantity [3.] mag>
        """
        imf = get_imf(imf)
        mass, magnitudes = self.magnitudes(np.log10(as_quantity(age, u.yr, "age").value), metallicity, passbands)
        # Gauss-Legendre in each interval: magnitudes are linear there, the number of stars smooth
        nodes, weights = np.polynomial.legendre.leggauss(5)
        fraction = 0.5 * (nodes + 1)
        width = np.diff(mass)[:, None]
        inside = mass[:-1, None] + width * fraction
        number = 0.5 * weights * width * imf.pdf(inside)
        steps = np.diff(magnitudes, axis=0)[:, None] * fraction[:, None]
        flux = 10 ** (-0.4 * (magnitudes[:-1, None] + steps))
        total = np.einsum("if,ifb->b", number, flux) / imf.mean_mass
        return -2.5 * np.log10(total) * u.mag

    @classmethod
    def read(cls, path, format=None, **kwargs):
        """
        Read isochrones from a file.

        Parameters
        ----------
        path : str or `~pathlib.Path`
            The file.
        format : {"parsec", "ecsv"}, optional
            Recognised by the file if not given. ``"parsec"``: plain tables of the CMD web form, or with the columns
            ``log(age) Mini Mact logl logt logg ... Phase`` and the metallicity in the file name (``..._z0.0200.dat``).
            ``"ecsv"``: what ``write`` makes.
        **kwargs
            For ``"parsec"``: ``z_sun``, 0.0152 unless told otherwise.

        Returns
        -------
        `IsochroneGrid`
            Its magnitudes come from the package's own bolometric corrections.

        Raises
        ------
        ValueError
            If the file is none of these.
        """
        if format is None:
            # asked here: registry.read would hand the readers an open file, which has no metallicity in its name
            formats = registry.identify_format("read", cls, str(path), None, (str(path),), {})
            if not formats:
                raise ValueError(
                    f"{path} is no table of isochrones that clustercnn knows; formats are 'parsec' and 'ecsv'"
                )
            format = formats[0]
        return registry.read(cls, path, format=format, **kwargs)

    def write(self, path, overwrite=False):
        """
        Write the grid as an ECSV table.

        Parameters
        ----------
        path : str or `~pathlib.Path`
            The file.
        overwrite : bool, optional
            Replace a file that exists.
        """
        pieces = {name: [] for name in ("metallicity", "log_age", *COLUMNS)}
        for (metallicity, log_age), stars in self._nodes.items():
            pieces["metallicity"].append(np.full(len(stars.mass), metallicity))
            pieces["log_age"].append(np.full(len(stars.mass), log_age))
            for name in COLUMNS:
                pieces[name].append(getattr(stars, name))
        meta = {"clustercnn": "isochrones", "z_sun": self.z_sun, "source": self.source, "provenance": self.provenance}
        table = QTable({name: np.concatenate(arrays) for name, arrays in pieces.items()}, meta=meta)
        for name in ("initial_mass", "mass"):
            table[name] = table[name] << u.Msun
        table.write(path, format="ascii.ecsv", overwrite=overwrite)


def _from_columns(columns, z_sun, source, provenance=None):
    """A grid from equally long columns, one row per star."""
    nodes = {}
    keys = np.column_stack([columns["metallicity"], columns["log_age"]])
    for key in np.unique(keys, axis=0):
        rows = np.flatnonzero((keys == key).all(axis=1))
        rows = rows[np.argsort(columns["initial_mass"][rows], kind="stable")]
        values = {name: np.asarray(columns[name])[rows] for name in COLUMNS}
        values["initial_mass"] = _ascending(values["initial_mass"])
        values["phase"] = np.maximum.accumulate(values["phase"].astype(int))
        nodes[tuple(map(float, key))] = Isochrone(**values)
    return IsochroneGrid(nodes, z_sun, source, provenance)


def _header(path):
    """The first two lines, and the column names: the last of the leading comment lines."""
    first, names = [], []
    with open(path, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if not line.startswith("#"):
                break
            first.append(line)
            names = line.lstrip("#").split()
    return first[:2], names


PARSEC_NAMES = {
    "log_age": ("logAge", "log(age)"),
    "initial_mass": ("Mini",),
    "mass": ("Mass", "Mact"),
    "log_luminosity": ("logL", "logl"),
    "log_teff": ("logTe", "logt"),
    "log_g": ("logg",),
    "phase": ("label", "Phase"),
}


def _read_parsec(path, z_sun=PARSEC_Z_SUN):
    _, names = _header(path)
    index = {}
    for name, spellings in PARSEC_NAMES.items():
        found = [names.index(s) for s in spellings if s in names]
        if not found:
            raise ValueError(
                f"{path} has no column {' or '.join(spellings)}, which PARSEC tables have; its columns are {names}"
            )
        index[name] = found[0]
    data = np.loadtxt(path, ndmin=2)
    columns = {name: data[:, i] for name, i in index.items()}
    if "Zini" in names:
        z = data[:, names.index("Zini")]
    else:
        match = re.search(r"z(0\.\d+)", Path(path).name)
        if not match:
            raise ValueError(f"{path} has no column Zini, and no metallicity in its name such as z0.0200")
        z = float(match[1])
    columns["metallicity"] = np.broadcast_to(np.log10(z / z_sun), len(data))
    # the tables end an isochrone with a dead star of luminosity 1e-9
    alive = columns["log_luminosity"] > -9
    return _from_columns({name: column[alive] for name, column in columns.items()}, z_sun, f"PARSEC, {Path(path).name}")


def _read_ecsv(path):
    table = Table.read(path, format="ascii.ecsv")
    missing = {"metallicity", "log_age", *COLUMNS, "z_sun"} - set(table.colnames) - set(table.meta)
    if missing:
        raise ValueError(f"{path} is no table of isochrones: it lacks {', '.join(sorted(missing))}")
    columns = {name: np.asarray(table[name]) for name in table.colnames}
    return _from_columns(
        columns, table.meta["z_sun"], table.meta.get("source", str(path)), table.meta.get("provenance")
    )


def _is_parsec(origin, path, fileobj, *args, **kwargs):
    return path is not None and Path(path).is_file() and "Mini" in _header(path)[1]


def _is_ecsv(origin, path, fileobj, *args, **kwargs):
    return path is not None and Path(path).is_file() and any("ECSV" in line for line in _header(path)[0])


registry.register_reader("parsec", IsochroneGrid, _read_parsec)
registry.register_reader("ecsv", IsochroneGrid, _read_ecsv)
registry.register_identifier("parsec", IsochroneGrid, _is_parsec)
registry.register_identifier("ecsv", IsochroneGrid, _is_ecsv)
