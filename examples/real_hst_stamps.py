# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Real pixels: four star clusters of PHANGS-HST through the network that needs no calibration.

``python examples/real_hst_stamps.py --data DIR --out DIR`` reads ``DIR/images/phangs_hst_clusters.npz`` (``cutouts`` (4,
5, 112, 112) uint8, ``bands``, 0.04 arcsec per pixel) and looks at each cutout twice: at its cluster, and at up to 200
places where there is none. It writes ``real_hst_stamps.ecsv`` and ``real_hst_stamps.png``. Four objects prove nothing: the
ranks are given as they are.

* Centre: the clusters lie within 0.9 pixel of the middle (55.5, 55.5) of their cutouts, where the stamp is centred.
* Offsets: stamps of 64 x 64 pixels fit into a cutout only within 24 pixels of its middle, at 49 x 49 whole-pixel places.
  Of these, the ones more than 12 pixels from the cluster and from every candidate of `clustercnn.survey.find_clusters`
  (default threshold, all bands) are drawn without replacement, or all taken if there are fewer than 200 (``n_offsets`` of
  ``n_places`` in the table). No pixel is invented beyond the edge. The stamps overlap, and most hold the cluster off their
  centre, as many mocks do. ``rank`` 1 is a centre above all offsets; ``p_offset_50`` is a percentile of ``p_cluster`` at
  the offsets.
* Eight bits: each plane was scaled to 0..255, so flux scale, zero point and the ratios between bands are lost, and the
  unit is a count of no meaning. What a renormalized network sees of a band is its flux over the scatter of the stamp's
  pixels. That scatter is 2 to 18 levels here, and medians of whole numbers are whole numbers: scales would be off by up to
  30 % (0.3 mag in a colour) and skies by half a level. So each pixel gets back what rounding took from it, as a uniform
  random fraction.
* Age, A_V, half-light radius and visibility are posterior medians with 68 % intervals. They assume the depth, the noise
  and the distance of M83, which these galaxies do not share: a look at robustness, not a measurement. The mass is left
  out: it is lost with the calibration.
