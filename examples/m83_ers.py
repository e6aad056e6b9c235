# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
M83: the network against the cluster catalogue of Chandar et al. (2010, ApJ, 719, 966), on the mosaics that it was made from.

``python examples/m83_ers.py --mosaics DIR --catalogues DIR --out DIR`` reads ``hlsp_wfc3ers_hst_wfc3_m83_f336w_v2_drz_sci.fits``, the
same of f438w and f814w, ``hlsp_wfc3ers_hst_wfc3_m83_cat_cluster_auto_v1.txt`` and ``hlsp_m83_autocat_ages_public.data``, and writes

* ``m83_ers_images.ecsv``: what was done to the mosaics;
* ``m83_ers_clusters.ecsv``: the catalogue's objects with their published and their inferred parameters;
* ``m83_ers_comparison.ecsv``: inferred minus published, and how often the 68 % intervals hold what is published;
* ``m83_ers_classes.ecsv``: ``p_cluster`` of the catalogue's objects, by the flag that the catalogue gives them;
* ``m83_ers_candidates.ecsv``: sources that the network calls clusters and the catalogue does not have;
* ``m83_ers.png``.

It has not been run on the real mosaics, but on a stand-in of the same format (``tests/test_example_m83_ers.py``). The files are at
https://archive.stsci.edu/prepds/wfc3ers; ``docs/examples.rst`` has a snippet for ``astroquery.mast`` that fetches them.

The mosaics need three things, as their README says:

* Their sky is not subtracted. The median of the darkest hundredth of all blocks of 64 x 64 pixels is, or what ``--sky`` says. With the
  sky goes the faintest light of the galaxy, which the field fills.
* Their coordinates are off by about 0.5 arcsec, and the catalogue was made from an earlier version of them. So the most frequent offset
  between the catalogue and the sources of each band is measured; bands that differ from F438W by half a pixel or more are moved by whole
  pixels, and the catalogue by the offset of F438W.
* They join two pointings, so that EXPTIME may be the sum of both. The network's own exposures are taken, those of one pointing.

