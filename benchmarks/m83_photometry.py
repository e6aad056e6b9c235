# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Integrated photometry against the sky: the clusters of M83 of Chandar et al. (2010, ApJ, 719, 966).

``python benchmarks/m83_photometry.py --data DIR --out DIR`` gives each catalogued cluster its published age, mass and
E(B-V), computes its F336W, F438W, F555W and F814W magnitudes with the shipped stellar model, and compares with the
measured ones. Facts of the catalogue (its headers):

* magnitudes within 3 pixels, Vega system, corrected for foreground extinction in these four bands; total magnitudes are
  m(3 px) - c10, where c10 is the size-dependent aperture correction (from the concentration in F555W, up to 1.47 mag),
  used here in all bands;
* the published masses come from the total F555W magnitudes (these conventions give back their mass-to-light ratio of
  each age to 0.002 mag), so the offset in F555W compares mass-to-light ratios (theirs are Bruzual & Charlot at twice
  solar metallicity; ours SSE and ATLAS9 at Z = 0.02), and only the colours test the light itself;
* A_V = 3.1 E(B-V), a distance modulus of 28.29 as in the catalogue (28.27 for the 4.5 Mpc of the package's M83 preset).

The model's prediction is the mean light of its stars; ``stochastic`` is the scatter that drawing stars one by one gives.
"""

import argparse
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.table import QTable, Table, join

from clustercnn.stellar import IsochroneGrid, band_extinction, get_imf

__all__ = ["compare", "predict", "read_catalogue", "robust"]

BANDS = ("F336W", "F438W", "F555W", "F814W")
COLUMNS = (17, 25, 37, 49)  # 3-pixel magnitudes
COLOURS = (("F336W", "F438W"), ("F438W", "F555W"), ("F555W", "F814W"), ("F438W", "F814W"))
DISTANCE_MODULUS = 28.29
AGES = ((5.0, 7.0), (7.0, 8.0), (8.0, 9.0), (9.0, 10.5))
MISSING = -900.0


def read_catalogue(folder):
    """The clusters with a published age: id, total magnitudes, log age, A_V, mass; joined by id."""
    photometry = np.genfromtxt(folder / "hlsp_wfc3ers_hst_wfc3_m83_cat_cluster_auto_v1.txt", missing_values="INDEF")
    ages = np.genfromtxt(folder / "hlsp_m83_autocat_ages_public.data")
    left = Table({"id": photometry[:, 4].astype(int), "flag": photometry[:, 10].astype(int)})
    for band, column in zip(BANDS, COLUMNS):
        left[band] = photometry[:, column] - photometry[:, 9]
    right = Table({"id": ages[:, 2].astype(int), "log_age": ages[:, 7], "a_v": 3.1 * ages[:, 4], "mass": ages[:, 9]})
    table = join(left, right, keys="id")
    return table[(table["log_age"] > MISSING) & (table["mass"] > 0)], len(left)


def predict(table, grid, draws, rng):
    """Mean magnitudes (n, band) of the model, and their stochastic scatter, at the nearest age of the grid."""
    extinction = band_extinction(BANDS)
    mean = np.empty((len(table), len(BANDS)))
    colours, scatter = np.empty((draws, len(BANDS))), np.empty((len(table), len(BANDS) + len(COLOURS)))
    imf = get_imf("kroupa")
    for i, row in enumerate(table):
        log_age = grid.log_ages[np.argmin(abs(grid.log_ages - row["log_age"]))]
        mean[i] = grid.ssp_magnitudes(10**log_age * u.yr, passbands=BANDS).value - 2.5 * np.log10(row["mass"])
        initial, magnitudes = grid.magnitudes(log_age, 0.0, BANDS)
        flux = 10 ** (-0.4 * magnitudes)
        for draw in range(draws):
            stars = imf.sample_mass(row["mass"], rng)
            colours[draw] = -2.5 * np.log10([np.interp(stars, initial, f, right=0).sum() for f in flux.T])
        pairs = [colours[:, BANDS.index(a)] - colours[:, BANDS.index(b)] for a, b in COLOURS]
        scatter[i] = np.std(np.column_stack([colours, *pairs]), axis=0, ddof=1)
    return mean + DISTANCE_MODULUS + np.asarray(table["a_v"])[:, None] * extinction, scatter


def robust(values):
    """Number, median and 1.48 MAD of the finite values."""
    values = values[np.isfinite(values)]
    median = np.median(values)
    return len(values), median, 1.4826 * np.median(abs(values - median))


def compare(table, mean, scatter):
    """Rows of: quantity, ages, number, median of observed - model, robust scatter, median stochastic scatter."""
    observed = np.column_stack([table[band] for band in BANDS])
    difference = observed - mean
    columns = {band: difference[:, i] for i, band in enumerate(BANDS)}
    columns.update({f"{a}-{b}": columns[a] - columns[b] for a, b in COLOURS})
    rows = []
    for low, high in ((5.0, 10.5), *AGES):
        inside = (table["log_age"] >= low) & (table["log_age"] < high)
        for k, (name, values) in enumerate(columns.items()):
            rows.append((name, low, high, *robust(values[inside]), np.median(scatter[inside, k])))
    names = ("quantity", "log_age_from", "log_age_to", "n", "offset", "scatter", "stochastic")
    result = QTable(rows=rows, names=names)
    for name in names[4:]:
        result[name] = result[name] * u.mag
        result[name].info.format = "+.3f" if name == "offset" else ".3f"
    return result, columns


def draw(table, mean, columns, path):
    """Model against catalogue in a colour-colour diagram, and the differences against age."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(13, 4.2), layout="constrained")
    x, y = table["F438W"] - table["F814W"], table["F336W"] - table["F438W"]
    axes[0].plot(x, y, ".", ms=4, alpha=0.5, label="catalogue")
    axes[0].plot(
        mean[:, 1] - mean[:, 3],
        mean[:, 0] - mean[:, 1],
        ".",
        ms=4,
        alpha=0.5,
        label="model at the published parameters",
    )
    axes[0].set(xlabel="F438W - F814W", ylabel="F336W - F438W", xlim=(-1, 3.5), ylim=(1.5, -2.2))
    axes[0].legend()
    jitter = np.random.default_rng(0).uniform(-0.01, 0.01, len(table))
    for axis, name in zip(axes[1:], ("F336W-F438W", "F438W-F814W")):
        axis.axhline(0, color="0.5")
        axis.plot(table["log_age"] + jitter, columns[name], ".", ms=4, alpha=0.5)
        for low, high in AGES:
            inside = (table["log_age"] >= low) & (table["log_age"] < high)
            _, median, width = robust(columns[name][inside])
            axis.errorbar(np.median(table["log_age"][inside]), median, width, fmt="ks", capsize=3, zorder=3)
        axis.set(xlabel="published log age/yr", ylabel=f"catalogue - model, {name} [mag]", ylim=(-1.5, 1.5))
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main():
    parser = argparse.ArgumentParser(description=__doc__.strip().split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with catalogs/")
    parser.add_argument("--out", type=Path, default=Path("."), help="folder for the table and the figure")
    parser.add_argument("--draws", type=int, default=8, help="stochastic realisations of each cluster")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    table, total = read_catalogue(args.data / "catalogs")
    grid = IsochroneGrid.default()
    mean, scatter = predict(table, grid, args.draws, np.random.default_rng(2010))
    result, columns = compare(table, mean, scatter)
    outside = int(
        np.sum((table["log_age"] < grid.log_ages[0] - 0.025) | (table["log_age"] > grid.log_ages[-1] + 0.025))
    )
    result.meta.update(
        catalogue="Chandar et al. (2010)", model=grid.source, clusters=total, with_age=len(table), outside_grid=outside
    )
    result.write(args.out / "m83_photometry.ecsv", overwrite=True)
    draw(table, mean, columns, args.out / "m83_photometry.png")
    print(f"{len(table)} of {total} clusters have a published age; {outside} of these lie outside the isochrones' ages")
    result.pprint(max_lines=-1, max_width=-1)


if __name__ == "__main__":
    main()
