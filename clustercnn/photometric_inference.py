# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
The classical peer of the network: stochastic Bayesian aperture photometry.
"""

import numpy as np
from astropy import units as u
from astropy.table import Column
from scipy.special import chdtri, ndtr, ndtri
from tqdm import tqdm

from clustercnn.estimate import FLAGS, ClusterEstimate
from clustercnn.parameters import Parameter, ParameterSpace, as_quantity, in_short, positive_quantity
from clustercnn.simulation.population import StarTables
from clustercnn.stamps import read_stamps
from clustercnn.stellar.extinction import band_extinction
from clustercnn.stellar.photometry import pivot_wavelength, resolve_passbands, vega_to_ab, vega_to_system

__all__ = ["StochasticMagnitudes", "StochasticPhotometry"]

RADII = 1.5, 3.0, 5.0, 10.0  # pixels: the concentration of the light tells the size
CHUNK = 1024
BRIGHT_STARS = 200  # drawn one by one in each cluster, the others are their mean light with its scatter
SCREENS = 10  # of dust, each of other depth, before the same stars
PER_MAGNITUDE = np.log(10) / 2.5  # relative error of a flux per magnitude
LEAST_WIDTH = 0.05 * u.mag
REACH = 5.0  # kernel widths: a mock farther off weighs less than 4e-6 of the nearest
LEAST_ERROR = 1e-12  # of the library's median flux: that of a flux of zero may be given as zero
EDGE = 1e-4  # of the range of a parameter
RIDGE = 1e-3
FEW = 10  # mocks that agree with a source
UNLIKELY = 1e-3  # that a mock which agrees lies so far off
WELL_SEEN = 5.0  # errors that a flux is above zero
FAINTEST, BRIGHTEST = 40.0, -30.0  # magnitudes beyond are codes for "no data"
GREATEST_ERROR = 5.0  # so are greater errors, in magnitudes


class StochasticPhotometry:
    """
    Compare the aperture photometry of a source with that of many simulated clusters.

    A library of mocks, drawn star by star and observed as the source was, stands for the likelihood, stochastic
    populations included (Fouesneau & Lancon 2010, A&A 521, A22; Krumholz et al. 2015, MNRAS 452, 1447).  The posterior weights each
    mock by a Gaussian kernel of its distance in photometry, as wide as the photometric error and a least width together; where the
    library is sparse the kernel widens until enough mocks have a say.  The mocks are as noisy as the source, so all of the kernel is a
    blur, and a linear regression of the parameters on the photometry within it takes it back (Beaumont, Zhang & Balding 2002, Genetics
    162, 2025).

    Parameters
    ----------
    stream : `~clustercnn.simulation.MockStream`
        Where the mocks come from; anything with ``batch(start, size)``, ``space`` and ``contract``.
    samples : int
        Mocks to draw; those that are clusters form the library.
    effective : float
        Least effective number of mocks that make a posterior.
    progress : bool
        Show progress bars, of the library and of `predict`.

    Notes
    -----
    The measurements are the fluxes within 1.5 pixels of the centre and in rings out to 3, 5 and 10 pixels, above the median
    of a ring at 19 to 29 pixels of a stamp of 64.  They are compared as asinh magnitudes that turn from flux to magnitude where the
    error of the ring's pixels falls below the least width, 0.05 mag.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy import units as u
    >>> from clustercnn.instruments import Instrument
    >>> from clustercnn.parameters import ParameterSpace
    >>> from clustercnn.photometric_inference import StochasticPhotometry
    >>> from clustercnn.simulation import BackgroundFields, MockStream
    >>> m83 = Instrument.from_name("HST/WFC3/UVIS/M83")
    >>> stream = MockStream(ParameterSpace.paper(), m83, background=BackgroundFields([np.zeros((3, 64, 64))]), rng=1)
    >>> peer = StochasticPhotometry(stream, samples=256, effective=20)
    >>> peer.predict(stream.batch(256, 2)["pixels"].numpy() * u.electron / u.s, draws=50)
    <ClusterEstimate of 2 sources, 50 draws of age, a_v, mass, half_light_radius>
    """

    def __init__(self, stream, samples=50_000, effective=400, progress=False):
        if not (samples >= 1 and effective >= 1):
            raise ValueError(f"samples and effective must be at least 1, not {samples} and {effective}")
        self.space = stream.space
        #: What the mocks promise: bands, unit, zero points, pixel scale, stamp shape, ...
        self.contract = dict(stream.contract)
        coordinates, fluxes = [], []
        for start in tqdm(range(0, samples, CHUNK), unit_scale=CHUNK, unit="mock", desc="library", disable=not progress):
            batch = {name: values.numpy() for name, values in stream.batch(start, min(CHUNK, samples - start)).items()}
            cluster = batch["is_cluster"] > 0.5
            coordinates.append(batch["parameters"][cluster])
            fluxes.append(_measure(batch["pixels"][cluster])[0])
        coordinates, fluxes = np.concatenate(coordinates), np.concatenate(fluxes)
        self._mocks = _Mocks(self.space, coordinates, fluxes, effective, noisy=True, progress=progress)

    def predict(self, images, positions=None, draws=200, rng=0, *, instrument=None, pixel_scale=None):
        """
        Posteriors of sources.

        Parameters
        ----------
        images : `~clustercnn.images.MultiBandImage` or `~astropy.units.Quantity`
            Images that hold the bands of the library, or stamps of shape (n, band, ny, nx) in their order, in electron/s.
        positions : array_like, `~astropy.coordinates.SkyCoord` or `~astropy.table.Table`, optional
            Where the sources are in images. Needed with images, not allowed with stamps.
        draws : int
            Posterior draws per source.
        rng : None, int, `~numpy.random.SeedSequence` or `~numpy.random.Generator`
            Source of randomness.
        instrument : `~clustercnn.instruments.Instrument`, optional
            What the data were taken with. Needed for images in electron, adu or flux densities; and where its zero points
            differ from the library's, the pixels are brought to the latter.
        pixel_scale : `~astropy.units.Quantity`, optional
            Angle per pixel of stamps, to be checked against the library's (images know their own).

        Returns
        -------
        estimate : `~clustercnn.estimate.ClusterEstimate`
            With the effective number of mocks behind each posterior in ``effective_sample_size``; it tells neither cluster
            from background nor visibility.

        Raises
        ------
        TypeError
            If stamps are not a Quantity.
        `~astropy.units.UnitsError`
            If their unit does not convert to electron/s.
        ValueError
            For missing bands, other stamp shapes, a pixel scale more than 2 % off the library's, headers that state another filter or zero
            point where there is no ``instrument``, and stamps with pixels that are NaN, masked or off the image.
        """
        n, batches = read_stamps(images, positions, self.contract, unit=u.Unit(self.contract["unit"]), instrument=instrument,
                                 pixel_scale=pixel_scale, nan="mask", user="library")
        measured = (source for stamps in _complete(batches) for source in zip(*_measure(stamps)))
        meta = {"model": "stochastic aperture photometry"}
        return self._mocks.estimate(n, measured, draws, rng, meta)


def _complete(batches):
    """The batches of stamps; one with pixels that are not known is an error."""
    i = 0
    for stamps in batches:
        for stamp in stamps:
            if not np.isfinite(stamp).all():
                raise ValueError(f"stamp {i} holds NaN, masked or missing pixels: leave the source out, or give stamps in which they "
                                 "are filled, such as with the median of images.cutouts(..., nan='mask') in each band")
            i += 1
        yield stamps


def _measure(stamps):
    """Fluxes in the central circle and the rings around it, and their errors, of (n, band, ny, nx): both (n, band * 4)."""
    from photutils.aperture import CircularAnnulus, CircularAperture

    shape = stamps.shape[-2:]
    center = (shape[1] - 1) / 2, (shape[0] - 1) / 2
    half = min(shape) / 2
    regions = [CircularAperture(center, RADII[0]), *(CircularAnnulus(center, *ends) for ends in zip(RADII, RADII[1:]))]
    masks = np.stack([region.to_mask(method="exact").to_image(shape) for region in regions])
    around = CircularAnnulus(center, 0.6 * half, 0.9 * half).to_mask(method="center").to_image(shape) > 0
    ring = stamps[..., around]
    sky = np.median(ring, axis=-1, keepdims=True)
    scatter = 1.48 * np.median(np.abs(ring - sky), axis=-1, keepdims=True)
    areas = masks.sum(axis=(1, 2))
    fluxes = np.tensordot(stamps, masks, axes=((-2, -1), (-2, -1))) - sky * areas
    # the scatter of one pixel is zero where a band is empty
    errors = np.maximum(scatter, 1e-6) * np.sqrt(areas)
    return fluxes.reshape(len(stamps), masks.shape[0] * stamps.shape[1]), errors.reshape(len(stamps), masks.shape[0] * stamps.shape[1])


class StochasticMagnitudes:
    """
    Ages, masses and extinctions from integrated magnitudes alone, by the light of many clusters drawn star by star.

    For catalogues without images: the same posterior as that of `StochasticPhotometry`, from the total light of clusters. Of the size it
    knows nothing, which is therefore no parameter.

    Parameters
    ----------
    bands : sequence of str
        Names of the columns, which are passbands (see `~clustercnn.stellar.resolve_passband`) such as ``"F438W"`` or
        ``"ACS_WFC_F555W"``.
    space : `~clustercnn.parameters.ParameterSpace`, optional
        Clusters are drawn from its prior. Parameters ``age``, ``a_v`` and ``mass``; default: ages and extinctions as in the paper,
        masses from 100 to 10^6 Msun.
    distance : `~astropy.units.Quantity`
        Distance of the galaxy; 10 pc for absolute magnitudes.
    samples : int
        Clusters in the library.
    metallicity, isochrones, imf
        The stars, as in `~clustercnn.simulation.SyntheticCluster`.
    extinction_law, r_v
        The dust, as in `~clustercnn.simulation.SyntheticCluster`.
    least_width : `~astropy.units.Quantity`
        Error of each band beyond the given ones, in mag: of calibration, aperture corrections and the models themselves.
    effective : float
        Least effective number of mocks that make a posterior.
    rng : None, int, `~numpy.random.SeedSequence` or `~numpy.random.Generator`
        Source of randomness of the library.
    progress : bool
        Show progress bars, of the library and of `predict`.

    Raises
    ------
    TypeError, `~astropy.units.UnitsError`
        If the distance or the least width has no unit or a wrong one.
    ValueError
        If there are no bands or unknown ones, the space has other parameters or ages without isochrones, or a number is out of range.

    Examples
    --------
    >>> from astropy import units as u
    >>> from astropy.table import QTable
    >>> from clustercnn.photometric_inference import StochasticMagnitudes
    >>> peer = StochasticMagnitudes(["F336W", "F438W", "F814W"], distance=4.5 * u.Mpc, samples=4000, rng=1)
    >>> catalogue = QTable({"F336W": [17.1] * u.mag, "F438W": [18.4] * u.mag, "F814W": [18.2] * u.mag})
    >>> for band in peer.bands:
    ...     catalogue[f"{band}_err"] = [0.05] * u.mag
    >>> estimate = peer.predict(catalogue)
    >>> estimate
    <ClusterEstimate of 1 source, 500 draws of age, a_v, mass>
    """

    def __init__(
        self,
        bands,
        space=None,
        *,
        distance,
        samples=100_000,
        metallicity=0.0,
        isochrones=None,
        imf="kroupa",
        extinction_law="F99",
        r_v=None,
        least_width=LEAST_WIDTH,
        effective=50,
        rng=0,
        progress=False,
    ):
        self.bands = (bands,) if isinstance(bands, str) else tuple(bands)
        passbands = resolve_passbands(self.bands)
        if not passbands or len(set(passbands)) < len(passbands):
            raise ValueError(f"bands must be one or more different ones, not {self.bands}")
        self.space = _catalogue_space() if space is None else space
        if set(self.space.names) != {"age", "a_v", "mass"}:
            raise ValueError(f"space must have the parameters age, a_v and mass, which magnitudes can tell, not {self.space.names}")
        if not (samples >= 1 and effective >= 1):
            raise ValueError(f"samples and effective must be at least 1, not {samples} and {effective}")
        self.distance = positive_quantity(distance, u.Mpc, "distance")
        self.least_width = positive_quantity(least_width, u.mag, "least_width")
        tables = StarTables(passbands, metallicity, isochrones, imf, midpoints=True)
        tables.check_ages(self.space["age"])
        dust = band_extinction(passbands, r_v, extinction_law)
        rng = np.random.default_rng(rng)
        modulus = 5 * np.log10(self.distance.to_value(u.pc) / 10)
        unit = rng.random((SCREENS, samples, len(self.space)))
        unit[1:] = unit[0]  # the same cluster behind several screens
        a_v = self.space.names.index("a_v")
        unit[..., a_v] = (np.arange(SCREENS)[:, None] + rng.random((SCREENS, samples))) / SCREENS
        coordinates = self.space.from_unit(unit)
        values = self.space.from_coordinates(coordinates)
        age, mass = tables.nearest_age(np.log10(values["age"][0].to_value(u.yr))), values["mass"][0].to_value(u.Msun)
        light = np.empty((samples, len(passbands)))
        for start in tqdm(range(0, samples, CHUNK), unit_scale=CHUNK, unit="mock", desc="library", disable=not progress):
            part = slice(start, start + CHUNK)
            stars = tables.draw(age[part], mass[part], BRIGHT_STARS, rng)
            bright = [np.bincount(stars.population, light, minlength=len(stars.other)) for light in stars.luminosity.numpy().T]
            light[part] = np.transpose(bright) + stars.other
        faded = 10 ** (-0.4 * (modulus + np.multiply.outer(values["a_v"].to_value(u.mag), dust)))
        coordinates, fluxes = (values.reshape(-1, values.shape[-1]) for values in (coordinates, light * faded))
        self._mocks = _Mocks(self.space, coordinates, fluxes, effective, noisy=False, progress=progress)

    def predict(self, table, draws=500, rng=0, *, system="vega"):
        """
        Posteriors of sources.

        Parameters
        ----------
        table : `~astropy.table.QTable`, `~astropy.table.Table` or mapping
            One row per source. For each band a column of its name with the total magnitude or flux density, corrected for the dust of
            the Milky Way, and a column such as ``F438W_err`` with its error. What is NaN or masked, or has an error that is, is not used;
            other columns are ignored. Errors of magnitudes are in mag.
        draws : int
            Posterior draws per source.
        rng : None, int, `~numpy.random.SeedSequence` or `~numpy.random.Generator`
            Source of randomness.
        system : {'vega', 'ab', 'st'}
            What magnitudes in plain ``mag`` are. Those in ``mag(AB)`` or ``mag(ST)`` and flux densities speak for themselves.

        Returns
        -------
        estimate : `~clustercnn.estimate.ClusterEstimate`
            With the effective number of mocks behind each posterior in ``effective_sample_size``, and the flags "few mocks" where fewer
            than 10 mocks agree with the photometry within its errors (at 99.9 %), "missing bands" and, without any, "no answer": that
            posterior is the prior.

        Raises
        ------
        TypeError
            If a column has no unit.
        `~astropy.units.UnitsError`
            If its unit is neither a magnitude nor a flux density, or that of the errors does not fit.
        ValueError
            If columns are missing or of another length, errors negative, or magnitudes or their errors codes for a missing measurement such as
            99.999.

        Notes
        -----
        A source that is not seen in a band is best given as a flux density, with its error, be it negative: that says more than a limit.
        """
        fluxes, errors = _read_photometry(table, self.bands, system)
        width = PER_MAGNITUDE * self.least_width.value
        meta = {"model": "stochastic integrated photometry", "bands": list(self.bands), "distance_mpc": float(self.distance.value)}
        return self._mocks.estimate(len(fluxes), zip(fluxes, errors), draws, rng, meta, width)


def _catalogue_space():
    """Ages and extinctions of the paper's space, and the masses of catalogues."""
    paper = ParameterSpace.paper()
    return ParameterSpace([paper["age"], paper["a_v"], Parameter("mass", 100 * u.Msun, 1e6 * u.Msun, "log", 20)])


