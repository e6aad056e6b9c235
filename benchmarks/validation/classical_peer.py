# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
The network against stochastic Bayesian aperture photometry on the same pixels, with a library from the same simulator.

    python benchmarks/validation/classical_peer.py [--library 200000]

Writes classical_peer.ecsv (robust and rms errors of both, their ratios, coverage) and classical_peer.png (errors against age).
"""

import numpy as np
from common import (
    ACCENT, GREY, INK, PLOTTED, TITLES, UNITS, arguments, network, peer_answers, pyplot, reference, save, spread, write,
)

from clustercnn.calibration import coverage

BARS = {"age": 0.85, "a_v": 0.95, "mass": 0.5, "half_light_radius": 0.6}  # for the ratio of the scatters, young and visible


def rows_of(found, peer, title, here, rng):
    """Errors of both, and their ratios with errors by bootstrap over the clusters."""
    rows = []
    held = {who: {str(row["parameter"]): float(row["coverage"]) for row in coverage(answers.estimate, answers.values, [0.68])}
            for who, answers in (("network", found[here]), ("peer", peer[here]))}
    for name in found.estimate.space.names:
        ours, theirs = found.error(name)[here], peer.error(name)[here]
        a, b = spread(ours), spread(theirs)
        ratios = []
        for _ in range(200):
            picked = rng.integers(len(ours), size=len(ours))
            first, second = (spread(error[picked], n=2) for error in (ours, theirs))
            ratios.append([first["sigma"] / second["sigma"], first["rms"] / second["rms"]])
        error = np.std(ratios, axis=0)
        rows.append({"clusters": title, "parameter": name, "n": a["n"], "sigma": a["sigma"], "sigma_peer": b["sigma"],
                     "ratio": a["sigma"] / b["sigma"], "ratio_error": error[0], "rms": a["rms"], "rms_peer": b["rms"],
                     "rms_ratio": a["rms"] / b["rms"], "rms_ratio_error": error[1], "bias": a["bias"], "bias_peer": b["bias"],
                     "held_68": held["network"][name], "held_68_peer": held["peer"][name]})
    return rows


def draw(found, peer):
    """Robust scatter against the true age, bright clusters and all."""
    plt = pyplot()
    figure, axes = plt.subplots(1, 4, figsize=(13, 3.2), layout="constrained")
    edges = np.linspace(6.575, 10.125, 9)
    for ax, name in zip(axes, found.estimate.space.names):
        for answers, color, who in ((found, INK, "network"), (peer, ACCENT, "stochastic photometry")):
            for least, style in ((20, "o-"), (0, "s:")):
                points = []
                for low, high in zip(edges, edges[1:]):
                    here = (found.true("age") >= low) & (found.true("age") < high) & (found.visibility > least)
                    row = spread(answers.error(name)[here]) if here.sum() > 20 else {"sigma": np.nan, "sigma_error": np.nan}
                    points.append((row["sigma"], row["sigma_error"]))
                ax.errorbar((edges[1:] + edges[:-1]) / 2, *zip(*points), fmt=style, ms=3, color=color, lw=1.2,
                            label=f"{who}, {'visibility > 20' if least else 'all'}")
        ax.axvline(8, color=GREY, lw=0.8)
        ax.set(xlabel="log age [yr]", ylabel=f"1.48 MAD of {PLOTTED[name]} [{UNITS[name]}]", ylim=(0, None))
    figure.legend(*axes[0].get_legend_handles_labels(), frameon=False, fontsize=8, ncols=4, loc="outside upper center")
    save(figure, "classical_peer")


def main():
    args = arguments(__doc__)
    net = network(args.model)
    found, _ = reference(args, net)
    peer, rng = peer_answers(args, found), np.random.default_rng(1)
    young = (found.true("age") <= 8) & (found.visibility > 20)
    rows = rows_of(found, peer, "age <= 100 Myr, visibility > 20", young, rng) + rows_of(found, peer, "all", young >= 0, rng)
    page = [{"clusters": row["clusters"], "parameter": f"{TITLES[row['parameter']]} [{UNITS[row['parameter']]}]",
             "number": row["n"], "network": row["sigma"], "peer": row["sigma_peer"],
             "ratio": f"{row['ratio']:.2f} ± {row['ratio_error']:.2f}",
             "bar": "" if row["clusters"] == "all" else f"{BARS[row['parameter']]:.2f}",
             "of the rms": f"{row['rms_ratio']:.2f} ± {row['rms_ratio_error']:.2f}",
             "68 % hold": f"{row['held_68']:.3f}, {row['held_68_peer']:.3f}"} for row in rows]
    note = f"{len(found.truth):,} {args.clusters}, {net!r}; a library of {args.library:,} mocks. Scatters are 1.48 MAD."
    write("classical_peer", rows, note, page)
    draw(found, peer)


if __name__ == "__main__":
    main()
