# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
What drawing stars one by one does: colour-magnitude diagrams, and the scatter of integrated colours with mass.

``python benchmarks/cluster_diagrams.py [--clusters 200] [--out DIR]`` needs no data; two minutes on one core. The shipped
isochrones at nodes of their ages, Z = 0.02, Kroupa IMF, no dust, no photometric errors, no binaries.

For each age and mass, 200 clusters are drawn, each with all of its stars. Per quantity the table has

* ``ssp``: the value of a population of infinitely many stars (M_F438W: of a cluster of this mass);
* ``median_offset``: the median cluster minus ``ssp``, and its standard error; ``mean_light_offset``: the same for the summed
  light of all the clusters, which must vanish within its error but for the drawing to a fixed mass;
* ``half_width``: half of the range from the 16th to the 84th percentile, and its standard error (both by bootstrap);
* ``std``: the standard deviation;
* ``expected``: the standard deviation that follows from the IMF and the isochrone if the scatter is small, proportional to
  mass**-0.5 by construction; ``expected_usual``: the same without the most influential stars, of which a cluster has 0.1
  or fewer on average; nine clusters in ten have none of them, and the 16 to 84 % range hardly knows them;
* ``n_effective``: mean**2 / variance of the light of the reddest band of the quantity, the number of equal stars that would
  scatter as much.
