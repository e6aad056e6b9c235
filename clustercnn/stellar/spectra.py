# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""The spectrum of a population as a specutils Spectrum: summed over its stars, or its broad-band energy distribution."""

import os
import warnings
from functools import cached_property
from pathlib import Path

import numpy as np
from astropy import constants
from astropy import units as u
from astropy.io import fits
from astropy.utils.exceptions import AstropyUserWarning

from ..parameters import as_quantity
from .photometry import _locate, _table, pivot_wavelength, resolve_passbands, vega_to_st

__all__ = ["SpectralLibrary", "luminosity_density", "sed"]

FLAM = u.erg / u.s / u.cm**2 / u.AA
STEFAN_BOLTZMANN = constants.sigma_sb.cgs.value
SECOND_RADIATION = (constants.h * constants.c / constants.k_B).to_value(u.AA * u.K)
STEP = 0.01  # dex in Teff: spectra of 3500 and 3750 K differ too much for straight lines
CELL = 0.01, 0.1  # dex in Teff and in g: stars within one cell share a call of the user's function


def sed(magnitudes, passbands):
    """
    Broad-band spectral energy distribution from Vega magnitudes.

    Parameters
    ----------
    magnitudes : `~astropy.units.Quantity`, shape (band,)
        Vega magnitudes; apparent ones give the flux at the observer, absolute ones at 10 pc.
    passbands : sequence of str
        Names, see `resolve_passband`; each pivot wavelength once.

    Returns
    -------
    `specutils.Spectrum`
        Mean flux densities in erg / (s cm2 Angstrom) at the pivot wavelengths, ascending.

    Raises
    ------
    TypeError
        If ``magnitudes`` is no `~astropy.units.Quantity`.
    ValueError
        If there are not as many magnitudes as passbands, a passband is unknown, or one occurs twice.

    Examples
    --------
    >>> from astropy import units as u
    >>> from clustercnn.stellar import sed
    >>> spectrum = sed([20.0, 20.5, 19.5] * u.mag, ["F336W", "F438W", "F814W"])
    >>> print(spectrum.flux[1].round(19))
    4.26e-17 erg / (Angstrom s cm2)
    """
    from specutils import Spectrum

    magnitudes = np.atleast_1d(as_quantity(magnitudes, u.mag, "magnitudes").value)
    names = resolve_passbands(passbands)
    if magnitudes.shape != (len(names),):
        raise ValueError(f"magnitudes has shape {magnitudes.shape}, but there are {len(names)} passbands")
    if len(set(names)) < len(names):
        raise ValueError(f"passbands must differ from one another, not {', '.join(names)}")
    wavelength = u.Quantity([pivot_wavelength(name) for name in names])
    st = magnitudes + [vega_to_st(name) for name in names]
    flux = 10 ** (-0.4 * (st + 21.10)) * u.erg / u.s / u.cm**2 / u.AA
    order = np.argsort(wavelength)
    return Spectrum(flux=flux[order], spectral_axis=wavelength[order], meta={"passbands": [names[i] for i in order]})


