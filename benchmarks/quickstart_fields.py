# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Run the quickstart on several fields and tell how many of their clusters it accepts, and what else.

    python benchmarks/quickstart_fields.py [--seeds 1 2 3 4 5] [--out benchmarks/results/quickstart_fields.ecsv]

About 50 s per field on 2 cores. One row per field, over the sources that the quickstart accepts (p_cluster at or above its
threshold, ``part_of`` 0): clusters among them (within 2 pixels); clusters taken at a peak 2 to 8 pixels beside their centre; second
peaks (as near to a cluster that is among the former); others; how many more have been left out as parts of others; the number with
visibility > 20; and the scatter (1.48 MAD) of the medians of the clusters in dex (A_V: mag). The last rows compare accepted and
missed clusters.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from astropy.table import QTable

from clustercnn.cli import P_CLUSTER, main


def read(folder):
    """Truth, accepted sources, which of the clusters are among them, and how many sources are parts of others."""
    truth, catalog = (QTable.read(folder / f"{name}.ecsv") for name in ("truth", "catalog"))
    sure = catalog["p_cluster"] >= P_CLUSTER
    accepted = catalog[sure & (catalog["part_of"] == 0)]
    return truth, accepted, np.isin(truth["id"], accepted["truth_id"]), (sure & (catalog["part_of"] > 0)).sum()


def errors(truth, clusters, name):
    """Inferred minus true values of a parameter, dex or mag."""
    place = {number: i for i, number in enumerate(truth["id"])}
    true, inferred = truth[name][[place[number] for number in clusters["truth_id"]]], clusters[name]
    return (inferred - true).value if name == "a_v" else np.log10((inferred / true).value)


def row(seed, truth, accepted, parts):
    """One line of the table."""
    is_cluster = accepted["truth_id"] >= 0
    clusters, others = accepted[is_cluster], accepted[~is_cluster]
    dx, dy = (np.subtract.outer(others[axis], truth[axis]) for axis in ("x_centroid", "y_centroid"))
    distance = np.hypot(dx, dy)
    near = distance.min(axis=1, initial=np.inf) < 8
    twice = near & np.isin(truth["id"][distance.argmin(axis=1)], clusters["truth_id"])
    found = {"seed": seed, "injected": len(truth), "clusters": len(clusters), "beside": (near & ~twice).sum(),
             "second_peaks": twice.sum(), "others": (~near).sum(), "parts": parts, "bright": (clusters["visibility"] > 20).sum()}
    for name in ("age", "a_v", "mass", "half_light_radius"):
        error = errors(truth, clusters, name)
        found[f"scatter_{name}"] = round(1.48 * float(np.median(np.abs(error - np.median(error)))), 3)
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "quickstart_fields.ecsv")
    arguments = parser.parse_args()
    rows, magnitude, age = [], {True: [], False: []}, {True: [], False: []}
    for seed in arguments.seeds:
        with tempfile.TemporaryDirectory() as folder:
            main(["quickstart", "--seed", str(seed), "--out", folder])
            truth, accepted, taken, parts = read(Path(folder))
        rows.append(row(seed, truth, accepted, parts))
        for side in (True, False):
            magnitude[side].extend(truth["F814W"][taken == side].value)
            age[side].extend(np.log10(truth["age"][taken == side].to_value("yr")))
    table = QTable(rows)
    table.meta["p_cluster"] = P_CLUSTER
    for side, name in ((True, "accepted"), (False, "missed")):
        table.meta[f"{name}_median_F814W"] = round(float(np.median(magnitude[side])), 2)
        table.meta[f"{name}_median_log_age"] = round(float(np.median(age[side])), 2)
    table.write(arguments.out, overwrite=True)
    table.pprint_all()
    print(table.meta)