def _read_photometry(table, bands, system):
    """Fluxes of a table, 1 for a Vega magnitude of 0, and their errors: (n, band) both, NaN where there is no measurement."""
    steps = [vega_to_system(band, system) for band in bands]
    names = [name for band in bands for name in (band, f"{band}_err")]
    if not hasattr(table, "keys"):
        raise TypeError(f"table must be a QTable or a mapping with the columns {names}, not {in_short(table)}")
    if missing := [name for name in names if name not in table.keys()]:
        raise ValueError(f"table lacks the columns {missing}; of each band it needs the magnitude and its error: {names}")
    if any(np.ndim(table[name]) != 1 for name in names):
        raise ValueError("table must hold one row per source; of a single one take a slice such as table[3:4]")
    columns = {name: _quantity(table[name], name) for name in names}
    if len({len(column) for column in columns.values()}) > 1:
        raise ValueError(f"columns must be of one length, not of {({name: len(column) for name, column in columns.items()})}")
    fluxes, errors = np.empty((2, len(columns[bands[0]]), len(bands)))
    for i, band in enumerate(bands):
        values, error = columns[band], columns[f"{band}_err"]
        if isinstance(values, u.Magnitude) or values.unit.is_equivalent(u.mag):
            error = as_quantity(error, u.mag, f"{band}_err").value
            if isinstance(values, u.Magnitude):
                _check_magnitudes(values.value, BRIGHTEST, FAINTEST, band)
                flux = _vega_flux(values.physical, band)
            else:
                _check_magnitudes(values.to_value(u.mag), BRIGHTEST, FAINTEST, band)
                flux = 10 ** (-0.4 * (values.to_value(u.mag) - steps[i]))
            _check_magnitudes(error, -np.inf, GREATEST_ERROR, f"{band}_err")
            error = flux * error * PER_MAGNITUDE
        else:
            flux, error = _vega_flux(values, band), _vega_flux(error, f"{band}_err", band)
        if np.any(error < 0):
            row = np.flatnonzero(error < 0)[0]
            raise ValueError(f"{band}_err must not be negative, but row {row} is; give NaN or a mask where a band has no measurement")
        measured = np.isfinite(flux) & np.isfinite(error)
        fluxes[:, i], errors[:, i] = np.where(measured, flux, np.nan), np.where(measured, error, np.nan)
    return fluxes, errors


