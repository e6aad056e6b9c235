# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
The examples run from end to end and write what they promise.
"""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.table import QTable

from clustercnn import ClusterNet

BANDS = ("F275W", "F336W", "F438W", "F555W", "F814W")


@pytest.fixture(name="example", scope="module")
def fixture_example():
    """The script examples/real_hst_stamps.py as a module."""
    path = Path(__file__).resolve().parents[1] / "examples" / "real_hst_stamps.py"
    spec = importlib.util.spec_from_file_location("real_hst_stamps", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(name="model", scope="module")
def fixture_model(tmp_path_factory):
    """File of a renormalized network that has learned nothing, though it says so."""
    path = tmp_path_factory.mktemp("model") / "untrained.safetensors"
    ClusterNet(scaling="renormalized").save(path, extra={"samples": 1})
    return str(path)


@pytest.fixture(name="standin", scope="module")
def fixture_standin(tmp_path_factory):
    """A folder laid out as the reference data: two cutouts with one source each in the middle, one of them in a crowd."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:112, :112]
    cutouts = np.empty((2, 5, 112, 112), dtype=np.uint8)
    for i, crowd in enumerate((0, 60)):
        places = np.vstack([[55.3, 55.8], rng.uniform(0, 112, (crowd, 2))])
        light = sum(np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / 8) for x0, y0 in places)
        for plane in cutouts[i]:
            pixels = 30 * light + rng.normal(0, 1, light.shape)
            plane[:] = np.round(255 * (pixels - pixels.min()) / np.ptp(pixels))
    folder = tmp_path_factory.mktemp("data")
    (folder / "images").mkdir()
    np.savez(folder / "images" / "phangs_hst_clusters.npz", cutouts=cutouts, bands=np.array(BANDS))
    return folder


def run(example, monkeypatch, data, model, out):
    """The table that the example returns and writes, with 30 offsets per cluster."""
    monkeypatch.setattr(example, "OFFSETS", 30)
    table = example.main(["--data", str(data), "--model", model, "--out", str(out), "--seed", "1"])
    assert (out / "real_hst_stamps.png").read_bytes().startswith(b"\x89PNG")
    written = QTable.read(out / "real_hst_stamps.ecsv")
    assert written.colnames == table.colnames
    assert "renormalized" in written.meta["model"]
    assert np.all((table["p_cluster"] > 0) & (table["p_cluster"] < 1))
    assert np.all((table["rank"] >= 1) & (table["rank"] <= table["n_offsets"] + 1))
    for name, unit in (("age", u.Myr), ("a_v", u.mag), ("half_light_radius", u.arcsec), ("visibility", u.one)):
        low, middle, high = (written[f"{name}{end}"].to_value(unit) for end in ("_lo", "", "_hi"))
        assert np.all((low <= middle) & (middle <= high))
    return table


def test_real_hst_stamps(example, monkeypatch, standin, model, tmp_path):
    table = run(example, monkeypatch, standin, model, tmp_path)
    alone, crowded = table
    assert alone["n_sources"] == 1
    # 49 x 49 places, less the disc of 12 pixels around the source
    assert alone["n_places"] == pytest.approx(49**2 - np.pi * 12**2, abs=30)
    assert crowded["n_sources"] > 20
    assert crowded["n_offsets"] == min(crowded["n_places"], 30) < alone["n_places"]
    rng = np.random.default_rng(1)
    images = example.read_cutouts(standin / "images" / "phangs_hst_clusters.npz", ("F336W", "F438W", "F814W"), rng)
    again, *_ = example.look(images[0], ClusterNet.load(model), rng)
    assert again["p_cluster"] == alone["p_cluster"] and again["rank"] == alone["rank"]


def test_real_hst_stamps_needs_a_renormalized_network(example, standin, tmp_path):
    path = tmp_path / "fixed.safetensors"
    ClusterNet(scaling="fixed").save(path, extra={"samples": 1})
    with pytest.raises(u.UnitsError, match="images"):
        example.main(["--data", str(standin), "--model", str(path), "--out", str(tmp_path)])


def test_real_hst_stamps_of_the_reference_data(example, monkeypatch, reference_data, model, tmp_path):
    table = run(example, monkeypatch, reference_data, model, tmp_path)
    assert len(table) == 4
    assert (table["n_offsets"] == 30).all()
    assert (table["n_places"] > 200).all()


def test_places_keep_clear_of_sources(example):
    middle = np.array([55.5, 55.5])
    sources = np.array([[55.5, 55.5], [40.0, 70.0]])
    places = example.places_between(sources, middle, 24)
    assert np.abs(places - middle).max() == 24
    assert (places % 1 == 0.5).all()
    for source in sources:
        assert np.hypot(*(places - source).T).min() > 12
    everywhere = np.stack(np.meshgrid(np.arange(20, 92, 8), np.arange(20, 92, 8)), axis=-1).reshape(-1, 2)
    assert example.places_between(everywhere, middle, 24).shape == (0, 2)
