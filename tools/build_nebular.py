# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Build ``clustercnn/stellar/data/nebular.ecsv``: what an HII region shines in every passband, for its luminosity in H alpha.

``python tools/build_nebular.py --data DIR`` reads ``DIR/throughput/*.csv`` and ``DIR/throughput/alpha_lyr_stis_011.fits`` as
``build_bolometric_corrections.py`` does, and takes the recombination lines of hydrogen and the nebular continuum (free-bound, free-free,
two-photon; hydrogen and a tenth of singly ionised helium) at 10,000 K and 100 / cm3 from PyNeb, which is needed for building only
(``pip install pyneb h5py``; Luridiana, Morisset & Shaw 2015, A&A 573, A42). Forbidden lines have fixed ratios to H beta, typical of
HII regions of about solar metallicity; of the broad bands blueward of 4600 and redward of 7000 Angstrom they hardly matter to any.
"""

import argparse
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyneb
from astropy import units as u
from astropy.io import fits
from astropy.table import QTable
from build_bolometric_corrections import Band

TEMPERATURE, DENSITY = 1e4, 1e2  # K, cm^-3
HIGHEST = 30  # upper level of the hydrogen lines
# Wavelength (Angstrom) and flux over that of H beta.
OTHER_LINES = {
    3727.0: 1.3, 3868.8: 0.03, 4958.9: 0.17, 5006.8: 0.5, 5875.6: 0.12, 6548.0: 0.34, 6583.5: 1.0, 6716.4: 0.3, 6730.8: 0.22,
    9068.6: 0.25, 9530.6: 0.62,
}
REFERENCE = 1e40  # erg/s in H alpha
AREA_10_PC = 4 * np.pi * (10 * u.pc).to_value(u.cm) ** 2


def spectrum():
    """Wavelength (Angstrom) and luminosity per Angstrom of a nebula of unit luminosity in H beta; lines are boxes of 1 Angstrom."""
    hydrogen = pyneb.RecAtom("H", 1)
    beta = hydrogen.getEmissivity(TEMPERATURE, DENSITY, lev_i=4, lev_j=2)
    lines = dict(OTHER_LINES)
    for lower in (2, 3):
        for upper in range(lower + 1, HIGHEST + 1):
            wavelength = 911.76 / (1 / lower**2 - 1 / upper**2)
            lines[wavelength] = float(hydrogen.getEmissivity(TEMPERATURE, DENSITY, lev_i=upper, lev_j=lower) / beta)
    wave = np.arange(1000.0, 55_000.0, 0.5)
    density = pyneb.Continuum().get_continuum(TEMPERATURE, DENSITY, He1_H=0.1, He2_H=0.0, wl=wave, HI_label="4_2")
    for wavelength, flux in lines.items():
        density[np.abs(wave - wavelength) < 0.5] += flux / (0.5 * np.count_nonzero(np.abs(wave - wavelength) < 0.5))
    return wave, density, lines[911.76 / (1 / 4 - 1 / 9)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "clustercnn/stellar/data/nebular.ecsv")
    arguments = parser.parse_args()
    folder = arguments.data / "throughput"
    vega = fits.getdata(folder / "alpha_lyr_stis_011.fits")
    vega = vega["WAVELENGTH"].astype(float), vega["FLUX"].astype(float)
    wave, density, alpha = spectrum()
    rows = []
    for path in sorted(folder.glob("*.csv")):
        band = Band(path, vega)
        flux = band.mean_flux(wave, density * REFERENCE / alpha / AREA_10_PC)
        rows.append((band.name, -2.5 * np.log10(flux / band.vega)))
    table = QTable(rows=rows, names=("passband", "magnitude"))
    table["magnitude"].info.format = ".3f"
    table["magnitude"].unit = u.mag
    table.meta = {
        "what": "absolute Vega magnitude of a nebula of 1e40 erg/s in H alpha, without dust",
        "made_by": "tools/build_nebular.py",
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "source": f"PyNeb {pyneb.__version__}, case B, {TEMPERATURE:g} K, {DENSITY:g} cm-3; other lines at fixed ratios to H beta",
        "hydrogen": f"H alpha / H beta = {alpha:.3f}",
        "throughput": "as of the bolometric corrections",
    }
    table.write(arguments.out, format="ascii.ecsv", overwrite=True)
    table.pprint(max_lines=-1)


if __name__ == "__main__":
    main()
