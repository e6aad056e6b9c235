# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
What could the convolutions of overlapping stamps share, if the network looked at every fourth pixel of an image?

    python benchmarks/shared_trunk.py

Every layer but the first follows a normalisation over its own stamp (GroupNorm), so only the first convolution has the same result in
two stamps; away from their edges, where each stamp ends and the image does not. The script counts its operations and those of the rest.
"""

import argparse

import torch
from torch.utils.flop_counter import FlopCounterMode

from clustercnn import ClusterNet
from clustercnn.survey.network_finder import STEP


def operations(module, inputs):
    """Floating-point operations, in millions per stamp, and the output."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        output = module(inputs)
    return counter.get_total_flops() / len(inputs) / 1e6, output


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="m83", help="name of an embedded network with the compact encoder")
    net = ClusterNet.from_pretrained(parser.parse_args().model)
    bands, (ny, nx) = len(net.bands), net.config["shape"]
    stamps = torch.zeros(4, bands, ny, nx)
    whole, _ = operations(net.module, stamps)
    first, _ = operations(net.module.encoder.stem[0], stamps)
    shared = first * STEP**2 / (nx * ny)  # one pass over the image, per look
    print(f"one look: {whole:.1f} Mflop, of which the first convolution {first:.1f} ({first / whole:.0%})")
    print(f"a look at every {STEP}th pixel: {1e6 / STEP**2:,.0f} looks per million pixels, {whole * 1e6 / STEP**2 / 1e6:.2f} Tflop")
    print(f"with the first convolution shared: {(whole - first + shared) / whole:.0%} of that")
    print(f"with everything shared, as another network could: {STEP**2 / (nx * ny):.2%} of it")


if __name__ == "__main__":
    main()
