# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Build ``clustercnn/stellar/data/spectral_terms.npz``: what spectra know beyond bolometric corrections.

``python tools/build_spectral_terms.py --data DIR`` reads what ``tools/build_bolometric_corrections.py`` reads and writes derived
numbers only:

* A_band / A_V of the law of Fitzpatrick (1999) with R_V = 3.1, integrated over the ATLAS9 spectra of Castelli & Kurucz (2004,
  [M/H] = 0), for each passband that the law covers, on a grid of (log Teff, log g, A_V); at A_V = 0 its limit. Giants below
  3500 K have the spectrum of 3500 K times the ratio below. All integrals count photons.
* how cool giants differ from those of 3500 K: the logarithm of the ratio of the mean spectra of Lancon & Mouhcine (2002), each
  averaged over intervals of 7 per cent in wavelength.
"""

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.io import fits
from build_bolometric_corrections import LOG_G, Band, read_ck04, read_cool_giants
from dust_extinction.parameter_averages import F99

__all__ = ["build", "check", "cool_giants", "fill_gravity", "ratios"]

R_V = 3.1
TEFF = np.array(
    [3500, 3750, 4000, 4250, 4500, 4750, 5000, 5250, 5500, 6000, 6500, 7000, 7500, 8000, 8500, 9000, 9500, 10e3, 11e3]
    + [12e3, 13e3, 15e3, 17e3, 20e3, 25e3, 30e3, 40e3, 50e3]
)
GRAVITY = np.array([0.0, 2.0, 4.0, 5.0])
COOL_WAVE = np.geomspace(3600, 5e4, 40)
A_V = np.array([0, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4, 6, 10])
CHECKED = ("WFC3_UVIS_F275W", "WFC3_UVIS_F336W", "WFC3_UVIS_F438W", "WFC3_UVIS_F555W", "WFC3_UVIS_F814W", "NIRCAM_F115W")


def curve(wave):
    """A / A_V at wavelengths in Angstrom; beyond the ends of the law, where only wings of bands lie, that of the end."""
    shortest, longest = 1e4 / F99.x_range[1], 1e4 / F99.x_range[0]
    return F99(Rv=R_V)(np.clip(wave, shortest * 1.0001, longest * 0.9999) * u.AA)


def covered(band):
    """Whether the law reaches over the band, wings below a hundredth of its peak apart."""
    wave = band.wave[band.trans > 0.01 * band.trans.max()]
    return wave[0] > 1e4 / F99.x_range[1] and wave[-1] < 1e4 / F99.x_range[0]


def ratios(band, wave, flux, a_v):
    """A_band / A_V, shape (..., a_v), of spectra ``flux`` (..., wavelength)."""
    inside = wave[(wave > band.wave[0]) & (wave < band.wave[-1])]
    lam = np.union1d(band.wave, inside)
    k = curve(lam)
    photons = np.interp(lam, band.wave, band.trans) * lam * np.gradient(lam)
    flux = np.array([np.interp(lam, wave, f) for f in flux.reshape(-1, len(wave))])
    clear = flux @ photons
    result = [flux @ (photons * k) / clear]
    for value in a_v[1:]:
        result.append(-2.5 * np.log10(flux @ (photons * 10 ** (-0.4 * value * k)) / clear) / value)
    return np.array(result)


def fill_gravity(flux):
    """Spectra (temperature, gravity, wavelength), those that are missing replaced by the next gravity that has one."""
    for spectra in flux:
        have = np.flatnonzero(np.isfinite(spectra[:, 0]))
        spectra[:] = spectra[[have[np.argmin(abs(have - i))] for i in range(len(spectra))]]
    return flux


def cool_giants(wave, flux, teff):
    """log10 of the ratio of giants below 3500 K to those of 3500 K, shape (temperature, COOL_WAVE), and the temperatures."""
    edges = np.concatenate([COOL_WAVE[:1], np.sqrt(COOL_WAVE[1:] * COOL_WAVE[:-1]), COOL_WAVE[-1:]])
    fine = np.union1d(wave, edges)
    mean = []
    for spectrum in flux.T:
        value = np.interp(fine, wave, spectrum)
        light = np.concatenate([[0.0], np.cumsum(np.diff(fine) * (value[1:] + value[:-1]) / 2)])
        mean.append(np.diff(np.interp(edges, fine, light)) / np.diff(edges))
    mean, log_teff = np.log10(mean), np.log10(teff)
    at_3500 = np.array([np.interp(np.log10(3500), log_teff, column) for column in mean.T])
    below = teff < 3500
    return np.concatenate([(mean - at_3500)[below], np.zeros((1, len(COOL_WAVE)))]), np.append(log_teff[below], np.log10(3500))


def read(data):
    """Passbands that the law covers; wavelength, temperatures, spectra (temperature, gravity, wavelength); cool giants."""
    vega = fits.getdata(data / "throughput" / "alpha_lyr_stis_011.fits")
    vega = vega["WAVELENGTH"].astype(float), vega["FLUX"].astype(float)
    bands = [Band(f, vega) for f in sorted((data / "throughput").glob("*.csv"))]
    wave, teff, flux = read_ck04(data / "spectra" / "ck04")
    cool = cool_giants(*read_cool_giants(data / "spectra" / "cool"))
    return [band for band in bands if covered(band)], wave, teff, fill_gravity(flux[1]), cool


def build(bands, wave, teff, flux, cool):
    """The arrays of the table as a dict."""
    spectra = flux[np.searchsorted(teff, TEFF)][:, np.searchsorted(LOG_G, GRAVITY)]
    giant = 1 - np.clip((GRAVITY - 3.0) / 1.5, 0, 1)  # as in the bolometric corrections
    ratio = np.array([np.interp(np.log(wave), np.log(COOL_WAVE), row) for row in cool[0][:-1]])
    spectra = np.concatenate([spectra[0] * 10 ** (giant[:, None] * ratio[:, None]), spectra])
    log_teff = np.concatenate([cool[1][:-1], np.log10(TEFF)])
    shape = len(A_V), len(log_teff), len(GRAVITY)
    ratio = [np.moveaxis(ratios(band, wave, spectra, A_V).reshape(shape), 0, -1) for band in bands]
    return {
        "bands": np.array([band.name for band in bands]),
        "log_teff": log_teff,
        "log_g": GRAVITY,
        "a_v": A_V,
        "thousandths": np.round(1000 * np.stack(ratio, axis=-1)).astype(np.int16),
        "cool_log_teff": cool[1],
        "cool_wavelength": COOL_WAVE,
        "cool_ratio": cool[0].astype(np.float32),
    }


def check(table, bands, wave, teff, flux, _):
    """Largest error of A_band (mag) by interpolation in the table, over all spectra and A_V = 0.1 to 3, for some bands."""
    from scipy.interpolate import RegularGridInterpolator

    table_at = RegularGridInterpolator((table["log_teff"], table["log_g"], table["a_v"]), table["thousandths"] / 1000)
    a_v = np.array([0.0, 0.1, 0.35, 0.6, 0.85, 1.25, 1.75, 2.5, 3.0])
    points = np.stack(np.meshgrid(a_v[1:], np.log10(teff), LOG_G, indexing="ij"), axis=-1)[..., [1, 2, 0]]
    errors = {}
    for i, band in enumerate(bands):
        if band.name in CHECKED:
            exact = ratios(band, wave, flux, a_v)[1:].reshape(points.shape[:-1])
            errors[band.name] = round(float(np.max(abs(table_at(points)[..., i] - exact) * a_v[1:, None, None])), 4)
    return errors


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with throughput/ and spectra/")
    default = Path(__file__).parent.parent / "clustercnn" / "stellar" / "data" / "spectral_terms.npz"
    parser.add_argument("--out", type=Path, default=default)
    args = parser.parse_args()
    inputs = read(args.data)
    table = build(*inputs)
    errors = check(table, *inputs)
    provenance = {
        "made_by": "tools/build_spectral_terms.py",
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "definition": "thousandths of A_band / A_V; photon-counting integrals; limit at A_V = 0",
        "law": "Fitzpatrick (1999) as in dust_extinction, R_V = 3.1",
        "spectra": "Castelli & Kurucz (2004) ATLAS9, [M/H] = 0",
        "cool_ratio": "log10 of giants over those of 3500 K at equal luminosity, means over 7 per cent in wavelength; "
        "Lancon & Mouhcine (2002)",
        "throughput": "as in bolometric_corrections.npz",
        "interpolation_error_mag": errors,
    }
    np.savez_compressed(args.out, provenance=np.array(json.dumps(provenance)), **table)
    print(f"{args.out}: {args.out.stat().st_size / 1e3:.0f} kB, {len(table['bands'])} bands")
    for name, error in errors.items():
        print(f"{name:20} interpolated to {error:.4f} mag")


if __name__ == "__main__":
    main()
