# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Ages, extinctions and masses of the clusters of M83 of Chandar et al. (2010, ApJ, 719, 966) from their magnitudes, against the published ones.

    python benchmarks/validation/m83_catalogue.py --data FOLDER

with the two files of the catalogue in FOLDER (MAST, HLSP wfc3ers). Total magnitudes as in the catalogue: within 3 pixels, minus the
size-dependent aperture correction c10, in all of F336W, F438W, F555W and F814W, which are corrected for foreground extinction there. Three
models, one of them as rich in metals as the published one, one with as little dust. Writes m83_catalogue.ecsv, m83_mass_to_light.ecsv
(published masses against those of the same light) and m83_catalogue.png. Seeds are inside.
"""

import argparse
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.table import QTable, join
from common import ACCENT, GREY, INK, TITLES, pyplot, save, spread, write

from clustercnn.estimate import FLAGS
from clustercnn.parameters import Parameter, ParameterSpace
from clustercnn.photometric_inference import StochasticMagnitudes
from clustercnn.stellar import IsochroneGrid, band_extinction

BANDS = ("F336W", "F438W", "F555W", "F814W")
COLUMNS = 17, 25, 37, 49  # of the magnitudes within 3 pixels; the next one is the error
DISTANCE = 10 ** (28.29 / 5 + 1) * u.pc  # as in the catalogue
AGES = (5.0, 6.575, 7.0, 8.0, 9.0, 10.5)  # published log age; the first lie below the isochrones
WITHIN = 0.3
SEED = 2010


def read_catalogue(folder):
    """Photometry of the clusters with a published age, and what is published of them."""
    photometry = np.genfromtxt(folder / "hlsp_wfc3ers_hst_wfc3_m83_cat_cluster_auto_v1.txt", missing_values="INDEF")
    published = np.genfromtxt(folder / "hlsp_m83_autocat_ages_public.data")
    left = QTable({"id": photometry[:, 4].astype(int)})
    for band, column in zip(BANDS, COLUMNS):
        left[band] = (photometry[:, column] - photometry[:, 9]) * u.mag
        left[f"{band}_err"] = photometry[:, column + 1] * u.mag
    right = QTable({"id": published[:, 2].astype(int), "age": published[:, 7] - 6, "a_v": 3.1 * published[:, 4], "mass": published[:, 9]})
    right = right[(published[:, 7] > 0) & (published[:, 9] > 0)]
    right["mass"] = np.log10(right["mass"])
    return join(left, right, keys="id")


def compare(table, estimate, model):
    """Inferred minus published values, their robust scatter, share within 0.3, width of the posteriors and coverage, by published age."""
    rows = []
    for i, name in enumerate(estimate.space.names):
        lower, median, upper = quantiles(estimate, name)
        difference, held = median - table[name], (lower <= table[name]) & (table[name] <= upper)
        likely = (np.abs(estimate.draws[:, :, i] - np.asarray(table[name])[:, None]) < WITHIN).mean(axis=1)
        for low, high in ((AGES[0], AGES[-1]), (AGES[1], AGES[-1]), *zip(AGES, AGES[1:])):
            here = (table["age"] + 6 >= low) & (table["age"] + 6 < high)
            found = spread(difference[here])
            rows.append({
                "model": model, "parameter": name, "log_age_from": low, "log_age_to": high, "n": found["n"], "offset": found["bias"],
                "scatter": found["sigma"], "within_0.3": np.mean(np.abs(difference[here]) < WITHIN),
                "half_width": np.median((upper - lower)[here] / 2), "held_68": np.mean(held[here]),
                "probability_within_0.3": np.mean(likely[here]),
            })
    return rows


def quantiles(estimate, name):
    """16 %, 50 % and 84 % of the posteriors, along the coordinate."""
    return [estimate.space[name].to_coordinate(estimate.quantile(name, q)) for q in (0.16, 0.5, 0.84)]


def mass_to_light(table, grid, imf):
    """Published log mass minus that of the model at the published age and A_V, from the light in F555W."""
    dust = table["a_v"] * band_extinction(["F555W"])[0]
    light = -0.4 * (table["F555W"].value - dust - 5 * np.log10(DISTANCE.to_value(u.pc) / 10))
    nearest = np.abs(grid.log_ages[:, None] - (table["age"] + 6)).argmin(axis=0)
    per_mass = [grid.ssp_magnitudes(10**log_age * u.yr, imf=imf, passbands=["F555W"]).value[0] for log_age in grid.log_ages]
    return table["mass"] - (light + 0.4 * np.array(per_mass)[nearest])


def draw(table, estimate):
    """Inferred against published values."""
    plt = pyplot()
    figure, axes = plt.subplots(1, 3, figsize=(12, 4.2), layout="constrained")
    few = (estimate.flags & FLAGS["few mocks"]) > 0
    labels = {"age": "log age [yr]", "a_v": "$A_V$ [mag]", "mass": r"log mass [$M_\odot$]"}
    jitter = np.random.default_rng(SEED).uniform(-0.02, 0.02, len(table))  # published values lie on a grid
    for ax, name in zip(axes, estimate.space.names):
        shift = 6 if name == "age" else 0
        lower, median, upper = (values + shift for values in quantiles(estimate, name))
        x = table[name] + shift
        ends = min(x.min(), median.min()), max(x.max(), median.max())
        ax.plot(ends, ends, "-", color=GREY, lw=1)
        ax.errorbar(x + jitter, median, [median - lower, upper - median], fmt="none", ecolor=INK, elinewidth=0.5, alpha=0.3)
        for rows, color, label in ((~few, INK, "all"), (few, ACCENT, "few mocks agree")):
            ax.plot((x + jitter)[rows], median[rows], ".", ms=4, color=color, label=label)
        ax.set(xlabel=f"published {labels[name]}", ylabel=f"inferred {labels[name]}")
    axes[0].axvline(AGES[1], color=GREY, lw=0.8, ls=":")
    axes[0].legend(frameon=False)
    save(figure, "m83_catalogue")


def main():
    parser = argparse.ArgumentParser(description=__doc__.strip().split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with the two files of the catalogue")
    parser.add_argument("--samples", type=int, default=100_000, help="clusters in a library")
    args = parser.parse_args()
    table = read_catalogue(args.data)
    grid = IsochroneGrid.default()
    space = StochasticMagnitudes(BANDS, distance=DISTANCE, samples=1000).space
    thin = ParameterSpace([space["age"], Parameter("a_v", 0 * u.mag, 1.55 * u.mag, "linear", 10), space["mass"]])
    models = {"default": {}, "Z = 0.03": {"metallicity": np.log10(0.03 / grid.z_sun)}, "A_V < 1.55": {"space": thin}}
    rows, few = [], {}
    for model, settings in models.items():
        peer = StochasticMagnitudes(BANDS, distance=DISTANCE, samples=args.samples, rng=SEED, progress=True, **settings)
        estimate = peer.predict(table, draws=500)
        rows += compare(table, estimate, model)
        few[model] = int(np.sum(estimate.flags & FLAGS["few mocks"] > 0))
        if model == "default":
            draw(table, estimate)
    page = [{"parameter": TITLES[row["parameter"]], "published log age": f"{row['log_age_from']:g} to {row['log_age_to']:g}",
             "number": row["n"], "offset": f"{row['offset']:+.2f}", "1.48 MAD": f"{row['scatter']:.2f}",
             f"within {WITHIN}": f"{row['within_0.3']:.2f}", "half width": f"{row['half_width']:.2f}", "68 % hold": f"{row['held_68']:.2f}"}
            for row in rows if row["model"] == "default"]
    note = (f"{len(table)} clusters of Chandar et al. (2010), a library of {args.samples:,} clusters behind ten screens, seed {SEED}. "
            f"Inferred minus published, in dex and mag; few mocks agree with {few['default']} of them.")
    write("m83_catalogue", rows, note, page)
    offsets = {imf: mass_to_light(table, grid, imf) for imf in ("kroupa", "salpeter")}
    rows = []
    for low, high in zip(AGES, AGES[1:]):
        here = (table["age"] + 6 >= low) & (table["age"] + 6 < high)
        rows.append({"published log age": f"{low:g} to {high:g}", "number": int(here.sum())}
                    | {f"{imf} [dex]": float(np.median(offset[here])) for imf, offset in offsets.items()})
    write("m83_mass_to_light", rows, "Published log mass minus that of the model with the same light in F555W, age and A\\ :sub:`V`; medians.")


if __name__ == "__main__":
    main()