"""

import argparse
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.table import QTable, Table

from clustercnn import SyntheticCluster
from clustercnn.stellar import IsochroneGrid, get_imf

__all__ = ["draw_clusters", "expected_scatter", "spread"]

BANDS = ("F336W", "F438W", "F814W")
TITLES = {"F336W-F438W": "F336W - F438W", "F438W-F814W": "F438W - F814W", "M_F438W": "M(F438W)"}
QUANTITIES = tuple(TITLES)
SPREAD_AGES = (6.7, 7.0, 7.3, 8.0, 9.0)  # 5, 10, 20, 100, 1000 Myr
SPREAD_MASSES = (1e3, 3e3, 1e4, 3e4, 1e5)
DIAGRAM_AGES = (6.7, 7.3, 8.3, 9.3)  # 5, 20, 200, 2000 Myr
DIAGRAM_MASSES = (1e3, 1e4, 1e5)
AT_10_PC = dict(half_light_radius=1 * u.pc, distance=10 * u.pc, bands=BANDS)
SEED = 20200148
RARE = 0.1  # stars per cluster
COLORS = ("#000000", "#0072B2", "#009E73", "#D55E00", "#CC79A7")
ROOT = Path(__file__).resolve().parents[1]


def name_of(log_age):
    """``20 Myr`` for 7.3."""
    age = float(f"{10 ** (log_age - 6):.1g}")
    return f"{age:g} Myr" if age < 1000 else f"{age / 1000:g} Gyr"


def quantities(magnitudes):
    """F336W-F438W, F438W-F814W and F438W along the last axis, from magnitudes in the three bands."""
    first, second, third = np.moveaxis(np.asarray(magnitudes), -1, 0)
    return np.stack([first - second, second - third, second], axis=-1)


def draw_clusters(log_age, mass, n, rng):
    """Absolute magnitudes (n, band) and realised masses (n) of clusters."""
    magnitudes, masses = np.empty((n, len(BANDS))), np.empty(n)
    for i in range(n):
        cluster = SyntheticCluster(mass * u.Msun, 10**log_age * u.yr, rng=rng, **AT_10_PC)
        magnitudes[i] = [cluster.magnitude(band).value for band in BANDS]
        masses[i] = cluster.mass.value
    return magnitudes, masses


def expected_scatter(log_age, mass):
    """
    Scatter of the three quantities in the limit of small scatter: with all stars, without the rarest; effective numbers.

    Stars arrive as a Poisson process of a fixed total mass: a star of mass m and light l moves the light per mass by
    l / L - m / M, a colour by the difference of its two l / L.
    """
    imf = get_imf("kroupa")
    knots, magnitudes = IsochroneGrid.default().magnitudes(log_age, 0.0, BANDS)
    stars = np.union1d(np.geomspace(knots[0], knots[-1], 200_001), knots)
    light = np.stack([10 ** (-0.4 * np.interp(stars, knots, band)) for band in magnitudes.T])
    number = imf.pdf(stars) * np.gradient(stars) * mass / imf.mean_mass
    share = light / (light @ number)[:, None]
    dead = np.linspace(knots[-1], imf.upper, 100_001)
    of_dead = np.trapezoid(imf.pdf(dead) * dead**2, dead) / mass / imf.mean_mass
    variance, usual = np.zeros((2, len(QUANTITIES)))
    for k, influence in enumerate((share[0] - share[1], share[1] - share[2], share[1] - stars / mass)):
        first = np.argsort(-abs(influence))
        often = np.cumsum(number[first]) > RARE
        parts = influence[first] ** 2 * number[first]
        variance[k], usual[k] = np.sum(parts), np.sum(parts[often])
    variance[2] += of_dead
    usual[2] += of_dead
    effective = 1 / (share**2 @ number)
    return *(2.5 / np.log(10) * np.sqrt([variance, usual])), effective[[1, 2, 1]]


def half_width(values):
    """Half of the range from the 16th to the 84th percentile, along the first axis."""
    low, high = np.percentile(values, [16, 84], axis=0)
    return (high - low) / 2


def spread(log_ages, masses, n, rng, resamplings=400):
    """Table of the scatter, one row per age, mass and quantity."""
    rows = []
    for log_age in log_ages:
        ssp = quantities(IsochroneGrid.default().ssp_magnitudes(10**log_age * u.yr, passbands=BANDS).value)
        for mass in masses:
            magnitudes, realised = draw_clusters(log_age, mass, n, rng)
            light = 10 ** (-0.4 * magnitudes) * (mass / realised)[:, None]
            here = ssp - [0, 0, 2.5 * np.log10(mass)]
            values = quantities(-2.5 * np.log10(light)) - here
            again = rng.integers(n, size=(resamplings, n))
            median_error = np.std(np.median(values[again], axis=1), axis=0, ddof=1)
            width_error = np.std([half_width(values[i]) for i in again], axis=0, ddof=1)
            summed = quantities(-2.5 * np.log10(light.mean(axis=0))) - here
            summed_error = np.std(quantities(-2.5 * np.log10(light[again].mean(axis=1))), axis=0, ddof=1)
            scatter, usual, effective = expected_scatter(log_age, mass)
            numbers = np.column_stack([
                here, np.median(values, axis=0), median_error, summed, summed_error,
                half_width(values), width_error, values.std(axis=0, ddof=1), scatter, usual,
            ])
            for k, name in enumerate(QUANTITIES):
                rows.append((name, log_age, mass, *np.round(numbers[k], 4), float(f"{effective[k]:.3g}")))
    names = (
        "quantity", "log_age", "mass", "ssp", "median_offset", "median_error", "mean_light_offset", "mean_light_error",
        "half_width", "half_width_error", "std", "expected", "expected_usual", "n_effective",
    )
    table = QTable(rows=rows, names=names)
    table["mass"] = table["mass"] * u.Msun
    for name in names[3:-1]:
        table[name] = table[name] * u.mag
    return table


def ratio(row, of):
    """The half width in units of what is expected, with its error, as text."""
    return f"{row['half_width'] / row[of]:.2f} ± {row['half_width_error'] / row[of]:.2f}"


def page_table(table):
    """For the page, in reStructuredText: half width (median - SSP) of each quantity and age, one column per mass."""
    rows = {}
    for row in table:
        cells = rows.setdefault((row["quantity"], name_of(row["log_age"])), {})
        cells[row["mass"].value] = f"{row['half_width'].value:.3f} ({row['median_offset'].value:+.3f})"
        if row["mass"] == table["mass"].max():
            cells["ratios"] = [ratio(row, of) for of in ("expected", "expected_usual")]
    masses = sorted(set(table["mass"].value))
    names = ("quantity", "age", *(f"{mass:.0f} Msun" for mass in masses), "/ expected", "/ usual")
    body = [(TITLES[key[0]], key[1], *(cells[mass] for mass in masses), *cells["ratios"]) for key, cells in sorted(rows.items(), key=order)]
    return Table(rows=body, names=names)


def order(item):
    """Quantities in the order of QUANTITIES; sorting keeps the ages as they came."""
    return QUANTITIES.index(item[0][0])


def save(figure, path):
    """A PNG of 64 colours, which is small."""
    from PIL import Image

    figure.savefig(path, dpi=100)
    with Image.open(path) as image:
        small = image.convert("RGB").quantize(64)
    small.save(path, optimize=True)


def draw_diagrams(log_ages, masses, rng, path):
    """Colour-magnitude diagrams, a column per age and a row per mass."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    grid = IsochroneGrid.default()
    figure, axes = plt.subplots(
        len(masses), len(log_ages), figsize=(2.5 * len(log_ages), 2.5 * len(masses)),
        sharex=True, sharey=True, squeeze=False, layout="constrained",
    )
    for column, log_age in enumerate(log_ages):
        _, track = grid.magnitudes(log_age, 0.0, BANDS)
        ssp = quantities(grid.ssp_magnitudes(10**log_age * u.yr, passbands=BANDS).value)
        for row, mass in enumerate(masses):
            cluster = SyntheticCluster(mass * u.Msun, 10**log_age * u.yr, rng=rng, **AT_10_PC)
            stars, axis = cluster.stars, axes[row, column]
            axis.plot(track[:, 1] - track[:, 2], track[:, 2], color="#E69F00", lw=0.8, zorder=1)
            color, magnitude = (stars["F438W"] - stars["F814W"]).value, stars["F814W"].value
            axis.plot(color, magnitude, ".", color="k", ms=3.2, mew=0, zorder=2)
            axis.axvline(ssp[1], color="#D55E00", ls=":", lw=1.2, zorder=0)
            x, y = cluster.color("F438W", "F814W").value, cluster.magnitude("F814W").value
            axis.plot(x, y, "D", color="#0072B2", ms=6, mec="w", mew=0.8, zorder=3)
            axis.set(xlim=(-0.9, 5), ylim=(6.5, -15.5))
            axis.tick_params(direction="in", top=True, right=True)
            text = rf"{name_of(log_age)}, $10^{np.log10(mass):.0f}\,M_\odot$"
            axis.text(0.96, 0.95, text, transform=axis.transAxes, ha="right", va="top")
    figure.supxlabel("F438W $-$ F814W [mag, Vega]")
    figure.supylabel("absolute magnitude in F814W [Vega]")
    save(figure, path)
    plt.close(figure)


