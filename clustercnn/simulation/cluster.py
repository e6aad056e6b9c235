# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""SyntheticCluster: parameters to a table of stars to images."""

from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import torch
from astropy import units as u
from astropy.table import QTable

from clustercnn.images import MultiBandImage, pixel_shape
from clustercnn.parameters import as_quantity, positive_quantity
from clustercnn.profiles import elliptical, get_profile
from clustercnn.simulation.noise import Detector, warn_of_missing_noise
from clustercnn.simulation.render import MANY_STARS, Renderer, band_psfs
from clustercnn.stellar.extinction import band_extinction, covered_range, get_law, integrated_extinction
from clustercnn.stellar.imf import get_imf
from clustercnn.stellar.isochrones import IsochroneGrid, warn_of_missing_masses
from clustercnn.stellar.photometry import passbands
from clustercnn.stellar.spectra import FLAM, SpectralLibrary, luminosity_density, sed

__all__ = ["SyntheticCluster"]

HALF_STEP = 10**0.026  # ratio of ages, half a step of the shipped isochrones and a bit
_LARGEST_KEPT = 256**2  # pixels of the renderers that are kept
_BANDS = ("F275W", "F336W", "F438W", "F555W", "F814W")


class SyntheticCluster:
    """
    A star cluster, drawn star by star.

    Parameters
    ----------
    mass : `~astropy.units.Quantity`
        Initial mass of all stars that were born; met to within one star.
    age : `~astropy.units.Quantity`
        Age (linear time). The spaces of networks reach half a step beyond the isochrones: there it becomes that of the last one.
    half_light_radius : `~astropy.units.Quantity`
        Of the profile, not of the drawn stars: an angle, or a length; ``sqrt(a b)`` of an ellipse.
    a_v : `~astropy.units.Quantity`
        V-band extinction by dust of the cluster's own galaxy, a screen before the stars, mag. This is what labels mean by A_V.
    distance : `~astropy.units.Quantity`
        Distance.
    metallicity : float
        [M/H] relative to the grid's Z_sun.
    isochrones : `~clustercnn.stellar.IsochroneGrid`, optional
        Default: the shipped grid.
    imf : str or IMF
        Initial mass function.
    profile : {'eff', 'king', 'plummer'} or `~clustercnn.profiles.Profile`
        Surface density.
    gamma : float
        Slope of an EFF profile; the others ignore it.
    ellipticity : float
        ``1 - b / a``.
    position_angle : `~astropy.units.Quantity`
        Of the major axis, counter-clockwise from +x.
    bands : sequence of str
        Bands with a column in `stars`.
    extinction_law : str or dust_extinction model
        Curve of the dust that ``a_v`` measures, see `~clustercnn.stellar.get_law`.
    r_v : float, optional
        Its R_V; default 3.1 for curves that depend on it.
    extinction : {'pivot', 'integrated'}
        A_band / A_V by the curve at the pivot wavelength, one number for all stars; or integrated over the spectrum of each star
        (F99 with R_V = 3.1 only), see `~clustercnn.stellar.integrated_extinction`. Networks are trained with the former.
    foreground_a_v : `~astropy.units.Quantity`
        V-band extinction by the Milky Way in addition, mag; not part of ``a_v``.
    foreground_law : str or dust_extinction model
        Its curve; the default is F99 with R_V = 3.1, which ends at 3.3 micron (``"G23"`` reaches 32 micron).
    a_v_spread : `~astropy.units.Quantity`
        Standard deviation of A_V from star to star, mag: log-normal, with the mean ``a_v``.
    binary_fraction : float
        Probability that a star drawn from the initial mass function has an unresolved companion.
    mass_ratio : float or scipy.stats distribution
        Of companions: flat from this number to 1, or a distribution, see `~clustercnn.stellar.InitialMassFunction.sample_systems`.
    rng : None, int, `~numpy.random.SeedSequence` or `~numpy.random.Generator`
        Source of randomness for the stars; their masses, their positions and the dust have a child of it each.

    Raises
    ------
    TypeError, `~astropy.units.UnitsError`
        If a physical parameter has no unit or a wrong one.
    ValueError
        If a value is out of range.

    Examples
    --------
    >>> from astropy import units as u
    >>> from clustercnn import SyntheticCluster
    >>> cluster = SyntheticCluster(mass=2e4 * u.Msun, age=20 * u.Myr, half_light_radius=0.12 * u.arcsec,
    ...                            a_v=0.6 * u.mag, distance=4.5 * u.Mpc, rng=42)
    >>> print(f"{cluster.mass:.0f}, {cluster.magnitude('F438W'):.1f}")
    20000 solMass, 19.8 mag
    """

    def __init__(
        self,
        mass,
        age,
        half_light_radius,
        a_v=0.0 * u.mag,
        *,
        distance,
        metallicity=0.0,
        isochrones=None,
        imf="kroupa",
        profile="eff",
        gamma=2.6,
        ellipticity=0.0,
        position_angle=0.0 * u.deg,
        bands=_BANDS,
        extinction_law="F99",
        r_v=None,
        extinction="pivot",
        foreground_a_v=0.0 * u.mag,
        foreground_law="F99",
        a_v_spread=0.0 * u.mag,
        binary_fraction=0.0,
        mass_ratio=0.0,
        rng=None,
    ):
        requested = positive_quantity(mass, u.Msun, "mass")
        self._grid = IsochroneGrid.default() if isochrones is None else isochrones
        self.age = self._nearest(positive_quantity(age, u.Myr, "age"))
        self.distance = positive_quantity(distance, u.Mpc, "distance")
        self.half_light_radius = _as_angle(half_light_radius, self.distance)
        self.a_v = _not_negative(a_v, "a_v")
        self.foreground_a_v = _not_negative(foreground_a_v, "foreground_a_v")
        self.a_v_spread = _not_negative(a_v_spread, "a_v_spread")
        if self.a_v_spread > 0 * u.mag and not self.a_v > 0 * u.mag:
            raise ValueError(f"a_v must be positive where there is an a_v_spread of {a_v_spread}")
        self._curves = (extinction_law, r_v), (foreground_law, None)
        laws = self._laws
        if extinction not in ("pivot", "integrated"):
            raise ValueError(f"extinction must be 'pivot' or 'integrated', not {extinction!r}")
        self._integrated = extinction == "integrated"
        if self._integrated and not all(type(law).__name__ == "F99" and law.Rv == 3.1 for law in laws):
            raise ValueError(
                "extinction='integrated' is tabulated for extinction_law='F99' with r_v=3.1, and the same for the foreground; "
                "take 'pivot' for others"
            )
        self.metallicity = float(metallicity)
        self.bands = (bands,) if isinstance(bands, str) else tuple(bands)
        shape = get_profile(profile, gamma=gamma) if profile == "eff" else get_profile(profile)

        masses_rng, positions_rng, dust_rng = np.random.default_rng(rng).spawn(3)
        imf = get_imf(imf)
        primary, companion = imf.sample_systems(
            requested.value, masses_rng, binary_fraction=binary_fraction, mass_ratio=mass_ratio
        )
        knots = self._grid.knots(self._log_age, self.metallicity)
        x, y = shape.sample(len(primary), positions_rng)
        x, y = elliptical(x, y, ellipticity, as_quantity(position_angle, u.rad, "position_angle").value)
        spread = np.sqrt(np.log1p((self.a_v_spread / self.a_v).value ** 2)) if self.a_v_spread > 0 * u.mag else 0.0
        dust = self.a_v.value * (np.exp(spread * dust_rng.standard_normal(len(x)) - spread**2 / 2) if spread else np.ones(len(x)))
        system = np.repeat(np.arange(len(primary)), 1 + (companion > 0))  # the primary first, then its companion
        born = np.stack([primary, companion], axis=1).ravel()
        born = born[born > 0]
        # Stars beyond the last knot are dead, those below the first live in the dark.
        unseen = born < knots.initial_mass[0] * (1 - 1e-6)  # rounding of tables aside
        alive = (born <= knots.initial_mass[-1]) & ~unseen
        self._initial_mass, self._system = born[alive], system[alive]
        self._offset = self.half_light_radius.value * np.stack([x, y])[:, self._system]
        self._dust = dust[self._system]
        self._with_companions = binary_fraction > 0
        self._knots = knots
        self.mass = born.sum() * u.Msun
        self.surviving_mass = (np.interp(self._initial_mass, knots.initial_mass, knots.mass).sum() + born[unseen].sum()) * u.Msun
        luminosity = 10 ** self._atmospheres["log_luminosity"]
        if unseen.any() and luminosity.any():
            warn_of_missing_masses(imf, knots.initial_mass[0], 10 ** knots.log_luminosity[0], luminosity.sum() / len(born))
        self._magnitudes = {}

    def _nearest(self, age):
        """An age that is no more than half a step beyond the isochrones becomes that of the last one; others stay, to be refused there."""
        ends = 10 ** self._grid.log_ages[[0, -1]] * u.yr
        return np.clip(age, *ends) if ends[0] / HALF_STEP < age < ends[1] * HALF_STEP else age

    @property
    def _log_age(self):
        return float(np.log10(self.age.to_value(u.yr)))

    @cached_property
    def _laws(self):
        return [get_law(*curve) for curve in self._curves]

    def __getstate__(self):
        # curves of dust_extinction cannot be pickled, but be made anew
        return {name: value for name, value in self.__dict__.items() if name != "_laws"}

    def __repr__(self):
        return (
            f"<SyntheticCluster mass={self.mass:.4g}, age={self.age:.4g}, half_light_radius={self.half_light_radius:.4g}, "
            f"a_v={self.a_v:.3g}, distance={self.distance:.4g}: {len(self._initial_mass)} stars>"
        )

    @cached_property
    def stars(self):
        """
        The living stars, a `~astropy.table.QTable`.

        Columns ``initial_mass``, ``log_teff``, ``log_luminosity``, ``log_g``, ``x``, ``y`` (arcsec from the centre), and the apparent Vega
        magnitude in each of the cluster's bands, reddened; in a band that isochrones bring and the package does not know, in the
        system that ``meta["magnitude_systems"]`` names. With binaries every star has its own row, and the integer ``system`` is
        the same for both stars of a binary, which share a place; with a spread of A_V there is a column ``a_v``.
        """
        table = QTable({"initial_mass": self._initial_mass * u.Msun, **self._atmospheres})
        table["x"], table["y"] = self._offset * u.arcsec
        if self.a_v_spread > 0 * u.mag:
            table["a_v"] = self._dust * u.mag
        if self._with_companions:
            table["system"] = self._system
        for band in self.bands:
            table[band] = self.star_magnitudes(band) * u.mag
        table.meta = {"log_teff": "log10 K", "log_luminosity": "log10 Lsun", "log_g": "log10 cm/s2"}
        systems = self._grid.magnitude_systems
        table.meta["magnitude_systems"] = {band: systems.get(self._grid.resolve_band(band), "Vega") for band in self.bands}
        return table

    @cached_property
    def _atmospheres(self):
        knots, names = self._knots, ("log_teff", "log_luminosity", "log_g")
        return {name: np.interp(self._initial_mass, knots.initial_mass, getattr(knots, name)) for name in names}

    def _extinction(self, passband):
        """Extinction of the stars in a band, mag: one number or one per star."""
        screens = [(law, a_v) for law, a_v in zip(self._laws, (self._dust, self.foreground_a_v.value)) if np.any(a_v)]
        if not screens:
            return 0.0  # in any band, whether its extinction is known or not
        if passband not in passbands():
            raise ValueError(f"how dust dims {passband} is not known: only the isochrones have a passband of this name")
        if self._integrated:
            total = self._dust + self.foreground_a_v.value
            state = self._atmospheres
            return total * integrated_extinction(state["log_teff"], state["log_g"], total, (passband,))[:, 0]
        return sum(a_v * band_extinction((passband,), law=law)[0] for law, a_v in screens)

    def star_magnitudes(self, band):
        """
        Apparent, reddened magnitudes of the stars in any band of the isochrones or of the package (float array).

        In the Vega system, except for bands that only the isochrones know: in theirs.
        """
        passband = self._grid.resolve_band(band)
        if passband not in self._magnitudes:
            initial_mass, absolute = self._grid.magnitudes(self._log_age, self.metallicity, (passband,))
            modulus = 5 * np.log10(self.distance.to_value(u.pc) / 10)
            clear = np.interp(self._initial_mass, initial_mass, absolute[:, 0]) + modulus
            self._magnitudes[passband] = clear + self._extinction(passband)
        return self._magnitudes[passband]

    def magnitude(self, band):
        """Apparent magnitude of the whole cluster (see `star_magnitudes`), dust included; infinite if no star is alive."""
        with np.errstate(divide="ignore"):
            return -2.5 * np.log10(np.sum(10 ** (-0.4 * self.star_magnitudes(band)))) * u.mag

    def color(self, band_1, band_2):
        """Colour ``band_1 - band_2``, of `magnitude`."""
        return self.magnitude(band_1) - self.magnitude(band_2)

    def spectrum(self, library=None):
        """
        The cluster's spectrum: a `~specutils.Spectrum` of flux density, reddened, at its distance.

        Parameters
        ----------
        library : str, `~pathlib.Path`, `~clustercnn.stellar.SpectralLibrary` or callable, optional
            Stellar spectra: a folder in the layout of STScI's reference atlases or its name below ``$PYSYN_CDBS/grid``, such as
            ``"ck04models"``; or a callable of (effective temperature, log g, [M/H]), see
            `~clustercnn.stellar.luminosity_density`. Default: broad-band flux densities at the pivot wavelengths of `bands`.

        Returns
        -------
        spectrum : `~specutils.Spectrum`
            In erg / (s cm2 Angstrom) against wavelength at rest; where there is dust, as far as its curve reaches (F99: 0.1 to 3.3
            micron).

        Raises
        ------
        ValueError
            If there is no library at the path, or it is broken.
        TypeError
            If ``library`` is something else, or returns something else than a spectrum.

        Notes
        -----
        Dust dims the spectrum wavelength by wavelength, so light integrated through a passband is that of the stars with
        ``extinction='integrated'``, and near that with ``'pivot'``.
        """
        if library is None:
            names = [self._grid.resolve_band(band) for band in self.bands]
            return sed(u.Quantity([self.magnitude(name) for name in names]), names)
        from specutils import Spectrum

        library = SpectralLibrary(library) if isinstance(library, str | Path) else library
        _, group = np.unique(np.rint(self._dust / 0.02), return_inverse=True)  # stars behind as much dust, to 0.01 mag
        metallicity = self.metallicity + np.log10(self._grid.z_sun / 0.02)
        wavelength, density = luminosity_density(library, **self._atmospheres, metallicity=metallicity, group=group)
        seen = np.ones(len(wavelength), bool)
        wavelength = wavelength * u.AA
        screens = np.bincount(group, self._dust) / np.bincount(group), [self.foreground_a_v.value]
        for law, a_v in zip(self._laws, screens):
            if np.any(a_v):
                shortest, longest = covered_range(law)
                inside = (wavelength >= shortest) & (wavelength <= longest)
                density[:, inside] *= 10 ** (-0.4 * np.multiply.outer(a_v, law(wavelength[inside])))
                seen &= inside
        flux = (density.sum(axis=0) * (u.Lsun / u.AA) / (4 * np.pi * self.distance**2)).to(FLAM)
        return Spectrum(flux=flux[seen], spectral_axis=wavelength[seen])

    def render(self, instrument, shape=(64, 64), psf=None, position=None):
        """
        A noiseless image.

        Parameters
        ----------
        instrument : `~clustercnn.instruments.Instrument`
            Bands, pixel scale and zero points.
        shape : tuple of int
            ``(ny, nx)``.
        psf : dict, optional
            Band -> `~clustercnn.psf.PSF`, or `~photutils.psf.GriddedPSFModel`, which is taken at ``position``; default: the built-in
            HST model.
        position : tuple of float, optional
            ``(x, y)`` of the cluster's centre in pixels; default: the centre of the image.

        Returns
        -------
        image : `~clustercnn.images.MultiBandImage`
            In electron/s.
        """
        return MultiBandImage.from_arrays(instrument.bands, self.rates(instrument, shape, psf, position), u.electron / u.s)

    def observe(self, instrument, shape=(64, 64), psf=None, position=None, background=None, rng=None):
        """
        A noisy image with its uncertainty, sky subtracted.

        Parameters
        ----------
        instrument, shape, psf, position
            As in `render`.
        background : `~clustercnn.images.MultiBandImage` or `~astropy.units.Quantity`, optional
            Noiseless light behind the cluster, of the same bands and shape.
        rng : None, int, `~numpy.random.SeedSequence` or `~numpy.random.Generator`
            Source of randomness for the noise.

        Returns
        -------
        image : `~clustercnn.images.MultiBandImage`
            In electron/s, with standard deviations.
        """
        rate = self.rates(instrument, shape, psf, position).astype(float)
        if background is not None:
            unit = u.electron / u.s
            if not isinstance(background, MultiBandImage):
                behind = as_quantity(background, unit, "background").value
            elif background.bands == instrument.bands:
                behind = background.to_array(unit)
            else:
                raise ValueError(f"background must have the bands {instrument.bands} of the instrument, not {background.bands}")
            if np.shape(behind) != rate.shape:
                raise ValueError(f"background must have the shape {rate.shape} of the image, not {np.shape(behind)}")
            rate += behind
        warn_of_missing_noise(instrument)
        detector = Detector.from_instrument(instrument)
        image = detector.expose(rate, rng)
        return MultiBandImage.from_arrays(instrument.bands, image, u.electron / u.s, variance=detector.variance(rate))

    def rates(self, instrument, shape=(64, 64), psf=None, position=None):
        """The pixels of `render` as a float32 array of shape (n_bands, ny, nx), electron/s."""
        shape = pixel_shape(shape)
        centre = ((shape[1] - 1) / 2, (shape[0] - 1) / 2) if position is None else position
        if np.shape(centre) != (2,) or not np.isfinite(centre).all():
            raise ValueError(f"position must be (x, y) in pixels, such as (31.5, 31.5), not {position}")
        psf = band_psfs(psf, instrument, centre)
        x, y = np.array(centre)[:, None] + self._offset / instrument.pixel_scale.to_value(u.arcsec / u.pix)
        flux = [
            10 ** (0.4 * (instrument.zero_point(band).value - self.star_magnitudes(instrument.passband(band)))) for band in instrument.bands
        ]
        make = _kept_renderer if shape[0] * shape[1] <= _LARGEST_KEPT else Renderer
        renderer = make(tuple(psf[band] for band in instrument.bands), shape, many_stars=len(x) > MANY_STARS)
        stamp = torch.zeros(len(x), dtype=torch.int64)
        return renderer(torch.from_numpy(x), torch.from_numpy(y), torch.from_numpy(np.array(flux)), stamp, 1)[0].numpy()


@lru_cache(maxsize=12)
def _kept_renderer(psfs, shape, many_stars):
    """Renderers are slow to make, and the boxes of an injection have few different sizes."""
    return Renderer(psfs, shape, many_stars=many_stars)


def _not_negative(value, name):
    quantity = as_quantity(value, u.mag, name)
    if quantity.ndim or not (np.isfinite(quantity) and quantity >= 0):
        raise ValueError(f"{name} must be one number, 0 mag or more, not {value}")
    return quantity


def _as_angle(radius, distance):
    if isinstance(radius, u.Quantity) and radius.unit.is_equivalent(u.pc):
        radius = (radius / distance).to(u.arcsec, equivalencies=u.dimensionless_angles())
    return positive_quantity(radius, u.arcsec, "half_light_radius")
