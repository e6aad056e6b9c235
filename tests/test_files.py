# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Files appear whole or not at all.
"""

import json

import numpy as np
import pytest

from clustercnn.files import to_json, whole_file


def test_replaces_when_complete(tmp_path):
    path = tmp_path / "table.ecsv"
    path.write_text("old")
    with whole_file(path) as partial:
        assert partial.suffix == ".ecsv"
        partial.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_not_there(tmp_path):
    path = tmp_path / "nowhere" / "table.ecsv"
    with pytest.raises(FileNotFoundError, match="there is no folder .*nowhere to write table.ecsv to"), whole_file(path):
        pass


def test_an_error_leaves_the_old_file(tmp_path):
    path = tmp_path / "table.ecsv"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="power cut"), whole_file(path) as partial:
        partial.write_text("ne")
        raise RuntimeError("power cut")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_numbers_of_numpy_become_plain_json():
    text = to_json({"a": np.int64(3), "b": np.float32(0.5), "c": np.bool_(True), "d": np.arange(2)})
    assert json.loads(text) == {"a": 3, "b": 0.5, "c": True, "d": [0, 1]}
    with pytest.raises(TypeError, match="a set cannot be written as JSON"):
        to_json({1, 2})
