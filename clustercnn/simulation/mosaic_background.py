# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""MosaicBackground: pieces of a real mosaic to put clusters on, from where it is whole."""

import numpy as np
import torch
from astropy import units as u
from scipy.ndimage import maximum_filter

from clustercnn.images import MultiBandImage
from clustercnn.instruments import check_instrument, same_pixel_scale
from clustercnn.parameters import as_quantity

__all__ = ["MosaicBackground", "WholePlaces", "check_pixel_scale"]

RATE = u.electron / u.s
BLOCK = 4_000_000  # pixels of one band that are looked at at once


class WholePlaces:
    """
    The places of a mosaic where a rectangle of pixels is whole: inside the image, finite and unmasked in every band, exposed in one.

    Every pixel is read once, in blocks of rows; then one bit per pixel is kept, and one per place for each shape that is asked for.

    Parameters
    ----------
    images : `~clustercnn.images.MultiBandImage`
        The mosaic.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy import units as u
    >>> from clustercnn.images import MultiBandImage
    >>> from clustercnn.simulation.mosaic_background import WholePlaces
    >>> pixels = np.ones((100, 120))
    >>> pixels[:, 40:] = 0.0
    >>> places = WholePlaces(MultiBandImage({"F438W": pixels * u.electron / u.s}))
    >>> places.number((64, 32))  # 37 rows of 9 places
    333
    >>> places.draw((64, 32), np.random.default_rng(1))
    (4, 17)
    """

    def __init__(self, images, *, avoid=(), avoid_radius=0.0):
        self.shape = images.shape
        self._avoid, self._avoid_radius = np.reshape(avoid, (-1, 2)), float(avoid_radius)
        ny, nx = self.shape
        self._bad = np.empty((ny, (nx + 7) // 8), dtype=np.uint8)
        for rows in self._blocks(ny):
            pixels = images.to_array(section=(rows, slice(None)), nan="mask")
            self._bad[rows] = np.packbits(np.isnan(pixels).any(axis=0), axis=1)
        self._places = {}

    def _blocks(self, ny):
        step = max(1, BLOCK // self.shape[1])
        return [slice(start, min(start + step, ny)) for start in range(0, ny, step)]

    def number(self, shape):
        """How many first pixels a whole rectangle of shape ``(ny, nx)`` may have."""
        return int(self._of(shape)[1][-1])

    def draw(self, shape, rng):
        """
        The first pixel ``(x0, y0)`` of a whole rectangle at random, all with the same probability.

        Parameters
        ----------
        shape : tuple of int
            ``(ny, nx)`` of the rectangle.
        rng : `~numpy.random.Generator`
            Source of randomness.

        Returns
        -------
        x0, y0 : int

        Raises
        ------
        ValueError
            If there is no such place.
        """
        places, cumulative = self._of(shape)
        if not cumulative[-1]:
            kept = f" that keeps {self._avoid_radius:g} pixels from the sources to avoid" if len(self._avoid) else ""
            raise ValueError(f"shape {tuple(shape)} finds no whole and unmasked place{kept} in the mosaic of shape {self.shape}")
        number = rng.integers(cumulative[-1])
        row = int(np.searchsorted(cumulative, number, side="right"))
        in_row = np.flatnonzero(np.unpackbits(places[row]))
        return int(in_row[number - cumulative[row] + len(in_row)]), row

    def _of(self, shape):
        """Bits of the places of a shape, one row of the mosaic per row, and how many there are up to each row."""
        ny, nx = (int(n) for n in shape)
        if (ny, nx) not in self._places:
            height, width = self.shape[0] - ny + 1, self.shape[1] - nx + 1
            if min(ny, nx) < 1 or min(height, width) < 1:
                raise ValueError(f"shape, turned or not, must fit into the mosaic, {self.shape}, but is {tuple(shape)}")
            places, number = np.empty((height, (width + 7) // 8), dtype=np.uint8), np.empty(height, dtype=np.int64)
            for rows in self._blocks(height):
                bad = np.unpackbits(self._bad[rows.start : rows.stop + ny - 1], axis=1, count=self.shape[1])
                # Of each rectangle the largest value, which stands at its first pixel.
                whole = maximum_filter(bad, (ny, nx), origin=(-(ny // 2), -(nx // 2)))[: rows.stop - rows.start, :width] == 0
                self._keep_away(whole, rows, ((nx - 1) / 2, (ny - 1) / 2))
                places[rows], number[rows] = np.packbits(whole, axis=1), whole.sum(axis=1)
            self._places[ny, nx] = places, np.cumsum(number)
        return self._places[ny, nx]

    def _keep_away(self, whole, rows, middle):
        """Drop the places of a block whose middle lies nearer than the radius to a source."""
        radius = self._avoid_radius
        for x, y in self._avoid - middle:
            low, high = max(int(np.ceil(y - radius)), rows.start), min(int(y + radius) + 1, rows.stop)
            left, right = max(int(np.ceil(x - radius)), 0), min(int(x + radius) + 1, whole.shape[1])
            if low < high and left < right:
                squared = (np.arange(low, high)[:, None] - y) ** 2 + (np.arange(left, right) - x) ** 2
                whole[low - rows.start : high - rows.start, left:right] &= squared >= radius**2


class MosaicBackground:
    """
    Stamps of a real mosaic, cut at random whole places, turned and mirrored.

    Takes the place of `~clustercnn.simulation.BackgroundFields` where mock clusters are to lie on real pixels. These bring their own
    noise: what is put on them adds its own photons' noise and no more.

    Parameters
    ----------
    images : `~clustercnn.images.MultiBandImage` or dict
        The mosaic, or band -> FITS path and the like. It stays on disk where the files are memory-mapped.
    instrument : `~clustercnn.instruments.Instrument`, optional
        Its bands are taken, in its order; needed where the unit of the mosaic turns into electron/s only with an exposure, a gain or
        a zero point. Default: all bands of the mosaic.
    avoid : array_like, `~astropy.coordinates.SkyCoord` or `~astropy.table.Table`, optional
        Known sources, as pixels ``(x, y)`` or sky coordinates; no stamp is centred near one.
    avoid_radius : `~astropy.units.Quantity`
        How near, in pixels.

    Attributes
    ----------
    noisy : bool
        True: the stamps hold their noise.
    n_bands : int
    instrument : `~clustercnn.instruments.Instrument` or None
        As given.

    Raises
    ------
    ValueError
        If the mosaic lacks a band of the instrument, or has another pixel scale; if its unit needs an instrument.

    Notes
    -----
    The mosaic must be sky-subtracted, as simulated images are, and as deep as the instrument says. A place is whole if none of its
    pixels is NaN or masked in any band, or 0 in all, as drizzling leaves what was not exposed, and it does not reach over the edge. All whole
    places are equally probable.

    Each pixel is read once when the object is made, in blocks of rows, and one bit of it is kept. The places of a shape are found when
    it is first asked for. Each takes 5 to 10 s for 16,384 x 16,384 pixels in three bands, a stamp then less than a millisecond.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy import units as u
    >>> from clustercnn.images import MultiBandImage
    >>> from clustercnn.simulation import MosaicBackground
    >>> pixels = np.random.default_rng(0).normal(0.02, 0.01, (200, 300))
    >>> pixels[:, 250:] = np.nan
    >>> mosaic = MultiBandImage({band: pixels * u.electron / u.s for band in ("F336W", "F438W", "F814W")})
    >>> background = MosaicBackground(mosaic, avoid=[(80, 90)], avoid_radius=10 * u.pix)
    >>> background.stamps(2, (64, 64), np.random.default_rng(1)).shape
    torch.Size([2, 3, 64, 64])
    """

    noisy = True

    def __init__(self, images, *, instrument=None, avoid=(), avoid_radius=8 * u.pix):
        images = MultiBandImage.read(images)
        if instrument is not None:
            check_instrument(instrument)
        bands = images.bands if instrument is None else instrument.bands
        if missing := [band for band in bands if band not in images]:
            raise ValueError(f"images must have the bands {bands} of the instrument, but lack {missing}")
        if instrument is not None:
            check_pixel_scale(images, instrument)
        radius = as_quantity(avoid_radius, u.pix, "avoid_radius")
        if not (radius.ndim == 0 and 0 <= radius.value < np.inf):
            raise ValueError(f"avoid_radius must be one number, 0 pixels or more, not {avoid_radius}")
        self.instrument = instrument
        self._factors = np.array([images.conversion(band, RATE, instrument) for band in bands])[:, None, None]
        self.images = MultiBandImage({band: images[band] for band in bands})
        self._places = WholePlaces(self.images, avoid=images.pixel_positions(avoid), avoid_radius=radius.value)

    def __repr__(self):
        return f"<MosaicBackground of {self.images!r}>"

    @property
    def n_bands(self):
        """Number of bands."""
        return len(self.images)

    def number_of_places(self, shape):
        """How many whole places there are for a stamp of shape ``(ny, nx)`` that is not turned."""
        return self._places.number(shape)

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
            Where to put them.

        Returns
        -------
        stamps : `~torch.Tensor`
            Rates in electron/s with their noise, float32, shape (n, n_bands, ny, nx); never NaN.

        Raises
        ------
        ValueError
            If the mosaic has no whole place for the shape.
        """
        return torch.from_numpy(np.stack([self._stamp(shape, rng) for _ in range(n)])).to(device)

    def _stamp(self, shape, rng):
        turns, mirror = rng.integers(4), rng.integers(2)
        ny, nx = shape if turns % 2 == 0 else shape[::-1]
        x0, y0 = self._places.draw((ny, nx), rng)
        pixels = self.images.to_array(section=(slice(y0, y0 + ny), slice(x0, x0 + nx)), nan="mask")
        stamp = np.rot90((pixels * self._factors).astype(np.float32), turns, axes=(1, 2))
        return stamp[:, :, ::-1] if mirror else stamp


def check_pixel_scale(images, instrument):
    """
    Raise a ValueError where the pixels of images and those of an instrument differ by more than 2 %.

    Parameters
    ----------
    images : `~clustercnn.images.MultiBandImage`
        Passes if it has no celestial coordinates.
    instrument : `~clustercnn.instruments.Instrument`
        With the pixel scale to compare to.
    """
    if images.pixel_scale is not None and not same_pixel_scale(images.pixel_scale, instrument.pixel_scale):
        raise ValueError(f"images have {images.pixel_scale:.4g}, but the instrument {instrument.pixel_scale:.4g}")
