# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Catalogues larger than memory: neither tiles, sources of pixels, workers nor a killed run show in them.
"""

import os
import pickle
import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from astropy import units as u
from astropy.io import fits
from astropy.nddata import NDData
from astropy.table import QTable
from fake_net import BANDS, SHAPE, Net, finder, sources_and_pixels, wcs, write_fits

from clustercnn import ClusterNet
from clustercnn.estimate import FLAGS
from clustercnn.images import MultiBandImage
from clustercnn.survey import NetworkFinder, find_clusters, make_catalog
from clustercnn.survey.tasks import AHEAD, _made_there, tables_of

UNIT = u.electron / u.s


@pytest.fixture(name="paths", scope="module")
def fixture_paths(tmp_path_factory):
    return write_fits(tmp_path_factory.mktemp("mosaic"), sources_and_pixels()[1])


@pytest.fixture(name="expected", scope="module")
def fixture_expected(paths):
    """The catalogue of the images as one tile (do not change it)."""
    return make_catalog(paths, Net(), finder, tile_shape=SHAPE)


@pytest.fixture(name="client", scope="module")
def fixture_client():
    """Two worker processes; not the client that dask takes by itself."""
    distributed = pytest.importorskip("distributed")
    with (distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
          distributed.Client(cluster, set_as_default=False) as client):
        yield client


def assert_same(catalog, expected):
    assert catalog.colnames == expected.colnames
    for name in set(expected.colnames) - {"sky_centroid"}:
        np.testing.assert_array_equal(np.asarray(catalog[name]), np.asarray(expected[name]), err_msg=name)


@pytest.mark.parametrize("tile_shape", [(128, 200), (100, 77), (2000, 2000)])
def test_tiling_does_not_show(paths, expected, tile_shape):
    assert_same(make_catalog(paths, Net(), finder, tile_shape=tile_shape), expected)


def test_tiling_does_not_show_beside_bad_pixels():
    """A masked corner, those of single bands, dead columns, and pixels that cosmic rays hit, in front of a steep gradient."""
    y, x = np.mgrid[:SHAPE[0], :SHAPE[1]]
    rng = np.random.default_rng(5)
    pixels = rng.normal(0, 0.05, (3, *SHAPE)) + 0.01 * x + rng.gamma(0.02, 2.0, (3, *SHAPE))
    pixels[:, x + y < 260] = np.nan
    pixels[1, x - y > 300] = np.nan
    pixels[2, : SHAPE[0] // 2, 150:] = np.nan
    pixels[:, :, 330:333] = np.nan
    pixels[rng.random(pixels.shape) < 1e-3] = np.nan
    images = MultiBandImage.from_arrays(BANDS, pixels, UNIT)
    whole, tiled = (make_catalog(images, Net(), finder, tile_shape=shape, draws=10) for shape in (SHAPE, (100, 70)))
    assert len(whole) > 256  # more than one chunk
    assert_same(tiled, whole)


def test_draws_depend_on_the_seed_alone(paths, expected):
    again, other = (make_catalog(paths, Net(), finder, rng=rng) for rng in (0, 1))
    assert_same(again, expected)
    assert np.array_equal(other["x_centroid"], expected["x_centroid"]) and not np.array_equal(other["age"], expected["age"])
    # sources of a chunk have draws of their own
    spread = (expected["age_hi"] / expected["age_lo"]).value
    assert len(set(spread)) == len(spread)


@pytest.mark.parametrize("kind", ["zarr", "dask", "one file"])
def test_any_source_of_pixels(kind, expected, tmp_path):
    pixels = sources_and_pixels()[1]
    if kind == "one file":
        MultiBandImage.from_arrays(BANDS, pixels, UNIT, wcs=wcs()).write(tmp_path / "images.fits")
        images = tmp_path / "images.fits"
    else:
        convert = pytest.importorskip("zarr").array if kind == "zarr" else pytest.importorskip("dask.array").from_array
        images = {band: NDData(convert(plane, chunks=(64, 64)), unit=UNIT, wcs=wcs()) for band, plane in zip(BANDS, pixels)}
    assert_same(make_catalog(images, Net(), finder, tile_shape=(128, 200)), expected)


def test_no_more_than_a_tile_is_read():
    class Recorder:
        """An array of sky that notes how many pixels are asked for at once."""

        shape, dtype, most = (1500, 1900), np.dtype("f4"), 0

        def __getitem__(self, section):
            rows, columns = (range(n)[part] for n, part in zip(self.shape, section))
            Recorder.most = max(Recorder.most, len(rows) * len(columns))
            y, x = np.ix_(rows, columns)
            return (0.1 + 0.01 * np.sin(0.7 * x + x * y) + np.exp(-((x % 499 - 250) ** 2 + (y % 777 - 300) ** 2) / 4)).astype("f4")

        def __array__(self, *args, **keywords):
            raise MemoryError("the whole image")

    images = MultiBandImage({"F438W": NDData(np.broadcast_to(np.float32(0), (1500, 1900)), unit=UNIT)})
    images["F438W"]._data = Recorder()
    catalog = make_catalog(images, Net(), lambda piece: find_clusters(piece, fwhm=[2.5]), tile_shape=(300, 300), draws=10)
    assert len(catalog) == 8
    assert Recorder.most <= (300 + 2 * (3 * 64 + 63)) ** 2  # a tile and its margins, out to whole cells of 64


def test_pickled_images_of_files_are_paths(paths):
    images = MultiBandImage.read(paths)
    text = pickle.dumps(images)
    assert len(text) < 2000
    np.testing.assert_array_equal(pickle.loads(text).to_array(), images.to_array())
    plain = MultiBandImage({band: images[band] for band in BANDS})
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(plain)).to_array(), images.to_array())


RUN = """
import sys
import time
from pathlib import Path
from fake_net import BANDS, Net, finder
from clustercnn.survey import make_catalog, mosaic
mosaic.CHUNK = 5
folder, checkpoint, out = sys.argv[1:]
paths = {band: Path(folder) / f"{band}.fits" for band in BANDS}
make_catalog(paths, Net(), finder, tile_shape=(150, 140), checkpoint=checkpoint).write(out)
"""


def run(paths, checkpoint, out, **environment):
    tests = Path(__file__).parent
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tests), str(tests.parent)])} | environment
    words = [sys.executable, "-c", RUN, str(paths["F438W"].parent), str(checkpoint), str(out)]
    return subprocess.run(words, env=environment, capture_output=True, text=True)


def test_a_killed_run_goes_on(paths, tmp_path):
    """Killed among the tiles, then among the chunks: what is finished is not done again, and the file is the same."""
    calls = tmp_path / "calls"
    whole = run(paths, tmp_path / "other", tmp_path / "whole.ecsv", CALLS=str(calls))
    assert whole.returncode == 0, whole.stderr
    expected = calls.read_text().split()
    assert expected.count("finder") == 6 and expected.count("net") >= 3
    calls.unlink()
    for kill in ("finder 3", "net 2", ""):
        result = run(paths, tmp_path / "checkpoint", tmp_path / "catalog.ecsv", CALLS=str(calls), KILL=kill)
        assert result.returncode == (-9 if kill else 0), result.stderr
    # what was killed was done twice
    assert sorted(calls.read_text().split()) == sorted([*expected, "finder", "net"])
    assert (tmp_path / "catalog.ecsv").read_bytes() == (tmp_path / "whole.ecsv").read_bytes()


def test_checkpoints_of_another_run(paths, expected, tmp_path):
    first = make_catalog(paths, Net(), finder, tile_shape=SHAPE, checkpoint=tmp_path / "run")
    assert_same(first, expected)
    with pytest.raises(ValueError, match=r"other settings \(draws, seed\); remove it or take another folder"):
        make_catalog(paths, Net(), finder, tile_shape=SHAPE, draws=100, rng=3, checkpoint=tmp_path / "run")
    with pytest.raises(ValueError, match=r"other settings \(zero_point_error\)"):
        make_catalog(paths, Net(), finder, tile_shape=SHAPE, zero_point_error=0.1 * u.mag, checkpoint=tmp_path / "run")
    with pytest.raises(ValueError, match=r"other settings \(positions\)"):
        make_catalog(paths, Net(), positions=[(50, 50)], checkpoint=tmp_path / "run")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    with pytest.raises(ValueError, match="holds other files"):
        make_catalog(paths, Net(), finder, checkpoint=tmp_path / "full")


@pytest.fixture(name="run", scope="module")
def fixture_run(paths, expected, tmp_path_factory):
    """The folder of a finished run (take a copy)."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    assert_same(make_catalog(paths, Net(), finder, tile_shape=(150, 140), checkpoint=folder), expected)
    return folder


