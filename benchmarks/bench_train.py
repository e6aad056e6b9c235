# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Where the time of a training step goes: mocks a second, the share of the data, and how much of the matrix-multiply floor is reached.

    python benchmarks/bench_train.py                                # compact encoder on the processor
    python benchmarks/bench_train.py --encoder resnet50 --head grid
    python benchmarks/bench_train.py --device cuda --batch 1024

The floor is the time that the machine would need for the multiplications and additions of the convolutions and linear layers alone, at
the speed at which it multiplies large matrices in the same precision; forward and backward count three times the forward pass.
"""

import argparse
import itertools
import tempfile
import time

import numpy as np
import torch
from astropy import units as u
from machine import describe_machine, peak_memory
from torch.utils.flop_counter import FlopCounterMode

from clustercnn import ClusterNet
from clustercnn.instruments import Instrument
from clustercnn.network import Augmentation
from clustercnn.network.training import PARTS, _optimizer
from clustercnn.parameters import ParameterSpace
from clustercnn.simulation import BackgroundFields, MockStream


def median_time(function, device, n):
    durations = []
    for _ in range(n + 2):
        if device == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        function()
        if device == "cuda":
            torch.cuda.synchronize()
        durations.append(time.perf_counter() - start)
    return float(np.median(durations[2:]))


def matmul_speed(device, dtype):
    """Operations per second of a large product of matrices."""
    size = 8192 if device == "cuda" else 2048
    a, b = (torch.rand(size, size, device=device, dtype=dtype) for _ in range(2))
    return 2 * size**3 / median_time(lambda: a @ b, device, 5)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="compact")
    parser.add_argument("--head", default="flow")
    parser.add_argument("--precision", choices=("float32", "bfloat16"))
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    arguments = parser.parse_args()
    device, size = arguments.device, arguments.batch
    precision = arguments.precision or ("bfloat16" if device == "cuda" else "float32")
    print(describe_machine())
    instrument = Instrument.from_name("HST/WFC3/UVIS/M83")
    fields = BackgroundFields.discs(instrument, 4, rng=2, distance=4.5 * u.Mpc)
    stream = MockStream(ParameterSpace.paper(), instrument, background=fields, rng=1, depth_scatter=0.3, device=device)
    paper = arguments.encoder == "resnet50" and arguments.head == "grid"
    net = ClusterNet(instrument.bands, arguments.encoder, arguments.head, photometry=not paper, conditions=not paper)
    module = net.module.to(device).train()
    module.half_precision = precision == "bfloat16"
    optimizer = _optimizer(module, 1e-4, 0.02, torch.device(device))
    augmentation = Augmentation(module.scales)
    plain = stream.batch(0, size)
    augmented = augmentation(plain, augmentation.numbers(size, torch.Generator(device).manual_seed(1)))
    batch = plain if paper else augmented

    def loss_of():
        losses = module.losses(batch)
        return sum(PARTS[name] * losses[name][0] / max(losses[name][1], 1) for name in PARTS)

    def step():
        loss_of().backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 2.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        loss_of()
    operations = 3 * counter.get_total_flops() / size
    speed = matmul_speed(device, torch.bfloat16 if precision == "bfloat16" else torch.float32)
    simulating = median_time(lambda: stream.batch(size, size), device, arguments.steps) / size
    augmenting = median_time(
        lambda: augmentation(plain, augmentation.numbers(size, torch.Generator(device).manual_seed(1))), device, arguments.steps
    ) / size
    learning = median_time(step, device, arguments.steps) / size
    with tempfile.TemporaryDirectory() as folder:
        shards = stream.write((arguments.steps + 2) * size, folder)
        starts = itertools.count(0, size)
        reading = median_time(lambda: shards.batch(next(starts), size), device, arguments.steps) / size
    print(f"{net}; batches of {size}, {precision}, {device}")
    print(f"mocks: simulated {1 / simulating:.0f}/s, read from disk {1 / reading:.0f}/s; augmentation: {1 / augmenting:.0f}/s; steps without "
          f"them: {1 / learning:.0f} mocks/s")
    for how, data in (("simulated", simulating + augmenting), ("read from disk", reading + augmenting)):
        print(f"share of the data in a step of one process, mocks {how}: {data / (data + learning):.0%}")
    print(f"{operations / 1e6:.0f} Mflop per mock at {speed / 1e9:.0f} Gflop/s of large matrices: floor {1e3 * operations / speed:.3f} ms, "
          f"step {1e3 * learning:.3f} ms, {operations / speed / learning:.0%} of the floor reached")
    print(f"peak memory {peak_memory():.2f} GB" if device == "cpu" else f"GPU memory {torch.cuda.max_memory_allocated() / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
