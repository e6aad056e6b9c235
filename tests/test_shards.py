# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Fixed sets of mocks: the stream's samples, whole or not at all, and loaders that share a stream out.
"""

import json

import numpy as np
import pytest
import torch
from small_stream import dark, make_stream

from clustercnn.simulation import MockShards, write_shards

WITH_WORKERS = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@pytest.fixture(name="stream", scope="module")
def fixture_stream():
    """Read only."""
    return make_stream()


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name].numpy(), second[name].numpy(), err_msg=name)


@pytest.fixture(name="directory")
def fixture_directory(stream, tmp_path):
    """70 mocks in shards of 32; to be changed at will."""
    stream.write(70, tmp_path / "mocks", shard_size=32, progress=False)
    return tmp_path / "mocks"


def test_shards_hold_the_streams_samples(stream, directory):
    shards = MockShards(directory)
    assert len(shards) == 70 and shards.contract == json.loads(json.dumps(stream.contract)) and "70 mocks in 3" in repr(shards)
    shards.verify()
    for start, size in [(0, 70), (0, 1), (30, 5), (64, 6), (31, 34)]:
        assert_same(shards.batch(start, size), stream.batch(start, size))
    again = shards.batch(68, 5)  # from the first one after the last
    assert_same({name: values[2:] for name, values in again.items()}, stream.batch(0, 3))
    for start, size in [(-1, 4), (0, 0)]:
        with pytest.raises(ValueError, match="start must be 0 or more and size at least 1"):
            shards.batch(start, size)


def test_an_interrupted_run_goes_on(stream, tmp_path):
    """What is done is not done again, and the set is the same in the end."""
    asked = []

    class Interrupted:
        contract = stream.contract
        last = 2

        def batch(self, start, size):
            asked.append(start)
            if len(asked) > self.last:
                raise KeyboardInterrupt
            return stream.batch(start, size)

    source = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        write_shards(source, 70, tmp_path, 16, progress=False)
    with pytest.raises(ValueError, match="holds only 32 of 70 mocks: write them again"):
        MockShards(tmp_path)
    source.last = 100
    shards = write_shards(source, 70, tmp_path, 16, progress=False)
    assert asked == [0, 16, 32, 0, 32, 48, 64]  # the first samples once more, to compare
    shards.verify()
    assert_same(shards.batch(0, 70), stream.batch(0, 70))
    assert write_shards(source, 70, tmp_path, 16, progress=False) and len(asked) == 8
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_another_set_is_left_alone(directory):
    for stream, n, size, different in [
        (make_stream(), 71, 32, "samples"), (make_stream(), 70, 16, "shard_size"), (make_stream(2), 70, 32, "contract"),
        (make_stream(background=dark(40, 50)), 70, 32, "pixels"), (make_stream(psf=None), 70, 32, "contract"),
    ]:
        with pytest.raises(ValueError, match=rf"holds another set of mocks \(different: {different}\)"):
            stream.write(n, directory, shard_size=size, progress=False)
    MockShards(directory).verify()
    with pytest.raises(ValueError, match="n and shard_size must be at least 1, not 0 and 8"):
        write_shards(make_stream(), 0, directory, 8)


def test_damage_is_named(directory):
    path = directory / "00001_pixels.npy"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="00001_pixels.npy is damaged"):
        MockShards(directory).verify()
    path.unlink()
    with pytest.raises(ValueError, match="lacks 00001_pixels.npy"):
        MockShards(directory)


@pytest.mark.parametrize(("text", "message"), [
    (None, "holds no set of mocks: there is no manifest.json"),
    ("", "is not a manifest of mocks"),
    ("[1, 2]", "is not a manifest of mocks"),
    ('{"format": 9}', "has the format 9; this version of clustercnn reads 1"),
])
def test_foreign_directories(tmp_path, text, message):
    if text is not None:
        (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        MockShards(tmp_path)


@WITH_WORKERS
@pytest.mark.parametrize("workers", [0, 1, 2])
def test_loaders_share_a_stream_out(stream, workers):
    """In the same order for any number of workers, from any batch on; without an end, too."""
    loader = torch.utils.data.DataLoader(stream.batches(9, 2, 6), batch_size=None, num_workers=workers, generator=torch.Generator())
    batches = list(loader)
    assert len(batches) == 4
    for i, batch in enumerate(batches, start=2):
        assert_same(batch, stream.batch(9 * i, 9))


def test_endless_batches(stream):
    batches = iter(stream.batches(5))
    for i in range(10):
        assert_same(next(batches), stream.batch(5 * i, 5))


def test_networks_train_on_shards(directory, stream):
    """A fixed set takes the place of the stream, over and over again; it is not validated on what it trained on."""
    from clustercnn import ClusterNet

    net = ClusterNet(shape=(24, 24), rng=0)
    settings = {"batch_size": 32, "validation_samples": 32, "progress": False, "device": "cpu"}
    with pytest.raises(ValueError, match="validation must be given, or validation_samples=0: a set of .* mocks"):
        net.fit(MockShards(directory), 128, **settings)
    history = net.fit(MockShards(directory), 128, validation=stream, **settings)
    assert np.isfinite(history["nll"]).all() and net.training["samples"] == 128
