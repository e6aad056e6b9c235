# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
The built-in PSF of WFC3/UVIS against the official encircled energies: a table on the screen and a figure.

``python benchmarks/builtin_psf.py --data DIR`` reads ``DIR/psf/wfc3uvis1_EE_aper_007_syn.csv`` (STScI, chip UVIS1) and writes
``docs/figures/builtin_psf.png``. Stars are rendered at eight positions within a pixel and measured in circular apertures.
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from astropy import units as u
from astropy.table import Table
from photutils.aperture import CircularAperture

from clustercnn.instruments import Instrument
from clustercnn.psf import hst_psf

ROOT = Path(__file__).resolve().parents[1]
SCALE, SIZE = 0.04, 128
SHOWN = {"F275W": "C4", "F336W": "C0", "F438W": "C2", "F814W": "C3"}


def growth(psf, radius, rng):
    """Encircled energy at radii in arcsec, mean over positions within a pixel."""
    f = np.fft.fftfreq(2 * SIZE, 0.5)
    fy, fx = f[:, None], f[None, :]
    otf, curves = psf.otf(fy, fx), []
    for x, y in SIZE // 2 + rng.uniform(-0.5, 0.5, (8, 2)):
        image = np.fft.ifft2(otf * np.exp(-2j * np.pi * (fx * x + fy * y))).real[::2, ::2] * 4
        curves.append([CircularAperture((x, y), r / SCALE).do_photometry(image)[0][0] for r in radius])
    return np.mean(curves, axis=0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="reference data folder")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "figures" / "builtin_psf.png")
    arguments = parser.parse_args()

    table = Table.read(arguments.data / "psf" / "wfc3uvis1_EE_aper_007_syn.csv")
    columns = [name for name in table.colnames if name.startswith("APER#") and float(name[5:]) <= 2]
    radius = np.array([float(name[5:]) for name in columns])
    official = {row["FILTER"]: np.array([row[name] for name in columns]) for row in table}
    inner, outer = (radius >= 0.08) & (radius <= 0.5), radius > 0.5

    figure, (top, bottom) = plt.subplots(2, 1, sharex=True, figsize=(6, 4.6), height_ratios=(2, 1), layout="constrained")
    print("band   largest deviation at 0.08-0.5 arcsec, beyond")
    for band in Instrument.from_name("HST/WFC3/UVIS", exposure=1 * u.s).bands:
        if band == "F225W":  # no built-in PSF
            continue
        energy = growth(hst_psf(band), radius, np.random.default_rng(0))
        difference = energy - official[band]
        print(f"{band}  {np.abs(difference[inner]).max():.4f} {np.abs(difference[outer]).max():.4f}")
        if band in SHOWN:
            top.plot(radius, official[band], "o", ms=3, color=SHOWN[band], label=band)
            top.plot(radius, energy, "-", lw=1, color=SHOWN[band])
        bottom.plot(radius, difference, "-", lw=1, color=SHOWN.get(band, "0.8"), zorder=2 if band in SHOWN else 1)
    bottom.axhspan(-0.01, 0.01, color="0.93", zorder=0)
    bottom.axvline(1.25, color="0.5", ls=":", lw=1)
    top.set(ylabel="encircled energy", title="Built-in PSF (lines) and STScI, UVIS1 (points)")
    top.legend(frameon=False, loc="lower right")
    bottom.set(xlabel="radius [arcsec]", ylabel="difference", xlim=(0, 2))
    figure.savefig(arguments.out, dpi=90)


if __name__ == "__main__":
    main()
