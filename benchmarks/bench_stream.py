# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
How many labelled mocks a second the training stream makes: the paper's prior before crowded synthetic discs, with noise.

    python benchmarks/bench_stream.py                 # on the processor: one core, then two workers
    python benchmarks/bench_stream.py --device cuda   # on a GPU

It also times the floor: Fourier transforms of the same grids and random numbers of the same kinds alone, as torch and numpy make them
at their fastest; and counts the bytes of the grids that pass through memory, and the operations of the transforms.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"

import argparse  # noqa: E402
import time  # noqa: E402

import numpy as np  # noqa: E402
import torch  # noqa: E402
from astropy import units as u  # noqa: E402
from machine import describe_machine, peak_memory  # noqa: E402

from clustercnn.instruments import Instrument  # noqa: E402
from clustercnn.parameters import ParameterSpace  # noqa: E402
from clustercnn.simulation import BackgroundFields, MockStream  # noqa: E402

BATCH = {"cpu": 128, "cuda": 4096}


def wait(device):
    if device == "cuda":
        torch.cuda.synchronize()


def rate(batches, n, size, device):
    """Mocks per second over n batches, after two more that warm up."""
    batches = iter(batches)
    for _ in range(2):
        next(batches)
    wait(device)
    start = time.perf_counter()
    for _ in range(n):
        next(batches)
    wait(device)
    return n * size / (time.perf_counter() - start)


def loader(stream, size, workers):
    return torch.utils.data.DataLoader(stream.batches(size), batch_size=None, num_workers=workers, prefetch_factor=2 if workers else None)


def median_time(function, device, n=20):
    durations = []
    for _ in range(n + 2):
        wait(device)
        start = time.perf_counter()
        function()
        wait(device)
        durations.append(time.perf_counter() - start)
    return np.median(durations[2:])


def floor(stream):
    """Milliseconds per mock of the transforms and of the random numbers alone."""
    renderer, n, device = stream._renderer, stream.chunk_size, stream.device.type
    bands, (ny, nx) = renderer.n_bands, renderer.padded
    few = renderer._stamps_at_once or n
    fine = torch.rand(few, bands, 2 * ny, 2 * nx, device=device)
    folded = torch.rand(few, bands, ny, nx + 1, device=device) + 0j
    rows = torch.rand(few, bands, stream.shape[0], nx // 2 + 1, device=device) + 0j

    def transforms():
        torch.fft.rfft2(fine)
        torch.fft.ifft(folded, dim=-2)
        torch.fft.irfft(rows, n=nx, dim=-1)

    mean = (stream.background.stamps(n, stream.shape, np.random.default_rng(1), device) + stream._sky[:, None, None]).clamp_min(0)
    mean = mean * stream._exposure[:, None, None]
    if device == "cpu":
        rng, plain = np.random.default_rng(1), mean.numpy()

        def noise():
            rng.poisson(plain)
            rng.standard_normal(plain.shape, np.float32)
    else:

        def noise():
            torch.poisson(mean)
            torch.randn_like(mean)

    return 1e3 * median_time(transforms, device) / few, 1e3 * median_time(noise, device) / n


def traffic(stream):
    """
    Megabytes of the renderer's grids that are read and written for a mock, milliseconds of that at the speed of a copy, and Mflop of its transforms.

    The fine grid is cleared, filled and transformed; its half spectrum is written, joined by smooth light, multiplied and folded along the
    columns (six passes); the folded one is written, transformed back along the columns, and read along the rows.
    """
    renderer, device = stream._renderer, stream.device.type
    bands, (ny, nx) = renderer.n_bands, renderer.padded
    fine, spectrum, folded = 16 * ny * nx, 16 * ny * (nx + 1), 8 * ny * (nx + 1)  # bytes of a band: float32, and complex64 twice
    size = bands * (3 * fine + 6 * spectrum + 4 * folded)
    source = torch.rand(max(1, 200_000_000 // size) * size // 4, device=device)
    target = torch.empty_like(source)
    seconds = median_time(lambda: target.copy_(source), device) / (2 * source.numel() * 4)  # of a byte read or written
    # 2.5 N log2 N operations of a real transform, 5 of a complex one (Frigo & Johnson, the convention of FFTW)
    whole, back, rows = 4 * ny * nx, ny * (nx + 1), stream.shape[0] * nx
    flops = bands * (2.5 * whole * np.log2(whole) + 5 * back * np.log2(ny) + 2.5 * rows * np.log2(nx))
    return size / 1e6, 1e3 * size * seconds, flops / 1e6


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--batches", type=int, default=40)
    arguments = parser.parse_args()
    device, size = arguments.device, BATCH[arguments.device]
    torch.set_num_threads(1)
    print(describe_machine())
    instrument = Instrument.from_name("HST/WFC3/UVIS/M83")
    fields = BackgroundFields.discs(instrument, 16, rng=2, distance=4.5 * u.Mpc)
    stream = MockStream(ParameterSpace.paper(), instrument, background=fields, rng=1, device=device)
    one = rate(loader(stream, size, 0), arguments.batches, size, device)
    print(f"{device}: {one:.0f} mocks/s, {1e3 / one:.3f} ms each")
    transforms, noise = floor(stream)
    print(f"floor: Fourier transforms {transforms:.3f} ms, random numbers of the noise {noise:.3f} ms; "
          f"together {(transforms + noise) * one / 10:.0f} % of the time of a mock")
    print("grids: {:.1f} MB read and written for a mock, {:.3f} ms at the speed of copies; transforms {:.1f} Mflop".format(*traffic(stream)))
    if device == "cpu":
        alone = rate(loader(stream, size, 1), arguments.batches, size, device)
        both = rate(loader(stream, size, 2), 2 * arguments.batches, size, device)
        print(f"1 worker: {alone:.0f} mocks/s; 2 workers: {both:.0f} mocks/s, {both / one:.2f} times this process alone")
        print(f"peak memory: this process {peak_memory():.2f} GB, a worker {peak_memory(children=True):.2f} GB, shared pages included")
    else:
        print(f"peak memory on the GPU {torch.cuda.max_memory_allocated() / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
