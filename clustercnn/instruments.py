# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Through what the light arrives: bands, pixel scale, zero points, exposures, gain and read noise of an instrument."""

import copy
import tomllib
from functools import lru_cache
from pathlib import Path

import numpy as np
from astropy import units as u

from .headers import one_per_band, read_header
from .parameters import as_quantity
from .stellar import photometry

__all__ = ["Instrument", "check_instrument", "per_band", "same_pixel_scale"]

_GAIN = u.electron / u.adu
_PIXEL_SCALE = u.arcsec / u.pix
# Parameters with one number per band: unit, and whether it may be 0.
_PER_BAND = {
    "exposure": (u.s, False),
    "gain": (_GAIN, False),
    "read_noise": (u.electron, True),
    "sky": (u.electron / u.s, True),
}


class Instrument:
    """
    One instrument as it was used for one set of images. Immutable.

    Parameters
    ----------
    name : str
        Any name.
    bands : sequence of str
        Short names, in the order of every band axis, such as ``("F336W", "F438W", "F814W")``.
    pixel_scale : `~astropy.units.Quantity`
        Angle per pixel, such as ``0.04 * u.arcsec / u.pix``.
    exposure : `~astropy.units.Quantity` or dict
        Total exposure time, one for all bands or band -> time.
    zero_points : dict, optional
        Band -> Vega magnitude of a source that gives 1 electron/s. Default: from the shipped throughputs.
    gain : `~astropy.units.Quantity` or dict
        Electrons per adu, one for all bands or band -> gain.
    read_noise : `~astropy.units.Quantity` or dict
        Electrons rms per pixel and exposure, one for all bands or band -> noise.
    n_exposures : int or dict
        Exposures (reads) that make up the total of a band, one for all or band -> number.
    sky : `~astropy.units.Quantity` or dict
        Rate of the sky in each pixel, such as ``0.02 * u.electron / u.s``, one for all bands or band -> rate. Images are
        taken to be sky-subtracted; the sky leaves its noise.
    passbands : dict, optional
        Band -> full name of its passband (see `clustercnn.stellar.photometry.passbands`). Default: the first camera of WFC3/UVIS, WFC3/IR,
        ACS/WFC, NIRCam, Roman and Bessell that has a filter of the short name, with a warning where that makes several cameras.

    Raises
    ------
    TypeError, `~astropy.units.UnitsError`
        If a number has no unit or a wrong one.
    ValueError
        If a value is out of its range, a band is missing in a dict or unknown, or its zero point is neither known nor given.

    Examples
    --------
    >>> from clustercnn.instruments import Instrument
    >>> m83 = Instrument.from_name("HST/WFC3/UVIS/M83")
    >>> m83
    <Instrument HST/WFC3/UVIS/M83: F336W, F438W, F814W; 0.04 arcsec / pix>
    >>> m83.exposure("F438W")
    <Quantity 1880. s>
    >>> print(f"{m83.zero_point('F336W'):.1f}")
    23.5 mag

    The presets of a camera leave the exposure to you; anything else may be changed as well:

    >>> from astropy import units as u
    >>> Instrument.from_name("HST/ACS/WFC", bands=("F555W", "F814W"), exposure=500 * u.s, pixel_scale=0.04 * u.arcsec / u.pix)
    <Instrument HST/ACS/WFC: F555W, F814W; 0.04 arcsec / pix>
    """

    def __init__(
        self,
        name,
        bands,
        *,
        pixel_scale,
        exposure,
        zero_points=None,
        gain=1 * _GAIN,
        read_noise=0 * u.electron,
        n_exposures=1,
        sky=0 * u.electron / u.s,
        passbands=None,
    ):
        bands = (bands,) if isinstance(bands, str) else tuple(str(band) for band in bands)
        if not bands or len(set(bands)) != len(bands):
            raise ValueError(f"bands must be one or more different names, not {bands}")
        passbands = {band: band for band in bands} if passbands is None else per_band(passbands, bands, "passbands")
        full = dict(zip(bands, photometry.resolve_passbands([passbands[band] for band in bands]), strict=True))
        zero_points = {} if zero_points is None else per_band(zero_points, bands, "zero_points")
        numbers = {"exposure": exposure, "gain": gain, "read_noise": read_noise, "sky": sky}
        numbers = {key: per_band(value, bands, key) for key, value in numbers.items()}
        n_exposures = per_band(n_exposures, bands, "n_exposures")
        self._values = {
            "name": str(name),
            "bands": list(bands),
            "pixel_scale": _positive(pixel_scale, _PIXEL_SCALE, "pixel_scale"),
            "zero_points": {band: _zero_point(zero_points.get(band), passbands[band], band) for band in bands},
            "passbands": full,
            "n_exposures": {band: _count(n_exposures[band], f"n_exposures of {band}") for band in bands},
            **{
                key: {band: _positive(numbers[key][band], unit, f"{key} of {band}", zero) for band in bands}
                for key, (unit, zero) in _PER_BAND.items()
            },
        }

    def __setattr__(self, name, value):
        if name != "_values" or hasattr(self, "_values"):
            raise AttributeError("an Instrument cannot be changed; make another")
        super().__setattr__(name, value)

    def __setstate__(self, state):
        self._values = state["_values"]

    def __repr__(self):
        return f"<Instrument {self.name}: {', '.join(self.bands)}; {self.pixel_scale:g}>"

    def __eq__(self, other):
        # the order of the bands counts: it is the order of the pixels
        return isinstance(other, Instrument) and self._values == other._values

    def __hash__(self):
        return hash((self.name, self.bands, self._values["pixel_scale"]))

    @property
    def name(self):
        """Name of the instrument or preset."""
        return self._values["name"]

    @property
    def bands(self):
        """Short names of the bands, a tuple, in the order of every band axis."""
        return tuple(self._values["bands"])

    @property
    def passbands(self):
        """Full names of the passbands, a tuple in the order of `bands`."""
        return tuple(self._values["passbands"].values())

    @property
    def pixel_scale(self):
        """Quantity, arcsec per pixel."""
        return self._values["pixel_scale"] * _PIXEL_SCALE

    def _of(self, band, key):
        if band not in self.bands:
            raise ValueError(f"{self.name} has no band {band!r}; it has {', '.join(self.bands)}")
        return self._values[key][band]

    def passband(self, band):
        """Full name of a band's passband, such as ``"WFC3_UVIS_F438W"``."""
        return self._of(band, "passbands")

    def zero_point(self, band, system="vega"):
        """
        Magnitude of a source that gives 1 electron/s.

        Parameters
        ----------
        band : str
            The band.
        system : {'vega', 'ab', 'st'}
            Magnitude system.

        Returns
        -------
        zero_point : `~astropy.units.Quantity`
            In mag.
        """
        passband = self.passband(band)
        return (self._of(band, "zero_points") + photometry.vega_to_system(passband, system)) * u.mag

    def exposure(self, band):
        """Total exposure time of a band, a Quantity in seconds."""
        return self._of(band, "exposure") * u.s

    def gain(self, band):
        """Electrons per adu of a band, a Quantity."""
        return self._of(band, "gain") * _GAIN

    def read_noise(self, band):
        """Electrons rms per pixel and exposure of a band, a Quantity."""
        return self._of(band, "read_noise") * u.electron

    def n_exposures(self, band):
        """Number of exposures that make up the total of a band."""
        return self._of(band, "n_exposures")

    def sky(self, band):
        """Rate of the sky in each pixel of a band, a Quantity in electron/s."""
        return self._of(band, "sky") * u.electron / u.s

    def to_dict(self):
        """
        All numbers in a dict that JSON can hold; `from_dict` reads it.

        Returns
        -------
        dict
            In arcsec/pix, mag, s, electron/adu and electron.
        """
        return copy.deepcopy(self._values)

    @classmethod
    def from_dict(cls, values):
        """
        The inverse of `to_dict`.

        Parameters
        ----------
        values : dict

        Returns
        -------
        instrument : `Instrument`
        """
        units = {"zero_points": u.mag, **{key: unit for key, (unit, _) in _PER_BAND.items()}}
        with_units = {
            key: {band: number * unit for band, number in per_band(values[key], values["bands"], key).items()}
            for key, unit in units.items()
        }
        return cls(
            values["name"],
            values["bands"],
            pixel_scale=values["pixel_scale"] * _PIXEL_SCALE,
            n_exposures=values["n_exposures"],
            passbands=values["passbands"],
            **with_units,
        )

    @classmethod
    def from_name(cls, name, bands=None, **changes):
        """
        A preset.

        Parameters
        ----------
        name : str
            One of `names`.
        bands : sequence of str, optional
            Which of its bands, in which order; default all.
        **changes
            Any other parameter of the class, instead of the preset's: ``exposure``, which the presets of cameras do not have;
            ``pixel_scale`` of drizzled images; ``sky``; ...

        Returns
        -------
        instrument : `Instrument`

        Examples
        --------
        >>> from astropy import units as u
        >>> from clustercnn.instruments import Instrument
        >>> Instrument.from_name("HST/WFC3/UVIS/M83").bands
        ('F336W', 'F438W', 'F814W')
        >>> Instrument.from_name("JWST/NIRCam/LW", exposure=1000 * u.s).bands
        ('F277W', 'F356W', 'F444W')
        """
        if name not in _presets():
            raise ValueError(f"no instrument preset {name!r}; there are {', '.join(cls.names())}")
        preset = dict(_presets()[name])
        camera, known = preset.pop("camera"), preset.pop("bands")
        bands = known if bands is None else (bands,) if isinstance(bands, str) else tuple(bands)
        foreign = [str(band) for band in bands if band not in known and f"{camera}_{band}" not in photometry.RENAMED]
        if foreign:
            raise ValueError(f"{name} has the bands {', '.join(known)}, not {', '.join(foreign)}: for bands of several cameras on one grid take "
                             "Instrument(name, bands, pixel_scale=..., exposure=...) or Instrument.from_header(images)")
        if "exposure" not in preset and "exposure" not in changes:
            raise ValueError(
                f"the preset {name} has no exposure time: give exposure=, such as exposure=1000 * u.s for all bands or "
                f"exposure={{{bands[0]!r}: 1000 * u.s, ...}}"
            )
        values = {"passbands": {band: f"{camera}_{band}" for band in bands}}
        for key, value in preset.items():
            values[key] = {band: value[band] for band in bands} if isinstance(value, dict) else value
        return cls(name, bands, **(values | changes))

    @staticmethod
    def names():
        """Names of the presets, a tuple."""
        return tuple(_presets())

    @classmethod
    def from_header(cls, headers, **changes):
        """
        The instrument that made images, from their FITS headers.

        Parameters
        ----------
        headers : `~astropy.io.fits.Header`, HDU, HDUList or `~astropy.nddata.CCDData`; or a dict or list of them
            One per band. In a dict, band -> header, as `~clustercnn.images.MultiBandImage` is one, the bands have your names,
            else those of the filters.
        **changes
            Any parameter of the class, instead of what the headers say; for parameters of bands a dict may name some of them.

        Returns
        -------
        instrument : `Instrument`

        Raises
        ------
        ValueError
            If a keyword is missing, or two contradict each other, the message names the parameter to give instead; if a change
            is for a band that no header is of.

        Notes
        -----
        passbands
            INSTRUME, DETECTOR and the one filter in FILTER, FILTER1, FILTER2, PUPIL or else PHOTMODE; empty wheels (CLEAR) do not
            count.
        zero_points
            PHOTFLAM at PHOTPLAM, per electron, and the shipped Vega - AB difference. Images in flux densities (JWST: MJy / sr) are
            calibrated already: what an electron is follows from the shipped throughputs.
        pixel_scale
            The celestial coordinates (CD, or CDELT and PC), D001SCAL, PIXAR_A2, PIXAR_SR.
        exposure
            EXPTIME, XPOSURE, EFFEXPTM.
        gain, read_noise
            Means of ATODGN and READNSE of the amplifiers, CCDGAIN, READNSE; else those of the camera's preset, which are the
            better ones for ramps of infrared detectors.
        n_exposures
            NDRIZIM (halved for the two chips of UVIS and ACS/WFC), NCOMBINE; else 1.

        Examples
        --------
        >>> from astropy.io import fits
        >>> from clustercnn.instruments import Instrument
        >>> header = fits.Header({"INSTRUME": "WFC3", "DETECTOR": "UVIS", "FILTER": "F438W", "BUNIT": "ELECTRONS/S",
        ...                       "EXPTIME": 1880.0, "PHOTFLAM": 6.7475e-19, "PHOTPLAM": 4326.2, "D001SCAL": 0.04})
        >>> instrument = Instrument.from_header(header)
        >>> instrument
        <Instrument HST/WFC3/UVIS: F438W; 0.04 arcsec / pix>
        >>> print(f"{instrument.zero_point('F438W'):.2f}")
        25.00 mag
        """
        bands, names = {}, []
        for key, item in one_per_band(headers):
            band, facts = read_header(item, key, changes)
            if band in bands:
                raise ValueError(f"two headers are of {band}: give a dict with a name for each")
            name, preset = next(
                (pair for pair in _presets().items() if facts["passbands"] in _full_names(pair[1])), ("unknown camera", {})
            )
            unstated = {"gain": preset.get("gain", 1 * _GAIN), "read_noise": preset.get("read_noise", 0 * u.electron)}
            bands[band] = {key: unstated.get(key) if value is None else value for key, value in facts.items()}
            names.append(name)
        for key, value in changes.items():
            foreign = [band for band in value if band not in bands] if isinstance(value, dict) else []
            if foreign:
                raise ValueError(f"{key} names {', '.join(map(str, foreign))}, but the headers are of {', '.join(bands)}")
        values = {key: {band: values[key] for band, values in bands.items()} for key in facts}
        scales = [as_quantity(scale, _PIXEL_SCALE, "pixel_scale").value for scale in values["pixel_scale"].values()]
        if max(scales) > 1.01 * min(scales):
            stated = ", ".join(f"{scale:.4g}" for scale in scales)
            raise ValueError(
                f"the bands must share one pixel grid, but the headers state {stated} arcsec / pix; bring the images to one grid "
                "first, and give its pixel_scale="
            )
        values["pixel_scale"] = scales[0] * _PIXEL_SCALE
        if isinstance(sky := changes.get("sky"), dict):
            changes["sky"] = dict.fromkeys(bands, 0 * u.electron / u.s) | sky
        values |= {key: value for key, value in changes.items() if key not in values}
        return cls(values.pop("name", " + ".join(dict.fromkeys(names))), tuple(bands), **values)


