# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Time and memory of injecting ten clusters into mosaics on disk, three bands of 16,384 x 16,384 float32 pixels (3.2 GB), by each of two ways.

    python benchmarks/bench_injection.py --folder /somewhere/with/8/GB

Each way runs in a process of its own, whose peak of resident memory counts the mapped pages of the files too.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.io import fits
from machine import describe_machine, peak_memory

from clustercnn import ClusterInjector, SyntheticCluster
from clustercnn.instruments import Instrument

M83 = Instrument.from_name("HST/WFC3/UVIS/M83")


def write_mosaics(folder, size):
    """Noise, the same block of rows over and over."""
    header = fits.Header({"BUNIT": "electron/s"})
    rng = np.random.default_rng(1)
    for band in M83.bands:
        rows = rng.normal(0.02, 0.01, (size // 32, size)).astype(">f4")
        fits.PrimaryHDU(np.tile(rows, (32, 1)), header).writeto(folder / f"{band}.fits")


def inject(folder, size, saturation):
    start = time.perf_counter()
    injector = ClusterInjector({band: folder / f"{band}.fits" for band in M83.bands}, instrument=M83)
    clusters = [SyntheticCluster(2e4 * u.Msun, 20 * u.Myr, 0.1 * u.arcsec, distance=4.5 * u.Mpc, rng=i) for i in range(10)]
    positions = np.random.default_rng(2).uniform(100, size - 100, (10, 2))
    limit = 70_000 * u.electron if saturation else None
    injector.inject(clusters, positions, rng=1, saturation=limit, out=folder / "out.fits", overwrite=True)
    way = "with a limit of saturation" if saturation else "without a limit of saturation"
    print(f"{way}: {time.perf_counter() - start:.1f} s, peak memory {peak_memory():.2f} GB", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="for the files, which are removed; default: the system's for temporary ones")
    parser.add_argument("--size", type=int, default=16384)
    parser.add_argument("--way", choices=("plain", "saturation"), help=argparse.SUPPRESS)  # of the processes that do the work
    arguments = parser.parse_args()
    if arguments.way:
        return inject(arguments.folder, arguments.size, arguments.way == "saturation")
    print(describe_machine())
    print(f"10 clusters into 3 bands of {arguments.size} x {arguments.size} pixels", flush=True)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        write_mosaics(Path(folder), arguments.size)
        for way in ("plain", "saturation"):
            command = [sys.executable, __file__, "--folder", folder, "--size", str(arguments.size), "--way", way]
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
