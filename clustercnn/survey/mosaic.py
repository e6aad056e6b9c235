# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Catalogues of whole mosaics: candidates tile by tile, a posterior for each.
"""

import warnings
from functools import partial

import numpy as np
from astropy.table import QTable, hstack, vstack
from astropy.utils.exceptions import AstropyUserWarning
from tqdm import tqdm

from clustercnn import __version__
from clustercnn.images import MultiBandImage

from .detection import find_clusters

__all__ = ["make_catalog"]

# A tile sees this much beyond its borders, in pixels, and its corner lies on a multiple of the cell in which `find_clusters`
# measures the scatter: then a candidate looks the same from every tiling.
CELL = 64
MARGIN = 3 * CELL


def make_catalog(images, net, finder=None, positions=None, tile_shape=(2048, 2048), client=None, *, draws=200,
                 batch_size=256, device="auto", rng=0, instrument=None, pixel_scale=None, distance=None, progress=False):
    """
    Find candidates in images and infer their parameters.

    Candidates are sought tile by tile; each tile sees a margin around it and keeps the candidates whose centroid it holds,
    so that the tiling does not show in the catalogue.

    Parameters
    ----------
    images : `~clustercnn.images.MultiBandImage`
        The mosaic.
    net : `~clustercnn.network.ClusterNet`
        What infers: anything with ``predict(images, positions, ...)``.
    finder : callable, optional
        ``finder(images) -> table`` with ``x_centroid`` and ``y_centroid``; default `~clustercnn.survey.find_clusters`.  Its
        other columns come along.
    positions : array of shape (n, 2), `~astropy.coordinates.SkyCoord` or table, optional
        Sources to use instead of candidates; they keep their order, and a table keeps its columns.
    tile_shape : tuple of int
        ``(ny, nx)`` of a tile.
    client : `~dask.distributed.Client`, optional
        Finds the candidates of several tiles at once.
    draws, batch_size, device, rng, instrument, pixel_scale, distance
        See `clustercnn.network.ClusterNet.predict`. Masked pixels are filled, as its ``nan="mask"`` does.
    progress : bool
        Show progress bars.

    Returns
    -------
    catalog : `~astropy.table.QTable`
        One row per source: ``id``, ``x_centroid``, ``y_centroid``, ``sky_centroid`` where the images have a WCS, the columns of
        the finder, and those of `clustercnn.estimate.ClusterEstimate.to_table`.  Without a candidate it has no rows, and a warning
        says so.
    """
    if positions is None:
        candidates = _find(images, find_clusters if finder is None else finder, tile_shape, client, progress)
    else:
        candidates = _listed(images, positions)
    xy = np.stack([np.asarray(candidates["x_centroid"], float), np.asarray(candidates["y_centroid"], float)], axis=1)
    estimate = net.predict(images, xy, draws=draws, batch_size=batch_size, device=device, rng=rng, nan="mask",
                           instrument=instrument, pixel_scale=pixel_scale, distance=distance, progress=progress)
    catalog = QTable({"id": np.arange(1, len(xy) + 1), "x_centroid": xy[:, 0], "y_centroid": xy[:, 1]})
    if images.wcs is not None:
        catalog["sky_centroid"] = images.wcs.pixel_to_world(*xy.T)
    parameters = estimate.to_table()
    # what is made here wins: a catalogue may be the list of positions of the next
    made = {*catalog.colnames, *parameters.colnames}
    candidates.remove_columns([name for name in candidates.colnames if name in made])
    parts = [catalog, candidates, parameters]
    catalog = hstack([part for part in parts if part.colnames], metadata_conflicts="silent")
    catalog.meta |= {"version": f"clustercnn {__version__}", "bands": " ".join(images.bands), "model": repr(net), "draws": draws}
    return catalog


def _listed(images, positions):
    """A table of the positions given, with those of its columns that a catalogue can hold."""
    xy = images.pixel_positions(positions)
    ny, nx = images.shape
    outside = ~((xy >= -0.5) & (xy < [nx - 0.5, ny - 0.5])).all(axis=1)
    if outside.any():
        first = np.flatnonzero(outside)[0]
        raise ValueError(f"positions must lie on the image of {nx} x {ny} pixels; {outside.sum()} do not, such as number "
                         f"{first} at {tuple(np.round(xy[first], 1).tolist())}")
    table = QTable(positions, copy=True) if hasattr(positions, "colnames") else QTable()
    table["x_centroid"], table["y_centroid"] = xy.T
    return table


def _find(images, finder, tile_shape, client, progress):
    """Candidates of all tiles, in the order of the rows and columns of the image."""
    look = partial(_find_in_tile, images, finder)
    tiles = list(_tiles(images.shape, tile_shape))
    if client is None:
        tables = [look(tile) for tile in tqdm(tiles, unit="tile", desc="detecting", disable=not progress)]
    else:
        tables = client.gather(client.map(look, tiles, pure=False))
    table = vstack([table for table in tables if len(table)] or tables[:1], metadata_conflicts="silent")
    if not len(table):
        warnings.warn("no candidate in the images", AstropyUserWarning)
    table.sort(["y_centroid", "x_centroid"])
    return table


def _tiles(shape, tile_shape):
    """Lower and upper bounds (y0, y1, x0, x1) of the tiles of an image, in pixels."""
    if len(tile_shape) != 2 or min(tile_shape) < 1:
        raise ValueError(f"tile_shape must be (ny, nx) of at least 1 pixel each, not {tile_shape}")
    for y in range(0, shape[0], tile_shape[0]):
        for x in range(0, shape[1], tile_shape[1]):
            yield y, min(y + tile_shape[0], shape[0]), x, min(x + tile_shape[1], shape[1])


def _find_in_tile(images, finder, tile):
    """The candidates that a tile owns, in pixels of the whole image."""
    y0, y1, x0, x1 = tile
    ny, nx = images.shape
    bottom, left = (max(0, (start - MARGIN) // CELL * CELL) for start in (y0, x0))
    top, right = (min(size, -(-(stop + MARGIN) // CELL) * CELL) for stop, size in ((y1, ny), (x1, nx)))
    piece = MultiBandImage({band: images[band][bottom:top, left:right] for band in images.bands})
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="(?i)no (candidate|sources)")  # an empty tile is nothing to worry about
        found = finder(piece)
    table = QTable({"x_centroid": [], "y_centroid": []}) if found is None else QTable(found)  # None: photutils' nothing
    for new, old, offset in (("x_centroid", "xcentroid", left), ("y_centroid", "ycentroid", bottom)):
        if old in table.colnames:
            table.rename_column(old, new)
        table[new] = np.asarray(table[new], float) + offset
    x, y = table["x_centroid"], table["y_centroid"]
    # the pixel of a centroid belongs to one tile alone; what a finder puts beyond the image goes to the tile at that edge
    column, row = np.clip(np.rint(x), 0, nx - 1), np.clip(np.rint(y), 0, ny - 1)
    return table[(column >= x0) & (column < x1) & (row >= y0) & (row < y1)]
