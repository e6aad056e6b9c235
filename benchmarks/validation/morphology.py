# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
RQ5: the shape of the posteriors, whether their width tells the error, and the activation maps of the paper's grid head.

    python benchmarks/validation/morphology.py [--grid m83-paper]

The paper finds some 20 % of its activation maps extended and less than 1 % with two peaks. Here a map of age and A_V, smoothed
by a cell, is multimodal if it falls into pieces at some level, of which two rise to twice the level and hold at least a tenth of
the probability each: the rule of ``ClusterEstimate.modes`` in two dimensions. Else it is extended if its 68 % region spans more than a
quarter of either axis, else unimodal. The flow's posteriors are put on the same grid, which makes their maps noisy: without the
smoothing half of the flat ones would have several peaks. Marginals are judged by ``ClusterEstimate.morphology``. Writes
morphology.ecsv, widths.ecsv and morphology.png.
"""

import numpy as np
from common import (
    ACCENT, BATCH, GREY, INK, PLOTTED, RATE, TITLES, UNITS, arguments, network, peer_answers, pyplot, reference, save, stream, write,
)
from scipy.ndimage import gaussian_filter, label, maximum, maximum_filter, sum_labels
from scipy.stats import beta

KINDS = "unimodal", "extended", "multimodal"
GROUPS = (("all", 0, np.inf), ("visibility < 10", 0, 10), ("visibility 10 to 20", 10, 20), ("visibility > 20", 20, np.inf))


def several_peaks(density):
    """Whether a map has more than one peak: see the head of this file."""
    smooth = gaussian_filter(density, 1.0, mode="nearest")
    for level in np.unique(smooth[smooth == maximum_filter(smooth, 3)]) / 2:
        pieces, number = label(smooth >= level, structure=np.ones((3, 3)))
        numbers = np.arange(1, number + 1)
        tall, heavy = maximum(smooth, pieces, numbers) >= 2 * level, sum_labels(smooth, pieces, numbers) >= 0.1 * smooth.sum()
        if np.sum(tall & heavy) > 1:
            return True
    return False


def kind_of_map(density):
    """The kind of one map: see the head of this file."""
    if several_peaks(density):
        return "multimodal"
    falling = np.sort(density.ravel())[::-1]
    region = density >= falling[np.searchsorted(np.cumsum(falling) / falling.sum(), 0.68)]
    spans = [np.ptp(np.flatnonzero(region.any(axis=axis))) + 1 for axis in (1, 0)]
    return "extended" if any(span > size / 4 for span, size in zip(spans, region.shape)) else "unimodal"


def shares(kinds, what, visibility):
    """Fractions of each kind in groups of visibility, with errors of the binomial share that they come from (prior flat)."""
    rows = []
    for group, low, high in GROUPS:
        here = (visibility >= low) & (visibility < high)
        n = int(here.sum())
        row = {"posterior": what, "clusters": group, "number": n}
        for kind in KINDS:
            k = int(np.sum(kinds[here] == kind))
            row |= {kind: k / n if n else np.nan, f"{kind}_error": beta.std(k + 1, n - k + 1)}
        rows.append(row)
    return rows


def widths(found):
    """In tenths of the posterior's width: the width, the robust and rms error, and their ratio."""
    rows = []
    for name in found.estimate.space.names:
        width, error = found.half_width(name), np.abs(found.error(name))
        cell = np.searchsorted(np.quantile(width, np.arange(0.1, 0.95, 0.1)), width)
        for i in range(10):
            here = cell == i
            typical, truth = np.median(width[here]), np.quantile(error[here], 0.68)
            rows.append({"parameter": name, "tenth": i + 1, "n": int(here.sum()), "half_width": typical, "error_68": truth,
                         "ratio": truth / typical, "rms": np.sqrt(np.mean(error[here] ** 2))})
    return rows


def activation_maps(args, net):
    """The paper's maps of the reference clusters, summed over mass: (n, age, A_V)."""
    mocks, maps = stream(args), []
    for start in range(0, args.samples, BATCH):
        pixels = mocks.batch(start, min(BATCH, args.samples - start))["pixels"].numpy()
        maps.append(net.activation_map(pixels * RATE)[0].sum(axis=3))
    return np.concatenate(maps)


