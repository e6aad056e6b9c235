# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""What lies behind a cluster: a synthetic galaxy disc, and pools of fields."""

from functools import cached_property, lru_cache

import numpy as np
import torch
from astropy import units as u
from astropy.table import QTable
from astropy.wcs import WCS
from tqdm import tqdm

from clustercnn.images import MultiBandImage
from clustercnn.parameters import as_quantity, positive_quantity
from clustercnn.simulation.noise import Detector, warn_of_missing_noise
from clustercnn.simulation.population import StarTables
from clustercnn.simulation.render import Renderer, band_psfs
from clustercnn.stellar.extinction import band_extinction
from clustercnn.stellar.nebular import H_ALPHA_PER_STAR_FORMATION, nebular_magnitude

__all__ = ["BackgroundFields", "GalaxyDisc", "star_rates"]

MARGIN = 32  # pixels rendered around a field and cut off, so that its edge is lit from outside too
STARS_PER_PIXEL = 0.15  # at most so many field stars are drawn one by one
FAINTEST = 0.3  # and none whose rate is below so many standard deviations of a pixel's noise
HII_REGION, DIFFUSE_GAS = 15.0, 150.0  # parsec: how far gas shines from the stars that ionise it, standard deviations
DIFFUSE_SHARE = 0.6  # of H alpha, as in nearby spirals (Oey et al. 2007, ApJ 661, 801)
SKY_POSITION = (204.2537, -29.8654)  # M83, degrees


def star_rates(instrument, distance):
    """
    Rate of a star of absolute Vega magnitude 0 in each band of an instrument.

    Parameters
    ----------
    instrument : `~clustercnn.instruments.Instrument`
        Bands and zero points.
    distance : `~astropy.units.Quantity`
        Distance of the star.

    Returns
    -------
    rates : `~numpy.ndarray`
        Electron/s, shape (n_bands,).

    Examples
    --------
    >>> from astropy import units as u
    >>> from clustercnn.instruments import Instrument
    >>> from clustercnn.simulation.background import star_rates
    >>> m83 = Instrument.from_name("HST/WFC3/UVIS/M83")
    >>> print(star_rates(m83, 4.5 * u.Mpc).round(3))
    [0.012 0.049 0.036]
    """
    modulus = 5 * np.log10(positive_quantity(distance, u.pc, "distance").value / 10)
    zero_points = np.array([instrument.zero_point(band).to_value(u.mag) for band in instrument.bands])
    return 10 ** (0.4 * (zero_points - modulus))


@lru_cache(maxsize=8)
def _disc_tables(passbands, metallicity):
    return StarTables((*passbands, "BESSELL_V"), metallicity)


