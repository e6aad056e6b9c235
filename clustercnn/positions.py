# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Positions of any kind as pixel coordinates."""

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import Row, Table
from astropy.utils.masked import Masked

from .parameters import as_quantity

__all__ = ["check_ids", "check_on_image", "pixel_positions"]

# of photutils: its finders and catalogues, the same before version 3, its PSF photometry, apertures, peaks and first guesses
_CENTROIDS = tuple((f"x{name}", f"y{name}") for name in ("_centroid", "centroid", "_fit", "_center", "_peak", "_init"))
_APART = 1.0  # pixels by which pixel and sky position of a row may differ


def check_on_image(xy, shape):
    """
    Refuse positions off an image.

    Parameters
    ----------
    xy : `~numpy.ndarray`
        Pixel coordinates, shape (n, 2).
    shape : tuple of int
        ``(ny, nx)`` of the image.

    Raises
    ------
    ValueError
        If the pixel of a position is none of the image.

    Examples
    --------
    >>> import numpy as np
    >>> from clustercnn.positions import check_on_image
    >>> check_on_image(np.array([[3.0, 400.0]]), (300, 400))
    Traceback (most recent call last):
    ...
    ValueError: positions must lie on the image of 400 x 300 pixels; 1 do not, such as number 0 at (3.0, 400.0)
    """
    ny, nx = shape
    outside = ~((xy >= -0.5) & (xy < [nx - 0.5, ny - 0.5])).all(axis=1)
    if outside.any():
        first = np.flatnonzero(outside)[0]
        raise ValueError(f"positions must lie on the image of {nx} x {ny} pixels; {outside.sum()} do not, such as number "
                         f"{first} at {tuple(np.round(xy[first], 1).tolist())}")


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
        xy = _on_image(positions, wcs)
    elif isinstance(positions, (Row, Table)):
        xy = _of_table(positions, wcs)
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


def check_ids(table, name):
    """
    Raise a ValueError if the column ``id`` of a table, where there is one, does not tell its rows apart.

    Parameters
    ----------
    table : `~astropy.table.Table`
        What the user gave.
    name : str
        The name of the argument, for the message.

    Examples
    --------
    >>> from astropy.table import Table
    >>> from clustercnn.positions import check_ids
    >>> check_ids(Table({"id": [1, 2]}), "positions")
    """
    if "id" in table.colnames:
        ids = np.ma.asarray(table["id"])
        if ids.dtype.kind not in "iu" or ids.mask.any() or len(set(ids.tolist())) < len(ids) or (ids < 1).any():
            raise ValueError(f"the id of {name} must be different whole numbers from 1 on; rename or remove the column")


def _on_image(sky, wcs):
    """Sky coordinates in pixels, shape (n, 2)."""
    if wcs is None:
        raise ValueError(
            "positions are sky coordinates, but the images have no WCS; give pixel positions, or wcs= when making the images"
        )
    xy = np.stack([np.atleast_1d(_plain(axis)) for axis in wcs.world_to_pixel(sky)], axis=-1)
    lost = ~np.isfinite(xy).all(axis=1) & np.isfinite(np.atleast_1d(sky.spherical.lon + sky.spherical.lat))
    if lost.any():
        i = int(lost.argmax())
        raise ValueError(f"position {i} on the sky, {np.atleast_1d(sky)[i].to_string()}, is too far from the images to lie in their projection")
    return xy


def _of_table(table, wcs):
    """The pixels of a table or row, else its sky coordinates in pixels, shape (n, 2)."""
    if isinstance(table, Row):  # whose numbers alone would have lost their units
        table = table.table[table.index : table.index + 1]
    sky = [name for name in table.colnames if isinstance(table[name], SkyCoord)]
    columns = [names for names in _CENTROIDS if set(names) <= set(table.colnames)]
    if not columns and len(sky) == 1:
        return _on_image(table[sky[0]], wcs)
    if not columns and not sky and {"ra", "dec"} <= {name for name in table.colnames if getattr(table[name], "unit", None)}:
        # Of a plain table SkyCoord would forget the masks.
        return _on_image(SkyCoord(*(as_quantity(table[name], u.deg, name) for name in ("ra", "dec"))), wcs)
    if not columns:
        raise ValueError("a table of positions needs the columns x_centroid and y_centroid, ra and dec with units such as deg, or one column of sky "
                         f"coordinates; it has {table.colnames}")
    xy = np.stack([np.atleast_1d(_plain(table[name])) for name in columns[0]], axis=-1)
    if wcs is not None and "sky_centroid" in sky:
        apart = np.hypot(*(xy - _on_image(table["sky_centroid"], wcs)).T)
        if (apart > _APART).any():
            raise ValueError(f"the pixel positions of the table are up to {np.nanmax(apart):.4g} pixels from its sky_centroid: it is of another "
                             'image; pass table["sky_centroid"]')
    return xy


def _plain(values):
    """Floats, in pixels if they have a unit, NaN where masked."""
    mask = values.mask if isinstance(values, (Masked, np.ma.MaskedArray)) else False
    unit = getattr(values, "unit", None)  # of a Quantity, or beside the numbers of a plain table
    if isinstance(unit, u.UnitBase) and not unit.is_equivalent(u.pix) and unit != "" and not isinstance(unit, u.UnrecognizedUnit):
        named = f"column {values.info.name} of the positions" if getattr(values.info, "name", None) else "positions"
        raise u.UnitsError(f"{named} must be in pixels, not in '{unit}'; give places on the sky as a SkyCoord")
    if isinstance(values, u.Quantity) and unit != "":
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