def draw(found, rows, table, maps, kinds):
    """Fractions, widths against errors, and example maps of each kind."""
    plt = pyplot()
    from matplotlib.ticker import LogLocator, NullFormatter

    figure = plt.figure(figsize=(13, 6.4), layout="constrained")
    top, bottom = figure.subfigures(2, 1)
    first, *panels = top.subplots(1, 5)
    names = list(dict.fromkeys(row["posterior"] for row in rows))
    everything, left = [row for row in rows if row["clusters"] == "all"], np.zeros(len(names))
    for kind, color in zip(KINDS, (INK, GREY, ACCENT)):
        first.barh(names, [row[kind] for row in everything], left=left, color=color, label=kind)
        left += [row[kind] for row in everything]
    first.invert_yaxis()
    first.set(xlabel="share", xlim=(0, 1))
    first.legend(fontsize=7, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1), frameon=False, columnspacing=0.8)
    for ax, name in zip(panels, found.estimate.space.names):
        part = [row for row in table if row["parameter"] == name]
        x = np.array([row["half_width"] for row in part])
        ax.plot(x, [row["error_68"] for row in part], "o-", ms=4, color=INK)
        ax.plot(x, x, color=ACCENT, lw=1)
        ax.set(xlabel=f"half 68 % interval [{UNITS[name]}]", xscale="log", yscale="log")
        ax.set_title(PLOTTED[name], fontsize="medium")
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_locator(LogLocator(subs=(1, 3)))
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter(NullFormatter())
    panels[0].set_ylabel("68 % of the errors are below")
    space = found.estimate.space
    extent = (space["age"].bounds[0] + 6, space["age"].bounds[1] + 6, *space["a_v"].bounds)
    chosen = [i for kind in KINDS for i in np.flatnonzero((kinds == kind) & (found.visibility > 10))[:2]]
    for ax, i in zip(bottom.subplots(1, 6), chosen):
        ax.imshow(maps[i].T, origin="lower", aspect="auto", extent=extent, cmap="Blues")
        ax.plot(found.true("age")[i], found.true("a_v")[i], "+", color=ACCENT, ms=10, mew=2)
        ax.set(xlabel="log age [yr]", ylabel="$A_V$ [mag]")
        ax.set_title(kinds[i], fontsize="medium")
    save(figure, "morphology")


def main():
    args = arguments(__doc__, grid=("m83-paper", "name or file of a network with a grid head"))
    net = network(args.model)
    found, _ = reference(args, net)
    rows = [row for name in found.estimate.space.names
            for row in shares(found.estimate.morphology(name), f"{TITLES[name]}", found.visibility)]
    maps = found.estimate.joint("age", "a_v")[2]
    kinds = np.array([kind_of_map(density) for density in maps])
    rows += shares(kinds, "map of the flow", found.visibility)
    peers = peer_answers(args, found).estimate.joint("age", "a_v")[2]
    rows += shares(np.array([kind_of_map(density) for density in peers]), "map of the peer", found.visibility)
    note = f"{len(found.truth):,} {args.clusters}, {net!r}"
    try:
        grid = network(args.grid)
    except ValueError as error:
        print(f"no activation maps: {error}")
        note += f"; there is no network {args.grid} here, so the activation maps of the grid head are missing."
    else:
        maps = activation_maps(args, grid)
        kinds = np.array([kind_of_map(density) for density in maps])
        rows += shares(kinds, "activation map", found.visibility)
        note += f" and {grid!r}."
    page = [{"posterior": row["posterior"], "clusters": row["clusters"], "number": row["number"]}
            | {kind: f"{row[kind]:.3f} ± {row[f'{kind}_error']:.3f}" for kind in KINDS} for row in rows]
    write("morphology", rows, note, page)
    table = widths(found)
    page = [{"parameter": f"{TITLES[row['parameter']]} [{UNITS[row['parameter']]}]", "tenth": str(row["tenth"]),
             "half width": row["half_width"], "error": row["error_68"], "ratio": f"{row['ratio']:.2f}", "rms": row["rms"]}
            for row in table if row["tenth"] in (1, 5, 10)]
    note = "Tenths of the clusters by the width of their posterior: half the 68 % interval, and what 68 % of errors are below."
    write("widths", table, note, page)
    draw(found, rows, table, maps, kinds)


if __name__ == "__main__":
    main()