def draw_spread(table, path):
    """Half widths and offsets of the median against mass, for each quantity."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        2, len(QUANTITIES), figsize=(11, 6), sharex=True, height_ratios=(1.6, 1), layout="constrained"
    )
    markers = "osD^v"
    for (top, bottom), name in zip(axes.T, QUANTITIES):
        bottom.axhline(0, color="0.7", lw=1)
        for k, log_age in enumerate(sorted(set(table["log_age"]))):
            rows = table[(table["quantity"] == name) & (table["log_age"] == log_age)]
            mass = rows["mass"].value * 1.04 ** (k - 2)
            style = dict(color=COLORS[k % 5], marker=markers[k % 5], ms=5, capsize=2, lw=1.3)
            top.plot(mass, rows["expected"].value, color=COLORS[k % 5], ls=":", lw=1.1)
            top.errorbar(
                mass, rows["half_width"].value, rows["half_width_error"].value, label=name_of(log_age), ls="none", **style
            )
            bottom.errorbar(mass, rows["median_offset"].value, rows["median_error"].value, **style)
        top.set(xscale="log", yscale="log", title=TITLES[name].replace("-", "$-$"))
        bottom.set(xlabel=r"cluster mass [$M_\odot$]")
        for axis in (top, bottom):
            axis.tick_params(direction="in", top=True, right=True, which="both")
    for row in axes:
        low, high = min(axis.get_ylim()[0] for axis in row), max(axis.get_ylim()[1] for axis in row)
        for axis in row:
            axis.set_ylim(low, high)
    axes[0, 0].set_ylabel("half of the 16-84 % range [mag]")
    axes[1, 0].set_ylabel("median $-$ SSP [mag]")
    axes[0, 0].legend(frameon=False, fontsize=9, loc="lower left")
    save(figure, path)
    plt.close(figure)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.strip().split("\n")[0])
    parser.add_argument("--clusters", type=int, default=200, help="clusters per age and mass")
    parser.add_argument("--out", type=Path, help="folder for everything; else benchmarks/results and docs/figures")
    args = parser.parse_args(arguments)
    results, figures = (args.out, args.out) if args.out else (ROOT / "benchmarks" / "results", ROOT / "docs" / "figures")
    results.mkdir(parents=True, exist_ok=True)
    for_diagrams, for_spread = np.random.default_rng(SEED).spawn(2)
    draw_diagrams(DIAGRAM_AGES, DIAGRAM_MASSES, for_diagrams, figures / "cluster_diagrams.png")
    table = spread(SPREAD_AGES, SPREAD_MASSES, args.clusters, for_spread)
    table.meta.update(model=IsochroneGrid.default().source, imf="Kroupa 0.08 to 120 Msun", clusters=args.clusters, seed=SEED)
    table.write(results / "stochastic_spread.ecsv", overwrite=True)
    page_table(table).write(results / "stochastic_spread.rst", format="ascii.rst", overwrite=True)
    draw_spread(table, figures / "stochastic_spread.png")
    table.pprint(max_lines=-1, max_width=-1)
    highest = table[table["mass"] == table["mass"].max()]
    print(f"half width over expected at {highest['mass'][0]:.0f}, with all stars and without the rarest:")
    for row in highest:
        ratios = "   ".join(ratio(row, of) for of in ("expected", "expected_usual"))
        print(f"  {row['quantity']:12} {name_of(row['log_age']):>8}  {ratios}")
    return table


if __name__ == "__main__":
    main()
