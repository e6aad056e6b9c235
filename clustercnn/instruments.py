# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Through what the light arrives: bands, pixel scale, zero points, exposures, gain and read noise of an instrument."""

import numpy as np
from astropy import units as u

from .parameters import as_quantity
from .stellar import photometry

__all__ = ["Instrument"]

_GAIN = u.electron / u.adu
_PIXEL_SCALE = u.arcsec / u.pix


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
    gain : `~astropy.units.Quantity`
        Electrons per adu.
    read_noise : `~astropy.units.Quantity`
        Electrons rms per pixel and exposure.
    n_exposures : int
        Exposures (reads) that make up the total of a band.
    sky : `~astropy.units.Quantity` or dict
        Rate of the sky in each pixel, such as ``0.02 * u.electron / u.s``, one for all bands or band -> rate. Images are
        taken to be sky-subtracted; the sky leaves its noise.
    passbands : dict, optional
        Band -> full name of its passband (see `clustercnn.stellar.photometry.passbands`). Default: resolved from the
        short name.

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
        passbands = {band: band for band in bands} if passbands is None else _per_band(passbands, bands, "passbands")
        zero_points = {} if zero_points is None else _per_band(zero_points, bands, "zero_points")
        exposure = _per_band(exposure, bands, "exposure")
        sky = _per_band(sky, bands, "sky")
        if not (isinstance(n_exposures, (int, np.integer)) and n_exposures >= 1):
            raise ValueError(f"n_exposures must be an integer of at least 1, not {n_exposures!r}")
        values = {
            "name": str(name),
            "pixel_scale": _positive(pixel_scale, _PIXEL_SCALE, "pixel_scale"),
            "gain": _positive(gain, _GAIN, "gain"),
            "read_noise": _positive(read_noise, u.electron, "read_noise", zero=True),
            "n_exposures": int(n_exposures),
            "bands": {
                band: {
                    "passband": photometry.resolve_passband(passbands[band]),
                    "zero_point": _zero_point(zero_points.get(band), passbands[band], band),
                    "exposure": _positive(exposure[band], u.s, f"exposure of {band}"),
                    "sky": _positive(sky[band], u.electron / u.s, f"sky of {band}", zero=True),
                }
                for band in bands
            },
        }
        self._values = values

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
        return isinstance(other, Instrument) and self._values == other._values and self.bands == other.bands

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
        return tuple(band["passband"] for band in self._values["bands"].values())

    @property
    def pixel_scale(self):
        """Quantity, arcsec per pixel."""
        return self._values["pixel_scale"] * _PIXEL_SCALE

    @property
    def gain(self):
        """Quantity, electrons per adu."""
        return self._values["gain"] * _GAIN

    @property
    def read_noise(self):
        """Quantity, electrons rms per pixel and exposure."""
        return self._values["read_noise"] * u.electron

    @property
    def n_exposures(self):
        """Exposures that make up the total of a band."""
        return self._values["n_exposures"]

    def _band(self, band):
        if band not in self._values["bands"]:
            raise ValueError(f"{self.name} has no band {band!r}; it has {', '.join(self.bands)}")
        return self._values["bands"][band]

    def passband(self, band):
        """Full name of a band's passband, such as ``"WFC3_UVIS_F438W"``."""
        return self._band(band)["passband"]

    def zero_point(self, band):
        """Vega magnitude of a source that gives 1 electron/s, a Quantity."""
        return self._band(band)["zero_point"] * u.mag

    def exposure(self, band):
        """Total exposure time of a band, a Quantity in seconds."""
        return self._band(band)["exposure"] * u.s

    def sky(self, band):
        """Rate of the sky in each pixel of a band, a Quantity in electron/s."""
        return self._band(band)["sky"] * u.electron / u.s

    def to_dict(self):
        """
        All numbers in a dict that JSON can hold; `from_dict` reads it.

        Returns
        -------
        dict
            In arcsec/pix, mag, s, electron/adu and electron.
        """
        bands = self._values["bands"]
        return {
            "name": self.name,
            "bands": list(self.bands),
            **{key: self._values[key] for key in ("pixel_scale", "gain", "read_noise", "n_exposures")},
            "zero_points": {band: values["zero_point"] for band, values in bands.items()},
            "exposure": {band: values["exposure"] for band, values in bands.items()},
            "sky": {band: values["sky"] for band, values in bands.items()},
            "passbands": {band: values["passband"] for band, values in bands.items()},
        }

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
        return cls(
            values["name"],
            values["bands"],
            pixel_scale=values["pixel_scale"] * _PIXEL_SCALE,
            exposure={band: value * u.s for band, value in values["exposure"].items()},
            zero_points={band: value * u.mag for band, value in values["zero_points"].items()},
            gain=values["gain"] * _GAIN,
            read_noise=values["read_noise"] * u.electron,
            n_exposures=values["n_exposures"],
            sky={band: value * u.electron / u.s for band, value in values["sky"].items()},
            passbands=values["passbands"],
        )

    @classmethod
    def from_name(cls, name):
        """
        A preset.

        Parameters
        ----------
        name : str
            One of `names`.

        Returns
        -------
        instrument : `Instrument`

        Examples
        --------
        >>> from clustercnn.instruments import Instrument
        >>> Instrument.from_name("HST/WFC3/UVIS/M83").bands
        ('F336W', 'F438W', 'F814W')
        """
        if name not in _PRESETS:
            raise ValueError(f"no instrument preset {name!r}; there are {', '.join(cls.names())}")
        return cls(name, **_PRESETS[name])

    @staticmethod
    def names():
        """Names of the presets, a tuple."""
        return tuple(_PRESETS)


def _per_band(value, bands, name):
    """A dict with an entry for each band, of a dict or of one value for all."""
    if not isinstance(value, dict):
        return dict.fromkeys(bands, value)
    missing, foreign = [band for band in bands if band not in value], [band for band in value if band not in bands]
    if missing or foreign:
        raise ValueError(f"{name} must name each band once: without a value {missing}, not among the bands {foreign}")
    return value


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


_PRESETS = {
    # Early Release Science of 2009, program 11360 (Chandar et al. 2010, ApJ 719, 966), drizzled to 0.04 arcsec. Gain and
    # read noise as in the WFC3 Instrument Handbook; three exposures per band are assumed. The sky is the zodiacal light of
    # V = 22.7 mag / arcsec2 with the colours of the Sun.
    "HST/WFC3/UVIS/M83": {
        "bands": ("F336W", "F438W", "F814W"),
        "pixel_scale": 0.04 * _PIXEL_SCALE,
        "exposure": {"F336W": 1890 * u.s, "F438W": 1880 * u.s, "F814W": 1203 * u.s},
        "gain": 1.5 * _GAIN,
        "read_noise": 3.1 * u.electron,
        "n_exposures": 3,
        "sky": {"F336W": 0.0016 * u.electron / u.s, "F438W": 0.007 * u.electron / u.s, "F814W": 0.019 * u.electron / u.s},
    },
}