@pytest.mark.parametrize("name", ["detecting_000001", "predicting_000000"])
@pytest.mark.parametrize("left", [0, 0.5, "a row less", "a figure less"])
def test_a_table_that_is_cut_short_is_made_again(paths, expected, run, tmp_path, name, left):
    """As a machine leaves it that loses power."""
    folder = shutil.copytree(run, tmp_path / "run")
    path = folder / f"{name}.ecsv"
    text = path.read_text()
    lines = text.splitlines(keepends=True)
    cut = {"a row less": "".join(lines[:-1]), "a figure less": text[:-2]}.get(left)
    path.write_text(text[: int(left * len(text))] if cut is None else cut)
    assert_same(make_catalog(paths, Net(), finder, tile_shape=(150, 140), checkpoint=folder), expected)
    assert path.read_text() == text


def test_damaged_and_other_folders(paths, expected, run, tmp_path):
    folder = shutil.copytree(run, tmp_path / "run")
    (folder / "settings.json").write_text('{"finder": "cl')
    with pytest.raises(ValueError, match="run is damaged: settings.json cannot be read; remove the folder"):
        make_catalog(paths, Net(), finder, tile_shape=(150, 140), checkpoint=folder)
    # killed while the first file was written
    (tmp_path / "young").mkdir()
    (tmp_path / "young" / ".3f7a.settings.json").write_text('{"fin')
    assert_same(make_catalog(paths, Net(), finder, tile_shape=SHAPE, checkpoint=tmp_path / "young"), expected)


