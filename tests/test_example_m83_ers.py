# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
The example of M83 on a stand-in that it can be judged by: mosaics and catalogue in the formats of the real files, with known clusters.
"""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable
from hst_mosaics import M83, write_mosaic

from clustercnn import ClusterInjector, ClusterNet, MultiBandImage

SHAPE = (330, 390)
SKY = (0.002, 0.008, 0.03)  # electron/s
OFFSET = np.array([7.0, -4.0])  # pixels by which sources lie off the catalogue's coordinates
MISALIGNED = 3  # pixels by which F814W is moved along x
N = 12
DISTANCES = (4.564 / 4.5) ** 2


@pytest.fixture(name="example", scope="module")
def fixture_example():
    """The script examples/m83_ers.py as a module."""
    path = Path(__file__).resolve().parents[1] / "examples" / "m83_ers.py"
    spec = importlib.util.spec_from_file_location("m83_ers", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(name="standin", scope="module")
def fixture_standin(tmp_path_factory):
    """A folder with mosaics and catalogue of twelve bright clusters, and the truth; the last cluster is not in the catalogue."""
    folder = tmp_path_factory.mktemp("m83")
    rng = np.random.default_rng(83)
    exposure = np.array([M83.exposure(band).value for band in M83.bands])
    sigma = np.sqrt(np.array(SKY) / exposure + 3 * 3.1**2 / exposure**2)
    pixels = rng.normal(np.array(SKY)[:, None, None], sigma[:, None, None], (3, *SHAPE))
    places = np.stack(np.meshgrid([90, 170, 250, 330], [60, 165, 270]), axis=-1).reshape(-1, 2) + rng.uniform(-5, 5, (N, 2))
    clusters = QTable({"age": 10 ** rng.uniform(1, 2.3, N) * u.Myr, "a_v": rng.uniform(0.25, 0.9, N) * u.mag,
                       "mass": 10 ** rng.uniform(4.5, 5.2, N) * u.Msun, "half_light_radius": rng.uniform(0.08, 0.2, N) * u.arcsec})
    injector = ClusterInjector(MultiBandImage.from_arrays(M83.bands, pixels, u.electron / u.s), instrument=M83, distance=4.5 * u.Mpc)
    result = injector.inject(clusters, places, rng)
    pixels = result.images.to_array()
    pixels[2] = np.roll(pixels[2], MISALIGNED, axis=1)
    pixels[:, :, :40] = 0.0
    for band, plane in zip(M83.bands, pixels, strict=True):
        # two pointings: the header's exposure is their sum
        path = folder / f"hlsp_wfc3ers_hst_wfc3_m83_{band.lower()}_v2_drz_sci.fits"
        write_mosaic(path, band, plane, scale=0.0396, exposure=2 * M83.exposure(band).value)
    wcs = MultiBandImage.read({"F438W": folder / "hlsp_wfc3ers_hst_wfc3_m83_f438w_v2_drz_sci.fits"}).wcs
    write_catalogue(folder, places[:-1], wcs.pixel_to_world(*(places[:-1] - OFFSET).T), result.truth[:-1])
    return folder, result.truth


def write_catalogue(folder, places, sky, truth):
    """The two files; with an artifact on empty sky, and a cluster that has no published age."""
    empty = np.array([[130.0, 110.0]])
    x, y = np.vstack([places, empty]).T
    step = 0.0396 / 3600
    ra = [*sky.ra.deg, sky[0].ra.deg - (empty[0, 0] - places[0, 0]) * step / np.cos(sky[0].dec.rad)]
    dec = [*sky.dec.deg, sky[0].dec.deg + (empty[0, 1] - places[0, 1]) * step]
    flags = [0.0] * len(truth) + [4.0]
    lines = [f"{x[i]:12.6g} {y[i]:12.6g} {ra[i]:.7f} {dec[i]:.7f} {1000 + i}. 2.7 19.0 17.0 -9.0 0.47 {flags[i]:.0f}. " + "INDEF " * 42
             for i in range(len(x))]
    (folder / "hlsp_wfc3ers_hst_wfc3_m83_cat_cluster_auto_v1.txt").write_text("# File = cluster_auto\n#\n" + "\n".join(lines))
    missing = [-999.0] * 8
    rows = []
    for i, cluster in enumerate(truth):
        ebv = (cluster["a_v"].value - 0.22) / 3.1
        log_age = np.log10(cluster["age"].to_value(u.yr))
        mass = cluster["mass"].value * DISTANCES
        rows.append((x[i], y[i], 1000 + i, *(missing if i == 0 else (ebv, ebv, ebv, log_age, log_age, log_age, mass, 2 * mass))))
    rows.append((x[-1], y[-1], 1000 + len(truth), *missing))
    np.savetxt(folder / "hlsp_m83_autocat_ages_public.data", rows[::-1], fmt=["%.2f"] * 2 + ["%d"] + ["%.4f"] * 6 + ["%.1f"] * 2)


def test_m83_ers(example, standin, tmp_path):
    folder, truth = standin
    table, comparison, new = example.main(["--mosaics", str(folder), "--catalogues", str(folder), "--out", str(tmp_path)])
    assert (tmp_path / "m83_ers.png").read_bytes().startswith(b"\x89PNG")
    names = ("images", "clusters", "comparison", "classes", "candidates")
    written = {name: QTable.read(tmp_path / f"m83_ers_{name}.ecsv") for name in names}

    facts = written["images"]
    assert list(facts["band"]) == list(M83.bands)
    np.testing.assert_allclose(facts["sky"].value, SKY, atol=1e-3)
    np.testing.assert_allclose(facts["dx"].value, OFFSET[0] + np.array([0, 0, MISALIGNED]), atol=0.3)
    np.testing.assert_allclose(facts["dy"].value, OFFSET[1], atol=0.3)
    np.testing.assert_allclose(facts["exptime"].value, [3780, 3760, 2406])
    np.testing.assert_allclose(facts["zero_point"].value, facts["network_zero_point"].value, atol=1e-3)

    assert len(table) == N and list(written["clusters"]["catalogue_id"]) == [1000 + i for i in range(N)]
    np.testing.assert_allclose(table["x_centroid"][:-1], truth["x_centroid"][:-1], atol=0.3)
    assert np.isnan(table["published_age"][0]) and np.isnan(table["published_age"][-1])
    clusters = table["flag"] == 0
    assert (table["p_cluster"][clusters] > 0.5).mean() > 0.8 and table["p_cluster"][~clusters] < 0.5
    np.testing.assert_allclose(table["published_mass"][1:-1].value, truth["mass"][1:-1].value, rtol=1e-3)

    rows = {(row["quantity"], row["objects"]): row for row in comparison}
    assert rows["log age", "all"]["n"] == N - 2
    assert abs(rows["log mass", "all"]["offset"]) < 0.15 and abs(rows["log age", "all"]["offset"]) < 0.3
    assert abs(rows["E(B-V)", "all"]["offset"]) < 0.1
    assert all(row["scatter"] < 0.4 for row in comparison)

    assert {row["flag"]: row["n"] for row in written["classes"]} == {0: N - 1, 4: 1}
    # the cluster that the catalogue lacks
    assert len(new) == 1 and np.hypot(new["x_centroid"] - truth["x_centroid"][-1], new["y_centroid"] - truth["y_centroid"][-1]) < 2


def test_a_given_sky(example, standin):
    images, facts = example.read_mosaics(standin[0], M83.bands, sky=[0.1, 0.2, 0.3])
    assert facts["sky"].value.tolist() == [0.1, 0.2, 0.3]
    before = MultiBandImage.read({"F438W": standin[0] / "hlsp_wfc3ers_hst_wfc3_m83_f438w_v2_drz_sci.fits"}).to_array()[0]
    after = images["F438W"].data
    assert np.isnan(after[:, :40]).all() and np.isfinite(after[:, 40:]).all()
    np.testing.assert_allclose(after[:, 40:], before[:, 40:] - 0.2, atol=1e-6)


def test_a_catalogue_of_another_place(example, standin):
    images, _ = example.read_mosaics(standin[0], M83.bands)
    with pytest.raises(ValueError, match="does not fit to F438W: at best"):
        example.measured_offset(images, "F438W", np.random.default_rng(3).uniform(150, 250, (40, 2)))


def test_the_real_catalogue(example, reference_data):
    """Its ages and masses are those of the paper's ranges, and its coordinates and pixels go together."""
    table, sky = example.read_catalogue(reference_data / "catalogs")
    known = np.isfinite(table["published_age"])
    assert len(table) == 658 and 550 < known.sum() < 658
    assert set(np.unique(table["flag"])) <= set(example.FLAGS)
    first = table[table["catalogue_id"] == 36651]
    assert np.isclose(np.log10(first["published_age"].to_value(u.yr))[0], 6.64) and first["published_mass"][0].value == 48027.4
    assert isinstance(sky, SkyCoord) and np.all(sky.separation(SkyCoord(204.2688 * u.deg, -29.8577 * u.deg)) < 3 * u.arcmin)


def test_comparison_of_perfect_answers(example):
    """Where the network says what is published, nothing is off and every interval holds it."""
    n = 20
    rng = np.random.default_rng(1)
    space = ClusterNet().space
    truth = space.sample(n, rng)
    table = QTable({f"{name}{end}": truth[name] * factor if name != "a_v" else truth[name] + shift * u.mag
                    for name in ("age", "mass", "a_v") for end, factor, shift in (("", 1, 0), ("_lo", 0.9, -0.1), ("_hi", 1.1, 0.1))})
    table["published_age"], table["published_mass"] = truth["age"], truth["mass"]
    table["published_ebv"] = (truth["a_v"] - example.FOREGROUND) / example.R_V
    table["p_cluster"] = np.linspace(0, 1, n)
    result = example.compare(table, space)
    assert result["n"][0] == n and result["n"][3] == n // 2
    np.testing.assert_allclose(result["offset"], 0, atol=1e-9)
    assert (result["held_by_68_percent"] == 1).all()
