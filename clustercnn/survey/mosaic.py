# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Catalogues of whole mosaics: candidates tile by tile, then a posterior for each, chunk by chunk.
"""

import hashlib
import re
import warnings
from functools import partial
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.nddata import NDData
from astropy.table import QTable, hstack, vstack
from astropy.utils.exceptions import AstropyUserWarning

from clustercnn import __version__
from clustercnn.estimate import FLAGS
from clustercnn.files import to_json, whole_file
from clustercnn.images import MultiBandImage, pixel_shape
from clustercnn.instruments import check_instrument
from clustercnn.parameters import positive_quantity
from clustercnn.positions import check_ids, check_on_image
from clustercnn.psf import fingerprint
from clustercnn.seeds import seed_sequence

from .aperture import aperture_photometry
from .detection import as_finder
from .parts import find_parts
from .tasks import open_checkpoint, tables_of

__all__ = ["make_catalog", "write_catalog"]

# A tile sees this much beyond its borders, in pixels, and its corner lies on a multiple of the cell in which `find_clusters`
# measures the scatter: then a candidate looks the same from every tiling.
CELL = 64
MARGIN = 3 * CELL
# Positions within a tile are whole multiples of this, so that adding the tile's corner does not round.
STEP = 2.0**-20
# Sources that are inferred at once, with random numbers of their own; those of a source must not depend on the tiling.
CHUNK = 256
CORE = 4  # pixels around a source in which saturation counts
RATE = u.electron / u.s


def make_catalog(images, net, finder=None, positions=None, tile_shape=(2048, 2048), client=None, *, draws=200, batch_size=256,
                 device="auto", rng=0, instrument=None, pixel_scale=None, distance=None, zero_point_error=0 * u.mag, psf=None,
                 saturation=None, checkpoint=None, progress=False):
    """
    Find candidates in images and infer their parameters.

    Candidates are sought tile by tile; each tile sees a margin around it and keeps the candidates whose centroid it holds. Then they
    are sorted, and measured and inferred in chunks of 256. The catalogue depends neither on the tiling nor on who does the work, and
    only the pixels of the tiles in progress are in memory.

    Parameters
    ----------
    images : `~clustercnn.images.MultiBandImage` or dict
        The mosaic, or band -> FITS path and what else the class takes. FITS paths are memory-mapped, dask and zarr arrays read piece
        by piece.
    net : `~clustercnn.network.ClusterNet` or alike
        What infers. Of another object are asked: ``predict(images, positions, draws=, batch_size=, device=, rng=, nan=, instrument=,
        pixel_scale=, distance=, zero_point_error=)`` and ``psf=`` where one is given, which gives a `~clustercnn.estimate.ClusterEstimate`
        with ``p_cluster`` and ``visibility``, of no rows where there are no positions, and whose parameters include ``half_light_radius``
        (arcsec); and ``contract``, a dict with ``stamp_shape`` (ny, nx) and, where known, ``bands``, ``pixel_scale`` (arcsec) and
        ``zero_points`` (band -> magnitude of 1 electron/s).
    finder : callable or finder of photutils, optional
        ``finder(images) -> table`` with ``x_centroid`` and ``y_centroid``, or sky coordinates where the images have a WCS; None where
        there is nothing. Default `~clustercnn.survey.find_clusters`. Its other columns come along, but those of the names below, and
        an ``id``, which is of the tile. A finder of photutils, such as `~photutils.detection.DAOStarFinder` or
        `~photutils.segmentation.SourceFinder`, is wrapped in a `PhotutilsFinder`.
    positions : optional
        Sources to use instead of candidates, of any kind that `~clustercnn.images.MultiBandImage.pixel_positions` takes; they keep
        their order, and a table its ``id`` and all columns but those of the names below.
    tile_shape : tuple of int
        ``(ny, nx)`` of a tile.
    client : `~dask.distributed.Client`, optional
        Its workers do the work. Images from FITS paths are mapped by each worker, and must be there under the same path; dask and zarr
        arrays are read by the workers too; plain arrays are sent to each.
    draws, batch_size, device, rng, instrument, pixel_scale, distance, zero_point_error, psf
        See `clustercnn.network.ClusterNet.predict`; what it refuses is refused before the search begins. Pixels that are masked, not
        finite or not exposed (0 in all bands) count as unknown, as with its ``nan="mask"``.
    saturation : `~astropy.units.Quantity` or dict, optional
        From where on a pixel is saturated, in the unit of the images or one that converts to it; one for all bands, or band -> limit.
        With ``instrument`` limits in electrons are those of one exposure, and they and electron/s include its sky, as in
        `clustercnn.simulation.ClusterInjector.inject`. Sources with such a pixel within 4 pixels are flagged; it may be masked, as
        long as its value is there.
    checkpoint : str or `~pathlib.Path`, optional
        Folder in which finished tiles and chunks are kept. The same call with the same folder goes on where an interrupted one stopped.
        Other pixels (all are read once to tell), weights and settings are refused; a ``finder`` is known by its name or ``repr`` alone.
    progress : bool
        Show progress bars.

    Returns
    -------
    catalog : `~astropy.table.QTable`
        One row per source, in the order of the rows and columns of the image. Without a candidate it has no rows, and a warning says
        so. Provenance is in its ``meta``. Columns:

        ``id``, ``x_centroid``, ``y_centroid``, ``sky_centroid`` (where the images have a WCS)
            Position.
        those of the finder, or of the table of positions
            As they are.
        ``mag_<band>``, ``concentration_<band>``
            See `aperture_photometry`.
        ``age``, ``age_lo``, ``age_hi``, ... , ``visibility``, ``p_cluster``
            Medians and intervals; see `clustercnn.estimate.ClusterEstimate.to_table`.
        ``age_shape``
            ``'unimodal'``, ``'extended'`` or ``'multimodal'``; see `clustercnn.estimate.ClusterEstimate.morphology`.
        ``part_of``
            The ``id`` of the source of whose light this one is a second peak, else 0: it lies within 1.5 half-light radii (or 2
            pixels) of that source, whose ``p_cluster`` is higher and above 0.5.
        ``flags``
            Bits of ``clustercnn.estimate.FLAGS``.

    Raises
    ------
    TypeError
        If ``images``, ``net``, ``instrument``, ``finder`` or what it returns, or a limit of ``saturation`` is something else.
    `~astropy.units.UnitsError`
        If the unit of a limit does not convert.
    ValueError
        For positions that do not lie on the image, an ``id`` that is no whole number from 1 on or comes twice, a ``checkpoint`` of
        another run, and what the network's ``predict`` raises.

    Examples
    --------
    >>> from clustercnn import ClusterNet, MultiBandImage
    >>> from clustercnn.survey import make_catalog
    >>> images = MultiBandImage.read({"F336W": "u.fits", "F438W": "b.fits", "F814W": "i.fits"})  # doctest: +SKIP
    >>> catalog = make_catalog(images, ClusterNet.from_pretrained("m83"), checkpoint="m83.tiles")  # doctest: +SKIP
    >>> clusters = catalog[(catalog["p_cluster"] > 0.95) & (catalog["part_of"] == 0)]  # doctest: +SKIP
    """
    images = MultiBandImage.read(images)
    if not (hasattr(net, "predict") and hasattr(net, "contract")):
        raise TypeError(f'net must be a ClusterNet, such as ClusterNet.from_pretrained("m83"), not {net!r}')
    if instrument is not None:
        check_instrument(instrument)
    if missing := [band for band in net.contract.get("bands", ()) if band not in images]:
        warnings.warn(f"the images lack the bands {missing} of the network, which counts them as unknown", AstropyUserWarning)
    finder = as_finder(finder)
    seed = seed_sequence(rng)
    options = {"draws": draws, "batch_size": batch_size, "device": device, "instrument": instrument, "pixel_scale": pixel_scale,
               "distance": distance, "zero_point_error": zero_point_error} | ({} if psf is None else {"psf": psf})
    limits = _limits(saturation, images, instrument)
    if positions is None:
        tiles = _tiles(images.shape, tile_shape)
        sought = {"finder": _name(finder), "tile_shape": [int(n) for n in tile_shape]}
        if hasattr(finder, "net"):
            sought["finder_model"] = _model(finder.net)
    else:
        candidates = _listed(images, positions)
        sought = {"positions": _hash(_xy(candidates))}
    _check(images, net, options if client is None else options | {"device": "auto"}, limits, seed)  # workers may have other devices
    folder = None
    if checkpoint is not None:
        folder = open_checkpoint(checkpoint, sought | {
            "version": __version__, "bands": list(images.bands), "shape": list(images.shape), "pixels": images.sha256(),
            "model": _model(net), "draws": draws, "seed": [str(seed.entropy), str(seed.spawn_key)],
            "instrument": None if instrument is None else instrument.to_dict(), "zero_point_error": str(zero_point_error),
            "psf": None if psf is None else {band: fingerprint(one) for band, one in psf.items()}, "saturation": limits})
    how = {"client": client, "folder": folder, "progress": progress}
    if positions is None:
        candidates = _joined(tables_of(partial(_find_in_tile, images, finder), tiles, "detecting", **how))
        if not len(candidates):
            warnings.warn("no candidate in the images", AstropyUserWarning)
    xy = _xy(candidates)
    chunks = [(xy[start : start + CHUNK], np.random.SeedSequence(seed.entropy, spawn_key=(*seed.spawn_key, i)))
              for i, start in enumerate(range(0, max(len(xy), 1), CHUNK))]
    inferred = vstack(tables_of(partial(_infer, images, net, options, limits), chunks, "predicting", **how), metadata_conflicts="silent")
    catalog = _catalog(images, candidates, inferred)
    radius = catalog["half_light_radius"].to_value(u.arcsec) / _arcsec_per_pixel(images, pixel_scale, net)
    main = find_parts(xy, radius, np.asarray(catalog["p_cluster"]), np.asarray(catalog["visibility"], float))
    part_of = np.where(main < 0, 0, np.asarray(catalog["id"])[main]) if len(main) else main
    catalog.add_column(part_of, index=catalog.colnames.index("flags"), name="part_of")
    catalog.meta = {"creator": f"clustercnn {__version__}", "bands": " ".join(images.bands), "model": repr(net), "draws": draws,
                    "level": 0.68, "seed": str(seed.entropy)} | ({"finder": sought["finder"]} if positions is None else {})
    return catalog


def write_catalog(catalog, path, overwrite=False):
    """
    Write a catalogue to a file, which appears when it is complete.

    Parameters
    ----------
    catalog : `~astropy.table.QTable`
        Of `make_catalog`.
    path : str or `~pathlib.Path`
        ``.fits``, ``.ecsv`` or another suffix that astropy knows; ``.xml`` or ``.vot`` for a VOTable, which has no sky coordinates:
        they become the columns ``ra`` and ``dec`` (ICRS; ``sky_centroid_ra`` and ``_dec`` if there are such columns already), and the
        provenance a description.
    overwrite : bool
        Whether it may replace another file.

    Raises
    ------
    OSError
        If the file exists.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise OSError(f"{path} exists; pass overwrite=True to replace it")
    votable = path.suffix.lower() in (".xml", ".vot")
    if votable:
        catalog = catalog.copy()
        for name in [name for name in catalog.colnames if isinstance(catalog[name], SkyCoord)]:
            sky, place = catalog[name].icrs, catalog.colnames.index(name)
            catalog.remove_column(name)
            prefix = "" if name == "sky_centroid" and not {"ra", "dec"} & set(catalog.colnames) else f"{name}_"
            catalog.add_columns([sky.ra, sky.dec], [place, place], [f"{prefix}ra", f"{prefix}dec"])
        catalog.meta = {"description": "; ".join(f"{key}: {value}" for key, value in catalog.meta.items())}
    with whole_file(path) as partial:
        catalog.write(partial, format="votable" if votable else None)


