# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
What it matters that dust reddens within a band: extinction integrated over spectra minus the law at the pivot wavelength.

``python benchmarks/extinction_terms.py`` compares `integrated_extinction` with `band_extinction` (F99, R_V = 3.1), for single
stars of 3500 to 40000 K in all passbands, and for whole populations, and writes ``benchmarks/results/extinction_terms.ecsv`` and
``.txt`` and ``docs/figures/extinction_terms.png``. No spectra are needed: the package ships the integrated ratios.
"""

import argparse
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.table import QTable

from clustercnn.stellar import IsochroneGrid, band_extinction, get_imf, integrated_extinction, passbands

__all__ = ["populations", "stars"]

TEFF = (3500, 4000, 5000, 7000, 10000, 20000, 40000)
A_V = (1.0, 3.0)
AGES = (6.6, 7.0, 8.0, 9.0, 10.0)
BANDS = ("F275W", "F336W", "F438W", "F555W", "F814W")
ROOT = Path(__file__).resolve().parents[1]


def stars(bands, teff, a_v):
    """Integrated minus pivot (mag), shape (teff, band); giants below 4500 K, dwarfs above."""
    log_g = np.where(np.asarray(teff) < 4500, 1.0, 4.0)
    return a_v * (integrated_extinction(np.log10(teff), log_g, a_v, bands) - band_extinction(bands))


def populations(bands, log_ages, a_v, steps=10):
    """The same of the light of populations, shape (age, band)."""
    grid, imf = IsochroneGrid.default(), get_imf("kroupa")
    result = []
    for log_age in log_ages:
        knots = grid.knots(log_age)
        mass = np.interp(np.arange(len(knots.initial_mass) * steps - steps + 1) / steps, np.arange(len(knots.initial_mass)), knots.initial_mass)
        log_teff, log_g = (np.interp(mass, knots.initial_mass, row) for row in (knots.log_teff, knots.log_g))
        initial, magnitudes = grid.magnitudes(log_age, 0.0, bands)
        number = np.gradient(mass) * imf.pdf(mass)
        light = number[:, None] * 10 ** (-0.4 * np.transpose([np.interp(mass, initial, row) for row in magnitudes.T]))
        dimmed = light * 10 ** (-0.4 * a_v * integrated_extinction(log_teff, log_g, a_v, bands))
        result.append(-2.5 * np.log10(dimmed.sum(axis=0) / light.sum(axis=0)) - a_v * band_extinction(bands))
    return np.array(result)


def tabulate():
    """All passbands that F99 covers: single stars and populations at A_V of 1 and 3 mag."""
    names = []
    for name in passbands():
        try:
            integrated_extinction([4.0], [4.0], 1.0, [name])
        except ValueError:  # longer than the law
            continue
        names.append(name)
    table = QTable({"band": names, "ratio": band_extinction(names)})
    for a_v in A_V:
        columns = {f"{t} K": row for t, row in zip(TEFF, stars(names, TEFF, a_v))}
        columns.update({f"10^{t} yr": row for t, row in zip(AGES, populations(names, AGES, a_v))})
        for label, row in columns.items():
            table[f"A_V={a_v:g}, {label}"] = row * u.mag
    for name in table.colnames[1:]:
        table[name].info.format = ".3f" if name == "ratio" else "+.3f"
    table.meta["definition"] = "ratio: A_band/A_V at the pivot; others: A_band integrated over spectra minus that at the pivot"
    table.meta["law"] = "F99, R_V = 3.1"
    return table


def write_text(table, path):
    """The table for people, one block per A_V."""
    lines = []
    for a_v in A_V:
        labels = [name for name in table.colnames if name.startswith(f"A_V={a_v:g},")]
        short = [name.split(", ")[1] for name in labels]
        lines += [f"A_V = {a_v:g} mag", " ".join([f"{'band':16} ratio"] + [f"{s:>10}" for s in short])]
        for row in table:
            values = [f"{row[name].value:+10.2f}" for name in labels]
            lines.append(" ".join([f"{row['band']:16} {row['ratio']:5.3f}", *values]))
        lines.append("")
    path.write_text("\n".join(lines))


def draw(path):
    """Differences against temperature and against age."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained", sharey=True)
    teff, log_ages = np.geomspace(3500, 40000, 200), IsochroneGrid.default().log_ages
    for i, band in enumerate(BANDS):
        for a_v, style in zip(A_V, ("-", "--")):
            label = {"label": band} if style == "-" else {}
            log_g = np.full(teff.shape, 4.0)
            difference = integrated_extinction(np.log10(teff), log_g, a_v, [band])[:, 0] - band_extinction([band])
            axes[0].semilogx(teff, a_v * difference, style, color=f"C{i}", **label)
            axes[1].plot(log_ages, populations([band], log_ages, a_v)[:, 0], style, color=f"C{i}", **label)
    axes[0].set(xlabel="effective temperature [K], log g = 4", ylabel="integrated - pivot [mag]", ylim=(-0.5, 0.12))
    ticks = [3500, 5000, 10000, 20000, 40000]
    axes[0].set_xticks(ticks, ticks)
    axes[0].minorticks_off()
    axes[1].set(xlabel="log age/yr")
    axes[0].legend(title="A_V = 1 (dashed: 3) mag", loc="lower right")
    figure.savefig(path, dpi=90)
    plt.close(figure)


def main():
    parser = argparse.ArgumentParser(description=__doc__.strip().split("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", help="folder for the tables")
    parser.add_argument("--figures", type=Path, default=ROOT / "docs" / "figures", help="folder for the figure")
    args = parser.parse_args()
    table = tabulate()
    table.write(args.out / "extinction_terms.ecsv", overwrite=True)
    write_text(table, args.out / "extinction_terms.txt")
    draw(args.figures / "extinction_terms.png")
    print((args.out / "extinction_terms.txt").read_text())


if __name__ == "__main__":
    main()
