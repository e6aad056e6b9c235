# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Match positions one to one: truth to detections, catalogue to catalogue."""

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord, UnitSphericalRepresentation
from astropy.table import QTable
from scipy.spatial import cKDTree

from .parameters import as_quantity
from .positions import pixel_positions

__all__ = ["match_positions"]


def match_positions(first, second, tolerance):
    """
    Pair the objects of two lists, the closest pairs first, each object at most once.

    Parameters
    ----------
    first, second : array_like, `~astropy.table.Table` or `~astropy.coordinates.SkyCoord`
        Both pixel positions (``(n, 2)`` arrays of ``(x, y)``, or tables with ``x_centroid`` and ``y_centroid``), or both
        sky coordinates.
    tolerance : `~astropy.units.Quantity`
        The largest separation of a pair: in pixels for pixel positions, an angle below 90 deg for sky coordinates.

    Returns
    -------
    pairs : `~astropy.table.QTable`
        Columns ``first`` and ``second`` (row numbers) and ``separation``, in order of ``first``; of length zero if nothing
        matches.

    Raises
    ------
    TypeError
        If one list is in pixels and the other on the sky.
    ValueError
        If a position is masked or not finite.

    Examples
    --------
    >>> from astropy import units as u
    >>> from clustercnn.matching import match_positions
    >>> pairs = match_positions([(10, 10), (50, 50)], [(51, 50), (10.5, 10), (49.9, 50)], 2 * u.pix)
    >>> pairs["second"].tolist()
    [1, 2]
    """
    sky = isinstance(first, SkyCoord)
    if sky != isinstance(second, SkyCoord):
        raise TypeError("both lists must be pixel positions, or both SkyCoord")
    unit = u.arcsec if sky else u.pix
    tolerance = as_quantity(tolerance, unit, "tolerance")
    if not (np.ndim(tolerance) == 0 and 0 <= tolerance.value < (324_000 if sky else np.inf)):
        raise ValueError(f"tolerance must be one number, 0 or more (and below 90 deg on the sky), not {tolerance}")
    if sky:
        first, second = first.reshape(-1), second.reshape(-1).transform_to(first.frame)
        points = [_unit_vectors(first), _unit_vectors(second)]
        reach = 2 * np.sin(tolerance.to_value(u.rad) / 2)  # the chord of the angle
    else:
        points = [pixel_positions(first), pixel_positions(second)]
        reach = tolerance.value
    pairs = _closest_first(*points, reach)
    i, j = pairs["i"], pairs["j"]
    separation = first[i].separation(second[j]).to(unit) if sky else np.hypot(*(points[0][i] - points[1][j]).T) * unit
    return QTable({"first": i, "second": j, "separation": separation})


def _unit_vectors(coordinates):
    xyz = coordinates.data.represent_as(UnitSphericalRepresentation).to_cartesian().xyz.value.T
    if np.any(getattr(xyz, "mask", False)) or not np.isfinite(xyz).all():
        raise ValueError("positions on the sky must be finite and not masked")
    return xyz


def _closest_first(one, other, reach):
    if not (len(one) and len(other)):
        return np.zeros(0, dtype=[("i", int), ("j", int)])
    # rounding must not lose a pair at exactly the tolerance
    pairs = cKDTree(one).sparse_distance_matrix(cKDTree(other), reach * (1 + 1e-12), output_type="ndarray")
    free_one, free_other = np.ones(len(one), dtype=bool), np.ones(len(other), dtype=bool)
    kept = []
    for k in np.lexsort((pairs["j"], pairs["i"], pairs["v"])):
        i, j = pairs["i"][k], pairs["j"][k]
        if free_one[i] and free_other[j]:
            free_one[i] = free_other[j] = False
            kept.append(k)
    pairs = pairs[np.array(kept, dtype=int)]
    return pairs[np.argsort(pairs["i"])]