def _catalog(images, candidates, inferred):
    """Positions, what came with them, and what was inferred, side by side."""
    xy = _xy(candidates)
    ids = candidates["id"] if "id" in candidates.colnames else np.arange(1, len(xy) + 1)
    catalog = QTable({"id": ids, "x_centroid": xy[:, 0], "y_centroid": xy[:, 1]})
    if images.wcs is not None:
        catalog["sky_centroid"] = images.wcs.pixel_to_world(*xy.T)
    # what is made here wins: a catalogue may be the list of positions of the next
    made = {*catalog.colnames, *inferred.colnames, "part_of"}
    candidates = QTable({name: candidates[name] for name in candidates.colnames if name not in made})
    return hstack([part for part in (catalog, candidates, inferred) if part.colnames], metadata_conflicts="silent")


def _xy(table):
    return np.stack([np.asarray(table["x_centroid"], float), np.asarray(table["y_centroid"], float)], axis=1)


# ---------------------------------------------------------------------------------------------------------------- sources


def _listed(images, positions):
    """A table of the positions given, with those of its columns that a catalogue can hold."""
    xy = images.pixel_positions(positions)
    check_on_image(xy, images.shape)
    table = _columns(positions)
    table["x_centroid"], table["y_centroid"] = xy.T
    check_ids(table, "positions")
    return table


