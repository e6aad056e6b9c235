# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Candidates and catalogues: sources are found where they are, whatever the tiling; every table has its columns.
"""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable
from astropy.utils.exceptions import AstropyUserWarning
from astropy.wcs import WCS
from scipy.spatial import cKDTree

from clustercnn.estimate import ClusterEstimate
from clustercnn.images import MultiBandImage
from clustercnn.parameters import ParameterSpace
from clustercnn.survey import find_clusters, make_catalog

BANDS = ("F336W", "F438W", "F814W")
UNIT = u.electron / u.s
SHAPE = (300, 420)


class Net:
    """Stands for a network: its posterior of a source is its position."""

    space = ParameterSpace.paper()

    def predict(self, images, positions, draws=200, batch_size=256, device="auto", rng=0, nan="raise", **keywords):
        xy = images.pixel_positions(positions)
        unit = np.concatenate([xy / images.shape[::-1], np.full_like(xy, 0.5)], axis=1)
        spread = np.linspace(-0.01, 0.01, draws)[:, None]
        return ClusterEstimate(self.space.from_unit(np.clip(unit[:, None] + spread, 0, 1)), self.space,
                               p_cluster=np.full(len(xy), 0.9), visibility=np.full((len(xy), draws), 10.0))

    def __repr__(self):
        return "<Net>"


def wcs():
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
    wcs.wcs.crval, wcs.wcs.crpix, wcs.wcs.cdelt = (204.25, -29.87), (100, 100), (-0.04 / 3600, 0.04 / 3600)
    return wcs


@pytest.fixture(name="field", scope="module")
def fixture_field():
    """Noisy images with a gradient and 12 extended sources, and their positions (do not change them)."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:SHAPE[0], :SHAPE[1]]
    # four columns and three rows of sources, a few pixels off a grid that lies across the borders of tiles
    positions = np.stack(np.meshgrid(np.arange(64, 420, 96), np.arange(50, 300, 100)), axis=-1).reshape(-1, 2)
    positions = positions + rng.uniform(-3, 3, positions.shape)
    light = np.zeros(SHAPE)
    for (x0, y0), width in zip(positions, np.geomspace(1, 5, len(positions))):
        light += 3 / width * np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / 2 / width**2)
    planes = [rng.normal(0.1, 0.05, SHAPE) + 0.002 * x + weight * light for weight in (0.5, 1, 0.8)]
    images = MultiBandImage({band: (plane.astype(np.float32) * UNIT, wcs()) for band, plane in zip(BANDS, planes)})
    return images, positions


def test_find_clusters_finds_all_sizes(field):
    images, positions = field
    table = find_clusters(images, threshold=7)
    distance, nearest = cKDTree(images.pixel_positions(table)).query(positions)
    assert distance.max() < 0.5
    assert len(table) == len(positions)
    assert (np.diff(table["significance"]) <= 0).all()
    # narrow sources answer to narrow filters
    width = table["fwhm"][nearest]
    assert width[0] == 2.5 and width[-1] == 10


def test_find_clusters_ignores_bad_pixels(field):
    images, positions = field
    x, y = np.rint(positions[0]).astype(int)
    planes = {band: np.array(images[band].data) for band in BANDS}
    planes["F438W"][y - 8:y + 9, x - 8:x + 9] = np.nan
    table = find_clusters(MultiBandImage({band: plane * UNIT for band, plane in planes.items()}), threshold=7)
    distance, _ = cKDTree(images.pixel_positions(table)).query(positions)
    assert distance[0] > 8 and distance[1:].max() < 0.5


def test_find_clusters_in_one_band(field):
    images, positions = field
    table = find_clusters(MultiBandImage({"F438W": images["F438W"]}), threshold=7)
    distance, _ = cKDTree(images.pixel_positions(table)).query(positions)
    assert distance.max() < 0.5


@pytest.mark.parametrize("value", [0.0, 1.0, np.nan])
def test_find_clusters_in_nothing(value):
    images = MultiBandImage({"F438W": np.full((80, 90), value) * UNIT})
    with pytest.warns(AstropyUserWarning, match="no candidate above a significance of 10"):
        table = find_clusters(images)
    assert len(table) == 0
    assert table.colnames == ["x_centroid", "y_centroid", "significance", "fwhm"]


def test_make_catalog(field):
    images, positions = field
    catalog = make_catalog(images, Net(), finder=lambda images: find_clusters(images, threshold=7))
    assert isinstance(catalog, QTable)
    assert len(catalog) == len(positions)
    assert catalog.colnames[:6] == ["id", "x_centroid", "y_centroid", "sky_centroid", "significance", "fwhm"]
    assert {"age", "age_lo", "age_hi", "mass", "half_light_radius", "a_v", "visibility", "p_cluster"} <= set(catalog.colnames)
    assert catalog["age"].unit.is_equivalent(u.Myr)
    np.testing.assert_array_equal(catalog["id"], np.arange(1, len(catalog) + 1))
    assert isinstance(catalog["sky_centroid"], SkyCoord)
    x, y = images.wcs.world_to_pixel(catalog["sky_centroid"])
    np.testing.assert_allclose(x, catalog["x_centroid"], atol=1e-6)
    # what was inferred belongs to the source of its row
    age = Net.space.to_coordinates(catalog)[:, 0]
    np.testing.assert_allclose(age, Net.space.from_unit(np.stack([x / SHAPE[1]] * 4, axis=1))[:, 0], atol=0.01)
    assert catalog.meta["bands"] == " ".join(BANDS) and catalog.meta["model"] == "<Net>"


