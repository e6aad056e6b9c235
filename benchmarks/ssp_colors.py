# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Colours and mass-to-light ratios of simple stellar populations: the shipped isochrones against PARSEC and BC03.

``python benchmarks/ssp_colors.py --data DIR [--out DIR]`` compares at the ages of the shipped grid (log age/yr 6.6 to 10.1):

* default: the shipped isochrones (Hurley, Pols & Tout 2000), Z = 0.02, Kroupa (2001) IMF from 0.08 to 120 Msun;
* PARSEC: ``isochrones/isoc_z0.0200.dat`` with the same IMF and the same bolometric corrections, so that only the evolution
  of the stars differs;
* BC03: ``catalogs/bc03_*_sol.npy``, colours of Bruzual & Charlot populations of solar metallicity against age in Myr. The
  files hold numbers only: neither their IMF nor the exact version is stated. Beyond log age 8.2 they agree with PARSEC in
  the Vega system and these WFC3/UVIS bands to 0.05 to 0.09 mag rms; in the AB system they would be off by 0.14 to 1.3 mag.
  ``bc03_model_bi_sol.npy`` repeats B - V and is not read.

A mass-to-light ratio is in solar units of the band, per Msun formed or per Msun of living stars (no remnants). The Sun has
the magnitudes that the same bolometric corrections give it. BC03 came without luminosities.
"""

import argparse
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.table import QTable, Table

from clustercnn.stellar import IsochroneGrid, absolute_magnitudes, get_imf
from clustercnn.stellar.isochrones import SOLAR_LOG_G, SOLAR_LOG_TEFF

__all__ = ["bc03", "differences", "living_fraction", "population"]

BANDS = ("F275W", "F336W", "F438W", "F555W", "F814W")
COLOURS = (("F275W", "F336W"), ("F336W", "F438W"), ("F438W", "F555W"), ("F555W", "F814W"), ("F438W", "F814W"))
NAMES = tuple(f"{first}-{second}" for first, second in COLOURS)
BC03_FILES = ("nuvu", "ub", "bv", "vi")  # the first four colours
RATIOS = (("BESSELL_V", "M/L_V"), ("F438W", "M/L_F438W"))
SHOWN = (6.6, 7.0, 7.5, 8.0, 8.5, 9.0, 9.5, 10.0)
RANGES = ((6.6, 10.1), (6.6, 7.45), (7.5, 8.25), (8.3, 10.1))
ROOT = Path(__file__).resolve().parents[1]


def living_fraction(grid, log_age, metallicity, imf):
    """Mass of the living stars per mass formed; a star lighter than the first of the isochrone keeps its mass."""
    stars = grid.knots(log_age, metallicity)
    edges = np.concatenate([np.geomspace(imf.lower, stars.initial_mass[0], 20)[:-1], stars.initial_mass])
    nodes, weights = np.polynomial.legendre.leggauss(5)
    width = np.diff(edges)[:, None]
    mass = edges[:-1, None] + width * 0.5 * (nodes + 1)
    now = np.where(mass < stars.initial_mass[0], mass, np.interp(mass, stars.initial_mass, stars.mass))
    return float(np.sum(0.5 * weights * width * imf.pdf(mass) * now) / imf.mean_mass)


def population(grid, log_ages, metallicity=0.0, imf="kroupa"):
    """Table of colours, F438W magnitude per Msun formed, living mass fraction and mass-to-light ratios."""
    bands = (*BANDS, *(band for band, _ in RATIOS))
    light = [grid.ssp_magnitudes(10**age * u.yr, metallicity, imf, bands).to_value(u.mag) for age in log_ages]
    magnitudes = dict(zip(bands, np.transpose(light)))
    table = Table({"log_age": log_ages})
    for name, (first, second) in zip(NAMES, COLOURS):
        table[name] = magnitudes[first] - magnitudes[second]
    table["M_F438W"] = magnitudes["F438W"]
    table["living"] = [living_fraction(grid, age, metallicity, get_imf(imf)) for age in log_ages]
    for band, name in RATIOS:
        sun = absolute_magnitudes([0.0], [SOLAR_LOG_TEFF], [SOLAR_LOG_G], 0.0, (band,))[0, 0]
        table[name] = 10 ** (0.4 * (magnitudes[band] - sun))
        table[f"{name}_living"] = table[name] * table["living"]
        table.meta[f"sun_{band}"] = round(float(sun), 3)
    return table


def bc03(folder, log_ages):
    """Table of the published colours, linear in log age between the ages of the files."""
    known = np.log10(np.load(folder / "bc03_age_mod_sol.npy").astype(float) * 1e6)
    table = Table({"log_age": log_ages})
    for name, file in zip(NAMES, BC03_FILES):
        table[name] = np.interp(log_ages, known, np.load(folder / f"bc03_model_{file}_sol.npy"))
    table["F438W-F814W"] = table["F438W-F555W"] + table["F555W-F814W"]
    return table


def differences(pairs):
    """Rows of: models, range of ages, and of each quantity the rms difference and the worst with its age."""
    rows = []
    for title, first, second in pairs:
        for low, high in RANGES:
            inside = (first["log_age"] > low - 0.01) & (first["log_age"] < high + 0.01)
            for name in (*NAMES, *(ratio for _, ratio in RATIOS)):
                if name not in second.colnames:
                    continue
                a, b = (np.asarray(table[name])[inside] for table in (first, second))
                delta = 2.5 * np.log10(a / b) if name.startswith("M/L") else a - b
                worst = np.argmax(abs(delta))
                age = np.asarray(first["log_age"])[inside][worst]
                numbers = np.round([np.sqrt(np.mean(delta**2)), np.mean(delta), delta[worst], age], 4)
                rows.append((title, low, high, name, *numbers))
    names = ("models", "log_age_from", "log_age_to", "quantity", "rms", "mean", "worst", "at_log_age")
    result = QTable(rows=rows, names=names)
    for name in names[4:7]:
        result[name] = result[name] * u.mag
        result[name].info.format = ".3f" if name == "rms" else "+.3f"
    result["at_log_age"].info.format = ".2f"
    return result


def shown(models):
    """The populations at a few ages, one under the other."""
    rows = []
    for log_age in SHOWN:
        for title, table in models.items():
            i = int(np.argmin(abs(table["log_age"] - log_age)))
            rest = [round(table[n][i], 5) if n in table.colnames else np.nan for n in models["default"].colnames[1:]]
            rows.append((log_age, title, *rest))
    names = ("log_age", "model", *models["default"].colnames[1:])
    result = QTable(rows=rows, names=names)
    for name in names[2:]:
        if name in NAMES or name == "M_F438W":
            result[name] = result[name] * u.mag
        result[name].info.format = ".3g" if name.startswith("M/L") else ".2f" if name == "living" else "+.3f"
    return result


def page_tables(table, difference):
    """The same for the page: colours, mass-to-light ratios, differences, in reStructuredText."""
    def text(values, form):
        return [format(float(value), form) if np.isfinite(value) else "n/a" for value in values]

    heads = {"log age/yr": text(table["log_age"], ".1f"), "model": list(table["model"])}
    colours = Table({**heads, **{n.replace("-", " - "): text(table[n].value, "+.2f") for n in NAMES}})
    own = table[np.isfinite(table["living"])]
    heads = {"log age/yr": text(own["log_age"], ".1f"), "model": list(own["model"]), "living": text(own["living"], ".2f")}
    heads["M(F438W) of 1 Msun"] = text(own["M_F438W"].value, "+.2f")
    for _, name in RATIOS:
        heads[name.replace("_", "(") + ")"] = text(own[name], "#.3g")
        heads[name.replace("_", "(") + "), living"] = text(own[f"{name}_living"], "#.3g")
    rows = {}
    for row in difference:
        key = (row["models"], f"{row['log_age_from']:.2f} to {row['log_age_to']:.2f}")
        cell = f"{row['rms'].value:.2f} ({row['worst'].value:+.2f})"
        rows.setdefault(key, {})[row["quantity"]] = cell
    columns = ("F275W-F336W", "F336W-F438W", "F438W-F555W", "F555W-F814W", "F438W-F814W", "M/L_V", "M/L_F438W")
    spread = Table(
        rows=[(*key, *(cells.get(name, "n/a") for name in columns)) for key, cells in rows.items()],
        names=("models", "log age/yr", *(n.replace("-", " - ") if "-" in n else n.replace("_", "(") + ")" for n in columns)),
    )
    return {"ssp_colors.rst": colours, "ssp_mass_to_light.rst": Table(heads), "ssp_differences.rst": spread}


def save(figure, path):
    """A PNG of 64 colours, which is small."""
    from PIL import Image

    figure.savefig(path, dpi=100)
    with Image.open(path) as image:
        small = image.convert("RGB").quantize(64)
    small.save(path, optimize=True)


def draw(models, path):
    """Two colours and the mass-to-light ratio against age, and below them what the models differ by."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    style = {
        "default": dict(color="#0072B2", ls="-", lw=2),
        "PARSEC": dict(color="#D55E00", ls="--", lw=1.6),
        "BC03": dict(color="0.25", ls=":", lw=1.8),
    }
    label = {"default": "clustercnn default (SSE)", "PARSEC": "PARSEC, same corrections", "BC03": "Bruzual & Charlot 2003"}
    figure, axes = plt.subplots(
        2, 3, figsize=(11, 5.6), sharex=True, height_ratios=(2, 1.1), layout="constrained"
    )
    default = models["default"]
    for column, name in enumerate(("F336W-F438W", "F438W-F814W", "M/L_V")):
        top, bottom = axes[:, column]
        bottom.axhline(0, color="0.7", lw=1)
        for title, table in models.items():
            if name not in table.colnames:
                continue
            top.plot(table["log_age"], table[name], label=label[title], **style[title])
            if title != "default":
                a, b = np.asarray(default[name]), np.asarray(table[name])
                bottom.plot(default["log_age"], 2.5 * np.log10(a / b) if column == 2 else a - b, **style[title])
        spaced = name.replace("-", " $-$ ")
        if column == 2:
            top.plot(default["log_age"], default["M/L_V_living"], color="#56B4E9", lw=1, label="default, living stars only")
            top.set(yscale="log", ylabel=r"$M/L_V$  [$M_\odot/L_{V,\odot}$]")
            top.legend(frameon=False, loc="upper left", fontsize=9)
            bottom.set(ylabel="default / PARSEC [mag]", ylim=(-1.2, 1.2))
        else:
            top.set(ylabel=f"{spaced} [mag]")
            bottom.set(ylabel="default $-$ other [mag]", ylim=(-1.2, 1.2))
        bottom.set(xlabel="log age / yr", xlim=(6.55, 10.15))
        for axis in (top, bottom):
            axis.tick_params(direction="in", top=True, right=True, which="both")
    axes[0, 0].legend(frameon=False, loc="lower right", fontsize=9)
    save(figure, path)
    plt.close(figure)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.strip().split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with isochrones/ and catalogs/")
    parser.add_argument("--out", type=Path, help="folder for everything; else benchmarks/results and docs/figures")
    args = parser.parse_args(arguments)
    results, figures = (args.out, args.out) if args.out else (ROOT / "benchmarks" / "results", ROOT / "docs" / "figures")
    results.mkdir(parents=True, exist_ok=True)
    grid = IsochroneGrid.default()
    other = IsochroneGrid.read(args.data / "isochrones" / "isoc_z0.0200.dat")
    models = {
        "default": population(grid, grid.log_ages),
        "PARSEC": population(other, grid.log_ages, other.metallicities[0]),
        "BC03": bc03(args.data / "catalogs", grid.log_ages),
    }
    table = shown(models)
    pairs = (("default - PARSEC", "default", "PARSEC"), ("default - BC03", "default", "BC03"), ("PARSEC - BC03", "PARSEC", "BC03"))
    difference = differences([(title, models[first], models[second]) for title, first, second in pairs])
    table.meta.update(models["default"].meta, default=grid.source, parsec=other.source, imf="Kroupa 0.08 to 120 Msun", z=0.02)
    table.write(results / "ssp_colors.ecsv", overwrite=True)
    difference.write(results / "ssp_differences.ecsv", overwrite=True)
    for name, page in page_tables(table, difference).items():
        page.write(results / name, format="ascii.rst", overwrite=True)
    draw(models, figures / "ssp_colors.png")
    table.pprint(max_lines=-1, max_width=-1)
    difference.pprint(max_lines=-1, max_width=-1)
    return table, difference


if __name__ == "__main__":
    main()
