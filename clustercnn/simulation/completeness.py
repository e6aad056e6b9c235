# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Completeness: the artificial-cluster test, image by image, and its curves."""

import hashlib
import json
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.stats import binom_conf_interval
from astropy.table import QTable, vstack
from tqdm import tqdm

from clustercnn import __version__
from clustercnn.files import to_json, whole_file
from clustercnn.matching import match_positions
from clustercnn.parameters import ParameterSpace, as_quantity
from clustercnn.psf import fingerprint
from clustercnn.seeds import seed_sequence
from clustercnn.simulation.mosaic_background import WholePlaces

__all__ = ["artificial_cluster_test", "recovered_fraction"]

RATE = u.electron / u.s
BACKGROUND_BOX = (31, 31)  # pixels around a place whose median is its background


def artificial_cluster_test(injector, prior, n, finder, *, distance, n_per_image, tolerance, rng, checkpoint, progress):
    """
    What `~clustercnn.simulation.ClusterInjector.completeness` does; the parameters are explained there.

    Parameters
    ----------
    injector : `~clustercnn.simulation.ClusterInjector`
        With the images.
    prior, n, finder, distance, n_per_image, tolerance, rng, checkpoint, progress
        See there.

    Returns
    -------
    truth : `~astropy.table.QTable`
    """
    _check_prior_and_finder(prior, finder)
    if n < 1 or n_per_image < 1:
        raise ValueError(f"n and n_per_image must be at least 1, not {n} and {n_per_image}")
    tolerance = as_quantity(tolerance, u.pix, "tolerance")
    seed = seed_sequence(rng)
    images, places = injector.images, WholePlaces(injector.images)
    everywhere = injector.distance if distance is None else as_quantity(distance, u.Mpc, "distance")
    test = {
        "prior": prior.to_dict(),
        "distance_mpc": None if everywhere is None else everywhere.value,
        "instrument": injector.instrument.to_dict(),
        "shape": list(images.shape),
        "pixels_and_psf": None if checkpoint is None else _fingerprint(injector),
        "n_per_image": n_per_image,
        "tolerance_pixels": float(tolerance.value),
        "seed": [str(seed.entropy), str(seed.spawn_key)],
    }
    if injector.extinction_law != "F99":
        test["extinction_law"] = repr(injector.extinction_law)
    meta = {"creator": f"clustercnn {__version__}", "seed": str(seed.entropy)}
    if everywhere is not None and "distance" not in prior.names:
        meta["distance"] = f"{everywhere.value} Mpc"
    tables = _finished(checkpoint, test, n)
    done = sum(len(table) for table in tables)
    seen = None
    with tqdm(total=n, initial=done, unit="cluster", desc="completeness", disable=not progress) as bar:
        while done < n:
            rng = np.random.default_rng(np.random.SeedSequence(seed.entropy, spawn_key=(*seed.spawn_key, done // n_per_image)))
            # A whole image's worth is drawn always, so that the first clusters do not depend on how many follow.
            corners = np.array([places.draw((1, 1), rng) for _ in range(n_per_image)])
            positions = corners + rng.uniform(-0.5, 0.5, (n_per_image, 2))
            table = prior.sample(n_per_image, rng)
            size = min(n_per_image, n - done)
            result = injector.inject(table[:size], positions[:size], rng, distance=distance)
            if seen is None:
                seen = _positions(finder(images), images)
            truth = result.truth
            found = _positions(finder(result.images), images)
            for name, others in (("recovered", found), ("preexisting", seen)):
                truth[name] = np.isin(np.arange(size), match_positions(positions[:size], others, tolerance)["first"])
            cutouts = images.cutouts(positions[:size], BACKGROUND_BOX, RATE, instrument=injector.instrument, nan="mask")
            for i, band in enumerate(images.bands):
                truth[f"background_{band}"] = np.nanmedian(cutouts[:, i].value.astype(float), axis=(1, 2)) * RATE
            tables.append(truth)
            done += size
            bar.update(size)
            if checkpoint is not None:
                _write(_joined(tables, meta | {"test": to_json(test)}), checkpoint)
    return _joined(tables, meta)


def _check_prior_and_finder(prior, finder):
    """Raise a TypeError that tells the way from what others take to what the test takes."""
    if not isinstance(prior, ParameterSpace):
        raise TypeError(
            f"prior must be a ParameterSpace, such as ParameterSpace.paper(), not a {type(prior).__name__}; clusters of a table or a list go "
            "into images by inject"
        )
    from photutils.detection import StarFinderBase
    from photutils.segmentation import SourceFinder

    kind = type(finder).__name__
    if isinstance(finder, (StarFinderBase, SourceFinder)):
        raise TypeError(f"finder must be a function of images, not a {kind}: wrap it, clustercnn.survey.PhotutilsFinder({kind}(...))")
    if not callable(finder):
        raise TypeError(f"finder must be a function of images, such as clustercnn.survey.find_clusters, not a {kind}")


def _joined(tables, meta):
    """The clusters of all images in one table, numbered through."""
    table = vstack(tables, metadata_conflicts="silent")
    table["id"] = np.arange(1, len(table) + 1)
    table.meta = meta
    return table


def _fingerprint(injector):
    """Hash of the images and of the PSFs."""
    digest = hashlib.sha256(injector.images.sha256().encode())
    for band in injector.instrument.bands:
        digest.update(fingerprint(injector.psf[band]).encode())
    return digest.hexdigest()


def _positions(found, images):
    """Detections as (n, 2) pixels; None, as photutils says it, is none."""
    return np.empty((0, 2)) if found is None else images.pixel_positions(found)


def _finished(checkpoint, test, n):
    """The table of the images that an earlier run has finished, in a list; empty if there is none."""
    if checkpoint is None or not Path(checkpoint).exists():
        return []
    table = QTable.read(checkpoint, format="ascii.ecsv")
    if json.loads(table.meta.get("test", "null")) != json.loads(to_json(test)):
        raise ValueError(f"{checkpoint} belongs to a test with other settings, images, PSF or seed; remove it or take another file")
    if len(table) > n:
        raise ValueError(f"n must be at least the {len(table)} clusters that {checkpoint} holds already, not {n}")
    # The last image of a run that was to be shorter has fewer clusters: it is done again.
    per_image = test["n_per_image"]
    whole = len(table) if len(table) == n else len(table) // per_image * per_image
    return [table[:whole]] if whole else []


def _write(table, checkpoint):
    with whole_file(checkpoint) as partial:
        table.write(partial, format="ascii.ecsv")


def recovered_fraction(truth, name, edges):
    """
    Recovered fraction in bins of one column of the truth.

    Parameters
    ----------
    truth : `~astropy.table.QTable`
        From `~clustercnn.simulation.ClusterInjector.completeness`.
    name : str
        Column, such as ``"mass"`` or ``"background_F814W"``.
    edges : `~astropy.units.Quantity` or array_like
        Edges of the bins, ascending; of a column without a unit plain numbers.

    Returns
    -------
    table : `~astropy.table.QTable`
        ``lower``, ``upper``, ``n``, ``fraction``, its binomial standard ``error``, and the 68 % interval ``fraction_lo`` to
        ``fraction_hi`` (Jeffreys), which is honest where nearly none or nearly all are recovered; NaN in empty bins.
        Rows whose value is masked or NaN are in none.

    Examples
    --------
    >>> from astropy import units as u
    >>> from astropy.table import QTable
    >>> from clustercnn.simulation import recovered_fraction
    >>> truth = QTable({"mass": [2e3, 4e3, 2e4] * u.Msun, "recovered": [True, False, True]})
    >>> recovered_fraction(truth, "mass", [1e3, 1e4, 1e5] * u.Msun)["fraction"].tolist()
    [0.5, 1.0]
    """
    if name not in truth.colnames:
        raise ValueError(f"name must be a column of the truth, one of {truth.colnames}, not {name!r}")
    if (unit := truth[name].unit) is not None:
        edges = as_quantity(edges, unit, "edges")
    elif isinstance(edges, u.Quantity) and edges.unit.is_equivalent(u.pix):  # places have no unit
        edges = edges.to_value(u.pix)
    edges = u.Quantity(edges)
    if edges.ndim != 1 or len(edges) < 2 or np.any(np.diff(edges) <= 0):
        raise ValueError(f"edges must be two or more ascending numbers, not {edges}")
    if missing := [column for column in ("recovered", name) if column not in truth.colnames]:
        raise ValueError(f"truth must be a table of artificial_cluster_test with a column {name!r}, but lacks {missing}")
    recovered, mask = np.asarray(truth["recovered"], dtype=bool), getattr(truth[name], "mask", False)
    values = np.where(mask, np.nan, np.asarray(truth[name].value, dtype=float))
    number, found = (np.histogram(values[chosen], edges.value)[0] for chosen in (np.isfinite(values), recovered))
    filled = number > 0
    fraction, error, low, high = np.full((4, len(number)), np.nan)
    fraction[filled] = found[filled] / number[filled]
    error[filled] = np.sqrt(fraction[filled] * (1 - fraction[filled]) / number[filled])
    if filled.any():
        low[filled], high[filled] = binom_conf_interval(found[filled], number[filled], interval="jeffreys")
    columns = {"lower": edges[:-1], "upper": edges[1:], "n": number, "fraction": fraction, "error": error}
    return QTable({**columns, "fraction_lo": low, "fraction_hi": high})