"""

import argparse
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.table import QTable
from matplotlib.figure import Figure

from clustercnn import ClusterNet, MultiBandImage
from clustercnn.plotting import plot_image, plot_joint
from clustercnn.survey import find_clusters

__all__ = ["look", "main", "places_between", "read_cutouts"]

PIXEL_SCALE = 0.04 * u.arcsec / u.pix
CLEARANCE = 12.0  # pixels between an offset and any source
OFFSETS = 200
QUANTILES = (0.16, 0.5, 0.84, 0.95, 1.0)
PARAMETERS = ("age", "a_v", "half_light_radius", "visibility")  # not the mass


def read_cutouts(path, bands, rng):
    """The cutouts as one MultiBandImage each, with the fractions of a level that rounding to 8 bits took."""
    with np.load(path) as file:
        planes = [list(file["bands"]).index(band) for band in bands]
        cutouts = file["cutouts"][:, planes]
    pixels = (cutouts + rng.uniform(-0.5, 0.5, cutouts.shape)).astype(np.float32)
    return [MultiBandImage.from_arrays(bands, planes, u.count) for planes in pixels]


def places_between(sources, middle, reach):
    """Positions (n, 2), whole pixels from ``middle``, at most ``reach`` along each axis, clear of all sources."""
    step = np.arange(-reach, reach + 1)
    places = middle + np.stack(np.meshgrid(step, step), axis=-1).reshape(-1, 2)
    distance = np.hypot(*(places[:, None] - sources).transpose(2, 0, 1)).min(axis=1)
    return places[distance > CLEARANCE]


def look(images, net, rng):
    """What the network says of one cutout: a row of the table, the estimate, and sources, offsets and their p_cluster."""
    shape = tuple(net.contract["stamp_shape"])
    middle = (np.array(images.shape[::-1]) - 1) / 2
    sources = images.pixel_positions(find_clusters(images))
    places = places_between(np.vstack([middle, sources]), middle, (min(images.shape) - max(shape)) // 2)
    offsets = rng.choice(places, min(OFFSETS, len(places)), replace=False)

    stamps = images.cutouts(np.vstack([middle, offsets]), shape, unit=None)
    estimate = net.predict(stamps[:1], draws=2000, rng=rng, pixel_scale=PIXEL_SCALE)
    beside = net.predict(stamps[1:], draws=1, rng=rng, pixel_scale=PIXEL_SCALE).p_cluster
    row = {
        "p_cluster": estimate.p_cluster[0],
        "rank": 1 + np.sum(beside >= estimate.p_cluster[0]),
        "n_offsets": len(offsets),
        "n_places": len(places),
        "n_sources": len(sources),
    }
    levels = np.quantile(beside, QUANTILES) if len(beside) else np.full(len(QUANTILES), np.nan)
    row |= {f"p_offset_{100 * q:.0f}": level for q, level in zip(QUANTILES, levels)}
    known = estimate.to_table()
    row |= {f"{name}{end}": known[f"{name}{end}"][0] for name in PARAMETERS for end in ("", "_lo", "_hi")}
    return row, estimate, sources, offsets, beside


def draw(results, all_images):
    """One row per cluster: colour image with the positions, histogram of p_cluster, age against A_V."""
    figure = Figure(figsize=(12, 3.6 * len(results)), layout="constrained")
    axes = figure.subplots(len(results), 3, squeeze=False)
    for i, ((row, estimate, sources, offsets, beside), images) in enumerate(zip(results, all_images)):
        field, histogram, posterior = axes[i]
        plot_image(images, sources, radius=CLEARANCE, ax=field)
        field.plot(*offsets.T, ".", ms=2, color="gold")
        field.plot(*((np.array(images.shape[::-1]) - 1) / 2), "+", ms=14, color="white")
        field.set_title(f"cluster {i}: sources (12 pixel circles), {len(offsets)} offsets", fontsize="medium")
        histogram.hist(beside, bins=np.linspace(0, 1, 41), color="0.6")
        histogram.axvline(row["p_cluster"], color="#d1495b", lw=2)
        histogram.set(xlabel="p(cluster)", ylabel="offsets", xlim=(0, 1))
        histogram.set_title(f"centre {row['p_cluster']:.3f}, rank {row['rank']} of {1 + len(offsets)}", fontsize="medium")
        plot_joint(estimate, 0, ax=posterior)
    return figure


def main(arguments=None):
    """The command line; returns the table."""
    parser = argparse.ArgumentParser(description=__doc__.strip().split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with images/phangs_hst_clusters.npz")
    parser.add_argument("--model", default="m83-renormalized", help="name or file of a renormalized network")
    parser.add_argument("--out", type=Path, default=Path("."), help="folder for the table and the picture")
    parser.add_argument("--seed", type=int, default=0, help="of the offsets, the dither and the draws")
    args = parser.parse_args(arguments)
    net = ClusterNet.load(args.model) if Path(args.model).is_file() else ClusterNet.from_pretrained(args.model)
    rng = np.random.default_rng(args.seed)
    all_images = read_cutouts(args.data / "images" / "phangs_hst_clusters.npz", net.bands, rng)

    results = [look(images, net, rng) for images in all_images]
    table = QTable(rows=[{"cluster": i} | row for i, (row, *_) in enumerate(results)])
    table.meta = {"model": repr(net), "seed": args.seed, "clearance_pixels": CLEARANCE, "interval": 0.68}
    for column in table.itercols():
        if column.dtype.kind == "f":
            column.info.format = ".3g" if column.info.name.startswith(("age", "vis")) else ".3f"

    args.out.mkdir(parents=True, exist_ok=True)
    table.write(args.out / "real_hst_stamps.ecsv", overwrite=True)
    draw(results, all_images).savefig(args.out / "real_hst_stamps.png", dpi=110)
    print(net)
    table.pprint(max_lines=-1, max_width=-1)
    return table


if __name__ == "__main__":
    main()