def _quantity(column, name):
    """A column as a Quantity, NaN where it is masked."""
    if isinstance(column, Column) and column.unit is not None:  # of a plain table; astropy also leaves masked magnitudes of a system so
        column = u.Quantity(np.ma.filled(column.data.astype(float), np.nan), column.unit, subok=True)
    if not isinstance(column, u.Quantity):
        raise TypeError(f"column {name} must be a Quantity such as [20.1, 21.3] * u.mag or [3.2, 1.1] * u.uJy; it has no unit")
    return column.filled(np.nan) if hasattr(column, "filled") else column


def _vega_flux(density, name, band=None):
    """Flux densities in units of Vega's, of the column ``name``, which is the band's own or, where one is named, that of its errors."""
    wanted = "magnitudes or a flux density such as uJy" if band is None else f"a flux density, as {band} is"
    band = name if band is None else band
    try:
        in_ab = density.to_value(u.AB, u.spectral_density(pivot_wavelength(band)))
    except u.UnitConversionError:
        raise u.UnitsError(f"column {name} must be in {wanted}, not in '{density.unit}'") from None
    return in_ab * 10 ** (0.4 * vega_to_ab(band))


def _check_magnitudes(values, least, most, name):
    """Catalogues write 66.666, 99.999 or -999 for what they do not know."""
    strange = np.flatnonzero((values > most) | (values < least))
    if len(strange):
        raise ValueError(f"{name} of row {strange[0]} is {values[strange[0]]:g} mag: give NaN or a mask where a band has no measurement")


