# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""The scripts of the validation chapter: each starts and is told of, and their own statistics are right."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from astropy.table import Table

from clustercnn.parameters import ParameterSpace

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks" / "validation"
SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in ("common", "strange_stamps"))
if not SCRIPTS:
    pytest.skip("the benchmarks are not here", allow_module_level=True)


@pytest.fixture(name="script", scope="module")
def fixture_script():
    """A function that imports a script by its name."""
    before = set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        yield importlib.import_module
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and Path(sys.modules[name].__file__).parent == FOLDER:
            del sys.modules[name]


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_starts(name, script, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--help"])
    with pytest.raises(SystemExit) as end:
        script(name).main()
    assert end.value.code == 0 and f"usage: {name}.py" in capsys.readouterr().out


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_is_told_of(name):
    for file in ("README.rst", "run_all.sh"):
        assert name in (FOLDER / file).read_text()


def test_scripts_write_tables_and_figures(script, monkeypatch, tmp_path):
    """Of a few mocks before a few small fields; the visibility, which has no prior, is among the calibrated."""
    common = script("common")
    for folder in ("RESULTS", "FIGURES"):
        monkeypatch.setattr(common, folder, tmp_path)
    options = ["--recipe", str(FOLDER / "trial_mocks.toml"), "--samples", "300", "--library", "800", "--cache", str(tmp_path / "cache")]
    for name, outputs in (("recovery", ("recovery.ecsv", "recovery.rst", "recovery.png")),
                          ("calibration_bins", ("calibration.ecsv", "calibration.rst", "calibration.png")),
                          ("degeneracy", ("degeneracy.ecsv", "degeneracy.png"))):
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *options])
        script(name).main()
        for output in outputs:
            assert (tmp_path / output).stat().st_size > 100
    table = Table.read(tmp_path / "calibration.ecsv")
    assert {"age", "A_V", "mass", "size", "visibility", "joint (TARP)"} == set(table["quantity"])
    assert np.abs(table["deviation [σ]"]).max() < 5
    recovered = Table.read(tmp_path / "recovery.ecsv")
    assert "visibility" in {str(row["parameter"]).split()[0] for row in recovered}
    assert len(list((tmp_path / "cache").glob("answers-*.fits"))) == 1  # the second script found those of the first


def test_errors_of_scatter_and_bias(script):
    """Of normal errors, with the scatter of both from one sample to the next."""
    rng = np.random.default_rng(1)
    found = [script("common").spread(0.3 + 2 * rng.standard_normal(400)) for _ in range(200)]
    for name, value in (("sigma", 2.0), ("bias", 0.3)):
        values = np.array([row[name] for row in found])
        assert values.mean() == pytest.approx(value, abs=0.03)
        assert np.mean([row[f"{name}_error"] for row in found]) == pytest.approx(values.std(), rel=0.15)
    assert np.mean([row["rms"] for row in found]) == pytest.approx(np.hypot(2, 0.3), abs=0.03)
    nothing = script("common").spread([])
    assert nothing.pop("n") == 0 and np.isnan(list(nothing.values())).all() and set(nothing) < set(found[0])


def maps_of(rng, shape, n=499, number=100):
    """Maps of 20 by 10 cells of so many draws from a shape."""
    for _ in range(number):
        draws = shape(rng, n)
        inside = draws[((draws >= 0) & (draws < 1)).all(axis=1)]
        yield np.histogram2d(*inside.T, bins=(20, 10), range=((0, 1), (0, 1)))[0]


def band(rng, n, width):
    along = rng.random(n)
    return np.stack([along, 0.9 - 0.8 * along + width * rng.standard_normal(n)], axis=1)


def blobs(rng, n, share, places, width=0.05):
    return np.array(places)[(rng.random(n) < share).astype(int)] + width * rng.standard_normal((n, 2))


@pytest.mark.parametrize("kind, shape", [
    ("extended", lambda rng, n: rng.random((n, 2))),
    ("extended", lambda rng, n: band(rng, n, 0.05)),
    ("extended", lambda rng, n: band(rng, n, 0.01)),
    ("unimodal", lambda rng, n: blobs(rng, n, 0, [(0.5, 0.5)], 0.03)),
    ("unimodal", lambda rng, n: blobs(rng, n, 0.05, [(0.3, 0.7), (0.7, 0.3)], 0.03)),
    ("multimodal", lambda rng, n: blobs(rng, n, 0.5, [(0.3, 0.7), (0.7, 0.3)])),
    ("multimodal", lambda rng, n: blobs(rng, n, 0.35, [(0.3, 0.5), (0.6, 0.5)])),
])
def test_noise_makes_no_peaks(script, kind, shape):
    """Of so few draws in so many cells, nor does a thin band that the cells cut into steps."""
    kinds = [script("morphology").kind_of_map(density) for density in maps_of(np.random.default_rng(2), shape)]
    assert np.mean(np.array(kinds) == kind) >= 0.97


def test_purity_of_thresholds(script):
    visibility = np.repeat([2.0, 30.0], 500)
    positive, negative = np.where(visibility > 20, 0.999, 0.6), np.repeat([0.95, 0.1], [100, 900])
    rows = {row["p_cluster >="]: row for row in script("classes").thresholds(positive, visibility, negative)}
    assert rows[0.5]["complete, visibility > 0"] == 1 and rows[0.5]["false positives"] == 0.1
    assert rows[0.5]["pure at odds 0.1"] == pytest.approx(0.5)
    assert rows[0.99]["complete, visibility > 0"] == 0.5 and rows[0.99]["complete, visibility > 20"] == 1
    assert rows[0.99]["pure at odds 0.1"] == 1


def test_error_of_the_area(script):
    """That of Hanley & McNeil is the scatter from sample to sample."""
    rng = np.random.default_rng(4)
    rows = []
    for _ in range(200):
        positive, negative = rng.normal(1.5, 1.0, 100), rng.normal(0.0, 1.0, 150)
        rows.append(script("classes").separations(positive, np.full(100, 7.0), {"field": negative})[0])
    areas = np.array([row["auc"] for row in rows])
    assert np.mean([row["auc_error"] for row in rows]) == pytest.approx(areas.std(), rel=0.2)


def test_a_band_that_tells_the_age_is_used_by_the_sets_that_have_it(script):
    """Each posterior learns from its own bands."""
    more, space = script("more_bands"), ParameterSpace.paper()
    generator = torch.Generator().manual_seed(1)
    measures = torch.randn(2048, 5, 6, generator=generator)
    lower, upper = torch.tensor(space.bounds, dtype=torch.float32).T
    unit = torch.rand(2048, 4, generator=generator)
    unit[:, 0] = torch.special.ndtr(measures[:, 0, 0])  # F275W, and no other, tells the age
    data = {"features": torch.zeros(2048, 3), "measures": measures, "parameters": lower + unit * (upper - lower), "visibility": torch.ones(2048)}
    few = {name: values[:64] for name, values in data.items()}
    sets = {name: more.SETS[name] for name in ("with F275W", "with F555W")}
    nll = {name: more.answers(few, bands, *more.trained(data, bands, space, 8), space).nll.mean() for name, bands in sets.items()}
    assert nll["with F275W"] < nll["with F555W"] - 0.5