class GalaxyDisc:
    """
    A piece of a spiral galaxy's disc: stars of a continuous star formation history, smooth light, ionised gas, patchy dust.

    Stars younger than 100 Myr sit in clumps along an arm, older ones follow the smooth disc. Stars bright enough to be seen are drawn one
    by one, the others are their mean light. The gas around the youngest clumps shines as much as their ionising photons can make it, two
    fifths of it in HII regions (within some 15 pc of the stars), the rest diffuse (150 pc). Dust is a clumpy screen with the stars
    spread evenly through its depth.

    Parameters
    ----------
    instrument : `~clustercnn.instruments.Instrument`
        Bands, pixel scale, zero points.
    surface_brightness : `~astropy.units.Quantity`
        Mean dust-free V surface brightness (Vega), mag / arcsec2.
    recent_star_formation : float
        Star formation rate of the last 100 Myr over its mean before.
    a_v : `~astropy.units.Quantity`
        Mean V-band extinction through the whole depth of the disc.
    distance : `~astropy.units.Quantity`
        Distance.
    psf : dict of `~clustercnn.psf.PSF`, optional
        One per band; default: the built-in HST model.
    metallicity : float
        [M/H].
    extinction_law : str or dust_extinction model
        Curve of the dust, see `~clustercnn.stellar.get_law`.

    Examples
    --------
    >>> from astropy import units as u
    >>> from clustercnn.instruments import Instrument
    >>> from clustercnn.simulation import GalaxyDisc
    >>> m83 = Instrument.from_name("HST/WFC3/UVIS/M83")
    >>> disc = GalaxyDisc(m83, 22 * u.mag / u.arcsec**2, a_v=0.5 * u.mag, distance=4.5 * u.Mpc)
    >>> disc.observe((40, 60), rng=1)
    <MultiBandImage F336W, F438W, F814W; (40, 60), electron / s, 0.04 arcsec / pix>
    """

    def __init__(
        self, instrument, surface_brightness, recent_star_formation=1.0, a_v=0.3 * u.mag, *, distance, psf=None, metallicity=0.0,
        extinction_law="F99",
    ):
        self.instrument = instrument
        self.surface_brightness = as_quantity(surface_brightness, u.mag / u.arcsec**2, "surface_brightness")
        self.recent_star_formation = float(recent_star_formation)
        self.a_v = as_quantity(a_v, u.mag, "a_v")
        self.distance = positive_quantity(distance, u.Mpc, "distance")
        self.psf = band_psfs(psf, instrument)
        self.metallicity = metallicity
        self._extinction = band_extinction(instrument.passbands, law=extinction_law)
        if not 0 <= self.recent_star_formation < np.inf:
            raise ValueError(f"recent_star_formation must be 0 or more, such as 1.0, not {recent_star_formation}")
        if self.surface_brightness.ndim or not np.isfinite(self.surface_brightness):
            raise ValueError(f"surface_brightness must be one finite number, not {surface_brightness}")
        if self.a_v.ndim or not 0 <= self.a_v.value < np.inf:
            raise ValueError(f"a_v must be one number, 0 mag or more, not {a_v}")

    @classmethod
    def draw(cls, instrument, rng=None, *, distance, psf=None, metallicity=0.0, extinction_law="F99"):
        """
        A disc at random, from faint outskirts to the crowded inner disc.

        Surface brightness 20.7 to 25.2 mag / arcsec2, recent star formation 0.2 to 3, A_V 0.05 to 1 mag (both logarithmic).
        """
        rng = np.random.default_rng(rng)
        return cls(
            instrument,
            rng.uniform(20.7, 25.2) * u.mag / u.arcsec**2,
            0.2 * 15.0 ** rng.random(),
            0.05 * 20.0 ** rng.random() * u.mag,
            distance=distance,
            psf=psf,
            metallicity=metallicity,
            extinction_law=extinction_law,
        )

    def image(self, shape, rng=None):
        """
        A noiseless image.

        Parameters
        ----------
        shape : tuple of int
            ``(ny, nx)``.
        rng : None, int, `~numpy.random.SeedSequence` or `~numpy.random.Generator`
            Source of randomness.

        Returns
        -------
        image : `~clustercnn.images.MultiBandImage`
            In electron/s, sky subtracted, with a WCS centred on M83.
        """
        return self._as_image(self.rates(shape, rng))

    def observe(self, shape, rng=None):
        """An image with photon, sky and read noise, and its uncertainty; see `image` for parameters and result."""
        rng = np.random.default_rng(rng)
        rates = self.rates(shape, rng)
        warn_of_missing_noise(self.instrument)
        detector = Detector.from_instrument(self.instrument)
        return self._as_image(detector.expose(rates, rng), detector.variance(rates))

    def _as_image(self, rates, variance=None):
        wcs = WCS(naxis=2)
        wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
        wcs.wcs.crval = SKY_POSITION
        wcs.wcs.crpix = (rates.shape[2] + 1) / 2, (rates.shape[1] + 1) / 2
        scale = self.instrument.pixel_scale.to_value(u.deg / u.pix)
        wcs.wcs.cdelt = -scale, scale
        return MultiBandImage.from_arrays(self.instrument.bands, rates, u.electron / u.s, wcs=wcs, variance=variance)

    def rates(self, shape, rng=None):
        """
        The noiseless rates in electron/s as an array of shape (n_bands, ny, nx); parameters as in `image`.
        """
        shape = tuple(n + 2 * MARGIN for n in shape)
        x, y, light, smooth = self._draw(shape, np.random.default_rng(rng))
        stars = self._renderer(shape)(
            torch.from_numpy(x), torch.from_numpy(y), torch.from_numpy(light.T.copy()), torch.zeros(len(x), dtype=torch.int64), 1
        )[0].numpy()
        rates = stars + smooth.astype(np.float32)
        return rates[:, MARGIN:-MARGIN, MARGIN:-MARGIN].copy()

    def stars(self, shape, rng=None):
        """
        The stars of an image that are drawn one by one.

        Parameters
        ----------
        shape, rng
            As in `image`: the same seed gives the stars of the same image.

        Returns
        -------
        stars : `~astropy.table.QTable`
            ``x_centroid``, ``y_centroid`` (pixels) and the apparent Vega magnitude in each band, reddened. Stars of up to 32 pixels
            outside the image are among them, since they shine into it.
        """
        x, y, light, _ = self._draw(tuple(n + 2 * MARGIN for n in shape), np.random.default_rng(rng))
        stars = QTable({"x_centroid": x - MARGIN, "y_centroid": y - MARGIN})
        with np.errstate(divide="ignore"):
            for band, rate in zip(self.instrument.bands, light.T, strict=True):
                stars[band] = self.instrument.zero_point(band) - 2.5 * np.log10(rate) * u.mag
        return stars

    def extinction(self, shape, rng=None):
        """
        A map of the dust of an image: A_V through the whole depth of the disc.

        Parameters
        ----------
        shape, rng
            As in `image`: the same seed gives the dust of the same image.

        Returns
        -------
        a_v : `~astropy.units.Quantity`
            Shape (ny, nx), mag; its mean over a somewhat larger field is the disc's.
        """
        _, dust = self._maps(tuple(n + 2 * MARGIN for n in shape), np.random.default_rng(rng))
        return dust[MARGIN:-MARGIN, MARGIN:-MARGIN] * u.mag

    def _draw(self, shape, rng):
        """Pixel coordinates and rates (n_stars, n_bands) of the drawn stars, and the rates (n_bands, ny, nx) of the others."""
        tables, mass, cuts = self._tables, *self._stars_drawn(shape)
        n_bands = len(self.instrument.bands)
        maps, dust = self._maps(shape, rng)
        group = np.digitize(tables.log_ages, [7.5, 8.0])  # clumps, loosened clumps, smooth disc
        x, y, luminosity = [], [], []
        smooth = np.zeros((n_bands, *shape))
        for i, density in enumerate(maps):
            ages = np.flatnonzero(group == i)
            numbers = tables.number[ages, cuts[ages]]
            counts = rng.poisson(mass[ages] * numbers)
            age = np.repeat(ages, counts)
            entry = tables.entry(age, rng.random(len(age)) * np.repeat(numbers, counts))
            luminosity.append(tables.luminosity[age, entry, :n_bands])
            pixel = np.searchsorted(np.cumsum(density.ravel()), rng.random(len(age)) * density.sum())
            row, column = np.divmod(np.minimum(pixel, density.size - 1), shape[1])
            x.append(column + rng.uniform(-0.5, 0.5, len(age)))
            y.append(row + rng.uniform(-0.5, 0.5, len(age)))
            others = (mass[ages, None] * tables.other_mean[ages, cuts[ages], :n_bands]).sum(axis=0)
            smooth += others[:, None, None] * density / density.sum()
        smooth += self._nebular(mass, maps[0])
        x, y, luminosity = np.concatenate(x), np.concatenate(y), np.concatenate(luminosity)
        depth = dust[np.rint(y).astype(int), np.rint(x).astype(int)] * rng.random(len(x))
        luminosity *= 10 ** (-0.4 * depth[:, None] * self._extinction)
        optical_depth = 0.4 * np.log(10) * dust * self._extinction[:, None, None] + 1e-9
        smooth *= -np.expm1(-optical_depth) / optical_depth
        scale = star_rates(self.instrument, self.distance)
        return x, y, luminosity * scale, smooth * scale[:, None, None]

    def _nebular(self, mass, clumps):
        """Light of ionised gas around the clumps of young stars, 1 for an absolute magnitude of 0, shape (n_bands, ny, nx)."""
        young = self._tables.log_ages <= 7.0
        rate = mass[young].sum() / 10 ** self._edges[1:][young].max() * u.Msun / u.yr
        if rate == 0:
            return 0.0
        light = 10 ** (-0.4 * nebular_magnitude(self.instrument.passbands, rate * H_ALPHA_PER_STAR_FORMATION))
        parsec = self.instrument.pixel_scale.to_value(u.rad / u.pix) * self.distance.to_value(u.pc)
        regions, diffuse = (_blurred(clumps / clumps.sum(), size / parsec) for size in (HII_REGION, DIFFUSE_GAS))
        return light[:, None, None] * ((1 - DIFFUSE_SHARE) * regions + DIFFUSE_SHARE * diffuse)

    def _renderer(self, shape):
        return Renderer([self.psf[band] for band in self.instrument.bands], shape)

    @cached_property
    def _tables(self):
        return _disc_tables(self.instrument.passbands, self.metallicity)

    @property
    def _edges(self):
        """Logarithms of the ages between which the isochrone of each age of the table stands for the stars."""
        log_ages = self._tables.log_ages
        return np.concatenate([[-np.inf], (log_ages[1:] + log_ages[:-1]) / 2, log_ages[-1:]])

    def _stars_drawn(self, shape):
        """Mass born (Msun) per age of the table, and the entry down to which its stars are drawn one by one."""
        tables = self._tables
        weight = np.diff(10**self._edges) * np.where(tables.log_ages < 8.0, self.recent_star_formation, 1.0)
        in_v = np.array([tables.mean_luminosity(i)[-1] for i in range(len(weight))])
        arcsec2 = (self.instrument.pixel_scale.to_value(u.arcsec / u.pix)) ** 2 * shape[0] * shape[1]
        modulus = 5 * np.log10(self.distance.to_value(u.pc) / 10)
        light = arcsec2 * 10 ** (-0.4 * (self.surface_brightness.value - modulus))
        mass = weight * light / (weight * in_v).sum()

        detector = Detector.from_instrument(self.instrument)
        noise = np.sqrt(detector.variance(np.zeros((len(detector.sky), 1, 1))))[:, 0, 0]
        noise = np.maximum(noise, 1 / detector.exposure)  # one electron, where there is neither sky nor read noise
        rates = tables.luminosity[..., : len(noise)] * star_rates(self.instrument, self.distance)
        # The brightest star at or below each entry, in standard deviations of a pixel; it falls along the table.
        brightness = np.maximum.accumulate((rates / noise).max(axis=-1)[:, ::-1], axis=1)[:, ::-1]

        def cuts(limit):
            return np.maximum((brightness >= limit).sum(axis=1) - 1, 0)

        limit = FAINTEST
        while (mass * tables.number[np.arange(len(mass)), cuts(limit)]).sum() > STARS_PER_PIXEL * shape[0] * shape[1]:
            limit *= 1.1
        return mass, cuts(limit)

    def _maps(self, shape, rng):
        """Relative densities of clumped, loosened and old stars, and A_V through the disc, each of the given shape."""
        y, x = np.indices(shape, dtype=np.float32)
        parsec = self.instrument.pixel_scale.to_value(u.rad / u.pix) * self.distance.to_value(u.pc)
        angle = rng.uniform(0, 2 * np.pi, 2)
        outwards = (np.cos(angle[0]) * x + np.sin(angle[0]) * y) * parsec
        across = (np.cos(angle[1]) * x + np.sin(angle[1]) * y) * parsec
        disc = np.exp(-outwards / 2000.0)  # scale length 2 kpc
        arm = np.exp(np.cos(2 * np.pi * (across / 1500.0 + rng.random())))  # one arm every 1.5 kpc
        clumps = _lognormal_field(shape, 1.3, rng)
        maps = disc * arm * clumps, disc * arm * np.sqrt(clumps), disc * arm**0.3
        dust = arm**0.5 * _lognormal_field(shape, 0.9, rng)
        return maps, self.a_v.to_value(u.mag) * dust / dust.mean()


