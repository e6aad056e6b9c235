# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
How many stamps a second a network answers: encoding with class and visibility, and with 100 posterior draws.

    python benchmarks/bench_predict.py                 # the embedded "m83" on the processor
    python benchmarks/bench_predict.py --device cuda

Also the cost of the draws in units of the encoding, the share of cutting and normalising, and how much of the matrix-multiply floor is
reached, all in one run.
"""

import argparse

import numpy as np
import torch
from astropy import units as u
from bench_train import matmul_speed, median_time
from machine import describe_machine, peak_memory
from torch.utils.flop_counter import FlopCounterMode

from clustercnn import ClusterNet, MultiBandImage
from clustercnn.network.encoders import stretch


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="m83", help="name of an embedded network, or a model file")
    parser.add_argument("--stamps", type=int, default=1000)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    arguments = parser.parse_args()
    device, n = arguments.device, arguments.stamps
    print(describe_machine())
    net = ClusterNet.load(arguments.model) if arguments.model.endswith("safetensors") else ClusterNet.from_pretrained(arguments.model)
    module = net.module.to(device).eval()
    rng = np.random.default_rng(1)
    pixels = (0.02 + 0.02 * rng.standard_normal((len(net.bands), 2048, 2048))).astype(np.float32)
    images = MultiBandImage.from_arrays(net.bands, pixels, u.electron / u.s)
    positions = rng.uniform(40, 2000, (n, 2))
    stamps = torch.from_numpy(images.cutouts(positions, net.config["shape"]).value).to(device)
    batches = stamps.split(256)
    normals = torch.randn(256, 100, len(net.space) + 2, device=device)

    @torch.inference_mode()
    def encode():
        for batch in batches:
            features = module(batch)
            module.cluster(features)
            module.visibility.transport(features, torch.full((len(batch), 1, len(net.space)), 0.5, device=device), normals[: len(batch), :1, -2:])

    @torch.inference_mode()
    def answer():
        for batch in batches:
            module.say(module(batch), normals[: len(batch)])

    @torch.inference_mode()
    def normalise():
        for batch in batches:
            stretch(module.scaled(batch)[0])

    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        module(batches[0])
    operations = counter.get_total_flops() / len(batches[0])
    speed = matmul_speed(device, torch.bfloat16 if device == "cuda" else torch.float32)
    encoding, answering = (median_time(function, device, 5) / n for function in (encode, answer))
    cutting = median_time(lambda: images.cutouts(positions, net.config["shape"]), "cpu", 5) / n
    normalising = median_time(normalise, device, 5) / n
    whole = median_time(lambda: net.predict(images, positions, draws=100, device=device), device, 3) / n
    print(f"{net}; {n} stamps, {device}")
    print(f"encoding, class and visibility: {1 / encoding:.0f} stamps/s; with 100 draws: {1 / answering:.0f} stamps/s; "
          f"the draws cost {(answering - encoding) / encoding:.1f} times the encoding")
    print(f"predict on an image, all in all: {1 / whole:.0f} stamps/s; cutting takes {cutting / whole:.1%} of it, "
          f"normalising {normalising / whole:.1%}")
    print(f"{operations / 1e6:.0f} Mflop per stamp at {speed / 1e9:.0f} Gflop/s of large matrices: {operations / speed / encoding:.0%} of the "
          "floor reached in encoding")
    print(f"peak memory {peak_memory():.2f} GB")


if __name__ == "__main__":
    main()
