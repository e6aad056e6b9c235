# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Give the visibilities of a network what calibrations give them now, but did not when it was calibrated: a last lesson, and two lines in the report.

    python tools/teach_visibility.py --model m83 --samples 180000 --seed 12 --out m83.safetensors

The posterior, the class and the domain stay as they are, to the last bit.  Of the mocks, which are like those of ``clustercnn calibrate``, the
last 10,000 tell how often the intervals hold the truth, the 20,000 before them whether the lesson stays, and those at the start teach.
"""

import argparse
import datetime
from pathlib import Path

import torch

from clustercnn.calibration import coverage
from clustercnn.cli import fresh_mocks
from clustercnn.network.calibrating import _last_lesson, _rows, _seen, _visibility_loss, answers_and_truth
from clustercnn.training_run import read_network

FIRST = 2**41
TEST, CHECK = 20_000, 10_000


def main():
    parser = argparse.ArgumentParser(description=__doc__.strip().split("\n")[0])
    parser.add_argument("--model", default="m83", help="name of a pretrained network, or a model file")
    parser.add_argument("--samples", type=int, default=180_000, help="mocks, of which half are clusters")
    parser.add_argument("--seed", type=int, default=12, help="of the mocks")
    parser.add_argument("--out", type=Path, required=True, help="model file")
    args = parser.parse_args()
    if args.samples < 2 * (TEST + CHECK):
        parser.error(f"--samples must be at least {2 * (TEST + CHECK)}, not {args.samples}")
    net = read_network(args.model)
    if not net.calibration:
        parser.error(f"--model must be a calibrated network; clustercnn calibrate teaches the visibilities of {args.model} as well")
    module, stream = net.module.eval(), fresh_mocks(net, args.samples, args.seed)
    parts, start = [], FIRST
    for samples in (args.samples - TEST - CHECK, TEST, CHECK):
        parts.append(_seen(module, stream, samples, start, torch.device("cpu"), True, clusters_only=True))
        start += samples
    *_, checking = parts
    report = net.calibration
    report["visibility_lesson"] = _last_lesson(module, module.visibility, _visibility_loss, *parts) | {
        "seed": args.seed, "checked": len(checking["positive"]), "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")
    }
    own, (estimate, truth) = checking["own_psf"].numpy(), answers_and_truth(module, net.space, checking)
    for key, these in (("coverage", own), ("coverage_other_psf", ~own)):
        if these.any():
            held = _rows(coverage(estimate[these], {name: values[these] for name, values in truth.items()}))
            report[key] = [row for row in report.get(key, []) if row["parameter"] != "visibility"] + [
                row for row in held if row["parameter"] == "visibility"
            ]
    net.save(args.out)
    print(report["visibility_lesson"], *(row for row in report["coverage"] if row["parameter"] == "visibility"), sep="\n")


if __name__ == "__main__":
    main()