And so does the catalogue: its E(B-V) is what remains after the foreground of the Milky Way, which the network sees as well (A_V = 0.22 mag,
from the catalogue's corrections); its masses are for 4.564 Mpc and are brought to the network's distance.
"""

import argparse
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable
from matplotlib.figure import Figure
from scipy.ndimage import shift, uniform_filter
from scipy.spatial import cKDTree

from clustercnn import ClusterNet, MultiBandImage
from clustercnn.instruments import Instrument
from clustercnn.plotting import plot_recovery
from clustercnn.survey import find_clusters, make_catalog

__all__ = ["compare", "main", "measured_offset", "read_catalogue", "read_mosaics", "register"]

MOSAIC = "hlsp_wfc3ers_hst_wfc3_m83_{}_v2_drz_sci.fits"
PHOTOMETRY, AGES = "hlsp_wfc3ers_hst_wfc3_m83_cat_cluster_auto_v1.txt", "hlsp_m83_autocat_ages_public.data"
RATE = u.electron / u.s
REFERENCE = "F438W"
DISTANCE = 4.564 * u.Mpc  # of the catalogue
FOREGROUND, R_V = 0.22 * u.mag, 3.1
FLAGS = {0: "ok", 1: "saturated star", 2: "saturated cluster", 3: "nucleus", 4: "artifact"}
REACH = 25  # pixels: no offset is larger
NEAR = 8  # pixels: a source this near to an object of the catalogue is not new
P_CLUSTER = 0.95  # as the commands take it


def read_catalogue(folder):
    """The objects with their sky coordinates, flags, and published ages, masses and E(B-V), NaN where there are none."""
    photometry = np.genfromtxt(folder / PHOTOMETRY, missing_values="INDEF")
    ages = {int(row[2]): row for row in np.genfromtxt(folder / AGES)}
    table = QTable({"catalogue_id": photometry[:, 4].astype(int), "flag": photometry[:, 10].astype(int)})
    published = np.array([ages[i][[7, 4, 9]] if i in ages else [np.nan] * 3 for i in table["catalogue_id"]])
    published[published < -900] = np.nan
    table["published_age"] = 10 ** (published[:, 0] - 6) * u.Myr
    table["published_ebv"] = published[:, 1] * u.mag
    table["published_mass"] = published[:, 2] * u.Msun
    return table, SkyCoord(photometry[:, 2], photometry[:, 3], unit=u.deg)


def read_mosaics(folder, bands, sky=None):
    """The mosaics without their sky, NaN where nothing was exposed, and a table of what their headers say and of the sky."""
    mosaics = MultiBandImage.read({band: folder / MOSAIC.format(band.lower()) for band in bands})
    pixels = mosaics.to_array(RATE, nan="mask")
    sky = [_darkest(plane) for plane in pixels] if sky is None else sky
    pixels -= np.asarray(sky, dtype=np.float32)[:, None, None]
    facts = QTable({"band": bands, "sky": sky * RATE, "exptime": [mosaics[band].meta.get("EXPTIME", np.nan) for band in bands] * u.s})
    facts["zero_point"] = [_zero_point(mosaics[band], band) for band in bands] * u.mag
    return MultiBandImage.from_arrays(bands, pixels, RATE, wcs=mosaics.wcs), facts


def _darkest(plane, side=64):
    """Median of the darkest hundredth of the blocks that are whole."""
    ny, nx = (n // side for n in plane.shape)
    blocks = plane[: ny * side, : nx * side].reshape(ny, side, nx, side)
    return float(np.nanpercentile(np.median(blocks, axis=(1, 3)), 1))


def _zero_point(mosaic, band):
    """Vega magnitude of 1 electron/s by the header, NaN where it does not say."""
    try:
        return Instrument.from_header({band: mosaic}, exposure=1 * u.s).zero_point(band).value
    except ValueError:
        return np.nan


def measured_offset(images, band, xy):
    """By how many pixels (dx, dy) the sources of a band lie off catalogued places: the most frequent difference of all pairs."""
    low = np.maximum(xy.min(axis=0).astype(int) - 4 * REACH, 0)
    high = xy.max(axis=0).astype(int) + 4 * REACH
    piece = MultiBandImage({band: images[band][low[1] : high[1], low[0] : high[0]]})
    sources = piece.pixel_positions(find_clusters(piece)) + low
    near = cKDTree(xy).query_ball_tree(cKDTree(sources), REACH)
    pairs = [sources[j] - xy[i] for i, neighbours in enumerate(near) for j in neighbours]
    differences = np.array(pairs).reshape(-1, 2)
    edges = np.arange(-REACH - 0.5, REACH + 1)
    number = uniform_filter(np.histogram2d(*differences.T, bins=[edges, edges])[0], 3, mode="constant")
    peak = np.array(np.unravel_index(number.argmax(), number.shape)) - REACH
    close = differences[np.hypot(*(differences - peak).T) < 2]
    if len(close) < max(3, len(xy) / 4):
        raise ValueError(f"the catalogue does not fit to {band}: at best {len(close)} of its {len(xy)} objects have a source")
    return np.median(close, axis=0)


def register(images, xy):
    """The images with all bands on the grid of the reference, the catalogue's places on it, and the offset of each band."""
    offsets = np.array([measured_offset(images, band, xy) for band in images.bands])
    reference = offsets[images.bands.index(REFERENCE)]
    planes = []
    for band, (dx, dy) in zip(images.bands, np.rint(offsets - reference), strict=True):
        plane = np.asarray(images[band].data)
        planes.append(shift(plane, (-dy, -dx), order=0, cval=np.nan) if dx or dy else plane)
    return MultiBandImage.from_arrays(images.bands, planes, images.unit, wcs=images.wcs), xy + reference, offsets


def compare(table, space):
    """Inferred minus published for the objects whose published parameters lie in the network's range."""
    pairs = {
        "log age": (_log(table, "age", u.yr), np.log10(table["published_age"].to_value(u.yr))),
        "log mass": (_log(table, "mass", u.Msun), np.log10(table["published_mass"].to_value(u.Msun))),
        "E(B-V)": ([_ebv(table[f"a_v{end}"]) for end in ("", "_lo", "_hi")], table["published_ebv"].value),
    }
    inside = np.isfinite(table["published_age"])
    for name in ("age", "mass"):
        published = table[f"published_{name}"]
        inside &= (published >= space[name].lower) & (published <= space[name].upper)
    cluster = inside & (table["p_cluster"] >= 0.5)
    subsets = {
        "all": inside,
        "p_cluster >= 0.5": cluster,
        "... and published age < 100 Myr": cluster & (table["published_age"] < 100 * u.Myr),
    }
    rows = []
    for subset, chosen in subsets.items():
        for name, ((middle, low, high), published) in pairs.items():
            difference = (middle - published)[chosen]
            offset = np.median(difference) if len(difference) else np.nan
            scatter = 1.4826 * np.median(abs(difference - offset)) if len(difference) else np.nan
            held = np.mean(((low <= published) & (published <= high))[chosen]) if len(difference) else np.nan
            rows.append((name, subset, len(difference), offset, scatter, held))
    return QTable(rows=rows, names=["quantity", "objects", "n", "offset", "scatter", "held_by_68_percent"])


def _log(table, name, unit):
    return [np.log10(table[f"{name}{end}"].to_value(unit)) for end in ("", "_lo", "_hi")]


def _ebv(a_v):
    return ((a_v - FOREGROUND) / R_V).to_value(u.mag)


def classes(table):
    """How the network sees the objects of each flag."""
    rows = []
    for flag, meaning in FLAGS.items():
        p = table["p_cluster"][table["flag"] == flag]
        if len(p):
            rows.append((flag, meaning, len(p), *np.percentile(p, [16, 50, 84]), np.mean(p >= 0.5), np.mean(p >= P_CLUSTER)))
    return QTable(rows=rows, names=["flag", "meaning", "n", "p_16", "p_50", "p_84", "share_above_0.5", f"share_above_{P_CLUSTER}"])


def candidates(images, net, xy, **keywords):
    """Sources of the whole mosaics that the network calls clusters, away from the catalogue's objects."""
    catalog = make_catalog(images, net, **keywords)
    places = images.pixel_positions(catalog)
    distance, _ = cKDTree(xy).query(places)
    catalog["in_field"] = ((places >= xy.min(axis=0)) & (places <= xy.max(axis=0))).all(axis=1)
    return catalog[(catalog["p_cluster"] >= P_CLUSTER) & (catalog["part_of"] == 0) & (distance > NEAR)]


def draw(table, new):
    """Inferred against published parameters, and the class probabilities."""
    figure = Figure(figsize=(15, 3.8), layout="constrained")
    axes = figure.subplots(1, 4)
    known = table[np.isfinite(table["published_age"]) & (table["p_cluster"] >= 0.5)]
    published = QTable({"age": known["published_age"], "mass": known["published_mass"],
                        "a_v": R_V * known["published_ebv"] + FOREGROUND})
    plot_recovery(published, known, names=("age", "mass", "a_v"), axes=axes[:3])
    for ax in axes[:3]:
        ax.set_xlabel(ax.get_xlabel().replace("true", "published"))
    bins = np.linspace(0, 1, 26)
    axes[3].hist(table["p_cluster"], bins=bins, color="0.6", label="all objects")
    axes[3].hist(table["p_cluster"][np.isin(table["flag"], (1, 4))], bins=bins, color="#d1495b", label="flagged as star or artifact")
    axes[3].set(xlabel="p(cluster)", ylabel="objects of the catalogue", title=f"{len(new)} new candidates")
    axes[3].legend(fontsize="small")
    return figure


def main(arguments=None):
    """The command line; returns the tables of clusters, comparison and new candidates."""
    parser = argparse.ArgumentParser(description=__doc__.strip().split("\n")[0])
    parser.add_argument("--mosaics", type=Path, required=True, help="folder of the three mosaics")
    parser.add_argument("--catalogues", type=Path, required=True, help="folder of the two files of the catalogue")
    parser.add_argument("--model", default="m83", help="name or file of a network")
    parser.add_argument("--sky", type=float, nargs=3, metavar="RATE", help="electron/s of the sky in each pixel of F336W, F438W, F814W")
    parser.add_argument("--out", type=Path, default=Path("."), help="folder for the tables and the picture")
    parser.add_argument("--seed", type=int, default=0, help="of the draws")
    parser.add_argument("--device", default="auto", help="cpu, cuda, or auto")
    args = parser.parse_args(arguments)
    net = ClusterNet.load(args.model) if Path(args.model).is_file() else ClusterNet.from_pretrained(args.model)
    catalogue, sky_positions = read_catalogue(args.catalogues)
    mosaics, facts = read_mosaics(args.mosaics, net.bands, args.sky)
    images, xy, offsets = register(mosaics, mosaics.pixel_positions(sky_positions))
    facts["dx"], facts["dy"] = offsets.T * u.pix
    facts["network_exposure"] = [net.contract["exposure"][band] for band in net.bands] * u.s
    facts["network_zero_point"] = [net.contract["zero_points"][band] for band in net.bands] * u.mag

    distance = net.contract["distance_mpc"] * u.Mpc
    catalogue["published_mass"] *= ((distance / DISTANCE) ** 2).to_value(u.one)
    catalogue["x_centroid"], catalogue["y_centroid"] = xy.T
    on_image = ((xy >= 0) & (xy <= np.array(images.shape[::-1]) - 1)).all(axis=1)
    keywords = {"rng": args.seed, "device": args.device, "distance": distance, "progress": True}
    table = make_catalog(images, net, positions=catalogue[on_image], **keywords)
    new = candidates(images, net, xy, **keywords)
    comparison = compare(table, net.space)

    args.out.mkdir(parents=True, exist_ok=True)
    tables = {"images": facts, "clusters": table, "comparison": comparison, "classes": classes(table), "candidates": new}
    for name, one in tables.items():
        one.meta |= {"model": repr(net), "seed": args.seed, "catalogue": "Chandar et al. (2010)"}
        one.write(args.out / f"m83_ers_{name}.ecsv", overwrite=True)
    draw(table, new).savefig(args.out / "m83_ers.png", dpi=110)
    print(net)
    for name in ("images", "comparison", "classes"):
        for column in tables[name].itercols():
            column.info.format = ".3f" if column.dtype.kind == "f" else None
        tables[name].pprint(max_lines=-1, max_width=-1)
    print(f"{len(table)} of {len(catalogue)} objects lie on the mosaics; {len(new)} new candidates, {new['in_field'].sum()} in their field")
    return table, comparison, new


if __name__ == "__main__":
    main()
