# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""The device on which a network runs, by its name."""

import torch

__all__ = ["as_device"]


def as_device(name):
    """
    The torch device of a name.

    Parameters
    ----------
    name : str or `~torch.device`
        ``'auto'`` takes a CUDA device where there is one, else the CPU.

    Returns
    -------
    device : `~torch.device`

    Raises
    ------
    ValueError
        If torch knows no such device, or cannot use it here.

    Examples
    --------
    >>> from clustercnn.network.device import as_device
    >>> as_device("cpu")
    device(type='cpu')
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()
    except (AssertionError, RuntimeError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"device must be 'auto', 'cpu', or one that torch can use here, not {name!r} ({reason})") from None
    return device


def emulates_bfloat16(device):
    """Whether a device is a processor that has no bfloat16 of its own, as far as torch can tell."""
    known = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}  # an older torch cannot
    has_it = known.get("avx512_bf16", True) or known.get("amx_bf16", True)
    return torch.device(device).type == "cpu" and known.get("architecture") == "x86_64" and not has_it
