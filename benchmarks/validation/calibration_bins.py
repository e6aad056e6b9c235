# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Is the posterior honest? Coverage overall and in bins of estimated age and visibility, ranks, joint coverage, reliability.

    python benchmarks/validation/calibration_bins.py

Bins are of estimated values, since those of true ones are not calibrated even for a perfect posterior. The network has learned from clusters of
which some have a neighbour and correlated noise, and cannot know that those of the reference have neither: the same clusters are asked for once
more with them. Writes calibration_bins.ecsv (every bin), calibration.ecsv (overall), calibration_steps.ecsv (ages against the steps of the
isochrones) and calibration.png.
"""

import numpy as np
from common import ACCENT, GREY, INK, PLOTTED, TITLES, answers, arguments, network, pyplot, reference, save, stream, write

from clustercnn.calibration import calibration_error, coverage, rank_histogram, reliability, tarp
from clustercnn.stellar import IsochroneGrid

AGES = np.arange(6.5, 10.51, 0.5)  # log yr
VISIBILITIES = 0, 5, 10, 20, 50, np.inf
LEAST = 200  # clusters in a bin
BAR = 3.5  # binomial standard errors
WHERE = "log_age_from", "visibility_from", "parameter", "level"  # tell a number from another


def rows_of(found):
    """Coverage of every parameter and level in every bin with enough clusters."""
    age, visibility, values = found.quantile("age"), found.estimate.visibility.value, found.values
    rows = []
    for low, high in zip(AGES, AGES[1:]):
        for least, most in zip(VISIBILITIES, VISIBILITIES[1:]):
            here = (age >= low) & (age < high) & (visibility >= least) & (visibility < most)
            if here.sum() > LEAST:
                where = {"log_age_from": low, "log_age_to": high, "visibility_from": float(least), "visibility_to": float(most)}
                for row in coverage(found.estimate[here], {name: value[here] for name, value in values.items()}):
                    rows.append(where | {"n": int(here.sum()), "parameter": str(row["parameter"])}
                                | {key: float(row[key]) for key in ("level", "coverage", "deviation")})
    return rows


def as_trained(args, net):
    """The answers to the reference clusters with what the training had and the reference has not, but for depths, which are told."""
    mix = {name: net.contract.get(name, 0.0) for name in ("neighbour_fraction", "noise_correlation")}
    return answers(net, stream(args, **mix), args.samples, title="as trained")


def overall_of(found):
    """Coverage of every parameter, and jointly, over all clusters."""
    rows = [{"quantity": TITLES[str(row["parameter"])], "level": float(row["level"]), "held": float(row["coverage"]),
             "deviation [σ]": float(row["deviation"])} for row in coverage(found.estimate, found.values)]
    joint = tarp(found.estimate, found.values, [0.1, 0.2, 0.5, 0.68, 0.95])
    return rows + [{"quantity": "joint (TARP)", "level": float(row["level"]), "held": float(row["coverage"]),
                    "deviation [σ]": float(row["deviation"])} for row in joint]


def worst_of(rows):
    """In words, how far the bins are off."""
    deviation = np.abs([row["deviation"] for row in rows])
    return (f"{len(deviation)} numbers from bins of estimated age and visibility with more than {LEAST} clusters: the largest deviation is "
            f"{deviation.max(initial=0):.1f} standard errors, {(deviation > BAR).sum()} exceed {BAR}.")


def rows_of_steps(found):
    """How often the 68 % interval of the age of bright clusters holds the truth, for true ages near an isochrone and between two."""
    nodes, true, estimated = IsochroneGrid.default().log_ages, found.true("age"), found.quantile("age")
    gap = np.abs(true[:, None] - nodes).min(axis=1)
    near = gap < np.diff(nodes).mean() / 4
    low, high = found.quantile("age", 0.16), found.quantile("age", 0.84)
    inside, rows = (low < true) & (true < high), []
    for start, stop in zip(AGES, AGES[1:]):
        here = (estimated >= start) & (estimated < stop) & (found.estimate.visibility.value >= VISIBILITIES[-2])
        if here.sum() > LEAST:
            row = {"log age": f"{start:g} to {stop:g}", "number": int(here.sum()), "half width [dex]": np.median((high - low)[here]) / 2}
            for name, side in (("held near an isochrone", near), ("held between two", ~near)):
                share, n = inside[here & side].mean(), (here & side).sum()
                row[name] = f"{share:.3f} ± {np.sqrt(0.68 * 0.32 / n):.3f}"
            rows.append(row)
    return rows


def draw(found, rows, p, label):
    """Ranks of every parameter, joint coverage, deviations of the bins, reliability of the class."""
    plt = pyplot()
    figure, axes = plt.subplots(2, 4, figsize=(13, 6.2), layout="constrained")
    space = found.estimate.space
    for i, (ax, name) in enumerate(zip(axes[0], space.names)):
        table = rank_histogram(found.estimate.draws[:, :, i], found.truth[:, i])
        ax.fill_between(table["rank"], table["low"], table["high"], color=GREY, alpha=0.4, lw=0, step="mid")
        ax.step(table["rank"], table["count"], where="mid", color=INK)
        ax.set(xlabel=f"rank of the true {PLOTTED[name]}", ylabel="clusters", ylim=(0, None))
    joint, bins, ages, reliable = axes[1]
    table = tarp(found.estimate, found.values)
    joint.errorbar(table["level"], table["coverage"] - table["level"], table["error"], fmt="o", ms=3, color=INK)
    joint.axhline(0, color=ACCENT, lw=1)
    joint.set(xlabel="credibility", ylabel="joint coverage $-$ credibility (TARP)")
    deviation = np.array([row["deviation"] for row in rows])
    bins.hist(deviation, bins=np.arange(-8, 8.01, 0.5), color=INK, label="bins")
    x = np.linspace(-8, 8, 161)
    bins.plot(x, 0.5 * len(deviation) * np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi), color=ACCENT, label="chance")
    bins.set(xlabel="deviation of the coverage [σ]", ylabel="bins, parameters and levels")
    bins.legend(frameon=False, fontsize=8)
    for name, marker in zip((*space.names, "visibility"), "osD^x"):
        part = [row for row in rows if row["parameter"] == name and row["level"] == 0.68]
        middle = [(row["log_age_from"] + row["log_age_to"]) / 2 for row in part]
        ages.plot(middle, [row["deviation"] for row in part], marker, ms=4, label=PLOTTED[name])
    for bar in (-BAR, BAR):
        ages.axhline(bar, color=ACCENT, lw=1, ls="--")
    ages.set(xlabel="estimated log age [yr]", ylabel="deviation of the 68 % coverage [σ]")
    ages.legend(frameon=False, fontsize=8)
    table = reliability(p, label)
    reliable.plot([0, 1], [0, 1], color=ACCENT, lw=1)
    reliable.errorbar(table["p"], table["fraction"], table["error"], fmt="o", ms=4, color=INK)
    reliable.set(xlabel="p_cluster", ylabel="share of clusters")
    save(figure, "calibration")


def main():
    args = arguments(__doc__)
    net = network(args.model)
    found, negative = reference(args, net)
    mixed = as_trained(args, net)
    rows, rows_mixed = rows_of(found), rows_of(mixed)
    overall = [row | {"held as trained": other["held"], "deviation as trained [σ]": other["deviation [σ]"]}
               for row, other in zip(overall_of(found), overall_of(mixed), strict=True)]
    p, label = np.concatenate([found.estimate.p_cluster, negative]), np.repeat([True, False], [len(found.truth), len(negative)])
    error, limit = calibration_error(p, label)
    note = (f"{len(found.truth):,} {args.clusters} and as many negatives, {net!r}. {worst_of(rows)} As trained, with a neighbour beside "
            f"{net.contract.get('neighbour_fraction', 0.0):.0%} of the clusters and correlated noise: {worst_of(rows_mixed)} Calibration error of "
            f"p_cluster: {error:.4f} (chance stays below {limit:.4f} in 95 % of cases).")
    held = {tuple(row[name] for name in WHERE): row["coverage"] for row in rows_mixed}
    rows = [row | {"coverage_as_trained": held.get(tuple(row[name] for name in WHERE), np.nan)} for row in rows]
    worst = sorted(rows, key=lambda row: -abs(row["deviation"]))[:12]
    page = [{"log age": f"{row['log_age_from']:g} to {row['log_age_to']:g}",
             "visibility": f"{row['visibility_from']:g} to {row['visibility_to']:g}", "number": row["n"],
             "parameter": TITLES[row["parameter"]], "level": row["level"], "held": row["coverage"],
             "deviation [σ]": row["deviation"], "held as trained": row["coverage_as_trained"]}
            for row in worst]
    write("calibration_bins", rows, "The bins that are furthest off:" if rows else "No bin has enough clusters.", page)
    write("calibration", overall, note)
    write("calibration_steps", rows_of_steps(found), f"Clusters of an estimated visibility of {VISIBILITIES[-2]} and more:")
    draw(found, rows, p, label)


if __name__ == "__main__":
    main()
