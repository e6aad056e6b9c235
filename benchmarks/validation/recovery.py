# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
RQ1: inferred against true age, mass, size, A_V and visibility over the whole prior, and the errors along each of them.

    python benchmarks/validation/recovery.py

Writes recovery.ecsv (errors by true and by estimated values; those of the classical peer for the same clusters beside them),
recovery.png and recovery_errors.png.
"""

import numpy as np
from common import ACCENT, GREY, INK, LABELS, NAMES, TITLES, UNITS, arguments, network, peer_answers, pyplot, reference, save, spread, write

BINS = 8
LEAST = 50  # clusters in a bin


def edges_of(name, values):
    """Equal bins; of the visibility, which has no prior, between its 1 % and 99 % points."""
    low, high = np.quantile(values, [0.01, 0.99]) if name == "visibility" else (values.min(), values.max())
    return np.linspace(low, high, BINS + 1)


def rows_of(found, peer):
    """Errors of each parameter overall and in bins of each true and estimated one."""
    rows = []
    for name in NAMES:
        error, peers = found.error(name), peer_error(peer, name)
        rows.append({"parameter": name, "by": "all", "low": np.nan, "high": np.nan} | both(error, peers))
        for by in NAMES:
            for kind, along in (("true", found.true(by)), ("estimated", found.quantile(by))):
                edges = edges_of(by, found.true(by))
                for low, high in zip(edges, edges[1:]):
                    here = (along >= low) & (along < high)
                    if here.sum() >= LEAST:
                        rows.append({"parameter": name, "by": f"{kind} {by}", "low": low, "high": high} | both(error[here], peers[here]))
    return rows


def peer_error(peer, name):
    """Errors of the peer, which does not estimate the visibility."""
    return np.full(len(peer.truth), np.nan) if name == "visibility" else peer.error(name)


def both(error, peers):
    """Scatter and bias, the peer's scatter, and the ratio of the scatters."""
    row, sigma = spread(error), spread(peers, n=2)["sigma"]
    return row | {"sigma_peer": sigma, "ratio": row["sigma"] / sigma}


def draw_recovery(found):
    """Inferred against true values: density of the clusters, running median and 16 % and 84 % lines."""
    plt = pyplot()
    figure, axes = plt.subplots(1, len(NAMES), figsize=(14, 3.2), layout="constrained")
    for ax, name in zip(axes, NAMES):
        true, inferred = found.true(name), found.quantile(name)
        span = np.quantile(true, [0.01, 0.99]) if name == "visibility" else (true.min(), true.max())
        ax.hist2d(true, inferred, bins=40, range=(span, span), cmap="Greys", cmin=1)
        edges = np.linspace(*span, 15)
        cell = np.digitize(true, edges[1:-1])
        lines = np.array([np.quantile(inferred[cell == i], [0.16, 0.5, 0.84]) if (cell == i).sum() > 20 else [np.nan] * 3
                          for i in range(len(edges) - 1)])
        for line, style in zip(lines.T, ("--", "-", "--")):
            ax.plot((edges[1:] + edges[:-1]) / 2, line, style, color=INK, lw=1.5)
        ax.plot(span, span, color=ACCENT, lw=1)
        ax.set(xlabel=f"true {LABELS[name]}", ylabel="inferred", xlim=span, ylim=span, box_aspect=1)
    save(figure, "recovery")


def draw_errors(rows):
    """Scatter and bias of each parameter (rows of panels) along each (columns)."""
    plt = pyplot()
    figure, axes = plt.subplots(len(NAMES), len(NAMES), figsize=(14, 11), sharex="col", sharey="row", layout="constrained")
    for line, name in zip(axes, NAMES):
        for ax, by in zip(line, NAMES):
            ax.axhline(0, color=GREY, lw=0.8)
            for kind, color in (("true", INK), ("estimated", ACCENT)):
                part = [row for row in rows if row["parameter"] == name and row["by"] == f"{kind} {by}"]
                middle = [(row["low"] + row["high"]) / 2 for row in part]
                for key, style in (("sigma", "o-"), ("bias", "s:")):
                    values, errors = [row[key] for row in part], [row[f"{key}_error"] for row in part]
                    label = f"{key}, by {kind} values"
                    ax.errorbar(middle, values, errors, fmt=style, ms=3, lw=1.2, color=color, label=label)
            if name == NAMES[-1]:
                ax.set_xlabel(LABELS[by])
        line[0].set_ylabel(f"error of {LABELS[name].split(' [')[0]} [{UNITS[name]}]")
    axes[0, 0].legend(frameon=False, fontsize=7)
    save(figure, "recovery_errors")


def main():
    args = arguments(__doc__)
    net = network(args.model)
    found, _ = reference(args, net)
    peer = peer_answers(args, found)
    rows = rows_of(found, peer)
    page = []
    for name in NAMES:
        young, bright = found.true("age") <= 8, found.visibility > 20
        for title, here in (
            ("all", young >= 0),
            ("age <= 100 Myr, visibility > 20", young & bright),
            ("age > 100 Myr, visibility > 20", ~young & bright),
            ("visibility < 10", found.visibility < 10),
        ):
            row = both(found.error(name)[here], peer_error(peer, name)[here])
            of_peer = {key: "" if name == "visibility" else f"{row[value]:.{places}f}"
                       for key, value, places in (("peer", "sigma_peer", 3), ("ratio", "ratio", 2))}
            page.append({"parameter": f"{TITLES[name]} [{UNITS[name]}]", "clusters": title, "number": row["n"],
                         "1.48 MAD": f"{row['sigma']:.3f} ± {row['sigma_error']:.3f}",
                         "bias": f"{row['bias']:+.3f} ± {row['bias_error']:.3f}", "rms": row["rms"]} | of_peer)
    note = f"{len(found.truth):,} {args.clusters}, {net!r}; the peer is stochastic photometry with a library of {args.library:,} mocks."
    write("recovery", rows, note, page)
    draw_recovery(found)
    draw_errors(rows)


if __name__ == "__main__":
    main()
