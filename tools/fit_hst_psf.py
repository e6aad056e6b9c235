# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Fit the built-in HST PSF model to the official WFC3/UVIS encircled energies and write its table.

    python tools/fit_hst_psf.py --data DIR [--out clustercnn/data/hst_psf.ecsv]

DIR is the reference data folder; it holds psf/wfc3uvis1_EE_aper_007_syn.csv (STScI, chip UVIS1). Each filter's encircled
energy becomes a non-negative sum of circular Gaussians of fixed widths and unit total. The official curves are aperture
photometry on pixelated images, so the light has been through the square pixel twice: once in the detector, once in the
aperture's share of each pixel. Both boxes are taken out here (exactly: the Gaussian's encircled energy is averaged over
the sum of two uniform offsets), so that the model is the PSF before any pixel and a renderer applies the pixel once.
"""

import argparse
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.table import QTable, Table
from scipy.optimize import nnls
from scipy.stats import ncx2

# "FFFFF" are the ends of the table, not filters. The others have official curves that no PSF can have: F218W and F225W, the same
# on both chips, put 60 % of the light within one pixel, where every other band has 6-30 %; F475X falls beyond 0.4 arcsec.
NO_PSF = ("FFFFF", "F218W", "F225W", "F475X")
PIXEL = 0.04  # arcsec
SIGMAS = np.array([0.022, 0.032, 0.046, 0.066, 0.095, 0.14, 0.22, 0.36, 0.6, 1.0, 2.0])  # arcsec; HST is no sharper


def encircled(r, sigma):
    """Share of a Gaussian, twice averaged over a square pixel, that lies within r; (r, sigma) array."""
    nodes, weights = np.polynomial.legendre.leggauss(12)
    offset = PIXEL * (nodes + 1) / 2  # the sum of two uniform offsets has a triangular density, symmetric about 0
    weight = weights * (1 - offset / PIXEL)
    distance = np.hypot(offset[:, None], offset).ravel()
    weight = np.outer(weight, weight).ravel() / weight.sum() ** 2
    r, sigma = np.asarray(r)[:, None, None], np.asarray(sigma)[:, None]
    return ncx2.cdf((r / sigma) ** 2, 2, (distance / sigma) ** 2) @ weight


def fit(radius, energy):
    """Weights of the Gaussians of SIGMAS, and the largest residual at r >= 0.08 arcsec and within 2 arcsec."""
    design = encircled(radius, SIGMAS)
    # The innermost point (an aperture of one pixel) is the least certain; the total is exact.
    weight = np.where(radius < 0.06, 0.5, 1.0)
    rows = np.vstack([design * weight[:, None], 1e3 * np.ones(SIGMAS.size)])
    flux = nnls(rows, np.append(energy * weight, 1e3))[0]
    flux /= flux.sum()
    residual = design @ flux - energy
    return flux, residual


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="reference data folder")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "clustercnn" / "data" / "hst_psf.ecsv")
    arguments = parser.parse_args()

    table = Table.read(arguments.data / "psf" / "wfc3uvis1_EE_aper_007_syn.csv")
    columns = [name for name in table.colnames if name.startswith("APER#")]
    radius = np.array([float(name[5:]) for name in columns])
    passbands, pivots, fluxes = [], [], []
    for row in table:
        if row["FILTER"] in NO_PSF:
            continue
        flux, residual = fit(radius, np.array([row[name] for name in columns]))
        passbands.append("WFC3_UVIS_" + row["FILTER"])
        pivots.append(row["WAVELENGTH"])
        fluxes.append(flux)
        within = np.abs(residual[radius >= 0.08])
        print(
            f"{row['FILTER']:7s} residual at 0.04 {residual[0]:+.4f}, largest at >= 0.08 {within.max():.4f}; "
            f"{np.count_nonzero(flux)} Gaussians"
        )

    out = QTable(
        {"passband": passbands, "pivot": np.round(pivots, 1) * u.AA, "flux": np.round(fluxes, 5)},
        meta={
            "description": "HST/WFC3/UVIS1 PSF before the pixel as a sum of circular Gaussians of unit total",
            "sigma_arcsec": SIGMAS.tolist(),
            "source": "wfc3uvis1_EE_aper_007_syn.csv, encircled energies of STScI",
            "built_by": "tools/fit_hst_psf.py",
        },
    )
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    out.write(arguments.out, overwrite=True)


if __name__ == "__main__":
    main()