class SpectralLibrary:
    """
    Stellar spectra in the layout of STScI's reference atlases, such as ``ck04models`` (Castelli & Kurucz 2004).

    The folder holds ``catalog.fits`` (columns ``INDEX``: ``"Teff,[M/H],log g"``, and ``FILENAME``:
    ``"ckp00/ckp00_3500.fits[g00]"``) and the tables that it names: wavelengths in Angstrom, and the flux density at the stellar
    surface in erg / (s cm2 Angstrom), one column per gravity, all zero where there is no model. Metallicities whose folder is
    absent are left out. Files are read when they are first needed.

    Parameters
    ----------
    path : str or `~pathlib.Path`
        The folder; or the name of one below ``$PYSYN_CDBS/grid``.

    Raises
    ------
    ValueError
        If there is no such folder, its catalogue is missing or broken, or none of its spectra is here; when spectra are read, if
        one is missing, truncated or of another kind.

    Notes
    -----
    Linear in (log Teff, log g, [M/H]) between spectra of equal total luminosity; stars are scaled by their luminosity, which is
    to say by their radius. A missing gravity takes the next one of its temperature, and beyond the gravities and metallicities
    of the library the nearest holds. Hotter stars take the hottest spectrum times the ratio of two blackbodies; cooler ones
    the coolest times the mean ratio of cool giants to those at the edge (Lancon & Mouhcine 2002, averaged over 7 per cent in
    wavelength; giants up to log g = 3, blackbodies for dwarfs and below 3600 Angstrom), as `bolometric_correction` does.

    Examples
    --------
    >>> from astropy import units as u
    >>> from clustercnn.stellar import SpectralLibrary
    >>> library = SpectralLibrary("ck04models")                                          # doctest: +SKIP
    >>> library(5772 * u.K, 4.44, 0.0)                                                   # doctest: +SKIP
    <Spectrum(flux=[0.0 ... 8.01] erg / (Angstrom s cm2) ...>
    """

    def __init__(self, path):
        self.path = _find_folder(path)
        catalogue = _read_table(self.path / "catalog.fits", ("INDEX", "FILENAME"))
        files = {}
        try:
            for index, name in zip(catalogue["INDEX"], catalogue["FILENAME"]):
                teff, metallicity, log_g = (float(number) for number in str(index).split(","))
                file, column = str(name).strip().rstrip("]").split("[")
                if (self.path / file).parent.is_dir():
                    files[metallicity, teff, log_g] = file, column
        except ValueError as error:
            raise ValueError(f"{self.path / 'catalog.fits'} is no catalogue of spectra: {error}") from None
        if not files:
            raise ValueError(f"{self.path} holds none of the spectra in its catalogue")
        self._files = files
        self.metallicities, self.temperatures, self.gravities = (np.unique(axis) for axis in zip(*files))
        self.wavelength = None
        self._read = {}

    def __repr__(self):
        ranges = (f"{axis[0]:g} to {axis[-1]:g}" for axis in (self.temperatures, self.gravities, self.metallicities))
        return "<SpectralLibrary: {}, Teff {} K, log g {}, [M/H] {}>".format(self.path.name, *ranges)

    def __call__(self, teff, log_g, metallicity):
        """
        The spectrum at the surface of one star.

        Parameters
        ----------
        teff : `~astropy.units.Quantity`
            Effective temperature.
        log_g : float
            log10 of the surface gravity in cm/s2.
        metallicity : float
            [M/H] with solar metallicity 0.02.

        Returns
        -------
        `specutils.Spectrum`
            Flux density in erg / (s cm2 Angstrom).
        """
        from specutils import Spectrum

        teff = as_quantity(teff, u.K, "teff").value
        weights = self._weights(np.log10([teff]), np.array([log_g]), np.ones(1), np.zeros(1, int))
        shape = weights @ self._shapes(metallicity)
        return Spectrum(flux=shape[0] * STEFAN_BOLTZMANN * teff**4 * FLAM, spectral_axis=self.wavelength * u.AA)

    @cached_property
    def _nodes(self):
        """Temperatures of the spectra, and beyond them of the bolometric corrections (log10 K)."""
        own, table = np.log10(self.temperatures), _table()["log_teff"]
        return np.concatenate([table[table < own[0] - 1e-6], own, table[table > own[-1] + 1e-6]])

    @cached_property
    def _log_teff(self):
        """The same with steps in between."""
        steps = np.ceil(np.diff(self._nodes) / STEP).astype(int)
        return np.interp(np.arange(steps.sum() + 1), np.concatenate([[0], np.cumsum(steps)]), self._nodes)

    def _weights(self, log_teff, log_g, luminosity, group):
        """Light of each group of stars at each node of (temperature, gravity), shape (group, node)."""
        axes = self._log_teff, self.gravities
        (i, f), (j, h) = (_locate(nodes, values) for nodes, values in zip(axes, (log_teff, log_g)))
        shape = (group.max(initial=0) + 1, *map(len, axes))
        weights = np.zeros(np.prod(shape))
        for di, dj in np.ndindex(2, 2):
            share = luminosity * (f if di else 1 - f) * (h if dj else 1 - h)
            weights += np.bincount(np.ravel_multi_index((group, i + di, j + dj), shape), share, weights.size)
        return weights.reshape(shape[0], -1)

    def _shapes(self, metallicity):
        """Spectra of unit luminosity at each node of (temperature, gravity), shape (node, wavelength), per Angstrom."""
        metals = self.metallicities
        if len(metals) == 1:
            mixture = self._at_metallicity(metals[0])
        else:
            k, fraction = _locate(metals, float(metallicity))
            below, above = (self._at_metallicity(metals[i]) if f else 0.0 for i, f in ((k, 1 - fraction), (k + 1, fraction)))
            mixture = (1 - fraction) * below + fraction * above
        return mixture.reshape(-1, len(self.wavelength))

    def _at_metallicity(self, metallicity):
        if metallicity not in self._read:
            shapes = np.array([self._at_temperature(metallicity, teff) for teff in self.temperatures])
            self._read[metallicity] = self._extend(shapes)
        return self._read[metallicity]

    def _at_temperature(self, metallicity, teff):
        """Spectra of unit luminosity of all gravities, shape (gravity, wavelength)."""
        wanted = {g: self._files[metallicity, teff, g] for g in self.gravities if (metallicity, teff, g) in self._files}
        flux, tables = [], {}
        for file, column in wanted.values():
            if file not in tables:
                tables[file] = _read_table(self.path / file, ("WAVELENGTH",))
            if column not in tables[file].names:
                raise ValueError(f"{self.path / file} has no column {column!r}")
            flux.append(tables[file][column].astype(float))
            wavelength = tables[file]["WAVELENGTH"].astype(float)
            self.wavelength = wavelength if self.wavelength is None else self.wavelength
            if not np.array_equal(wavelength, self.wavelength):
                raise ValueError(f"{self.path / file} has other wavelengths than the spectra before it")
        have = [g for g, f in zip(wanted, flux) if f.any()]
        flux = [f for f in flux if f.any()]
        if not flux:
            raise ValueError(f"{self.path} holds no spectrum of {teff:g} K, [M/H] = {metallicity:g}")
        nearest = np.argmin(abs(np.array(have) - self.gravities[:, None]), axis=1)
        return np.array(flux)[nearest] / (STEFAN_BOLTZMANN * teff**4)

    def _extend(self, shapes):
        """Add the nodes beyond the coolest and hottest spectra, and steps in between along which magnitudes are linear."""
        nodes, own = self._nodes, np.log10(self.temperatures)
        logs = np.log(np.maximum(shapes, 1e-300))
        cool = [logs[0] + self._cooler(node, own[0]) for node in nodes[nodes < own[0]]]
        hot = [logs[-1] + _blackbody_ratio(self.wavelength, node, own[-1]) for node in nodes[nodes > own[-1]]]
        logs = np.concatenate([part for part in (cool, logs, hot) if len(part)])
        index, fraction = _locate(nodes, self._log_teff)
        fraction = fraction[:, None, None]
        return np.exp((1 - fraction) * logs[index] + fraction * logs[index + 1])

    def _cooler(self, log_teff, edge):
        """ln of the ratio of cool stars to those at the edge, shape (gravity, wavelength); as in the bolometric corrections."""
        table = _table("spectral_terms")
        dwarf = _blackbody_ratio(self.wavelength, log_teff, edge)
        ends = [[np.interp(t, table["cool_log_teff"], row) for row in table["cool_ratio"].T] for t in (log_teff, edge)]
        giant = np.interp(np.log(self.wavelength), np.log(table["cool_wavelength"]), np.log(10) * np.subtract(*ends))
        giant = np.where(self.wavelength < table["cool_wavelength"][0], dwarf, giant)
        mix = np.clip((self.gravities[:, None] - 3.0) / 1.5, 0, 1)
        return (1 - mix) * giant + mix * dwarf