def _columns(positions):
    """A table, to be changed at will, of the columns that positions of any kind bring along."""
    if hasattr(positions, "to_table") and not isinstance(positions, SkyCoord):  # SourceCatalog of photutils
        positions = positions.to_table()
    return QTable(positions, copy=True) if hasattr(positions, "colnames") else QTable()


def _tiles(shape, tile_shape):
    """Lower and upper bounds (y0, y1, x0, x1) of the tiles of an image, in pixels."""
    height, width = pixel_shape(tile_shape, "tile_shape")
    return [(y, min(y + height, shape[0]), x, min(x + width, shape[1]))
            for y in range(0, shape[0], height) for x in range(0, shape[1], width)]


def _find_in_tile(images, finder, tile):
    """The candidates that a tile owns, in pixels of the whole image."""
    y0, y1, x0, x1 = tile
    ny, nx = images.shape
    bottom, left = (max(0, (start - MARGIN) // CELL * CELL) for start in (y0, x0))
    top, right = (min(size, -(-(stop + MARGIN) // CELL) * CELL) for stop, size in ((y1, ny), (x1, nx)))
    piece = images[bottom:top, left:right]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="(?i)no (candidate|sources)")  # an empty tile is nothing to worry about
        found = finder(piece)
    if found is None:  # photutils' nothing
        return QTable({"x_centroid": np.empty(0), "y_centroid": np.empty(0)})
    try:
        xy = piece.pixel_positions(found)
    except (TypeError, ValueError) as error:
        raise TypeError("finder must return None or a table with x_centroid and y_centroid, or sky coordinates where the images have a WCS: "
                        f"{error}") from error
    xy = np.round(xy / STEP) * STEP + [left, bottom]
    table = _columns(found)
    table.remove_columns([name for name in ("id", "label", "xcentroid", "ycentroid") if name in table.colnames])
    table["x_centroid"], table["y_centroid"] = xy.T
    table.meta.clear()
    # the pixel of a centroid belongs to one tile alone; what a finder puts beyond the image goes to the tile at that edge
    column, row = np.clip(np.rint(xy), 0, [nx - 1, ny - 1]).T
    return table[(column >= x0) & (column < x1) & (row >= y0) & (row < y1)]


def _joined(tables):
    """The candidates of all tiles, in the order of the rows and columns of the image."""
    table = vstack([table for table in tables if len(table)] or tables[:1], metadata_conflicts="silent")
    table.sort(["y_centroid", "x_centroid"])
    return table


# ---------------------------------------------------------------------------------------------------------------- answers


def _check(images, net, options, limits, seed):
    """Infer nothing: what the network refuses, and what its answers lack, shall show before hours of search."""
    answer = _infer(images, net, options, limits, (np.empty((0, 2)), seed))
    if missing := [name for name in ("half_light_radius", "visibility", "p_cluster") if name not in answer.colnames]:
        raise TypeError(f"net.predict must give a ClusterEstimate with {', '.join(missing)}")


def _infer(images, net, options, limits, chunk):
    """Photometry, posteriors and flags of a chunk of sources."""
    xy, seed = chunk
    estimate = net.predict(images, xy, rng=seed, nan="mask", **options)
    photometry = aperture_photometry(images, xy, options["instrument"], _zero_points(net))
    table = hstack([photometry, estimate.to_table()], metadata_conflicts="silent")
    flags = table["flags"]
    flags |= FLAGS["border"] * _over_the_edge(images, xy, net)
    flags |= FLAGS["saturated"] * _saturated(images, xy, limits)
    answered = flags & FLAGS["no answer"] == 0  # else the posterior is the prior
    for name in estimate.space.names:
        flags |= FLAGS["at the bound"] * (answered & estimate.at_bound(name))
    if "age" in estimate.space.names:
        shape = estimate.morphology("age")
        table.add_column(shape.astype("U10"), index=table.colnames.index("flags"), name="age_shape")
        flags |= FLAGS["multimodal"] * (answered & (shape == "multimodal"))
    table["flags"] = flags
    table.meta.clear()
    return table


def _zero_points(net):
    """Those that pixels in electron/s have according to the network, if it cares."""
    if getattr(net, "config", {}).get("scaling") == "renormalized":
        return {}
    return {band: value * u.mag for band, value in net.contract.get("zero_points", {}).items()}


def _over_the_edge(images, xy, net):
    shape = net.contract["stamp_shape"]
    origins = images.cutout_origins(xy, shape)
    return ((origins < 0) | (origins + shape[::-1] > np.array(images.shape[::-1]))).any(axis=1)


def _limits(saturation, images, instrument):
    """Band -> limit in the unit of the images."""
    if saturation is None:
        return {}
    limits = saturation if isinstance(saturation, dict) else dict.fromkeys(images.bands, saturation)
    if unknown := [band for band in limits if band not in images.bands]:
        raise ValueError(f"saturation has a limit for {unknown[0]}, but the images have the bands {images.bands}")
    return {band: _limit(limit, band, images, instrument) for band, limit in limits.items()}


def _limit(limit, band, images, instrument):
    """The least value of a saturated pixel, in the unit of the images."""
    if isinstance(limit, u.Quantity) and instrument is not None and band in instrument.bands:
        if limit.unit.is_equivalent(u.electron):
            limit = limit / (instrument.exposure(band) / instrument.n_exposures(band))
        if limit.unit.is_equivalent(RATE):  # of the detector, which sees the sky that the images lack
            limit = (limit - instrument.sky(band)).to_value(RATE) / images.conversion(band, RATE, instrument) * images.unit
    try:
        return float(positive_quantity(limit, images.unit, "saturation").value)
    except u.UnitsError:
        raise u.UnitsError(f"saturation must have a unit that converts to '{images.unit}' of the images, or with instrument= be in electrons of "
                           f"one exposure, such as 70_000 * u.electron; not '{limit.unit}'") from None


def _saturated(images, xy, limits):
    """Whether a pixel within 4 pixels of a source is at its limit or above, masked or not: saturated cores often are."""
    if not limits:
        return np.zeros(len(xy), dtype=bool)
    bare = MultiBandImage({band: NDData(images[band].data, unit=images.unit) for band in limits})
    stamps = bare.cutouts(xy, (2 * CORE + 1, 2 * CORE + 1), unit=None, nan="mask").value
    return (stamps >= np.array(list(limits.values()))[:, None, None]).any(axis=(1, 2, 3))


def _arcsec_per_pixel(images, pixel_scale, net):
    scale = images.pixel_scale if images.pixel_scale is not None else pixel_scale
    if scale is None:
        return net.contract.get("pixel_scale", np.inf)  # of a network that was not trained: radii of no pixels
    return scale.to_value(u.arcsec / u.pix if scale.unit.is_equivalent(u.arcsec / u.pix) else u.arcsec)


# -------------------------------------------------------------------------------------------------------------- identity


def _name(finder):
    """What a finder is called, in every process the same."""
    if hasattr(finder, "__qualname__"):
        return f"{finder.__module__}.{finder.__qualname__}"
    return re.sub(r" at 0x[0-9a-f]+", "", repr(finder))


def _hash(array):
    return hashlib.sha256(np.ascontiguousarray(array)).hexdigest()


def _model(net):
    """What tells a network from others: what it promises, how it was calibrated, and its weights."""
    told = [repr(net), *(getattr(net, name, None) for name in ("contract", "training", "calibration"))]
    digest = hashlib.sha256(to_json(told, sort_keys=True).encode())
    if hasattr(net, "module"):
        for tensor in net.module.state_dict().values():
            digest.update(tensor.cpu().numpy().tobytes())
    return digest.hexdigest()