def _blurred(field, sigma):
    """A field convolved with a Gaussian of sigma pixels, periodic at its edges."""
    in_y, in_x = (np.exp(-2 * (np.pi * sigma * frequency(n)) ** 2) for n, frequency in zip(field.shape, (np.fft.fftfreq, np.fft.rfftfreq)))
    return np.fft.irfft2(np.fft.rfft2(field) * in_y[:, None] * in_x, s=field.shape)


def _lognormal_field(shape, scatter, rng):
    """exp of a Gaussian random field with a power spectrum k^-2.7, as of the interstellar medium, and the given scatter."""
    size = max(shape)
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size))
    frequency[0, 0] = np.inf
    noise = np.fft.rfft2(rng.standard_normal((size, size)))
    field = np.fft.irfft2(noise * frequency**-1.35, s=(size, size))[: shape[0], : shape[1]]
    return np.exp(scatter * (field - field.mean()) / field.std())


class BackgroundFields:
    """
    A pool of noiseless fields from which stamps are cut at random places, turned and mirrored.

    Parameters
    ----------
    fields : sequence of `~numpy.ndarray`
        Rates in electron/s, each of shape (n_bands, ny, nx).

    Attributes
    ----------
    noisy : bool
        False: noise is still to be added. Those of `~clustercnn.simulation.MosaicBackground` hold it already.
    instrument, distance
        Of the discs that `discs` has drawn; None of other fields.

    Examples
    --------
    >>> import numpy as np
    >>> from clustercnn.simulation import BackgroundFields
    >>> fields = BackgroundFields([np.zeros((3, 100, 120))])
    >>> fields.stamps(2, (64, 64), np.random.default_rng(1)).shape
    torch.Size([2, 3, 64, 64])
    """

    noisy = False
    instrument = distance = None

    def __init__(self, fields):
        self.fields = [np.asarray(field, dtype=np.float32) for field in fields]
        if not self.fields:
            raise ValueError("fields must hold at least one array of shape (n_bands, ny, nx)")
        if any(field.ndim != 3 for field in self.fields) or len({len(field) for field in self.fields}) > 1:
            shapes = [field.shape for field in self.fields]
            raise ValueError(f"fields must be arrays of shape (n_bands, ny, nx) with the same number of bands, not {shapes}")
        for i, field in enumerate(self.fields):
            if bad := np.count_nonzero(~np.isfinite(field)):
                raise ValueError(f"fields must be finite, but field {i} holds {bad} NaN or infinite pixels; fill them first")
        # All pixels in a row, of which the fields are views from now on.
        pool = np.concatenate([field.ravel() for field in self.fields])
        self._starts = np.cumsum([0, *[field.size for field in self.fields[:-1]]])
        self.fields = [pool[i : i + f.size].reshape(f.shape) for i, f in zip(self._starts, self.fields, strict=True)]
        self._pools = {torch.device("cpu"): torch.from_numpy(pool)}

    @classmethod
    def discs(cls, instrument, n_fields=64, field_shape=(768, 768), rng=None, *, distance, psf=None, metallicity=0.0, extinction_law="F99"):
        """
        A pool of synthetic discs, each drawn by `GalaxyDisc.draw` with its own child of ``rng``.

        A disc of the default size takes some seconds, a pool of the default number minutes, with a bar.

        Parameters
        ----------
        instrument : `~clustercnn.instruments.Instrument`
            Bands, pixel scale and zero points.
        n_fields : int
            How many discs.
        field_shape : tuple of int
            ``(ny, nx)`` of each.
        rng : None, int, `~numpy.random.SeedSequence` or `~numpy.random.Generator`
            Source of randomness.
        distance, psf, metallicity, extinction_law
            As in `GalaxyDisc`.

        Returns
        -------
        fields : `BackgroundFields`
        """
        generators = np.random.default_rng(rng).spawn(n_fields)
        fields = []
        for generator in tqdm(generators, unit="disc", desc="background", delay=5):
            disc = GalaxyDisc.draw(instrument, generator, distance=distance, psf=psf, metallicity=metallicity, extinction_law=extinction_law)
            fields.append(disc.rates(field_shape, generator))
        pool = cls(fields)
        pool.instrument, pool.distance = instrument, disc.distance
        return pool

    @property
    def n_bands(self):
        """Number of bands."""
        return len(self.fields[0])

    def stamps(self, n, shape, rng, device="cpu"):
        """
        Stamps from random places.

        Parameters
        ----------
        n : int
            How many.
        shape : tuple of int
            ``(ny, nx)``.
        rng : `~numpy.random.Generator`
            Source of randomness.
        device : str or `~torch.device`
            Where to put them; the fields move there once.

        Returns
        -------
        stamps : `~torch.Tensor`
            Rates in electron/s, float32, shape (n, n_bands, ny, nx).

        Raises
        ------
        ValueError
            If a stamp, turned or not, does not fit into a field.
        """
        field, turns, mirror = rng.integers(len(self.fields), size=n), rng.integers(4, size=n), rng.integers(2, size=n)
        sizes = np.array([field.shape[1:] for field in self.fields])[field]
        extent = np.where(turns[:, None] % 2 == 0, shape, shape[::-1])
        if np.any(extent > sizes):
            i = int(np.argmax(np.any(extent > sizes, axis=1)))
            raise ValueError(f"shape, turned or not, must be no larger than the fields, {self.fields[field[i]].shape[1:]}, not {tuple(shape)}")
        row, column = rng.integers(sizes - extent + 1).T
        # Turned and mirrored stamps walk through the field's pixels in other directions, from another corner.
        width = sizes[:, 1]
        ny, nx = shape
        last_row, last_column = row + extent[:, 0] - 1, column + extent[:, 1] - 1
        start = np.choose(turns, [row * width + column, row * width + last_column, last_row * width + last_column, last_row * width + column])
        down = np.choose(turns, [width, -np.ones_like(width), -width, np.ones_like(width)])
        across = np.choose(turns, [np.ones_like(width), width, -np.ones_like(width), -width])
        start, across = start + mirror * (nx - 1) * across, np.where(mirror, -across, across)
        start += self._starts[field]
        band = (sizes[:, :1] * sizes[:, 1:]) * np.arange(self.n_bands)
        start, down, across, band = (torch.from_numpy(values).to(device) for values in (start, down, across, band))
        rows = (start[:, None] + band)[..., None] + down[:, None, None] * torch.arange(ny, device=device)
        index = rows[..., None] + across[:, None, None, None] * torch.arange(nx, device=device)
        return self._pool(device)[index]

    def _pool(self, device):
        device = torch.device(device)
        if device not in self._pools:
            self._pools[device] = self._pools[torch.device("cpu")].to(device)
        return self._pools[device]
