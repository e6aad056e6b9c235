# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Show the range of the synthetic galaxy discs: examples, medians of stamps, and the luminosity function of the field stars.

    python benchmarks/background_range.py [--fields 150] [--seed 1] [--out docs/figures/background_range.png]

About 40 s on one core.  Discs are drawn as those of the training stream; the luminosity function is that of one disc without
dust, against the isochrones, the mass function and the history of star formation alone.  Prints the table behind the figure.
"""

import argparse
from pathlib import Path

import matplotlib
import numpy as np
from astropy import units as u
from PIL import Image

from clustercnn.instruments import Instrument
from clustercnn.plotting import color_image
from clustercnn.simulation import GalaxyDisc
from clustercnn.stellar import IsochroneGrid, get_imf

M83 = Instrument.from_name("HST/WFC3/UVIS/M83")
DISTANCE = 4.5 * u.Mpc
MODULUS = 5 * np.log10(DISTANCE.to_value(u.pc) / 10)
STAMP = 64
EXAMPLES = (24.5, 23.5, 22.5, 21.5, 20.8)  # mag / arcsec2
COLORS = {"F336W": "#8e44ad", "F438W": "#31688e", "F814W": "#d1495b"}
STYLES = {"F336W": ":", "F438W": "--", "F814W": "-"}


def stamps_of(rates):
    """All whole stamps side by side, shape (n, band, ny, nx)."""
    n = rates.shape[1] // STAMP
    return rates.reshape(3, n, STAMP, n, STAMP).transpose(1, 3, 0, 2, 4).reshape(-1, 3, STAMP, STAMP)


def expected_luminosity_function(brightness, area, edges):
    """Stars per bin of F814W in an area (arcsec2) of constant star formation and a V surface brightness."""
    grid, imf = IsochroneGrid.default(), get_imf("kroupa")
    ages = np.concatenate([[0], 10 ** ((grid.log_ages[1:] + grid.log_ages[:-1]) / 2), [10 ** grid.log_ages[-1]]])
    light, number_of_stars = 0.0, np.zeros(len(edges) - 1)
    for width, log_age in zip(np.diff(ages), grid.log_ages, strict=True):
        knots, magnitudes = grid.magnitudes(log_age, 0.0, (M83.passband("F814W"), "BESSELL_V"))
        mass = np.interp(np.linspace(0, len(knots) - 1, 40001), np.arange(len(knots)), knots)
        number = np.diff(imf.cdf(mass)) / imf.mean_mass * width
        absolute = np.stack([np.interp((mass[1:] + mass[:-1]) / 2, knots, plane) for plane in np.transpose(magnitudes)])
        light += np.sum(number * 10 ** (-0.4 * absolute[1]))
        number_of_stars += np.histogram(absolute[0] + MODULUS, edges, weights=number)[0]
    return number_of_stars * area * 10 ** (-0.4 * (brightness - MODULUS)) / light


def main():
    """Draw, print, plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fields", type=int, default=150)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs" / "figures" / "background_range.png")
    arguments = parser.parse_args()
    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    generators = np.random.default_rng(arguments.seed).spawn(arguments.fields)
    stamps = np.concatenate([
        stamps_of(GalaxyDisc.draw(M83, rng, distance=DISTANCE).rates((4 * STAMP, 4 * STAMP), rng)) for rng in generators
    ])
    medians, ninth = np.median(stamps, axis=(2, 3)), np.percentile(stamps, 90, axis=(2, 3))
    print("electron/s per pixel: percentiles 1, 10, 50, 90, 99 of the stamps' medians; of their 90th percentile over the median")
    for i, band in enumerate(M83.bands):
        print(band, np.percentile(medians[:, i], [1, 10, 50, 90, 99]).round(4),
              np.percentile(ninth[:, i] / medians[:, i], [1, 10, 50, 90, 99]).round(2))

    figure = plt.figure(figsize=(9, 5.2), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(1, 1.25))
    for i, (ax, brightness) in enumerate(zip(top.subplots(1, len(EXAMPLES)), EXAMPLES, strict=True)):
        disc = GalaxyDisc(M83, brightness * u.mag / u.arcsec**2, 1.5, 0.4 * u.mag, distance=DISTANCE)
        ax.imshow(color_image(disc.observe((120, 120), arguments.seed + i)), origin="lower")
        ax.set(xticks=[], yticks=[])
        ax.set_title(f"$\\mu_V$ = {brightness}", fontsize=9)
    left, right = bottom.subplots(1, 2)
    for i, band in enumerate(M83.bands):
        left.hist(medians[:, i], np.geomspace(1e-4, 0.5, 40), histtype="step", color=COLORS[band], ls=STYLES[band], label=band)
    left.set(xscale="log", xlabel="median of a stamp [electron/s/pixel]", ylabel="stamps")
    left.axvspan(1e-3, 1e-1, color=COLORS["F814W"], alpha=0.08, lw=0)  # what is wanted of F814W
    left.legend(frameon=False, fontsize=8)

    edges, size = np.arange(20.5, 29.01, 0.5), 768
    stars = GalaxyDisc(M83, 24 * u.mag / u.arcsec**2, a_v=0 * u.mag, distance=DISTANCE).stars((size, size), arguments.seed)
    counts = np.histogram(stars["F814W"].value, edges)[0]
    expected = expected_luminosity_function(24.0, (size + 64) ** 2 * 0.04**2, edges)
    print("field stars at 24 mag/arcsec2 in bins of F814W: from, drawn, expected")
    for row in zip(edges[:-1], counts, expected, strict=True):
        print("{:.1f} {:5d} {:7.1f}".format(*row))
    middle = (edges[1:] + edges[:-1]) / 2
    right.errorbar(middle, counts, np.sqrt(counts), fmt="o", ms=3, color=COLORS["F438W"], label="drawn")
    right.stairs(expected, edges, color="k", lw=0.8, label="isochrones")
    right.set(yscale="log", xlabel="F814W of field stars [mag]", ylabel="stars per bin", ylim=(0.5, None))
    right.legend(frameon=False, fontsize=8)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(arguments.out, dpi=80)
    with Image.open(arguments.out) as image:
        image.convert("RGB").quantize(192).save(arguments.out, optimize=True)  # a third of the bytes
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