class _Mocks:
    """
    Parameters (n, d) and fluxes (n, m) of mocks, which are searched for those like a source.

    Of mocks without noise the kernel is the likelihood; with noise it is but a blur, which a regression takes back.
    """

    def __init__(self, space, coordinates, fluxes, effective, noisy, progress=False):
        if len(coordinates) < effective:
            raise ValueError(f"effective must be at most the number of clusters in the library, {len(coordinates)}, "
                             f"not {effective}; draw more samples, or from a stream with more clusters")
        self.space, self.fluxes, self.effective, self.noisy, self.progress = space, fluxes, effective, noisy, progress
        self._least = LEAST_ERROR * np.median(np.abs(fluxes), axis=0)
        # Coordinates with a normal prior, along which a regression cannot leave the box.
        self.normal = ndtri(np.clip(space.to_unit(coordinates.astype(float)), EDGE, 1 - EDGE))
        self._order = fluxes.argsort(axis=0)
        self._sorted = np.take_along_axis(fluxes, self._order, axis=0)

    def estimate(self, n, measured, draws, rng, meta, width=PER_MAGNITUDE * LEAST_WIDTH.value):
        """The `ClusterEstimate` of n sources; ``measured`` yields the fluxes and errors of each."""
        if draws < 1:
            raise ValueError(f"draws must be at least 1, not {draws}")
        rng = np.random.default_rng(rng)
        measured = tqdm(measured, total=n, unit="source", desc="comparing", disable=not self.progress)
        normal, numbers, flags = np.empty((n, draws, len(self.space))), np.empty(n), np.zeros(n, dtype=int)
        for i, (flux, error) in enumerate(measured):
            rows, weights, numbers[i], offsets, agree = self.like(flux, error, width)
            chosen = rng.choice(len(rows), draws, p=weights)
            normal[i] = self.normal[rows[chosen]]
            if self.noisy and agree >= FEW:
                normal[i] -= offsets[chosen] @ _slopes(self.normal[rows], offsets, weights)
            missing = np.isnan(flux)
            flags[i] = (
                FLAGS["few mocks"] * (agree < FEW) | FLAGS["missing bands"] * missing.any() | FLAGS["no answer"] * missing.all()
            )
        coordinates = self.space.from_unit(ndtr(normal))
        return ClusterEstimate(coordinates, self.space, flags=flags, meta=meta, effective_sample_size=numbers)

    def like(self, flux, error, width):
        """
        Indices of the mocks like a source, their weights, the effective number of these, the mocks' offsets from it (n, m), and how many agree.

        Fluxes are compared as arsinh(width flux / error) / width, along which the error, together with a scatter of the fraction
        ``width`` of the flux, is 1 everywhere; NaN is not compared. Where all mocks are far off, see `_nearest`.
        """
        seen = np.flatnonzero(np.isfinite(flux))
        if not len(seen):
            n = len(self.fluxes)
            return np.arange(n), np.full(n, 1 / n), float(n), np.empty((n, 0)), n
        flux, error = flux[seen], error[seen]
        softening = np.maximum.reduce([error, 1e-9 * np.abs(flux), self._least[seen]]) / width
        place = np.arcsinh(flux / softening) / width
        reach = REACH
        while True:
            low, high = (softening * np.sinh(np.clip(width * (place + side * reach), -600, 600)) for side in (-1, 1))
            ends = np.array([self._sorted[:, band].searchsorted([*pair]) for band, *pair in zip(seen, low, high)])
            best = np.argmin(ends[:, 1] - ends[:, 0])
            rows = np.sort(self._order[slice(*ends[best]), seen[best]])
            near = self.fluxes[rows][:, seen]
            inside = ((near >= low) & (near <= high)).all(axis=1)
            rows, near = rows[inside], near[inside]
            everything = len(rows) == len(self.fluxes)
            if len(rows) >= self.effective or everything:
                offsets = np.arcsinh(near / softening) / width - place
                distance = (offsets**2).sum(axis=1)
                weights, number, widening = _weights(distance, self.effective)
                needed = np.sqrt(distance.min() + REACH**2 * widening)
                if reach >= needed or everything:
                    if distance.min() > len(seen) * REACH**2:
                        return self._nearest(flux, error, seen, width)
                    return rows, weights, number, offsets, np.sum(distance <= chdtri(len(seen), UNLIKELY))
                reach = min(needed, 2 * reach)
            else:
                reach *= 2

    def _nearest(self, flux, error, seen, width):
        """
        As `like` does, of a source that is nothing like the mocks: those that are fainter in a band where it is well seen are so in magnitudes.

        Errors that grow with the flux would leave all mocks equally far from one that is much brighter than they are.
        """
        near, least = self.fluxes[:, seen], self._least[seen]
        offsets = (near - flux) / np.maximum(np.hypot(error, width * flux), least)
        with np.errstate(divide="ignore", invalid="ignore"):
            in_magnitudes = np.log(np.maximum(near, least) / flux) / np.hypot(width, error / flux)
        offsets = np.where((flux > WELL_SEEN * error) & (near < flux), in_magnitudes, offsets)
        weights, number, _ = _weights((offsets**2).sum(axis=1), self.effective)
        return np.arange(len(near)), weights, number, offsets, 0


def _slopes(values, offsets, weights):
    """Slopes (m, d) of the weighted linear regression of values (n, d) on offsets (n, m)."""
    values, centred = values - weights @ values, offsets - weights @ offsets
    square = (centred.T * weights) @ centred
    # the tiny ridge keeps directions without any scatter out
    ridge = RIDGE * np.trace(square) / max(len(square), 1) * np.eye(len(square))
    return np.linalg.solve(square + ridge, (centred.T * weights) @ values)


def _weights(distance, effective):
    """Weights exp(-distance / 2 t) that sum to 1, with the least t >= 1 of the effective number asked for, that number, and t."""
    distance = distance - distance.min()

    def at(log_t):
        weights = np.exp(-0.5 * distance / np.exp(log_t))
        weights /= weights.sum()
        return weights, 1 / (weights**2).sum()

    low, high = 0.0, 30.0
    weights, number = at(low)
    if number >= effective:
        return weights, number, 1.0
    while high - low > 0.01:
        middle = (low + high) / 2
        weights, number = at(middle)
        low, high = (middle, high) if number < effective else (low, middle)
    return *at(high), np.exp(high)