def _blackbody_ratio(wave, log_teff, reference):
    """ln of the ratio of two blackbodies of equal luminosity."""
    x, y = (SECOND_RADIATION / (wave * 10**t) for t in (log_teff, reference))
    # in logarithms: far in the Wien tail the exponentials overflow
    return y - x + np.log(-np.expm1(-y)) - np.log(-np.expm1(-x)) + 4 * np.log(10) * (reference - log_teff)


def luminosity_density(library, log_teff, log_g, log_luminosity, metallicity, group=None):
    """
    Summed spectra of stars, as arrays.

    Parameters
    ----------
    library : `SpectralLibrary` or callable
        A callable is given the effective temperature (a `~astropy.units.Quantity`), log g (log10 cm/s2) and [M/H], and returns the
        flux density at the surface of such a star as a `specutils.Spectrum`, all on the same wavelengths. It is called once for
        all stars within 0.01 dex in temperature and 0.1 dex in gravity, at their mean.
    log_teff, log_g, log_luminosity : array-like, shape (n,)
        log10 of K, cm/s2 and Lsun.
    metallicity : float
        [M/H] with solar metallicity 0.02.
    group : array-like of int, shape (n,), optional
        Number of the sum that each star belongs to; default: one sum for all.

    Returns
    -------
    wavelength : `~numpy.ndarray`
        In Angstrom, ascending.
    density : `~numpy.ndarray`, shape (group, wavelength)
        In Lsun / Angstrom.

    Raises
    ------
    TypeError
        If ``library`` cannot be called or returns something else than a spectrum.
    ValueError
        If its spectra differ in wavelengths, or there is no star to call it for.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy import units as u
    >>> from astropy.modeling.models import BlackBody
    >>> from specutils import Spectrum
    >>> from clustercnn.stellar import luminosity_density
    >>> wave = np.geomspace(300, 1e6, 2000) * u.AA
    >>> def blackbody(teff, log_g, metallicity):
    ...     intensity = BlackBody(teff, scale=1 * u.erg / u.s / u.cm**2 / u.AA / u.sr)(wave)
    ...     return Spectrum(flux=intensity * np.pi * u.sr, spectral_axis=wave)
    >>> wavelength, density = luminosity_density(blackbody, [3.7, 4.3], [4.5, 4.0], [0.0, 3.0], 0.0)
    >>> print(np.trapezoid(density[0], wavelength).round())
    1001.0
    """
    log_teff, log_g, luminosity = np.asarray(log_teff, float), np.asarray(log_g, float), 10 ** np.asarray(log_luminosity, float)
    group = np.zeros(len(log_teff), int) if group is None else np.asarray(group)
    if isinstance(library, SpectralLibrary):
        weights = library._weights(log_teff, log_g, luminosity, group)
        shapes = library._shapes(metallicity)
        used = weights.any(axis=0)
        return library.wavelength, weights[:, used] @ shapes[used]
    if not callable(library):
        raise TypeError(f"library must be a path, a SpectralLibrary or a callable, not {type(library).__name__}")
    if not len(log_teff):
        raise ValueError("library is called star by star, but there is no star")
    cells = np.rint(np.stack([log_teff / CELL[0], log_g / CELL[1]], axis=-1)).astype(int)
    _, cell = np.unique(cells, axis=0, return_inverse=True)
    cell, light = cell.ravel(), np.bincount(cell.ravel(), luminosity)
    teff, gravity = (np.bincount(cell, luminosity * values) / light for values in (log_teff, log_g))
    wavelength, shapes = None, []
    for t, g in zip(10**teff, gravity):
        wave, flux = _as_arrays(library(t * u.K, float(g), float(metallicity)))
        wavelength = wave if wavelength is None else wavelength
        if not np.array_equal(wave, wavelength):
            raise ValueError(f"library must return all spectra on the same wavelengths, but does not at {t:.0f} K, log g {g:.2f}")
        shapes.append(flux / (STEFAN_BOLTZMANN * t**4))
    shape = group.max() + 1, len(shapes)
    weights = np.bincount(np.ravel_multi_index((group, cell), shape), luminosity, np.prod(shape)).reshape(shape)
    return wavelength, weights @ np.array(shapes)


