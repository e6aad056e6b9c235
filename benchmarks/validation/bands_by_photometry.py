# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
RQ2: what F275W and F555W buy where no training stands in the way: by the stochastic magnitudes of the classical peer.

    python benchmarks/validation/bands_by_photometry.py [--samples 2000] [--library 200000]

Clusters of the paper's prior with ages of the isochrones, drawn star by star, and their light in an aperture at the depth of more_bands.py, without
anything around them; their ages, A_V and masses from libraries of the same clusters in three, four and five bands. Writes bands_by_photometry.ecsv.
"""

import numpy as np
from astropy import units as u
from astropy.table import QTable
from common import TITLES, UNITS, arguments, spread, write
from more_bands import BANDS, SETS, five_bands
from tqdm import tqdm

from clustercnn.parameters import ParameterSpace
from clustercnn.photometric_inference import StochasticMagnitudes
from clustercnn.simulation import SyntheticCluster

APERTURE = 0.2 * u.arcsec  # its radius; it holds all of the light
CALIBRATION = 0.05  # mag, the error of every band beside the noise
CLUSTER_SEED, LIBRARY_SEED = 60601, 60602
DISTANCE = 4.5 * u.Mpc


def photometry(space, n):
    """Clusters, and their flux densities with errors in all five bands."""
    rng = np.random.default_rng(CLUSTER_SEED)
    truth, instrument = space.sample(n, rng), five_bands()
    truth["age"] = 10 ** (np.round(np.log10(truth["age"].to_value(u.yr)) / 0.05).clip(132, 202) * 0.05) * u.yr
    magnitudes, table = np.empty((n, len(BANDS))), {}
    for i, row in enumerate(tqdm(truth, desc="clusters")):
        cluster = SyntheticCluster(row["mass"], row["age"], 0.1 * u.arcsec, row["a_v"], distance=DISTANCE, rng=rng)
        magnitudes[i] = [cluster.magnitude(band).value for band in BANDS]
    pixels = np.pi * (APERTURE / instrument.pixel_scale).to_value(u.pix) ** 2
    for band, values in zip(BANDS, magnitudes.T):
        time, read_noise = instrument.exposure(band).value, instrument.read_noise(band).value
        bright = 10 ** (-0.4 * (values - instrument.zero_point(band).value))  # electron/s
        variance = bright * time + pixels * (instrument.sky(band).value * time + instrument.n_exposures(band) * read_noise**2)
        noise = np.sqrt(variance) / time
        measured = bright * 10 ** (-0.4 * rng.normal(0, CALIBRATION, n)) + rng.normal(0, noise)
        density = 10 ** (-0.4 * instrument.zero_point(band, "ab").value) * u.AB
        table[band], table[f"{band}_err"] = (measured * density).to(u.uJy), (noise * density).to(u.uJy)
    return truth, QTable(table)


def main():
    args = arguments(__doc__, samples=2000)
    paper = ParameterSpace.paper()
    space = ParameterSpace([paper[name] for name in ("age", "a_v", "mass")])
    truth, table = photometry(space, args.samples)
    coordinates = space.to_coordinates(truth)
    age = coordinates[:, 0] + 6
    rows = []
    for name, bands in SETS.items():
        settings = {"samples": args.library, "least_width": CALIBRATION * u.mag, "rng": LIBRARY_SEED}
        peer = StochasticMagnitudes(bands, space, distance=DISTANCE, progress=True, **settings)
        estimate = peer.predict(table)
        gain = estimate.information_gain()
        for title, here in (("age <= 100 Myr", age <= 8), ("100 Myr to 1 Gyr", (age > 8) & (age <= 9)), ("older", age > 9)):
            for i, parameter in enumerate(space.names):
                error = (np.median(estimate.draws[:, :, i], axis=1) - coordinates[:, i])[here]
                rows.append({"clusters": title, "bands": name, "parameter": parameter} | spread(error) | {"gain": gain[here].mean()})
    page = [{"clusters": row["clusters"], "bands": row["bands"], "parameter": f"{TITLES[row['parameter']]} [{UNITS[row['parameter']]}]",
             "number": row["n"], "1.48 MAD": f"{row['sigma']:.3f} ± {row['sigma_error']:.3f}",
             "bias": f"{row['bias']:+.3f} ± {row['bias_error']:.3f}",
             "gain [bits]": f"{row['gain']:.1f}"}
            for row in sorted(rows, key=lambda row: ("a1o".index(row["clusters"][0]), row["parameter"]))]
    note = (f"{args.samples:,} clusters of the paper's prior, measured in {APERTURE} at the depth of the images and with an error of {CALIBRATION} "
            f"mag in every band; libraries of {args.library:,} clusters. The gain is that of all three parameters over the prior.")
    write("bands_by_photometry", rows, note, page)


if __name__ == "__main__":
    main()