@pytest.mark.parametrize("tile_shape", [(128, 200), (100, 77), (2000, 2000)])
def test_tiling_does_not_show(field, tile_shape):
    images, _ = field
    whole = make_catalog(images, Net(), tile_shape=SHAPE)
    tiled = make_catalog(images, Net(), tile_shape=tile_shape)
    assert len(whole) == len(tiled)
    for name in ("x_centroid", "y_centroid", "significance", "age"):
        np.testing.assert_allclose(u.Quantity(tiled[name]).value, u.Quantity(whole[name]).value, rtol=1e-6)


@pytest.mark.parametrize("tile_shape", [(128, 128), (100, 70)])
def test_tiling_does_not_show_beside_bad_pixels(tile_shape):
    """A masked corner, one that differs from band to band, and dead columns, in front of a steep gradient."""
    y, x = np.mgrid[:SHAPE[0], :SHAPE[1]]
    rng = np.random.default_rng(5)
    pixels = rng.normal(0, 0.05, (3, *SHAPE)) + 0.01 * x + rng.gamma(0.02, 2.0, (3, *SHAPE))
    pixels[:, x + y < 260] = np.nan
    pixels[1, x - y > 300] = np.nan
    pixels[:, :, 330:333] = np.nan
    images = MultiBandImage({band: plane * UNIT for band, plane in zip(BANDS, pixels)})

    def candidates(tile_shape):
        return make_catalog(images, Net(), lambda piece: find_clusters(piece, threshold=5), tile_shape=tile_shape)

    whole, tiled = candidates(SHAPE), candidates(tile_shape)
    assert len(whole) > 200
    for name in ("x_centroid", "y_centroid", "significance", "fwhm"):
        np.testing.assert_allclose(tiled[name], whole[name], rtol=1e-14)  # the offset of the tile rounds the sum


@pytest.mark.parametrize("suffix", ["ecsv", "fits"])
def test_catalogs_survive_a_file(field, tmp_path, suffix):
    images, _ = field
    catalog = make_catalog(images, Net())
    catalog.write(tmp_path / f"catalog.{suffix}")
    back = QTable.read(tmp_path / f"catalog.{suffix}")
    assert back.colnames == catalog.colnames
    assert back["age"].unit == catalog["age"].unit
    assert back["sky_centroid"].separation(catalog["sky_centroid"]).max() < 1e-6 * u.arcsec


def test_a_catalogue_as_positions(field):
    """The new parameters take the place of the old, other columns stay."""
    images, positions = field
    first = make_catalog(images, Net(), positions=positions)
    first["name"] = [f"source {i}" for i in first["id"]]
    second = make_catalog(images, Net(), positions=first)
    assert second.colnames == [name for name in first.colnames if name != "name"][:4] + ["name"] + first.colnames[4:-1]
    assert np.array_equal(second["age"], first["age"])


@pytest.mark.parametrize("kind", ["array", "table", "old table", "sky"])
def test_positions_of_the_user(field, kind):
    images, positions = field
    given = {
        "array": positions,
        "table": QTable({"name": list("abcdefghijkl"), "x_centroid": positions[:, 0], "y_centroid": positions[:, 1]}),
        "old table": QTable({"xcentroid": positions[:, 0], "ycentroid": positions[:, 1]}),
        "sky": images.wcs.pixel_to_world(*positions.T),
    }[kind]
    catalog = make_catalog(images, Net(), positions=given)
    np.testing.assert_allclose(images.pixel_positions(catalog), positions, atol=1e-6)
    if kind == "table":
        assert list(catalog["name"]) == list("abcdefghijkl")
        assert given.colnames == ["name", "x_centroid", "y_centroid"]


def test_positions_beyond_the_image(field):
    images, positions = field
    with pytest.raises(ValueError, match=r"positions must lie on the image of 420 x 300 pixels; 1 do not, such as number 2"):
        make_catalog(images, Net(), positions=[(0, 0), (419.4, 299.4), (419.6, 0)])


def test_images_without_wcs_have_no_sky_positions(field):
    images, positions = field
    plain = MultiBandImage({band: np.asarray(images[band].data) * UNIT for band in BANDS})
    assert "sky_centroid" not in make_catalog(plain, Net(), positions=positions).colnames


@pytest.mark.parametrize("finder", [lambda images: None, lambda images: QTable({"x_centroid": [], "y_centroid": []})])
def test_nothing_found(field, finder):
    images, _ = field
    with pytest.warns(AstropyUserWarning, match="no candidate in the images"):
        catalog = make_catalog(images, Net(), finder=finder, tile_shape=(100, 100))
    assert len(catalog) == 0
    assert {"id", "x_centroid", "sky_centroid", "age", "age_lo", "p_cluster"} <= set(catalog.colnames)
    assert catalog["age"].unit.is_equivalent(u.Myr)


def test_finder_of_photutils(field):
    from photutils.detection import DAOStarFinder

    images, positions = field

    def finder(piece):
        data = piece.to_array()[1]
        return DAOStarFinder(threshold=1, fwhm=3)(data - np.median(data))

    catalog = make_catalog(images, Net(), finder=finder, tile_shape=(150, 150))
    distance, _ = cKDTree(images.pixel_positions(catalog)).query(positions)
    assert distance[0] < 0.5
    assert {"sharpness", "flux"} <= set(catalog.colnames)


def test_tile_shapes_are_checked(field):
    images, _ = field
    with pytest.raises(ValueError, match=r"tile_shape must be \(ny, nx\)"):
        make_catalog(images, Net(), tile_shape=(0, 100))
