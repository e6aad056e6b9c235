# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Positions of any kind as pixel coordinates."""

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import Row, Table
from astropy.utils.masked import Masked

__all__ = ["pixel_positions"]

# of photutils: its finders and catalogues, the same before version 3, its PSF photometry
_CENTROIDS = (("x_centroid", "y_centroid"), ("xcentroid", "ycentroid"), ("x_fit", "y_fit"))


def pixel_positions(positions, wcs=None):
    """
    Positions of any kind as pixel coordinates: see `~clustercnn.images.MultiBandImage.pixel_positions`.

    Parameters
    ----------
    positions : array_like, `~astropy.coordinates.SkyCoord` or `~astropy.table.Table`
        Pixel coordinates, sky coordinates, or a table (or row) with centroids.
    wcs : WCS object, optional
        Needed for sky coordinates.

    Returns
    -------
    xy : `~numpy.ndarray`
        Shape ``(n, 2)``, float.

    Examples
    --------
    >>> from clustercnn.positions import pixel_positions
    >>> print(pixel_positions((3, 4)))
    [[3. 4.]]
    """
    if not isinstance(positions, (Row, SkyCoord, Table)) and hasattr(positions, "to_table"):  # SourceCatalog of photutils
        positions = positions.to_table()
    if isinstance(positions, SkyCoord):
        if wcs is None:
            raise ValueError(
                "positions are sky coordinates, but the images have no WCS; give pixel positions, or wcs= when making "
                "the images"
            )
        xy = np.stack([np.atleast_1d(_plain(axis)) for axis in wcs.world_to_pixel(positions)], axis=-1)
    elif isinstance(positions, (Row, Table)):
        columns = [names for names in _CENTROIDS if set(names) <= set(positions.colnames)]
        if not columns:
            raise ValueError(
                f"a table of positions needs the columns x_centroid and y_centroid; it has {positions.colnames}"
            )
        xy = np.stack([np.atleast_1d(_plain(positions[name])) for name in columns[0]], axis=-1)
    else:
        xy = _plain(positions)
        if xy.shape == (2,) or xy.size == 0:
            xy = xy.reshape(-1, 2)
    if xy.ndim != 2 or xy.shape[1] != 2:
        raise ValueError(f"positions must be of shape (n, 2), one (x, y) a row, not {xy.shape}")
    if not np.all(np.isfinite(xy)):
        raise ValueError(
            f"positions must be finite and not masked; position {int(np.nonzero(~np.isfinite(xy))[0][0])} is not"
        )
    return xy


def _plain(values):
    """Floats, in pixels if they have a unit, NaN where masked."""
    mask = values.mask if isinstance(values, (Masked, np.ma.MaskedArray)) else False
    if isinstance(values, u.Quantity) and values.unit != "":
        values = values.to_value(u.pix)
    try:
        plain = np.array(getattr(values, "unmasked", values), dtype=float)
    except (TypeError, ValueError):
        raise TypeError(
            "positions must be numbers of shape (n, 2), one (x, y) a row, a SkyCoord, or a table with x_centroid and "
            f"y_centroid; not a {type(values).__name__} such as {values!r:.60}"
        ) from None
    plain[mask] = np.nan
    return plain
