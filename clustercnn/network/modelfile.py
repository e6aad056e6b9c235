# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""The model file: one safetensors file whose header carries, as JSON, all that the network promises and expects."""

import hashlib
import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from clustercnn.files import to_json, whole_file

__all__ = ["FORMAT_VERSION", "read_file", "write_file"]

FORMAT_VERSION = 1


def write_file(path, tensors, header, kind="model", half=False):
    """
    Write tensors and a JSON-able header to one file; a crash leaves the old file or the new one, never a part.

    Parameters
    ----------
    path : str or `~pathlib.Path`
        The file to write.
    tensors : dict
        Name to `~torch.Tensor`.
    header : dict
        Anything that JSON can hold.
    kind : {'model', 'checkpoint'}
        What the file is; `read_file` refuses the other.
    half : bool
        Store weights, that is float32 of two axes and more, in float16 (half the size; the answers move by less than a thousandth of
        their spread). Biases, normalisations, the variances that batch normalisation has seen, which float16 may not hold, and float64 stay.

    Raises
    ------
    ValueError
        If a tensor holds a value that is not finite in the stored precision.
    """
    stored = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu()
        if half and tensor.dtype == torch.float32 and tensor.ndim > 1:
            tensor = tensor.half()
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ValueError(f"tensor {name} holds values that are not finite")
        stored[name] = tensor.clone(memory_format=torch.contiguous_format)
    text = to_json({"format": f"clustercnn-{kind}", "format_version": FORMAT_VERSION, **header})
    with whole_file(path) as partial:
        partial.write_bytes(save_tensors(stored, metadata={"clustercnn": text, "sha256": _digest(text, stored)}))


def read_file(path, kind="model"):
    """
    Read what `write_file` wrote.

    Parameters
    ----------
    path : str or `~pathlib.Path`
        The file.
    kind : {'model', 'checkpoint'}
        What the file must be.

    Returns
    -------
    tensors : dict
        Name to `~torch.Tensor`; half precision becomes float32.
    header : dict
        The header.

    Raises
    ------
    ValueError
        If the file is not of this package, of a newer format, cut short or damaged.
    """
    path = Path(path)
    content = path.read_bytes()
    try:
        tensors = load_tensors(content)
        length = int.from_bytes(content[:8], "little")
        metadata = json.loads(content[8 : 8 + length]).get("__metadata__", {})
    except (SafetensorError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is not a whole safetensors file (damaged, cut short or of another kind): {error}"
        ) from None
    try:
        text, digest = metadata["clustercnn"], metadata["sha256"]
        header = json.loads(text)
        found, version = header["format"], int(header["format_version"])
    except (KeyError, OverflowError, TypeError, ValueError):
        raise ValueError(f"{path} is a safetensors file, but not one of clustercnn: its header has no contract") from None
    if found != f"clustercnn-{kind}":
        raise ValueError(f"{path} is a {found} file, not a clustercnn-{kind} file")
    if version > FORMAT_VERSION:
        raise ValueError(
            f"{path} has format version {version}; this clustercnn reads up to {FORMAT_VERSION}: update clustercnn"
        )
    if digest != _digest(text, tensors):
        raise ValueError(f"{path} is damaged or was changed: its checksum does not agree with its header and tensors")
    return {name: t.float() if t.dtype in (torch.float16, torch.bfloat16) else t for name, t in tensors.items()}, header


def _digest(text, tensors):
    """SHA-256 of the header's text and of all tensors, in the order of their names."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        # as bytes, since numpy does not know every type of number
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
