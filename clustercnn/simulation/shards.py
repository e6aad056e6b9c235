# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Fixed sets of mocks on disk: sharded arrays and a manifest with their hashes."""

import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from clustercnn.files import to_json, whole_file

__all__ = ["MockShards", "write_shards"]

MANIFEST = "manifest.json"
FORMAT = 1


def write_shards(stream, n, directory, shard_size=8192, progress=True):
    """
    Write the first samples of a stream to a directory; a run that was stopped goes on where it was.

    Parameters
    ----------
    stream : `~clustercnn.simulation.MockStream` or alike
        Anything with ``batch(start, size)`` and ``contract``.
    n : int
        How many samples.
    directory : str or `~pathlib.Path`
        Where to; it is made if it does not exist. If it holds a part of the same set, the rest is added, once the stream has made
        the first samples again.
    shard_size : int
        Samples in one shard.
    progress : bool
        Show a progress bar.

    Returns
    -------
    shards : `MockShards`

    Raises
    ------
    ValueError
        If ``n`` or ``shard_size`` is below 1, or the directory holds another set.
    """
    if n < 1 or shard_size < 1:
        raise ValueError(f"n and shard_size must be at least 1, not {n} and {shard_size}")
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    manifest = {"format": FORMAT, "samples": n, "shard_size": shard_size, "contract": stream.contract, "shards": []}
    if (directory / MANIFEST).exists():
        found = _read_manifest(directory)
        different = [name for name in ("samples", "shard_size", "contract") if found[name] != manifest[name]]
        if not different and found["shards"] and not _same_pixels(stream, min(n, shard_size, 32), directory):
            different = ["pixels"]  # the contract does not tell every background and PSF apart
        if different:
            raise ValueError(f"{directory} holds another set of mocks (different: {', '.join(different)}); choose another directory")
        manifest = found
    done = len(manifest["shards"])
    with tqdm(total=n, initial=min(done * shard_size, n), unit="mock", unit_scale=True, desc="mocks", disable=not progress) as bar:
        for i in range(done, -(-n // shard_size)):
            start = i * shard_size
            batch = stream.batch(start, min(shard_size, n - start))
            hashes = {}
            for name, tensor in batch.items():
                path = directory / _file_name(i, name)
                with whole_file(path) as partial, open(partial, "wb") as file:
                    np.save(file, tensor.cpu().numpy(), allow_pickle=False)
                hashes[name] = _sha256(path)
            # A shard counts once it stands in the manifest, and that is written last.
            manifest["shards"].append(hashes)
            with whole_file(directory / MANIFEST) as partial:
                Path(partial).write_text(to_json(manifest, indent=1))
            bar.update(len(batch["is_cluster"]))
    return MockShards(directory)


def _same_pixels(stream, size, directory):
    """Whether the stream makes the first samples of a directory again; up to the rounding of a GPU."""
    found = np.load(directory / _file_name(0, "pixels"), mmap_mode="r", allow_pickle=False)[:size]
    return np.isclose(stream.batch(0, size)["pixels"].cpu().numpy(), found, rtol=1e-3, atol=1e-6).mean() > 0.999


class MockShards:
    """
    A fixed set of mocks that `MockStream.write` wrote; it takes the place of a stream, and is read as it is needed.

    A training counts on from the first sample again after the last; give it another set as ``validation``, since all samples of this one
    are trained on.

    Parameters
    ----------
    directory : str or `~pathlib.Path`
        With the shards and their manifest.

    Attributes
    ----------
    contract : dict
        That of the stream.

    Raises
    ------
    ValueError
        If the directory holds no set, an unfinished one, or files are missing.

    Examples
    --------
    >>> from clustercnn.simulation import MockShards
    >>> shards = MockShards("mocks")                        # doctest: +SKIP
    >>> batch = shards.batch(0, 128)                        # doctest: +SKIP
    """

    def __init__(self, directory):
        self.directory = Path(directory)
        manifest = _read_manifest(self.directory)
        self.contract, self._size, self._n = manifest["contract"], manifest["shard_size"], manifest["samples"]
        self._hashes = manifest["shards"]
        if len(self._hashes) * self._size < self._n:
            written = len(self._hashes) * self._size
            raise ValueError(f"{self.directory} holds only {written} of {self._n} mocks: write them again, and the rest is added")
        missing = [path.name for path, _ in self._files() if not path.exists()]
        if missing:
            raise ValueError(f"{self.directory} lacks {', '.join(missing[:3])}{' and more' if len(missing) > 3 else ''}")

    def __len__(self):
        return self._n

    def __repr__(self):
        return f"<MockShards {self._n} mocks in {len(self._hashes)} shards>"

    def _files(self):
        return [(self.directory / _file_name(i, name), sha) for i, shard in enumerate(self._hashes) for name, sha in shard.items()]

    def verify(self):
        """
        Compare all files with the hashes of the manifest.

        Raises
        ------
        ValueError
            If a file is not what was written.
        """
        for path, sha in self._files():
            if _sha256(path) != sha:
                raise ValueError(f"{path} is damaged: it does not have the hash that the manifest states")

    def batch(self, start, size):
        """
        Samples ``start`` to ``start + size``, counted on from the first one again after the last.

        Parameters
        ----------
        start, size : int
            Index of the first sample and number of samples.

        Returns
        -------
        batch : dict of `~torch.Tensor`
            As of `MockStream.batch`.
        """
        if start < 0 or size < 1:
            raise ValueError(f"start must be 0 or more and size at least 1, not {start} and {size}")
        index = np.arange(start, start + size) % self._n
        shard = index // self._size
        pieces = [(i, index[shard == i] % self._size) for i in dict.fromkeys(shard.tolist())]
        return {
            name: torch.from_numpy(np.concatenate([self._array(i, name)[rows] for i, rows in pieces])) for name in self._hashes[0]
        }

    def _array(self, i, name):
        return np.load(self.directory / _file_name(i, name), mmap_mode="r", allow_pickle=False)


def _file_name(i, name):
    return f"{i:05d}_{name}.npy"


def _sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_manifest(directory):
    path = directory / MANIFEST
    if not path.exists():
        raise ValueError(f"{directory} holds no set of mocks: there is no {MANIFEST}")
    try:
        manifest = json.loads(path.read_text())
        version = manifest["format"]
        complete = {"samples", "shard_size", "contract", "shards"} <= manifest.keys()
    except (ValueError, TypeError, KeyError):
        raise ValueError(f"{path} is not a manifest of mocks") from None
    if version != FORMAT or not complete:
        raise ValueError(f"{path} has the format {version}; this version of clustercnn reads {FORMAT}")
    return manifest