def per_band(value, bands, name):
    """
    A dict with an entry for each band, of a dict or of one value for all.

    Parameters
    ----------
    value : dict or object
        Band -> value, or one value.
    bands : sequence of str
        All bands.
    name : str
        Of the argument, for the message.

    Returns
    -------
    values : dict
        Band -> value.

    Raises
    ------
    ValueError
        If a dict lacks a band, or names one that there is not.

    Examples
    --------
    >>> from clustercnn.instruments import per_band
    >>> per_band(4, ["F438W", "F814W"], "oversampling")
    {'F438W': 4, 'F814W': 4}
    """
    if not isinstance(value, dict):
        return dict.fromkeys(bands, value)
    missing, foreign = [band for band in bands if band not in value], [band for band in value if band not in bands]
    if missing or foreign:
        wrong = [f"it lacks {missing}"] * bool(missing) + [f"{foreign} are not among them"] * bool(foreign)
        raise ValueError(f"{name} must have a value for each of the bands {list(bands)}: {' and '.join(wrong)}")
    return value


def _count(value, name):
    if not (isinstance(value, (int, np.integer)) and value >= 1):
        raise ValueError(f"{name} must be an integer of at least 1, not {value!r}")
    return int(value)


def _positive(value, unit, name, zero=False):
    number = as_quantity(value, unit, name).value
    if np.ndim(number) or not (np.isfinite(number) and (number > 0 or (zero and number == 0))):
        raise ValueError(f"{name} must be {'0 or more' if zero else 'positive'} and finite, one number, not {value}")
    return float(number)