def test_one_other_pixel_is_noticed(paths, run, tmp_path):
    other = {band: shutil.copy(path, tmp_path) for band, path in paths.items()}
    make_catalog(other, Net(), finder, tile_shape=(150, 140), checkpoint=run)  # copies of the files are as good
    with fits.open(other["F438W"], mode="update") as hdus:
        hdus[0].data[10, 20] += 1
    with pytest.raises(ValueError, match=r"other settings \(pixels\)"):
        make_catalog(other, Net(), finder, tile_shape=(150, 140), checkpoint=run)


def test_another_network_of_the_same_name_is_noticed(tmp_path):
    images = MultiBandImage.from_arrays(BANDS, np.full((3, 70, 70), 0.01), UNIT)

    def catalog(net):
        return make_catalog(images, net, positions=[(35, 35)], draws=2, device="cpu", checkpoint=tmp_path / "run")

    net, other = ClusterNet(BANDS, rng=1), ClusterNet(BANDS, rng=2)
    net.training = other.training = {"samples": 1}
    first = catalog(net)
    assert repr(net) == repr(other) and catalog(net)["age"] == first["age"]
    with pytest.raises(ValueError, match=r"other settings \(model\)"):
        catalog(other)
    net.calibration = {"temperatures": {"posterior": {"temperature": 1.2}}}
    with pytest.raises(ValueError, match=r"other settings \(model\)"):
        catalog(net)


def test_workers_do_not_show(paths, expected, client, tmp_path):
    catalog = make_catalog(paths, Net(), finder, tile_shape=(128, 200), client=client, checkpoint=tmp_path / "run")
    assert_same(catalog, expected)
    assert len(list((tmp_path / "run").glob("detecting_*.ecsv"))) == 9


def test_workers_read_dask_arrays(expected, client):
    dask_array = pytest.importorskip("dask.array")
    images = {band: NDData(dask_array.from_array(plane, chunks=(100, 140)), unit=UNIT, wcs=wcs())
              for band, plane in zip(BANDS, sources_and_pixels()[1])}
    assert_same(make_catalog(images, Net(), finder, tile_shape=(150, 210), client=client), expected)


def narrow(images):
    return find_clusters(images, fwhm=[2.5])