def _as_arrays(spectrum):
    """Ascending wavelengths (Angstrom) and flux densities (erg / s / cm2 / Angstrom) of what a user's library returned."""
    from specutils import Spectrum

    if not isinstance(spectrum, Spectrum) or spectrum.flux.ndim != 1:
        raise TypeError(f"library must return a one-dimensional specutils Spectrum, not {type(spectrum).__name__}")
    wave = spectrum.spectral_axis.to(u.AA, u.spectral())
    try:
        flux = spectrum.flux.to_value(FLAM, u.spectral_density(wave))
    except u.UnitConversionError:
        message = f"library must return flux densities that convert to '{FLAM}', not '{spectrum.flux.unit}'"
        raise u.UnitsError(message) from None
    order = np.argsort(wave.value)
    return wave.value[order], flux[order]


def _find_folder(path):
    folder = Path(path).expanduser()
    atlases = os.environ.get("PYSYN_CDBS")
    if not folder.is_dir() and atlases:
        folder = Path(atlases).expanduser() / "grid" / path
    if not folder.is_dir():
        places = f"neither here nor in {folder.parent}" if atlases else "not here, and $PYSYN_CDBS is not set"
        raise ValueError(f"no folder {str(path)!r} with a library of spectra: {places}")
    return folder


def _read_table(path, columns):
    """The first table of a FITS file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", AstropyUserWarning)  # a truncated file is no more than a warning
            data = fits.getdata(path, 1, memmap=False)
            missing = [name for name in columns if name not in data.names]
    except FileNotFoundError:
        raise ValueError(f"{path} is missing from the library of spectra") from None
    except (OSError, TypeError, ValueError, IndexError, AttributeError, AstropyUserWarning) as error:
        raise ValueError(f"{path} cannot be read as a table of spectra: {error}") from None
    if missing:
        raise ValueError(f"{path} has no column {', '.join(missing)}")
    return data
