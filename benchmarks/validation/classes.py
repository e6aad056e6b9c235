# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
RQ4: is it a cluster? The class against each kind of negative, against the visibility, and with a second cluster in the stamp.

    python benchmarks/validation/classes.py [--each 4000]

Writes classes.ecsv (AUC per kind and visibility), class_thresholds.ecsv (completeness and purity), class_neighbours.ecsv
(clusters with a neighbour), real_stamps.rst (what ``examples/real_hst_stamps.py`` found) and classes.png.
"""

import numpy as np
from astropy.table import QTable
from common import (
    GREY, RESULTS, TITLES, UNITS, answers, arguments, network, p_cluster, pyplot, reference, save, spread, stream, write,
)

from clustercnn.calibration import auc, coverage
from clustercnn.simulation.negatives import NEGATIVE_KINDS

VISIBILITIES = 0, 3, 5, 10, 20, 50, np.inf
THRESHOLDS = 0.5, 0.9, 0.99, 0.999
ODDS = 1.0, 0.1  # clusters per other source


def separations(positive, visibility, negatives):
    """AUC of the clusters in bins of visibility against each kind of negative, with the error of Hanley & McNeil (1982)."""
    rows = []
    for kind, negative in negatives.items():
        for low, high in [(0, np.inf), *zip(VISIBILITIES, VISIBILITIES[1:])]:
            p = positive[(visibility >= low) & (visibility < high)]
            if len(p) >= 30:
                area = auc(np.concatenate([p, negative]), np.repeat([True, False], [len(p), len(negative)]))
                one, two = area / (2 - area), 2 * area**2 / (1 + area)
                error = area * (1 - area) + (len(p) - 1) * (one - area**2) + (len(negative) - 1) * (two - area**2)
                error = np.sqrt(max(error, 0) / len(p) / len(negative))
                rows.append({"kind": kind, "visibility_from": float(low), "visibility_to": float(high), "clusters": len(p),
                             "negatives": len(negative), "auc": area, "auc_error": error})
    return rows


def thresholds(positive, visibility, negative):
    """Completeness, false positives and purity for thresholds of p_cluster."""
    rows = []
    for level in THRESHOLDS:
        false = (negative >= level).mean()
        row = {"p_cluster >=": level, "false positives": false}
        for least in (0, 5, 10, 20):
            row[f"complete, visibility > {least}"] = (positive[visibility > least] >= level).mean()
        for odds in ODDS:
            true = odds * row["complete, visibility > 0"]
            row[f"pure at odds {odds:g}"] = true / (true + false) if true + false > 0 else np.nan
        rows.append(row)
    return rows


def neighbours(net, mocks, found):
    """p_cluster and errors of clusters with a neighbour, against the same clusters without."""
    crowded, rows = answers(net, mocks, len(found.truth), title="neighbours"), []
    for title, answer in (("alone", found), ("with a neighbour", crowded)):
        held = coverage(answer.estimate, answer.values, [0.68])
        bright = found.visibility > 10
        for name, inside in zip(answer.estimate.space.names, held["coverage"]):
            row = spread(answer.error(name)[bright])
            rows.append({"clusters": title, "parameter": f"{TITLES[name]} [{UNITS[name]}]",
                         "1.48 MAD, visibility > 10": row["sigma"], "rms": row["rms"], "bias": row["bias"],
                         "68 % hold (all)": float(inside),
                         "p_cluster >= 0.9": (answer.estimate.p_cluster[bright] >= 0.9).mean()})
    return rows


def real_stamps():
    """The table of ``examples/real_hst_stamps.py`` for the manual."""
    table = QTable.read(RESULTS.parent / "real_hst_stamps.ecsv")
    rows = [{"cluster": str(row["cluster"]), "p_cluster": row["p_cluster"], "rank": f"{row['rank']} of {row['n_offsets'] + 1}",
             "median of the others": row["p_offset_50"], "largest of the others": row["p_offset_100"]} for row in table]
    write("real_stamps", rows, f"Seed {table.meta['seed']}, {table.meta['model']}.")


def draw(rows, positive, visibility, negatives):
    """1 - AUC against visibility for each kind, and how p_cluster is distributed."""
    plt = pyplot()
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for kind, marker in zip(negatives, "osD^vP*"):
        part = [row for row in rows if row["kind"] == kind and (row["visibility_from"], row["visibility_to"]) != (0, np.inf)]
        ends = [(row["visibility_from"], row["visibility_to"]) for row in part]
        middle = [np.median(visibility[(visibility >= low) & (visibility < high)]) for low, high in ends]
        missed = [max(1 - row["auc"], 1e-5) for row in part]
        left.errorbar(middle, missed, [row["auc_error"] for row in part], fmt=f"{marker}-", ms=5, label=kind.replace("_", " "))
        right.hist(negatives[kind], bins=np.linspace(0, 1, 41), histtype="step", density=True)
    left.set(xscale="log", yscale="log", xlabel="visibility of the clusters", ylabel="1 $-$ AUC", ylim=(1e-5, 1))
    left.legend(frameon=False, fontsize=8)
    right.hist(positive, bins=np.linspace(0, 1, 41), density=True, color=GREY, alpha=0.5, label="clusters")
    right.set(yscale="log", xlabel="p_cluster", ylabel="density")
    right.legend(frameon=False, fontsize=8)
    save(figure, "classes")


def main():
    args = arguments(__doc__, each=(4000, "negatives of each kind"))
    net = network(args.model)
    found, mixed = reference(args, net)
    positive, visibility = found.estimate.p_cluster, found.visibility
    settings = {"background": stream(args).background, "positive_fraction": 0.0}
    negatives = {kind: p_cluster(net, stream(args, "negative_seed", negatives={kind: 1.0}, **settings), args.each, kind)
                 for kind in NEGATIVE_KINDS}
    note = f"{len(positive):,} {args.clusters}, {args.each:,} negatives of each kind; {net!r}."
    rows = separations(positive, visibility, negatives)
    page = [{"kind": kind.replace("_", " ")} | {
        f"{row['visibility_from']:g} to {row['visibility_to']:g}": f"{row['auc']:.4f} ± {row['auc_error']:.4f}"
        for row in rows if row["kind"] == kind} for kind in negatives]
    write("classes", rows, f"{note} AUC against clusters of a visibility.", page)
    note = f"{len(positive):,} {args.clusters} and {len(mixed):,} negatives of all kinds."
    write("class_thresholds", thresholds(positive, visibility, mixed), note)
    part = found[: min(len(positive), args.each)]
    write("class_neighbours", neighbours(net, stream(args, background=settings["background"], neighbour_fraction=1.0), part),
          f"{len(part.truth):,} {args.clusters}, alone and with another cluster 4 to 24 pixels away.")
    real_stamps()
    draw(rows, positive, visibility, negatives)


if __name__ == "__main__":
    main()
