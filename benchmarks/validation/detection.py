# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
How many clusters the default pipeline finds in a galaxy, and how many of what it takes for clusters are some.

    python benchmarks/validation/detection.py [--clusters 300] [--size 2048] [--seed 1]
    python benchmarks/validation/detection.py --finder network --name detection_network

Clusters of the paper's prior whose true visibility is above 10 go into a synthetic spiral disc; those below would be a matter of
definition. ``make_catalog`` finds and infers with its defaults, or with the network as the finder. A cluster is found by the nearest source
within 2 pixels or its half-light radius. Writes detection.ecsv (curves along the cuts in p_cluster and in visibility, with and without
second peaks) and detection.png. The disc has stars, blends and associations of its own; what is found of them counts against the purity.
"""

import argparse
import time

import numpy as np
import torch
from astropy import units as u
from astropy.stats import binom_conf_interval
from common import ACCENT, GREY, INK, RATE, network, pyplot, save, write
from tqdm import tqdm

from clustercnn import ClusterInjector, SyntheticCluster
from clustercnn.cli import P_CLUSTER
from clustercnn.instruments import Instrument
from clustercnn.matching import match_positions
from clustercnn.parameters import ParameterSpace
from clustercnn.simulation import Detector, GalaxyDisc, Visibility
from clustercnn.survey import NetworkFinder, make_catalog

DISTANCE = 4.5 * u.Mpc
STAMP = 64
AGES = (10**6.6001, 10**10.0999) * u.yr  # those of the isochrones; the prior reaches half a step further
BORDER, APART = 32, 24  # pixels: from the edges, from one another
VISIBLE = 10
CUTS = {"p_cluster": (0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999), "visibility": (0, 2, 4, 6, 8, 10, 15, 20, 30, 50)}


def visible_clusters(n, images, instrument, rng):
    """Clusters above the limit at free places of the images: the list, their positions and their visibilities."""
    space, visibility = ParameterSpace.paper(), Visibility(Detector.from_instrument(instrument), (STAMP, STAMP))
    size = np.array(images.shape[::-1])
    clusters, places, values = [], np.empty((0, 2)), []
    with tqdm(total=n, desc="drawing", unit="cluster") as bar:
        while len(clusters) < n:
            place = rng.uniform(BORDER, size - BORDER)
            row = space.sample(1, rng=rng)[0]
            if len(places) and np.hypot(*(places - place).T).min() < APART:
                continue
            row["age"] = np.clip(row["age"], *AGES)
            cluster = SyntheticCluster(distance=DISTANCE, rng=rng, **{name: row[name] for name in space.names})
            position = tuple(place - images.cutout_origins(place, (STAMP, STAMP))[0])
            light = cluster.render(instrument, shape=(STAMP, STAMP), position=position).to_array(RATE)
            behind = images.cutouts(place, (STAMP, STAMP)).value
            value = visibility(torch.from_numpy(light[None]), torch.from_numpy(behind), noisy=True).item()
            if value > VISIBLE:
                clusters.append(cluster)
                places = np.vstack([places, place])
                values.append(value)
                bar.update()
    return clusters, places, np.array(values)


def found_by(truth, sources):
    """Rows of the truth and of the sources that are the same object, one to one."""
    reach = np.maximum(2, (truth["half_light_radius"].to_value(u.arcsec)) / 0.04)
    pairs = match_positions(truth, sources, reach.max() * u.pix)
    return pairs[pairs["separation"].value <= reach[pairs["first"]]]


def curves(truth, catalog):
    """Completeness and purity for each cut, with and without the parts of other sources."""
    rows = []
    for merged in (True, False):
        for name, values in CUTS.items():
            for value in values:
                taken = catalog[name] >= value
                if name == "visibility":
                    taken &= catalog["p_cluster"] >= P_CLUSTER
                if merged:
                    taken &= catalog["part_of"] == 0
                wanted = truth[truth["visibility"] >= value] if name == "visibility" else truth
                hits, right = len(found_by(wanted, catalog[taken])), len(found_by(truth, catalog[taken]))
                row = {"second_peaks": "merged" if merged else "kept", "cut": name, "value": value, "sources": int(taken.sum()),
                       "clusters": right}
                for what, k, n in (("completeness", hits, len(wanted)), ("purity", right, int(taken.sum()))):
                    low, high = binom_conf_interval(k, n, interval="jeffreys") if n else (np.nan, np.nan)
                    row |= {what: k / n if n else np.nan, f"{what}_lo": low, f"{what}_hi": high}
                rows.append(row)
    return rows


def draw(rows, name):
    """The curves along both cuts, and one against the other."""
    figure, axes = pyplot().subplots(1, 3, figsize=(13, 4), layout="constrained")

    def column(what, cut, merged="merged"):
        return np.array([row[what] for row in rows if row["cut"] == cut and row["second_peaks"] == merged])

    for ax, cut in zip(axes, CUTS):
        x = column("value", cut)
        x = np.log10(1 / (1 - x)) if cut == "p_cluster" else x
        for what, colour in (("completeness", INK), ("purity", ACCENT)):
            ax.plot(x, column(what, cut), color=colour, marker="o", ms=3, label=what)
            ax.fill_between(x, column(f"{what}_lo", cut), column(f"{what}_hi", cut), color=colour, alpha=0.2, lw=0)
        ax.plot(x, column("purity", cut, "kept"), color=ACCENT, ls=":", label="purity, second peaks kept")
        ax.axhline(0.9, color=GREY, lw=0.8)
        ax.set(ylim=(0, 1.02))
    axes[0].set(xlabel=r"cut in p_cluster: $-\log_{10}(1 - p)$")
    axes[1].set(xlabel=f"cut in visibility, p_cluster ≥ {P_CLUSTER:g}")
    axes[0].legend(frameon=False)
    for merged, style in (("merged", "-"), ("kept", ":")):
        axes[2].plot(column("completeness", "p_cluster", merged), column("purity", "p_cluster", merged), color=INK, ls=style, marker="o", ms=3)
    axes[2].set(xlabel="completeness", ylabel="purity")
    save(figure, name)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="m83", help="name of a pretrained network, or a model file")
    parser.add_argument("--clusters", type=int, default=300)
    parser.add_argument("--size", type=int, default=2048, help="pixels along each side of the field")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--finder", choices=("default", "network"), default="default")
    parser.add_argument("--name", default="detection", help="of the table and the figure")
    arguments = parser.parse_args()
    galaxy, drawing, photons = np.random.default_rng(arguments.seed).spawn(3)
    instrument = Instrument.from_name("HST/WFC3/UVIS/M83")
    disc = GalaxyDisc(instrument, 21.5 * u.mag / u.arcsec**2, 1.5, 0.3 * u.mag, distance=DISTANCE)
    images = disc.observe((arguments.size, arguments.size), rng=galaxy)
    clusters, places, visibility = visible_clusters(arguments.clusters, images, instrument, drawing)
    result = ClusterInjector(images, instrument=instrument).inject(clusters, places, photons, progress=True)
    truth = result.truth
    truth["visibility"] = visibility
    net = network(arguments.model)
    finder = NetworkFinder(net) if arguments.finder == "network" else None
    start = time.perf_counter()
    catalog = make_catalog(result.images, net, finder, rng=arguments.seed, progress=True)
    print(f"found and inferred in {time.perf_counter() - start:.0f} s")
    seen = len(found_by(truth, catalog))
    rows = curves(truth, catalog)
    names = ("second_peaks", "cut", "value", "sources", "clusters", "completeness", "purity")
    page = [{name: row[name] for name in names} for row in rows if row["second_peaks"] == "merged" or row["value"] == P_CLUSTER]
    write(arguments.name, rows, f"{len(truth)} clusters of visibility > {VISIBLE} in {arguments.size} x {arguments.size} pixels, seed "
          f"{arguments.seed}: {seen} of them are among the {len(catalog)} candidates.", page)
    draw(rows, arguments.name)


if __name__ == "__main__":
    main()
