# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""What is written comes back, and what is not ours, not whole or not current is refused with a reason."""

import json

import pytest
import torch
from safetensors.torch import load, save

from clustercnn.network.modelfile import FORMAT_VERSION, read_file, write_file

TENSORS = {"weight": torch.linspace(-2, 2, 12).reshape(3, 4), "count": torch.tensor([3, 70000])}
HEADER = {"network": {"bands": ["F336W"]}, "number": 1.5, "word": "Ångström"}


def rewrite(path, change):
    """Change the header of a file, with its checksum as it was."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    metadata = json.loads(content[8 : 8 + length])["__metadata__"]
    metadata["clustercnn"] = json.dumps(json.loads(metadata["clustercnn"]) | change)
    path.write_bytes(save(load(content), metadata=metadata))


@pytest.mark.parametrize("half", [False, True])
def test_round_trip(tmp_path, half):
    path = tmp_path / "a.safetensors"
    write_file(path, TENSORS, HEADER, half=half)
    tensors, header = read_file(path)
    assert tensors["weight"].dtype == torch.float32
    assert torch.allclose(tensors["weight"], TENSORS["weight"], atol=1e-3 if half else 0)
    assert torch.equal(tensors["count"], TENSORS["count"])
    assert {name: header[name] for name in HEADER} == HEADER
    assert header["format_version"] == FORMAT_VERSION
    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]


def test_half_precision_is_for_weights(tmp_path):
    """Variances of batch normalisation may be far beyond float16, and a network of 9 million weights has few of them."""
    variance = torch.tensor([1e-9, 1.0, 1e6])
    write_file(tmp_path / "a.safetensors", {"running_var": variance, "weight": torch.ones(500, 500)}, {}, half=True)
    assert torch.equal(read_file(tmp_path / "a.safetensors")[0]["running_var"], variance)
    assert (tmp_path / "a.safetensors").stat().st_size < 2 * 500 * 500 + 1000


def test_transposed_tensors_come_back_whole(tmp_path):
    tensors = {"a": TENSORS["weight"].T, "b": torch.zeros(2, 3, 4, 4).to(memory_format=torch.channels_last)}
    write_file(tmp_path / "a.safetensors", tensors, {})
    assert torch.equal(read_file(tmp_path / "a.safetensors")[0]["a"], tensors["a"])


def test_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.safetensors"
    write_file(path, TENSORS, HEADER)
    before = path.read_bytes()
    with pytest.raises(TypeError):
        write_file(path, TENSORS, {"a": object()})
    with pytest.raises(ValueError, match="weight holds values that are not finite"):
        write_file(path, {"weight": torch.tensor([[1e6]])}, {}, half=True)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("keep", [0, 4, 50, -10])
def test_cut_short(tmp_path, keep):
    path = tmp_path / "a.safetensors"
    write_file(path, TENSORS, HEADER)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        read_file(path)


def test_damaged(tmp_path):
    path = tmp_path / "a.safetensors"
    write_file(path, TENSORS, HEADER)
    content = bytearray(path.read_bytes())
    content[-3] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(ValueError, match="checksum"):
        read_file(path)


@pytest.mark.parametrize("change", [{"network": {"bands": ["F438W"]}}, {"number": 1.6}, {"another": None}])
def test_changed_header(tmp_path, change):
    path = tmp_path / "a.safetensors"
    write_file(path, TENSORS, HEADER, half=True)
    rewrite(path, {})
    read_file(path)
    rewrite(path, change)
    with pytest.raises(ValueError, match="a.safetensors is damaged or was changed"):
        read_file(path)


def test_changed_shape(tmp_path):
    path = tmp_path / "a.safetensors"
    write_file(path, TENSORS, HEADER)
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"shape":[3,4]', b'"shape":[4,3]'))
    assert path.read_bytes() != content
    with pytest.raises(ValueError, match="checksum"):
        read_file(path)


def test_every_type_of_number(tmp_path):
    path = tmp_path / "a.safetensors"
    kinds = (torch.bfloat16, torch.float16, torch.float32, torch.float64, torch.int8, torch.int64, torch.bool)
    tensors = {str(kind): torch.tensor([[0, 1], [1, 0]]).to(kind) for kind in kinds} | {"scalar": torch.tensor(2.5), "none": torch.zeros(0, 3)}
    write_file(path, tensors, {})
    back, _ = read_file(path)
    for name, tensor in tensors.items():
        assert torch.equal(back[name].to(tensor.dtype), tensor)
    assert back["torch.bfloat16"].dtype == back["torch.float16"].dtype == torch.float32


def test_foreign(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_text("not weights at all, but a text that is long enough")
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        read_file(path)
    path.write_bytes(save(TENSORS))
    with pytest.raises(ValueError, match="not one of clustercnn"):
        read_file(path)
    for header in ("[]", "{}", "no JSON", '{"format": "clustercnn-model", "format_version": Infinity}'):
        path.write_bytes(save({"a": torch.ones(3, dtype=torch.bfloat16)}, metadata={"clustercnn": header, "sha256": ""}))
        with pytest.raises(ValueError, match="a.safetensors is a safetensors file, but not one of clustercnn"):
            read_file(path)
    with pytest.raises(FileNotFoundError):
        read_file(tmp_path / "b.safetensors")


def test_other_kind_and_newer_format(tmp_path):
    path = tmp_path / "a.safetensors"
    write_file(path, TENSORS, HEADER, kind="checkpoint")
    with pytest.raises(ValueError, match="clustercnn-checkpoint file, not a clustercnn-model"):
        read_file(path)
    write_file(path, TENSORS, HEADER)
    rewrite(path, {"format_version": FORMAT_VERSION + 1})
    with pytest.raises(ValueError, match="update clustercnn"):
        read_file(path)
