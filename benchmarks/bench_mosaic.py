# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
How long a catalogue of a mosaic on disk takes, and how much memory.

    python benchmarks/bench_mosaic.py                                # 12,288 x 12,288 pixels in three bands, 2000 sources
    python benchmarks/bench_mosaic.py --size 4096                    # 2000 sources closer together
    python benchmarks/bench_mosaic.py --workers 2                    # the same on a LocalCluster

The mosaic is noise with Gaussian sources, written to --folder row by row (1.8 GB, left there for the next run). The memory is the
largest of the process (or, with workers, of the largest of them), mapped pages of the files included.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.wcs import WCS
from machine import describe_machine, peak_memory
from tqdm import tqdm

from clustercnn import ClusterNet
from clustercnn.survey import make_catalog

BANDS = {"F336W": 0.5, "F438W": 1.0, "F814W": 1.5}  # relative brightness
NOISE, STRIP = 0.02, 256


def write_mosaic(path, size, sources, brightness, seed):
    """A band, STRIP rows at a time; the sources are at the same places in all."""
    place = np.random.default_rng(0)
    x, y = place.uniform(20, size - 20, (2, sources))
    flux, width = brightness * place.uniform(2, 20, sources), place.uniform(1, 3, sources)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
    wcs.wcs.crval, wcs.wcs.crpix, wcs.wcs.cdelt = (204.25, -29.87), (size / 2, size / 2), (-0.04 / 3600, 0.04 / 3600)
    header = fits.Header({"SIMPLE": True, "BITPIX": -32, "NAXIS": 2, "NAXIS1": size, "NAXIS2": size, "BUNIT": "electron/s"})
    header.update(wcs.to_header())
    rng = np.random.default_rng(seed)
    stream = fits.StreamingHDU(path, header)
    for start in tqdm(range(0, size, STRIP), desc=path.name, unit="strip"):
        rows = min(STRIP, size - start)
        strip = 0.02 + NOISE * rng.standard_normal((rows, size), dtype=np.float32)
        for i in np.flatnonzero((y > start - 15) & (y < start + rows + 15)):
            low = max(int(x[i]) - 15, 0)
            column, row = np.meshgrid(np.arange(low, min(int(x[i]) + 16, size)), np.arange(start, start + rows))
            light = np.exp(-((column - x[i]) ** 2 + (row - y[i]) ** 2) / 2 / width[i] ** 2) / (2 * np.pi * width[i] ** 2)
            strip[:, low : low + column.shape[1]] += (flux[i] * light).astype(np.float32)
        stream.write(strip)
    stream.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=12_288, help="pixels along each side")
    parser.add_argument("--sources", type=int, default=2000)
    parser.add_argument("--tile", type=int, default=2048, help="pixels along each side of a tile")
    parser.add_argument("--workers", type=int, default=0, help="processes of a dask cluster; 0: none")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "bench_mosaic")
    arguments = parser.parse_args()
    print(describe_machine())
    folder = arguments.folder / f"{arguments.size}_{arguments.sources}"
    folder.mkdir(parents=True, exist_ok=True)
    paths = {band: folder / f"{band}.fits" for band in BANDS}
    for seed, (band, path) in enumerate(paths.items()):
        if not path.exists():
            write_mosaic(path, arguments.size, arguments.sources, BANDS[band], seed)
    net = ClusterNet.from_pretrained("m83")
    settings = {"tile_shape": (arguments.tile, arguments.tile), "distance": 4.5 * u.Mpc, "device": arguments.device, "progress": True}
    start = time.perf_counter()
    if arguments.workers:
        from distributed import Client, LocalCluster

        with LocalCluster(n_workers=arguments.workers, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
            catalog = make_catalog(paths, net, client=client, **settings)
            memory = max(client.run(peak_memory).values())
    else:
        catalog = make_catalog(paths, net, **settings)
        memory = peak_memory()
    seconds = time.perf_counter() - start
    print(f"{arguments.size} x {arguments.size} pixels in 3 bands, tiles of {arguments.tile}, {arguments.workers or 'no'} workers: {len(catalog)} "
          f"candidates of {arguments.sources} sources in {seconds:.0f} s; peak memory {memory:.2f} GB")


if __name__ == "__main__":
    main()
