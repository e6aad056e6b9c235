# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Build ``clustercnn/stellar/data/bolometric_corrections.npz`` from spectra and throughput curves.

``python tools/build_bolometric_corrections.py --data DIR`` reads

* ``DIR/throughput/*.csv``: total system throughputs (columns ``wave`` in Angstrom, ``trans``),
* ``DIR/throughput/alpha_lyr_stis_011.fits``: the CALSPEC spectrum of Vega,
* ``DIR/spectra/ck04``: the ATLAS9 grid of Castelli & Kurucz (2004), surface fluxes,
* ``DIR/spectra/cool``: mean spectra of cool giants of Lancon & Mouhcine (2002), unit luminosity,

and writes derived numbers only: bolometric corrections on a grid of (temperature, gravity, metallicity), and per band
the pivot wavelength, the AB and ST magnitudes of Vega and the Vega magnitude of 1 electron/s. All integrals count photons.
"""

import argparse
import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from astropy import constants
from astropy import units as u
from astropy.io import fits
from astropy.modeling.physical_models import BlackBody

__all__ = ["Band", "build", "check"]

SOLAR_BOLOMETRIC = 4.74
CK04 = {-0.5: "ckm05", 0.0: "ckp00", 0.2: "ckp02"}
LOG_G = np.arange(0.0, 5.1, 0.5)
HOT = np.array([55e3, 60e3, 70e3, 80e3, 100e3, 130e3, 170e3, 230e3, 300e3])
# Collecting areas in cm2. The Roman curves are dimensionless throughputs (peak 0.71), as are all others.
AREAS = {"WFC3": 45238.93416, "ACS": 45238.93416, "NIRCAM": 254009.0, "ROMAN": 36076.7, "BESSELL": np.nan}
SPEED_OF_LIGHT = constants.c.to_value(u.AA / u.s)
PLANCK = constants.h.cgs.value
DILUTION = (constants.L_sun / (4 * np.pi * (10 * u.pc) ** 2)).to_value(u.erg / u.s / u.cm**2)


class Band:
    """A passband: wavelengths (Angstrom), throughput and the photon-counting integrals through it."""

    def __init__(self, path, vega):
        data = np.loadtxt(path, delimiter=",", skiprows=1)
        self.name = path.stem
        self.wave, index = np.unique(data[:, 0], return_index=True)
        self.trans = data[index, 1]
        self.area = AREAS[self.name.split("_")[0]]
        lam, trans = self.wave, self.trans
        self.pivot = np.sqrt(np.trapezoid(trans * lam, lam) / np.trapezoid(trans / lam, lam))
        self.vega = self.mean_flux(*vega)
        flat_nu = 3.631e-20 * SPEED_OF_LIGHT / self.pivot**2
        self.vega_ab = -2.5 * np.log10(self.vega / flat_nu)
        self.vega_st = -2.5 * np.log10(self.vega) - 21.10
        photons = self.vega * np.trapezoid(trans * lam, lam) / (PLANCK * SPEED_OF_LIGHT)
        self.zero_point = 2.5 * np.log10(photons * self.area)

    def mean_flux(self, wave, flux):
        """Photon-weighted mean of F_lambda over the band; ``flux`` is (wavelength,) or (wavelength, n)."""
        # the union of both samplings: neither the filter's edges nor the lines of the spectrum are lost
        inside = wave[(wave > self.wave[0]) & (wave < self.wave[-1])]
        lam = np.union1d(self.wave, inside)
        weight = np.interp(lam, self.wave, self.trans) * lam
        flux = np.atleast_2d(flux.T)
        value = [np.trapezoid(np.interp(lam, wave, f, left=0, right=0) * weight, lam) for f in flux]
        return np.squeeze(np.array(value) / np.trapezoid(weight, lam))

    def correction(self, wave, flux, emitted):
        """BC of spectra whose surface emits ``emitted`` (erg/s/cm2) in total."""
        with np.errstate(divide="ignore"):
            magnitude = -2.5 * np.log10(self.mean_flux(wave, flux) / emitted * DILUTION / self.vega)
        return SOLAR_BOLOMETRIC - magnitude

    def blackbody(self, teff):
        """BC of blackbodies of temperatures ``teff``."""
        wave = np.geomspace(900, 6e4, 2000)
        flux = np.transpose(
            [np.pi * BlackBody(t * u.K, scale=1 * u.erg / u.s / u.cm**2 / u.AA / u.sr)(wave * u.AA).value for t in teff]
        )
        return self.correction(wave, flux, constants.sigma_sb.cgs.value * np.asarray(teff) ** 4)


def read_ck04(folder):
    """Wavelength, temperatures and surface fluxes (metallicity, temperature, gravity, wavelength); NaN = no model."""
    grids = []
    for name in CK04.values():
        files = sorted((folder / name).glob("*.fits"), key=lambda f: int(f.stem.split("_")[1]))
        teff = np.array([int(f.stem.split("_")[1]) for f in files], float)
        tables = [fits.getdata(f) for f in files]
        grids.append([[t[f"g{10 * g:02.0f}"].astype(float) for g in LOG_G] for t in tables])
    flux = np.array(grids)
    flux[~flux.any(axis=-1)] = np.nan
    return tables[0]["WAVELENGTH"].astype(float), teff, flux


def read_cool_giants(folder):
    """Wavelength, fluxes of unit luminosity (wavelength, n) and temperatures (solar), coolest first, cooler than 3500 K."""
    spectra = np.loadtxt(folder / "AGB_Orich.spec")
    rows = np.loadtxt(folder / "AGB_Orich.teff")
    column = np.argmin(abs(rows[0, 1:])) + 1
    teff = rows[1:, column]
    # unit luminosity over all wavelengths: FSPS has extended the published, normalised spectra beyond 5 microns
    return spectra[:, 0], spectra[:, 1:] / np.trapezoid(spectra[:, 1:], spectra[:, 0], axis=0), teff


def fill_gravity(bc):
    """Where the grid has no model, take the nearest gravity that has one (same temperature and metallicity)."""
    for plane in bc.reshape(-1, bc.shape[-2], bc.shape[-1]):
        have = np.flatnonzero(np.isfinite(plane[:, 0]))
        for i in range(len(plane)):
            plane[i] = plane[have[np.argmin(abs(have - i))]]
    return bc


def cool_difference(band, wave, flux, teff):
    """BC(T) - BC(3500 K) of cool giants and, for dwarfs, of blackbodies; both (n,) for the temperatures below 3500 K."""
    below = teff < 3500
    blackbody = band.blackbody(teff[below]) - band.blackbody([3500.0])
    # The spectra end at 3500 A. Bands that reach below see a blackbody's decline, not the emptiness of the data.
    if band.wave[band.trans > 0.1 * band.trans.max()][0] < 3600:
        return blackbody, blackbody
    giant = band.correction(wave, flux, 1.0)
    giant = giant[below] - np.interp(np.log10(3500), np.log10(teff), giant)
    return giant, blackbody


def build(data):
    """Read the inputs under the folder ``data`` and return the arrays of the table as a dict."""
    vega = fits.getdata(data / "throughput" / "alpha_lyr_stis_011.fits")
    vega = vega["WAVELENGTH"].astype(float), vega["FLUX"].astype(float)
    bands = [Band(f, vega) for f in sorted((data / "throughput").glob("*.csv"))]
    wave, teff, flux = read_ck04(data / "spectra" / "ck04")
    cool_wave, cool_flux, cool_teff = read_cool_giants(data / "spectra" / "cool")
    emitted = constants.sigma_sb.cgs.value * teff[None, :, None] ** 4
    shape = flux.shape[:3]
    spectra = flux.reshape(-1, flux.shape[-1]).T
    bc = np.stack(
        [b.correction(wave, spectra, np.broadcast_to(emitted, shape).ravel()).reshape(shape) for b in bands], axis=-1
    )
    bc = fill_gravity(bc)

    hot = np.transpose([b.blackbody(HOT) - b.blackbody([teff[-1]]) for b in bands])
    hot = bc[:, -1:] + hot[None, :, None]
    giant, dwarf = (np.transpose(x) for x in zip(*(cool_difference(b, cool_wave, cool_flux, cool_teff) for b in bands)))
    # giants up to log g = 3, blackbody differences from 4.5 on (the TiO of M dwarfs is not that of giants), mixed between
    mix = np.clip((LOG_G - 3.0) / 1.5, 0, 1)[None, :, None]
    cool = bc[:, :1] + (giant[:, None] * (1 - mix) + dwarf[:, None] * mix)[None]
    bc = np.concatenate([cool, bc, hot], axis=1)
    nodes = np.concatenate([cool_teff[cool_teff < 3500], teff, HOT])
    return {
        "bands": np.array([b.name for b in bands]),
        "log_teff": np.log10(nodes),
        "log_g": LOG_G,
        "metallicity": np.array(list(CK04)),
        "millimag": np.round(1000 * bc).astype(np.int16),
        "pivot": np.array([b.pivot for b in bands]),
        "vega_ab": np.array([b.vega_ab for b in bands]),
        "vega_st": np.array([b.vega_st for b in bands]),
        "zero_point": np.array([b.zero_point for b in bands]),
    }


def check(table):
    """Compare with published numbers; raises ValueError when one is missed."""
    index = {name: i for i, name in enumerate(table["bands"])}
    known = {
        "F275W": (2710.2, 1.480),
        "F336W": (3354.8, 1.164),
        "F438W": (4326.5, -0.165),
        "F555W": (5308.2, -0.029),
        "F814W": (8029.5, 0.428),
    }
    measured = {}
    for name, (pivot, vega_ab) in known.items():
        i = index[f"WFC3_UVIS_{name}"]
        measured[name] = [round(float(table["pivot"][i]), 2), round(float(table["vega_ab"][i]), 4)]
        if abs(table["pivot"][i] - pivot) > 0.1 or abs(table["vega_ab"][i] - vega_ab) > 0.0015:
            raise ValueError(f"{name}: pivot and Vega AB {measured[name]}, expected {pivot, vega_ab}")
    return measured


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with throughput/ and spectra/")
    default = Path(__file__).parent.parent / "clustercnn" / "stellar" / "data" / "bolometric_corrections.npz"
    parser.add_argument("--out", type=Path, default=default)
    args = parser.parse_args()
    table = build(args.data)
    measured = check(table)
    digest = hashlib.sha256()
    for path in sorted((args.data / "throughput").glob("*.csv")):
        digest.update(path.read_bytes())
    provenance = {
        "made_by": "tools/build_bolometric_corrections.py",
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "definition": "M_band(Vega) = 4.74 - 2.5 log10(L/Lsun) - BC; photon-counting integrals",
        "spectra": "Castelli & Kurucz (2004) ATLAS9; below 3500 K Lancon & Mouhcine (2002) giants anchored at 3500 K "
        "(log g <= 3), blackbody differences for dwarfs and for bands bluer than 3600 A; above 50 kK BC(50 kK) plus "
        "blackbody difference",
        "throughput": "as collected by ArtPop (MIT) after the observatories; sha256 of all curves "
        + digest.hexdigest(),
        "vega": "CALSPEC alpha_lyr_stis_011",
        "areas_cm2": {k: None if np.isnan(v) else v for k, v in AREAS.items()},
        "checks": measured,
    }
    np.savez_compressed(args.out, provenance=np.array(json.dumps(provenance)), **table)
    print(f"{args.out}: {args.out.stat().st_size / 1e3:.0f} kB, {len(table['bands'])} bands")
    print(f"{'band':20} {'pivot/A':>9} {'AB':>7} {'ST':>7} {'1 e/s':>7}")
    for row in zip(*(table[k] for k in ("bands", "pivot", "vega_ab", "vega_st", "zero_point"))):
        print("{:20} {:9.1f} {:7.3f} {:7.3f} {:7.3f}".format(*row))


if __name__ == "__main__":
    main()
