# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
RQ2: age against extinction. Joint posteriors, their correlation, the bias of old clusters, and the dust of the disc behind.

    python benchmarks/validation/degeneracy.py

The reference clusters have any A_V, whatever the dust behind them, so a network must not take the one for the other: the mean
error must not follow the dust. Clusters in the disc are another matter: those whose A_V is at most that of the dust behind them
are, with the flat prior, clusters anywhere along the line of sight through it, and their inferred A_V should follow the dust. The
median errors of the classical peer for the same clusters stand beside the network's.
Writes degeneracy.ecsv and degeneracy.png.
"""

import copy

import numpy as np
from astropy import units as u
from common import ACCENT, GREY, INK, arguments, digest_of, network, peer_answers, pyplot, reference, save, spread, stream, write

from clustercnn.files import whole_file
from clustercnn.instruments import Instrument
from clustercnn.plotting import plot_joint
from clustercnn.simulation import BackgroundFields, GalaxyDisc

EXAMPLES = (6.8, 7.5, 8.3, 9.3)  # log yr, of clusters with a visibility near 40 and an A_V near 1
AGES = np.arange(6.5, 10.51, 0.5)
DUST = 0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 6.0  # mag
FAINT, BRIGHT = 10, 20  # visibility
BATCH = 256
CORE = slice(27, 37)  # pixels of a stamp over which the dust is averaged


class Dusty:
    """Backgrounds that remember the dust of the disc behind each stamp."""

    noisy = False

    def __init__(self, fields, maps):
        self.fields, self.maps, self.n_bands, self.dust = fields, maps, fields.n_bands, []

    def stamps(self, n, shape, rng, device="cpu"):
        """Stamps of the fields; the maps are cut with the same random numbers."""
        self.dust.append(self.maps.stamps(n, shape, copy.deepcopy(rng))[:, 0, CORE, CORE].mean(dim=(1, 2)).numpy())
        return self.fields.stamps(n, shape, rng, device)


def dust_behind(args):
    """A_V of the whole disc behind each reference cluster, mag; kept in the cache."""
    path = args.cache / f"dust-{digest_of(args)}-{args.samples}.npy"
    if not path.exists():
        recipe, clusters = args.settings, stream(args)
        instrument, distance = Instrument.from_name(recipe["instrument"]), recipe["distance_mpc"] * u.Mpc
        maps = []
        for rng in np.random.default_rng(recipe["field_seed"]).spawn(recipe["n_fields"]):
            disc = GalaxyDisc.draw(instrument, rng, distance=distance)
            maps.append(disc.extinction(tuple(recipe["field_shape"]), rng).value[None])
        clusters.background = Dusty(clusters.background, BackgroundFields(maps))
        for start in range(0, args.samples, BATCH):
            clusters.batch(start, BATCH)
        with whole_file(path) as partial:
            np.save(partial, np.concatenate(clusters.background.dust)[: args.samples])
    return np.load(path)


def rows_of(found, peer, dust):
    """Correlation and bias in bins of age, errors and inferred A_V in bins of dust."""
    rows, correlation = [], found.estimate.correlation("age", "a_v")
    residual = found.estimate.draws[:, :, 1].mean(axis=1) - found.true("a_v")

    def add(quantity, by, low, high, here, values, peers=None):
        if here.sum() >= 30:
            value = values[here].astype(float)
            rows.append({"quantity": quantity, "by": by, "low": low, "high": high, "n": int(here.sum()), "mean": value.mean(),
                         "mean_error": value.std() / np.sqrt(len(value)), "median": spread(value)["bias"],
                         "median_error": spread(value)["bias_error"],
                         "median_peer": np.nan if peers is None else spread(peers[here], n=2)["bias"]})

    bright = found.visibility > BRIGHT
    for by, along in (("true age", found.true("age")), ("estimated age", found.quantile("age"))):
        for low, high in zip(AGES, AGES[1:]):
            here = bright & (along >= low) & (along < high)
            add("correlation of age and A_V", by, low, high, here, correlation)
            add("error of log age", by, low, high, here, found.error("age"), peer.error("age"))
            add("error of A_V", by, low, high, here, found.error("a_v"), peer.error("a_v"))
    inside = found.true("a_v") <= dust
    for low, high in zip(DUST, DUST[1:]):
        here = (dust >= low) & (dust < high)
        faint = here & (found.visibility < FAINT)
        add("A_V mean - truth, all", "dust behind", low, high, here, residual)
        add(f"A_V mean - truth, visibility < {FAINT}", "dust behind", low, high, faint, residual)
        add(f"inferred A_V, visibility < {FAINT}", "dust behind", low, high, faint, found.quantile("a_v"))
        add("inferred A_V, clusters in the dust", "dust behind", low, high, here & inside, found.quantile("a_v"))
        add("true A_V, clusters in the dust", "dust behind", low, high, here & inside, found.true("a_v"))
    return rows


def draw(found, rows):
    """Four posteriors, and what the table says."""
    plt = pyplot()
    figure, axes = plt.subplots(2, 4, figsize=(14, 6.6), layout="constrained")
    values = found.values
    for ax, age in zip(axes[0], EXAMPLES):
        distance = np.hypot((found.true("age") - age) / 0.1, found.true("a_v") - 1) + np.abs(np.log(found.visibility / 40))
        i = int(np.argmin(distance))
        plot_joint(found.estimate, i, truth={name: value[i] for name, value in values.items()}, ax=ax)
        ax.set_title(f"visibility {found.visibility[i]:.0f}", fontsize="medium")

    def curve(ax, quantity, by, key, color, label):
        part = [row for row in rows if row["quantity"] == quantity and row["by"] == by]
        middle, values = [(row["low"] + row["high"]) / 2 for row in part], [row[key] for row in part]
        ax.errorbar(middle, values, [row[f"{key}_error"] for row in part], fmt="o-", ms=4, color=color, label=label)

    quantities = ("correlation of age and A_V", "mean"), ("error of log age", "median"), ("error of A_V", "median")
    for ax, (quantity, key) in zip(axes[1], quantities):
        for by, color in (("true age", INK), ("estimated age", ACCENT)):
            curve(ax, quantity, by, key, color, f"by {by}")
        ax.axhline(0, color=GREY, lw=0.8)
        ax.axvline(8, color=GREY, lw=0.8, ls=":")
        unit = {"error of log age": " [dex]", "error of A_V": " [mag]"}.get(quantity, "")
        ax.set(xlabel="log age [yr]", ylabel=quantity.replace("A_V", "$A_V$") + unit)
    axes[1, 0].legend(frameon=False, fontsize=8)
    last = axes[1, 3]
    for quantity, color in (("A_V mean - truth, all", INK), ("inferred A_V, clusters in the dust", ACCENT),
                            ("true A_V, clusters in the dust", GREY), (f"inferred A_V, visibility < {FAINT}", "#8e6c8a")):
        curve(last, quantity, "dust behind", "mean", color, quantity.replace("A_V", "$A_V$"))
    last.set(xlabel="$A_V$ through the disc behind [mag]", ylabel="mean [mag]", xscale="symlog", xlim=(0, 5))
    last.legend(frameon=False, fontsize=7)
    save(figure, "degeneracy")


def main():
    args = arguments(__doc__)
    net = network(args.model)
    found, _ = reference(args, net)
    rows = rows_of(found, peer_answers(args, found), dust_behind(args))
    page = [{"quantity": row["quantity"], "by": row["by"], "from": f"{row['low']:g}", "to": f"{row['high']:g}",
             "number": row["n"], "mean": f"{row['mean']:+.3f} ± {row['mean_error']:.3f}",
             "median": f"{row['median']:+.3f} ± {row['median_error']:.3f}",
             "median of the peer": "" if np.isnan(row["median_peer"]) else f"{row['median_peer']:+.3f}"}
            for row in rows if row["by"] != "estimated age"]
    note = f"{len(found.truth):,} {args.clusters}, {net!r}; by age: those with a visibility above {BRIGHT}."
    write("degeneracy", rows, note, page)
    draw(found, rows)


if __name__ == "__main__":
    main()