@pytest.fixture(name="one_thread")
def fixture_one_thread():
    """As the workers of dask have it: several threads sum in another order, which shows in the last of seven digits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_neither_tiles_nor_workers_show_with_the_embedded_network(client, one_thread, tmp_path):
    """A mosaic of several tiles of 512 pixels, of two of 1024, and of one; the last two without workers."""
    rng = np.random.default_rng(12)
    pixels = rng.normal(0.01, 0.01, (3, 560, 1100)).astype(np.float32)
    y, x = np.mgrid[-15:16, -15:16]
    for x0, y0 in [(1024, 300), (511, 511), (512, 100), (200, 512), (760, 400), (40, 40)]:
        pixels[:, y0 - 15 : y0 + 16, x0 - 15 : x0 + 16] += np.exp(-(x**2 + y**2) / 8) * np.array([0.5, 1, 1])[:, None, None]
    paths = write_fits(tmp_path, pixels)
    net = ClusterNet.from_pretrained("m83")
    keywords = {"finder": narrow, "draws": 20, "device": "cpu", "distance": 4.5 * u.Mpc, "pixel_scale": 0.04 * u.arcsec / u.pix}
    catalogs = [make_catalog(paths, net, tile_shape=(side, side), client=workers, **keywords)
                for side, workers in ((512, client), (1024, None), (3000, None))]
    assert len(catalogs[0]) == 6
    for catalog in catalogs[1:]:
        assert_same(catalog, catalogs[0])


def wait(seconds, i):
    time.sleep(seconds)
    return QTable({"i": [i]})


def test_few_pieces_at_once(client):
    """A worker that begins everything would hold the pixels of everything."""
    most, made = 2 * AHEAD, []
    for i, table in _made_there(partial(wait, 0.02), list(range(30)), list(range(30)), client):
        made.append((i, table["i"][0]))
        assert len(client.futures) <= most + 2  # those under way, the one that came, and what they share
    assert sorted(made) == [(i, i) for i in range(30)]
    assert [table["i"][0] for table in tables_of(partial(wait, 0.0), [5, 6, 7], "waiting", client=client)] == [5, 6, 7]


def test_what_was_not_exposed_is_unknown(paths):
    """Zeros in all bands are as good as NaN: no candidate lies along their edge, and stamps that hold them have a flag."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    catalogs = []
    for value in (0.0, np.nan):
        pixels = sources_and_pixels()[1]
        pixels[:, x + y < 180] = value
        images = MultiBandImage.from_arrays(BANDS, pixels, UNIT)
        catalogs.append(make_catalog(images, ClusterNet.from_pretrained("m83"), narrow, draws=2, device="cpu"))
    assert_same(*catalogs)
    catalog = catalogs[0]
    distance = (catalog["x_centroid"] + catalog["y_centroid"] - 180) / np.sqrt(2)
    assert 5 < len(catalog) < 12 and (distance > 5).all()
    np.testing.assert_array_equal(catalog["flags"] & FLAGS["masked pixels"] > 0, (distance < 45) | (catalog["flags"] & FLAGS["border"] > 0))


class Bump(Net):
    """Sees clusters near the pixels that are bright: p_cluster falls with the distance from the nearest one."""

    def predict(self, images, positions, draws=1, **keywords):
        xy = images.pixel_positions(positions)
        stamps = images.cutouts(xy, (12, 12), unit=None, nan="mask").value[:, 0]
        y, x = np.indices(stamps.shape[1:]) - 5.5
        near = np.where(stamps > 5, np.exp(-(x**2 + y**2) / 8), 0).max(axis=(1, 2))
        estimate = super().predict(images, xy, draws)
        estimate.p_cluster[:] = near
        return estimate


def test_the_network_as_finder():
    places = np.array([(40, 50), (48, 50), (127, 128), (199, 3), (130, 60)])
    pixels = np.zeros((1, 140, 200))
    pixels[0, places[:, 1], places[:, 0]] = 10
    images = MultiBandImage.from_arrays(["F438W"], pixels, UNIT)
    found = NetworkFinder(Bump(), threshold=0.5)(images)
    xy = images.pixel_positions(found)
    assert len(xy) == len(places) and (found["p_cluster"] > 0.5).all()
    for place in places:
        assert np.hypot(*(xy - place).T).min() < 1
    whole, tiled = (make_catalog(images, Net(), NetworkFinder(Bump()), tile_shape=shape) for shape in ((140, 200), (64, 49)))
    assert_same(tiled, whole)
    assert len(NetworkFinder(Bump())(MultiBandImage.from_arrays(["F438W"], 0 * pixels, UNIT))) == 0
    with pytest.raises(ValueError, match="0 < promising <= threshold <= 1, not 0.01 and 0.2"):
        NetworkFinder(Bump(), threshold=0.01)
    assert repr(NetworkFinder(Bump(), device="cpu")) == "NetworkFinder(<Net>, threshold=0.9, promising=0.2, device='cpu')"


def test_the_network_as_finder_does_not_dwell_on_the_dark():
    """Where nothing is known p_cluster is 0.5; such places are neither candidates nor promising."""
    looks = []

    class Half(Net):
        def predict(self, images, positions, draws=1, **keywords):
            looks.append(len(positions))
            estimate = super().predict(images, positions, draws)
            estimate.p_cluster[:] = 0.5
            estimate.flags = np.full(len(estimate), FLAGS["no answer"])
            return estimate

    images = MultiBandImage.from_arrays(["F438W"], np.full((1, 64, 80), np.nan), UNIT)
    assert len(NetworkFinder(Half(), threshold=0.4)(images)) == 0 and looks == [16 * 20]
