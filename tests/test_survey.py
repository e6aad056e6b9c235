# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Candidates and catalogues: sources are found where they are, whatever the tiling; every table has its columns.
"""

import inspect
import warnings

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.nddata import NDData
from astropy.table import QTable, Table, join
from astropy.utils.exceptions import AstropyUserWarning
from fake_net import BANDS, SHAPE, Net, sources_and_pixels, wcs
from photutils.detection import DAOStarFinder, IRAFStarFinder
from photutils.segmentation import SourceCatalog, SourceFinder
from scipy.spatial import cKDTree

from clustercnn import ClusterNet
from clustercnn.estimate import FLAGS, ClusterEstimate
from clustercnn.images import MultiBandImage
from clustercnn.instruments import Instrument
from clustercnn.survey import PhotutilsFinder, aperture_photometry, detection_image, find_clusters, make_catalog, write_catalog
from clustercnn.survey.parts import find_parts

UNIT = u.electron / u.s


@pytest.fixture(name="field", scope="module")
def fixture_field():
    """Noisy images with a gradient and 12 extended sources, and their positions (do not change them)."""
    positions, planes = sources_and_pixels()
    images = MultiBandImage({band: (plane * UNIT, wcs()) for band, plane in zip(BANDS, planes)})
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


def test_detection_image_is_what_find_clusters_looks_at(field):
    images, positions = field
    table = find_clusters(images, threshold=7, fwhm=[2.5])
    significance = detection_image(images, 2.5)
    assert np.isnan(significance[:3]).all() and np.isnan(significance[:, -3:]).all()
    x, y = np.rint(images.pixel_positions(table[0])[0]).astype(int)
    assert significance[y, x] == np.nanmax(significance) == table["significance"][0]


def holed(images, bands, bad, kind="NaN"):
    """Images without WCS whose pixels are bad in some bands."""
    return MultiBandImage({
        band: NDData(np.where(bad & (band in bands) & (kind == "NaN"), np.nan, images[band].data), unit=UNIT,
                     mask=bad if band in bands and kind == "mask" else None) for band in images.bands})


def around(place, reach):
    """The pixels of a square."""
    y, x = np.indices(SHAPE)
    return np.maximum(abs(x - np.rint(place[0])), abs(y - np.rint(place[1]))) <= reach


def test_find_clusters_ignores_bad_pixels(field):
    images, positions = field
    table = find_clusters(holed(images, BANDS, around(positions[0], 8)), threshold=7)
    distance, _ = cKDTree(images.pixel_positions(table)).query(positions)
    assert distance[0] > 8 and distance[1:].max() < 0.5


@pytest.mark.parametrize("kind", ["NaN", "mask"])
@pytest.mark.parametrize("reach", [0, 1, 8])
def test_a_hole_in_a_band_hides_nothing(field, reach, kind):
    """A cosmic ray or a masked core, amid each of the sources: the other bands have them, once, and at their places."""
    images, positions = field
    bad = np.any([around(place, reach) for place in positions], axis=0)
    table = find_clusters(holed(images, ["F438W"], bad, kind), threshold=12)
    assert len(table) == len(positions)
    assert cKDTree(images.pixel_positions(table)).query(positions)[0].max() < 0.2


def test_half_of_a_band(field):
    images, positions = field
    half = holed(images, ["F814W"], np.indices(SHAPE)[1] >= 210)
    table = find_clusters(half, threshold=7)
    assert len(table) == len(positions)
    assert cKDTree(images.pixel_positions(table)).query(positions)[0].max() < 0.7
    # there it is as if there were no such band
    two = detection_image(MultiBandImage({band: images[band] for band in ("F336W", "F438W")}))
    np.testing.assert_array_equal(detection_image(half)[:, 210:], two[:, 210:])
    catalog = make_catalog(half, Net(), SourceFinder(n_pixels=5, progress_bar=False))
    assert cKDTree(images.pixel_positions(catalog)).query(positions[:3])[0].max() < 1


def test_a_band_without_a_pixel(field):
    images, _ = field
    two = find_clusters(MultiBandImage({band: images[band] for band in ("F336W", "F438W")}), threshold=7)
    for name in two.colnames:
        np.testing.assert_array_equal(find_clusters(holed(images, ["F814W"], np.full(SHAPE, True)), threshold=7)[name], two[name])


@pytest.mark.parametrize("slope, threshold", [(0, 3.5), (-0.2, 7), (-0.4, 10), (0.4, 10)])
def test_nothing_lies_along_the_edge_of_a_band(slope, threshold):
    """Noise, and light that falls away from the edge or rises: no more candidates than where the band is whole."""
    whole = np.random.default_rng(1).normal(0, 1, (3, 768, 256)) + slope * np.arange(256)
    half = whole.copy()
    half[0, :, :128] = np.nan
    near = []
    for pixels in (half, whole):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="no candidate")
            table = find_clusters(MultiBandImage.from_arrays(BANDS, pixels, UNIT), threshold=threshold)
        near.append(np.sum(abs(table["x_centroid"] - 128) < 20))
    assert near[0] <= near[1]
    assert (near[1] > 20) == (slope == 0)


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


@pytest.mark.parametrize("suffix", ["ecsv", "fits", "xml"])
def test_catalogs_survive_a_file(field, tmp_path, suffix):
    images, positions = field
    catalog = make_catalog(images, Net(), positions=positions)
    path = tmp_path / f"catalog.{suffix}"
    write_catalog(catalog, path)
    back = QTable.read(path)
    for name in set(catalog.colnames) - {"sky_centroid", "age_shape"}:
        assert getattr(back[name], "unit", None) == getattr(catalog[name], "unit", None)
        np.testing.assert_array_equal(np.asarray(back[name]), np.asarray(catalog[name]))
    assert list(back["age_shape"]) == list(catalog["age_shape"])
    # a VOTable has no sky coordinates, but their components
    sky = SkyCoord(back["ra"], back["dec"]) if suffix == "xml" else back["sky_centroid"]
    assert sky.separation(catalog["sky_centroid"]).max() < 1e-6 * u.arcsec
    if suffix == "xml":
        assert "<Net>" in back.meta["description"]
    else:  # FITS has capitals alone
        assert {name.lower(): value for name, value in back.meta.items()} == catalog.meta
    with pytest.raises(OSError, match="exists; pass overwrite=True"):
        write_catalog(catalog, path)
    write_catalog(catalog, path, overwrite=True)


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


def star_finder(**keywords):
    return DAOStarFinder(**({"threshold": 7, "fwhm": 3} | keywords))


def on_the_pixels_of_a_band(piece):
    return star_finder(threshold=1)(piece.to_array()[1])


FINDERS = {
    "function": on_the_pixels_of_a_band,
    "stars": star_finder(),
    "other stars": IRAFStarFinder(threshold=7, fwhm=3, roundness_range=(0, 1)),
    "segments": SourceFinder(n_pixels=5, progress_bar=False),
    "one band": PhotutilsFinder(star_finder(), bands=("F438W",)),
    "wide segments": PhotutilsFinder(SourceFinder(n_pixels=5, progress_bar=False), fwhm=5, threshold=8),
}


@pytest.mark.parametrize("kind", FINDERS)
def test_finders_of_photutils(field, kind):
    images, positions = field
    whole, tiled = (make_catalog(images, Net(), FINDERS[kind], tile_shape=shape) for shape in (SHAPE, (150, 170)))
    distance, _ = cKDTree(images.pixel_positions(whole)).query(positions)
    assert distance[0] < 0.5  # of the narrow source, which every finder knows
    assert len(whole) == len(tiled)
    for name in ("x_centroid", "y_centroid", "area" if "segments" in kind else "flux"):
        np.testing.assert_allclose(u.Quantity(tiled[name]).value, u.Quantity(whole[name]).value, rtol=1e-5, atol=1e-6)
    assert not {"label", "xcentroid"} & set(whole.colnames)


def test_segments_find_extended_sources(field):
    images, positions = field
    catalog = make_catalog(images, Net(), FINDERS["wide segments"])
    distance, nearest = cKDTree(images.pixel_positions(catalog)).query(positions)
    assert (distance < 1.5).mean() > 0.9
    size = catalog["semimajor_axis"][nearest]
    assert size[-2] > 1.3 * size[0]


def test_what_is_no_finder(field):
    with pytest.raises(TypeError, match="finder must be a function of images, or a finder of photutils"):
        make_catalog(field[0], Net(), finder="DAOStarFinder")


@pytest.mark.parametrize("kind", ["sky", "column", "one"])
def test_finders_that_answer_with_the_sky(field, kind):
    images, positions = field

    def on_the_sky(piece):
        sky = piece.wcs.pixel_to_world(*piece.pixel_positions(find_clusters(piece, threshold=7)).T)
        return {"sky": sky, "column": QTable({"name": np.full(len(sky), "a"), "place": sky}), "one": sky[0]}[kind]

    whole, tiled = (make_catalog(images, Net(), on_the_sky, tile_shape=shape) for shape in (SHAPE, (150, 500)))
    if kind == "one":
        assert len(whole) == 1
        return
    assert len(whole) == len(tiled) == len(positions)
    assert cKDTree(images.pixel_positions(whole)).query(positions)[0].max() < 0.5
    assert ({"name", "place"} <= set(whole.colnames)) == (kind == "column")
    np.testing.assert_allclose(images.pixel_positions(tiled), images.pixel_positions(whole), atol=3e-6)
    with pytest.raises(TypeError, match="finder must return None or a table with x_centroid and y_centroid, or sky coordinates .* no WCS"):
        make_catalog(MultiBandImage({band: images[band].data * UNIT for band in BANDS}), Net(), lambda piece: whole["sky_centroid"])


def test_what_a_finder_must_return(field):
    for found in (QTable({"x": [1.0], "y": [2.0]}), "nothing"):
        with pytest.raises(TypeError, match="finder must return None or a table with x_centroid and y_centroid"):
            make_catalog(field[0], Net(), lambda piece: found)


def test_blended_sources_are_told_apart():
    """Two that share a segment, as they do in a crowded disc; photutils takes scikit-image for this."""
    y, x = np.mgrid[:128, :128]
    positions = np.array([(60.0, 64.0), (65.5, 64.0)])
    light = sum(np.exp(-((x - a) ** 2 + (y - b) ** 2) / 2 / 1.5**2) for a, b in positions)
    pixels = np.random.default_rng(1).normal(0, 1, (3, 128, 128)) + 100 * light
    images = MultiBandImage.from_arrays(BANDS, pixels, UNIT)
    apart, together = (make_catalog(images, Net(), PhotutilsFinder(SourceFinder(n_pixels=5, deblend=deblend, progress_bar=False), threshold=8))
                       for deblend in (True, False))
    assert len(together) == 1 and len(apart) == 2
    assert cKDTree(images.pixel_positions(apart)).query(positions)[0].max() < 0.5


def test_a_source_catalog_as_positions(field):
    images, positions = field
    significance = np.nan_to_num(detection_image(images, 5))
    segments = SourceFinder(n_pixels=5, progress_bar=False)(significance, 8)
    sources = SourceCatalog(significance, segments)
    catalog = make_catalog(images, Net(), positions=sources)
    np.testing.assert_array_equal(catalog["label"], sources.label)
    np.testing.assert_allclose(catalog["x_centroid"], sources.x_centroid)


def test_ids_of_the_user_stay(field):
    images, positions = field
    sources = QTable({"id": [30, 10, 20], "x_fit": positions[:3, 0], "y_fit": positions[:3, 1]})
    catalog = make_catalog(images, Net(), positions=sources)
    assert list(catalog["id"]) == [30, 10, 20]
    assert len(join(catalog, sources, keys="id")) == 3
    for ids in ([1, 1, 2], [0, 1, 2], [1.0, 2.0, 3.0], np.ma.array([1, 2, 3], mask=[0, 1, 0])):
        sources["id"] = ids
        with pytest.raises(ValueError, match="the id of positions must be different whole numbers"):
            make_catalog(images, Net(), positions=sources)


def test_photometry_of_known_sources():
    """A Gaussian of known flux and width on a sloping sky: its light within the circle, less that in the ring."""
    sigma, zero_point = 1.3, 25.0
    y, x = np.mgrid[:60, :80]
    center = np.array([(30.3, 25.8), (2.0, 40.0)])
    light = sum(np.exp(-((x - a) ** 2 + (y - b) ** 2) / 2 / sigma**2) for a, b in center) / (2 * np.pi * sigma**2)
    pixels = 200 * light + 0.5 + 0.01 * x
    broken = pixels.copy()
    broken[26, 31] = np.nan
    images = MultiBandImage({"F438W": pixels * UNIT, "F814W": broken * UNIT})
    table = aperture_photometry(images, center, zero_points={"F438W": zero_point * u.mag})
    assert table.colnames == ["mag_F438W", "concentration_F438W", "concentration_F814W"]
    # light spread evenly over each pixel: a Gaussian that is wider by the variance of a pixel
    within = [1 - np.exp(-(radius**2) / 2 / (sigma**2 + 1 / 12)) for radius in (0.5, 3)]
    assert abs(table["mag_F438W"][0].value - (zero_point - 2.5 * np.log10(200 * within[1]))) < 0.003
    assert abs(table["concentration_F438W"][0].value + 2.5 * np.log10(within[0] / within[1])) < 0.05
    assert np.isnan(table["concentration_F814W"][0])  # a pixel is missing
    assert np.isnan(table["mag_F438W"][1])  # the aperture reaches over the edge


def test_flags(field):
    images, positions = field
    centre = positions[5]
    places = [(10, 150), (210, 150), centre, (419, 150)]
    limit = images.cutouts(centre, (5, 5)).max() * 0.99
    catalog = make_catalog(images, Net(), positions=places, saturation={"F438W": limit})
    # the posterior of `Net` is the position: that of the last source lies at the end of the range
    flagged = {name: list(catalog["flags"] & FLAGS[name] > 0) for name in ("border", "saturated", "at the bound", "multimodal")}
    assert flagged == {"border": [True, False, False, True], "saturated": [False, False, True, False],
                       "at the bound": [False, False, False, True], "multimodal": [False] * 4}
    assert set(catalog["age_shape"]) == {"unimodal"}
    with pytest.raises(TypeError, match="saturation must be a Quantity"):
        make_catalog(images, Net(), positions=places, saturation=70)


def saturated(images, place, saturation, **keywords):
    catalog = make_catalog(images, Net(), positions=[place], saturation=saturation, **keywords)
    return bool(catalog["flags"][0] & FLAGS["saturated"])


def test_saturated_cores_are_saturated_masked_or_not(field):
    images, positions = field
    limit = images.cutouts(positions[5], (5, 5))[:, 2].max() * 0.99
    masked = {band: NDData(images[band].data, unit=UNIT, mask=around(positions[5], 3)) for band in BANDS}
    assert saturated(MultiBandImage(masked), positions[5], {"F814W": limit})
    assert not saturated(MultiBandImage(masked), positions[5], {"F814W": 1.1 * limit})
    assert not saturated(MultiBandImage(masked), positions[5] + 12, {"F814W": limit})


def test_saturation_in_electrons_of_an_exposure():
    """The rule of `ClusterInjector.inject`, in images of any unit."""
    instrument = Instrument("any", BANDS, pixel_scale=0.04 * u.arcsec / u.pix, exposure=1000 * u.s, n_exposures=4, gain=2 * u.electron / u.adu,
                            sky=1 * UNIT, passbands={band: f"WFC3_UVIS_{band}" for band in BANDS})
    pixels = np.zeros((3, 80, 80)) + 0.1
    pixels[1, 40, 42] = 99  # and 1 of sky: 25,000 electrons in an exposure of 250 s
    for unit, factor in ((UNIT, 1), (u.electron, 1000), (u.adu, 500)):
        images = MultiBandImage.from_arrays(BANDS, factor * pixels, unit)
        for limit, expected in ((24_990 * u.electron, True), (25_010 * u.electron, False), (99.9 * UNIT, True), (100.1 * UNIT, False)):
            assert saturated(images, (40, 40), limit, instrument=instrument) == expected
            assert saturated(images, (40, 40), {"F438W": limit}, instrument=instrument) == expected
            assert not saturated(images, (40, 40), {"F336W": limit}, instrument=instrument)
    with pytest.raises(u.UnitsError, match=r"saturation must have a unit that converts to 'adu' of the images, or with instrument= be in "
                       r"electrons of one exposure, such as 70_000 \* u.electron; not 'electron'"):
        saturated(images, (40, 40), 70_000 * u.electron)
    with pytest.raises(ValueError, match="saturation must be one positive number"):
        saturated(images, (40, 40), -1 * u.adu)


NO_SEARCH = {
    "distance": ({"distance": 9 * u.Mpc}, ValueError, "the distance is 9 Mpc"),
    "draws": ({"draws": 0}, ValueError, "draws and batch_size must be at least 1"),
    "zero points": ({"zero_point_error": 1 * u.mag}, ValueError, "zero_point_error must be one number from 0 to 0.3 mag"),
    "device": ({"device": "abacus"}, (RuntimeError, ValueError), "abacus"),
    "saturation": ({"saturation": 70_000 * u.electron}, u.UnitsError, "saturation must have a unit"),
    "pixel scale": ({"pixel_scale": 0.1 * u.arcsec / u.pix}, ValueError, "the pixel scale is 0.1 arcsec per pixel"),
    "instrument": ({"instrument": "HST/WFC3/UVIS/M83"}, TypeError, r'an Instrument, such as Instrument.from_name\("HST/WFC3/UVIS/M83"\), not'),
}


@pytest.mark.parametrize("kind", NO_SEARCH)
def test_what_cannot_be_inferred_is_not_sought(field, kind):
    """Hours of search would be lost."""
    keywords, error, message = NO_SEARCH[kind]
    images = MultiBandImage({band: field[0][band].data * UNIT for band in BANDS})
    with pytest.raises(error, match=message):
        make_catalog(images, ClusterNet.from_pretrained("m83"), never, **keywords)


def never(images):
    raise AssertionError("searched")


def test_nor_in_other_bands_or_for_no_network(field):
    images, _ = field
    with pytest.raises(ValueError, match="images lack the bands"), pytest.warns(AstropyUserWarning, match="images lack the bands"):
        make_catalog(MultiBandImage({"F555W": images["F438W"]}), ClusterNet.from_pretrained("m83"), never)
    counts = MultiBandImage({band: images[band].data * u.adu for band in BANDS})
    with pytest.raises(ValueError, match="pixels in 'adu' turn into other units only with an exposure"):
        make_catalog(counts, ClusterNet.from_pretrained("m83"), never)
    with pytest.raises(TypeError, match=r'net must be a ClusterNet, such as ClusterNet.from_pretrained\("m83"\), not \'m83\''):
        make_catalog(images, "m83", never)

    class Silent(Net):
        def predict(self, images, positions, **keywords):
            estimate = super().predict(images, positions, **keywords)
            return ClusterEstimate(estimate.draws, estimate.space)

    with pytest.raises(TypeError, match="net.predict must give a ClusterEstimate with visibility, p_cluster"):
        make_catalog(images, Silent(), never)


def test_the_least_that_a_network_does(field):
    """What the documentation of make_catalog asks for is enough."""
    images, positions = field

    class Least:
        contract = {"stamp_shape": (64, 64)}

        def predict(self, images, positions, *, draws, batch_size, device, rng, nan, instrument, pixel_scale, distance, zero_point_error):
            return Net().predict(images, positions, draws, rng=rng)

    assert len(make_catalog(images, Least(), positions=positions)) == len(positions)
    asked = inspect.getdoc(make_catalog).partition("Of another object are asked:")[2].partition("finder : ")[0]
    keywords = [name for name, parameter in inspect.signature(Least.predict).parameters.items() if parameter.kind is parameter.KEYWORD_ONLY]
    assert all(f"{name}=" in asked for name in keywords)
    assert all(f"``{name}``" in asked for name in ("p_cluster", "visibility", "half_light_radius", "contract", "stamp_shape"))


@pytest.mark.parametrize("function", [find_clusters, detection_image, PhotutilsFinder(DAOStarFinder(threshold=7, fwhm=3)),
                                      lambda images: make_catalog(images, Net()), lambda images: aperture_photometry(images, [(50, 50)])])
def test_images_are_read(field, function):
    images, _ = field
    plain = {band: images[band] for band in BANDS}
    assert len(function(plain)) == len(function(images)) > 0
    with pytest.raises(TypeError, match=r"images must be a MultiBandImage, such as MultiBandImage.read\(.*, not a ndarray"):
        function(np.zeros((3, 100, 100)))


def test_second_peaks_belong_to_the_main_one():
    xy = np.array([(10, 10), (16, 10), (20, 10), (80, 80), (80, 81)], float)
    radius, visibility = np.full(5, 5.0), np.array([10, 20, 30, np.nan, 5])
    p_cluster = np.array([0.9, 0.999, 0.99, 0.4, 0.3])
    expected = np.array([1, -1, 1, -1, -1])  # nobody is a part of what is no cluster itself
    np.testing.assert_array_equal(find_parts(xy, radius, p_cluster, visibility), expected)
    order = np.array([3, 2, 0, 4, 1])
    shuffled = find_parts(xy[order], radius[order], p_cluster[order], visibility[order])
    np.testing.assert_array_equal(np.where(shuffled < 0, -1, order[shuffled]), expected[order])
    assert find_parts(np.empty((0, 2)), np.empty(0), np.empty(0), np.empty(0)).shape == (0,)
    # of equal ones the most visible
    np.testing.assert_array_equal(find_parts(xy[:2], radius[:2], np.ones(2), visibility[:2]), [1, -1])


def test_second_peaks_in_a_catalogue(field):
    class Lumpy(Net):
        def predict(self, images, positions, **keywords):
            estimate = super().predict(images, positions, **keywords)
            estimate.p_cluster[:] = 0.9 + 0.01 * np.arange(len(estimate))
            return estimate

    catalog = make_catalog(field[0], Lumpy(), positions=QTable({"id": [7, 8, 9], "x_fit": [50, 53, 200], "y_fit": [50, 50, 90]}))
    assert list(catalog["part_of"]) == [8, 0, 0]


def test_tile_shapes_are_checked(field):
    images, _ = field
    for shape in ((0, 100), 512, (1, 2, 3), (100.5, 100)):
        with pytest.raises(ValueError, match=r"tile_shape must be two whole numbers of pixels"):
            make_catalog(images, Net(), tile_shape=shape)


def test_a_votable_of_a_table_with_coordinates(field, tmp_path):
    images, positions = field
    sources = QTable({"x_fit": positions[:2, 0], "y_fit": positions[:2, 1], "ra": [1, 2] * u.deg, "dec": [3, 4] * u.deg})
    catalog = make_catalog(images, Net(), positions=sources)
    write_catalog(catalog, tmp_path / "catalog.xml")
    back = QTable.read(tmp_path / "catalog.xml")
    assert list(back["ra"].value) == [1, 2]
    np.testing.assert_allclose(back["sky_centroid_ra"].value, catalog["sky_centroid"].ra.deg)
    with pytest.raises(FileNotFoundError, match="there is no folder .*nowhere to write catalog.fits to"):
        write_catalog(catalog, tmp_path / "nowhere" / "catalog.fits")


def test_masked_columns_stay_masked(field, tmp_path):
    images, positions = field
    sources = Table({"x_centroid": positions[:3, 0], "y_centroid": positions[:3, 1]}, masked=True)
    sources["class"] = np.ma.array([1, 2, 3], mask=[0, 1, 0])
    catalog = make_catalog(images, Net(), positions=sources)
    for suffix in ("fits", "ecsv", "xml"):
        write_catalog(catalog, tmp_path / f"catalog.{suffix}")
        assert QTable.read(tmp_path / f"catalog.{suffix}")["class"].tolist() == [1, None, 3]
    sources["x_centroid"].mask[2] = True
    with pytest.raises(ValueError, match="positions must be finite and not masked; position 2 is not"):
        make_catalog(images, Net(), positions=sources)


@pytest.mark.parametrize("tile", [(16, 16), (100, 100)])
def test_mosaics_smaller_than_a_stamp(tile):
    """And than a cell in which scatter is measured, the margin of a tile and the border in which nothing is found."""
    rng = np.random.default_rng(2)
    for shape in ((1, 1), (5, 30)):
        with pytest.warns(AstropyUserWarning, match="no candidate in the images"):
            catalog = make_catalog(MultiBandImage({"F438W": rng.normal(0.1, 0.05, shape) * UNIT}), Net(), tile_shape=tile)
        assert len(catalog) == 0
    pixels = rng.normal(0.1, 0.05, (63, 65))
    pixels[30, 40] += 50
    catalog = make_catalog(MultiBandImage({"F438W": pixels * UNIT}), Net(), tile_shape=tile)
    assert len(catalog) == 1 and catalog["flags"][0] & FLAGS["border"]
    np.testing.assert_allclose([catalog["x_centroid"][0], catalog["y_centroid"][0]], [40, 30], atol=0.1)


def test_a_band_that_the_network_misses_is_told(field):
    class Three(Net):
        contract = Net.contract | {"bands": ["F336W", "F438W", "F555W"]}

    with pytest.warns(AstropyUserWarning, match=r"the images lack the bands \['F555W'\] of the network"):
        make_catalog(field[0], Three(), positions=[(50, 50)])


def test_what_has_no_answer_has_no_parts():
    xy = np.array([(10.0, 10.0), (11.0, 10.0)])
    assert find_parts(xy, np.full(2, 5.0), np.array([0.5, 0.4]), np.array([np.nan, 3.0])).tolist() == [-1, -1]


def test_find_clusters_refuses_what_finds_nothing():
    images = MultiBandImage({"F438W": np.random.default_rng(1).normal(0, 1, (64, 64)) * u.electron / u.s})
    for keywords, message in (({"fwhm": (0,)}, "fwhm must be positive"), ({"fwhm": (2.5, -1)}, "fwhm must be positive"), ({"fwhm": ()}, "fwhm"),
                              ({"threshold": np.nan}, "threshold must be a positive"), ({"box_size": 0}, "box_size must be at least one")):
        with pytest.raises(ValueError, match=message):
            find_clusters(images, **keywords)
    for keywords in ({"fwhm": 0}, {"box_size": 0}):
        with pytest.raises(ValueError, match="(fwhm|box_size) must be"):
            detection_image(images, **keywords)
    with pytest.warns(AstropyUserWarning, match="no candidate above a significance of 1000"):
        find_clusters(images, threshold=1000, fwhm=2.5)


def test_aperture_photometry_takes_no_name_of_an_instrument():
    images = MultiBandImage({"F438W": np.zeros((64, 64)) * u.electron / u.s})
    with pytest.raises(TypeError, match="instrument must be an Instrument, such as .*, not 'HST/WFC3/UVIS/M83'"):
        aperture_photometry(images, [(30, 30)], "HST/WFC3/UVIS/M83")
