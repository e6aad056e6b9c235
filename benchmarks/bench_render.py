# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
How fast 100,000 stars become 64 x 64 pixels in three bands, and how exactly: clustercnn, GalSim's sum of delta functions, and the
honest rival, a fine histogram of the stars convolved in one FFT, by GalSim and by numpy.

    python benchmarks/bench_render.py

On one thread, side by side in one run. GalSim's sum of delta functions, which takes a minute or more, is the reference of all errors.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"

import argparse  # noqa: E402
import time  # noqa: E402

import galsim  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from machine import describe_machine, peak_memory  # noqa: E402

from clustercnn.instruments import Instrument  # noqa: E402
from clustercnn.profiles import get_profile  # noqa: E402
from clustercnn.psf import builtin_psf  # noqa: E402
from clustercnn.simulation.render import MANY_STARS, Renderer  # noqa: E402

SHAPE = (64, 64)
MIDDLE = 31.5
FINE = (4, 8, 16)  # fine pixels of the rival per native pixel


def seconds(function, n=15):
    """Result, and median duration after one warm-up."""
    result, durations = function(), []
    for _ in range(n):
        start = time.perf_counter()
        function()
        durations.append(time.perf_counter() - start)
    return result, np.median(durations)


def sum_of_deltas(psfs, x, y, flux):
    """One profile per star, convolved with the interpolated PSF and the pixel."""
    images = []
    for psf, rates in zip(psfs, flux, strict=True):
        stars = [galsim.DeltaFunction(flux=f).shift(dx, dy) for f, dx, dy in zip(rates, x - MIDDLE, y - MIDDLE, strict=True)]
        images.append(galsim.Convolve(galsim.Sum(stars), psf).drawImage(galsim.ImageD(*SHAPE, scale=1)).array)
    return np.array(images)


def fine_histogram(x, y, rates, fine, half):
    """Stars on fine pixels: ``half`` native pixels to each side of the middle."""
    n = 2 * half * fine
    column, row = (np.floor((axis - MIDDLE + half) * fine).astype(np.int64) for axis in (x, y))
    inside = (column >= 0) & (column < n) & (row >= 0) & (row < n)
    return np.bincount(row[inside] * n + column[inside], rates[inside], minlength=n * n).reshape(n, n)


def galsim_histogram(psfs, x, y, flux, fine):
    """The histogram as one InterpolatedImage, convolved with the PSF and the pixel."""
    images = []
    for psf, rates in zip(psfs, flux, strict=True):
        stars = galsim.Image(fine_histogram(x, y, rates, fine, 64), scale=1 / fine)
        stars = galsim.InterpolatedImage(stars, x_interpolant="nearest", normalization="flux")
        parameters = galsim.GSParams(maximum_fft_size=16384)
        images.append(galsim.Convolve(stars, psf, gsparams=parameters).drawImage(galsim.ImageD(*SHAPE, scale=1)).array)
    return np.array(images)


def numpy_histogram(transfers, x, y, flux, fine):
    """The histogram, one FFT, the transfer function, and the pixels picked out of the fine result."""
    images = []
    first = 32 * fine + fine // 2
    for transfer, rates in zip(transfers, flux, strict=True):
        light = np.fft.irfft2(np.fft.rfft2(fine_histogram(x, y, rates, fine, 64)) * transfer)
        images.append(light[first::fine, first::fine][:64, :64] * fine**2)
    return np.array(images)


def numpy_transfer(psf, fine):
    """PSF and pixel on the frequencies of the histogram; the middles of fine pixels lie half a fine pixel off the pixels' middles."""
    frequency_y, frequency_x = np.fft.fftfreq(128 * fine) * fine, np.fft.rfftfreq(128 * fine) * fine
    shift = 0.5 / fine
    wave = np.exp(-2j * np.pi * shift * frequency_y)[:, None] * np.exp(-2j * np.pi * shift * frequency_x)
    return psf.otf(frequency_y[:, None], frequency_x[None, :]) * wave


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stars", type=int, default=100_000)
    n_stars = parser.parse_args().stars
    torch.set_num_threads(1)
    print(describe_machine())
    instrument = Instrument.from_name("HST/WFC3/UVIS/M83")
    psfs = [builtin_psf(instrument)[band] for band in instrument.bands]
    rng = np.random.default_rng(1)
    x, y = (MIDDLE + 3 * axis for axis in get_profile("eff", gamma=2.6).sample(n_stars, rng))
    flux = rng.pareto(1.2, (3, n_stars)) + 0.1

    renderer = Renderer(psfs, SHAPE, many_stars=n_stars > MANY_STARS)
    tensors = torch.from_numpy(x), torch.from_numpy(y), torch.from_numpy(flux), torch.zeros(n_stars, dtype=torch.int64)
    ours, duration = seconds(lambda: renderer(*tensors, 1)[0].numpy())
    interpolated = [
        galsim.InterpolatedImage(galsim.Image(psf.data.copy(), scale=1 / psf.oversampling), x_interpolant="lanczos15", flux=1)
        for psf in psfs
    ]
    start = time.perf_counter()
    reference = sum_of_deltas(interpolated, x, y, flux)
    rows = [("clustercnn", ours, duration), ("GalSim, sum of deltas", reference, time.perf_counter() - start)]
    for fine in FINE[:2]:
        rows.append((f"GalSim, {fine}x histogram", *seconds(lambda fine=fine: galsim_histogram(interpolated, x, y, flux, fine), 3)))
    for fine in FINE:
        transfers = [numpy_transfer(psf, fine) for psf in psfs]
        rows.append((f"numpy, {fine}x histogram", *seconds(lambda t=transfers, fine=fine: numpy_histogram(t, x, y, flux, fine), 5)))
    print(f"{n_stars} stars, 64 x 64 pixels, {len(psfs)} bands, one thread")
    print(f"{'':24s} {'seconds':>9s} {'ratio':>9s} {'worst pixel / peak':>19s} {'flux':>9s}")
    for name, image, taken in rows:
        worst = max(np.abs(a - b).max() / b.max() for a, b in zip(image, reference, strict=True))
        light = np.abs(image.sum(axis=(1, 2)) / reference.sum(axis=(1, 2)) - 1).max()
        print(f"{name:24s} {taken:9.4f} {taken / duration:9.1f} {worst:19.1e} {light:9.1e}")
    print(f"peak memory {peak_memory():.2f} GB")


if __name__ == "__main__":
    main()