def _zero_point(given, passband, band):
    if given is not None:
        number = as_quantity(given, u.mag, f"zero point of {band}").value
        if np.ndim(number) or not np.isfinite(number):
            raise ValueError(f"zero point of {band} must be one finite magnitude, not {given}")
        return float(number)
    known = photometry.zero_point(passband)
    if known is None:
        raise ValueError(
            f"the zero point of {band} is not known (no telescope area for {passband}); "
            f"give zero_points={{{band!r}: ... * u.mag}}"
        )
    return float(known)


@lru_cache(maxsize=1)
def _presets():
    """Name -> parameters, in the file's order."""
    with (Path(__file__).parent / "data" / "instruments.toml").open("rb") as file:
        presets = tomllib.load(file)

    def parse(key, value):
        if isinstance(value, dict):
            return {band: parse(key, one) for band, one in value.items()}
        return u.Quantity(value) if isinstance(value, str) and key != "camera" else value

    return {name: {key: parse(key, value) for key, value in preset.items()} for name, preset in presets.items()}


def _full_names(preset):
    return {f"{preset['camera']}_{band}" for band in preset["bands"]}


def check_instrument(instrument):
    """
    Raise a TypeError if something else was given for an instrument, such as its name.

    Parameters
    ----------
    instrument : `Instrument`
        What the user gave.

    Examples
    --------
    >>> from clustercnn.instruments import Instrument, check_instrument
    >>> check_instrument(Instrument.from_name("HST/WFC3/UVIS/M83"))
    """
    if not isinstance(instrument, Instrument):
        raise TypeError(f'instrument must be an Instrument, such as Instrument.from_name("HST/WFC3/UVIS/M83"), not {instrument!r}')


def same_pixel_scale(one, other):
    """
    Whether two pixel scales agree to 2 %, so closely that sizes and fluxes do not tell them apart.

    Parameters
    ----------
    one, other : `~astropy.units.Quantity` or float
        Angles per pixel, in the same unit if they have none.

    Returns
    -------
    same : bool
        False where one is not finite.

    Examples
    --------
    >>> from clustercnn.instruments import same_pixel_scale
    >>> same_pixel_scale(0.04, 0.0396), same_pixel_scale(0.04, 0.05)
    (True, False)
    """
    return bool(abs(one / other - 1) <= 0.02)
