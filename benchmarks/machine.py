# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""What a benchmark says about the machine that it ran on."""

import os
import platform
import resource

import numpy as np
import torch


def describe_machine():
    """Processor, cores, threads, versions, in one line."""
    model = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as file:
            model = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), model)
    cuda = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return (
        f"{model}, {os.cpu_count()} cores{cuda}; {torch.get_num_threads()} threads; "
        f"Python {platform.python_version()}, numpy {np.__version__}, torch {torch.__version__}"
    )


def peak_memory(children=False):
    """Largest resident memory so far of this process, or of the largest of its ended children, GB."""
    who = resource.RUSAGE_CHILDREN if children else resource.RUSAGE_SELF
    return resource.getrusage(who).ru_maxrss / 1e6
