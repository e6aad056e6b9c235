# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
The gate for pixels: everything that may come in, what comes out, and what is said when something is wrong.
"""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import CCDData, Cutout2D, InverseVariance, NDData, StdDevUncertainty, VarianceUncertainty
from astropy.table import Column, MaskedColumn, QTable, Table
from astropy.utils.exceptions import AstropyUserWarning
from astropy.utils.masked import Masked
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st

from clustercnn.images import MultiBandImage, pixel_positions
from clustercnn.instruments import Instrument

RATE = u.electron / u.s
M83 = Instrument.from_name("HST/WFC3/UVIS/M83")
SHAPE = (40, 50)
MASKED = Table({"x_centroid": MaskedColumn([1.0, 2.0]), "y_centroid": MaskedColumn([3.0, 4.0], mask=[False, True])})


def make_wcs(x=20.0, y=15.0, scale=0.04):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [204.25, -29.87]
    wcs.wcs.crpix = [x + 1, y + 1]
    wcs.wcs.cdelt = [-scale / 3600, scale / 3600]
    return wcs


@pytest.fixture(name="data")
def fixture_data():
    """A fresh float32 image; every pixel differs from all others."""
    return np.arange(SHAPE[0] * SHAPE[1], dtype=np.float32).reshape(SHAPE)


@pytest.fixture(name="hst_file")
def fixture_hst_file(data, tmp_path):
    """A drizzled image as MAST delivers it: SCI, WHT, big-endian, ELECTRONS/S, exposure in the primary header."""
    header = make_wcs().to_header()
    header["BUNIT"] = "ELECTRONS/S"
    primary = fits.PrimaryHDU()
    primary.header["EXPTIME"] = 1880.0
    path = tmp_path / "f438w_drz.fits"
    fits.HDUList([primary, fits.ImageHDU(data, header, name="SCI"), fits.ImageHDU(data * 0, name="WHT")]).writeto(path)
    return path


def test_every_accepted_input_gives_the_same_pixels(data, hst_file):
    dask_array, zarr = pytest.importorskip("dask.array"), pytest.importorskip("zarr")
    wcs = make_wcs()
    hdu = fits.ImageHDU(data, wcs.to_header())
    hdu.header["BUNIT"] = "electron/s"
    sources = {
        "quantity": data * RATE,
        "quantity and wcs": (data * RATE, wcs),
        "array": data,
        "array and wcs": (data, wcs),
        "big-endian": data.astype(">f4"),
        "float64, Fortran order": np.asfortranarray(data, dtype=float),
        "integers": data.astype(np.int32),
        "list": data.tolist(),
        "masked array": np.ma.array(data),
        "NDData": NDData(data, unit=RATE),
        "CCDData": CCDData(data, unit=RATE, wcs=wcs),
        "CCDData and wcs": (CCDData(data, unit=RATE), wcs),
        "HDU": hdu,
        "HDUList": fits.HDUList([fits.PrimaryHDU(), hdu]),
        "Cutout2D": Cutout2D(data, ((data.shape[1] - 1) / 2, (data.shape[0] - 1) / 2), data.shape, wcs=wcs),
        "path": hst_file,
        "path as text": str(hst_file),
        "dask": dask_array.from_array(data, chunks=16),
        "zarr": zarr.array(data, chunks=(16, 16)),
    }
    images = MultiBandImage(sources, unit=RATE)
    assert images.bands == tuple(sources) and len(images) == len(sources)
    stamps = images.cutouts([(20, 15), (0, 39)], shape=(8, 6))
    assert stamps.unit == RATE and stamps.dtype == np.dtype("=f4")
    for j, band in enumerate(images):
        assert isinstance(images[band], CCDData)
        np.testing.assert_array_equal(stamps[0, j].value, data[12:20, 18:24], err_msg=band)
        np.testing.assert_array_equal(stamps[1, j].value, stamps[1, 0].value, err_msg=band)
    array = images.to_array()
    assert array.dtype.isnative and array.flags["C_CONTIGUOUS"]
    np.testing.assert_array_equal(array, np.broadcast_to(data, array.shape))
    np.testing.assert_array_equal(images.to_array(section=(slice(3, 9), slice(40, None)))[0], data[3:9, 40:])


def test_sources_stay_lazy(data, tmp_path):
    dask_array, zarr = pytest.importorskip("dask.array"), pytest.importorskip("zarr")
    fits.writeto(tmp_path / "a.fits", data)
    lazy = {"dask": dask_array.from_array(data, chunks=16), "zarr": zarr.array(data), "fits": tmp_path / "a.fits"}
    images = MultiBandImage(lazy, unit=RATE)
    assert images["dask"].data is lazy["dask"]
    assert images["zarr"].data is lazy["zarr"]
    mapped = images["fits"].data
    while isinstance(mapped, np.ndarray) and not isinstance(mapped, np.memmap):
        mapped = mapped.base
    assert mapped is not None  # somewhere below the views lies the file
    assert images["fits"].data.dtype == np.dtype(">f4")


def test_dask_cutouts_compute_once(data):
    dask_array = pytest.importorskip("dask.array")
    reads = []

    def read(block):
        reads.append(block.shape)
        return block

    source = dask_array.from_array(data, chunks=SHAPE).map_blocks(
        read, dtype=data.dtype, meta=np.array((), dtype=data.dtype)
    )
    MultiBandImage({"a": source}, unit=RATE).cutouts([(10, 10), (20, 20), (30, 30)], (4, 4))
    assert len(reads) == 1


def test_repr_properties_and_selection(hst_file):
    images = MultiBandImage.read({"F438W": hst_file, "F814W": hst_file})
    assert repr(images) == "<MultiBandImage F438W, F814W; (40, 50), electron / s, 0.04 arcsec / pix>"
    assert images.pixel_scale.to_value(u.arcsec / u.pix) == pytest.approx(0.04, rel=1e-6)
    assert images["F438W"].meta["EXPTIME"] == 1880
    assert MultiBandImage({"F814W": images["F814W"]}).bands == ("F814W",)
    assert images == images and images != MultiBandImage(dict(images))
    with pytest.raises(KeyError, match="there are F438W, F814W"):
        images["F336W"]
    bare = MultiBandImage({"a": np.ones(SHAPE)}, unit="adu")
    assert bare.wcs is None and bare.pixel_scale is None


@given(x=st.floats(-10, 60), y=st.floats(-10, 50), ny=st.integers(1, 12), nx=st.integers(1, 12))
def test_cutouts_hold_the_position_at_their_centre(x, y, ny, nx):
    rows, columns = np.indices(SHAPE) + 0.0
    images = MultiBandImage({"x": columns, "y": rows}, unit=RATE)
    ((x0, y0),) = images.cutout_origins([(x, y)], (ny, nx))
    assert abs(x - x0 - (nx - 1) / 2) <= 0.5 + 1.01e-3
    assert abs(y - y0 - (ny - 1) / 2) <= 0.5 + 1.01e-3
    stamp = images.cutouts([(x, y)], (ny, nx))[0].value
    inside_x, inside_y = x0 + np.arange(nx), y0 + np.arange(ny)
    inside = np.outer((inside_y >= 0) & (inside_y < SHAPE[0]), (inside_x >= 0) & (inside_x < SHAPE[1]))
    np.testing.assert_array_equal(np.isfinite(stamp[0]), inside)
    np.testing.assert_array_equal(stamp[0][inside], np.broadcast_to(inside_x, (ny, nx))[inside])
    np.testing.assert_array_equal(stamp[1][inside], np.broadcast_to(inside_y[:, None], (ny, nx))[inside])


def test_even_cutouts_of_neighbouring_pixels_are_shifted_by_one():
    images = MultiBandImage({"a": np.ones(SHAPE)}, unit=RATE)
    origins = images.cutout_origins([(x, 10) for x in range(10, 20)], (4, 4))
    np.testing.assert_array_equal(np.diff(origins[:, 0]), 1)


@pytest.mark.parametrize("shape", [(64, 64), (4, 5)])
def test_pixels_and_sky_positions_get_the_same_cutout(shape):
    images = MultiBandImage({"a": (np.ones(SHAPE) * RATE, make_wcs())})
    y, x = np.indices(SHAPE).reshape(2, -1)
    xy = np.concatenate([np.stack([x, y], axis=-1), np.stack([x, y], axis=-1) + 0.5])
    sky = images.wcs.pixel_to_world(*xy.T)
    np.testing.assert_array_equal(images.cutout_origins(sky, shape), images.cutout_origins(xy, shape))


def test_pixels_must_be_square_where_their_size_is_asked_for(data):
    def with_axes(cd):
        wcs = make_wcs()
        wcs.wcs.cdelt = [1, 1]
        wcs.wcs.pc = np.array(cd) / 3600
        return MultiBandImage({"F438W": (data * u.MJy / u.sr, wcs)})

    turned = with_axes([[-0.04 * 0.8, 0.04 * 0.6], [0.04 * 0.6, 0.04 * 0.8]])
    assert turned.pixel_scale.to_value(u.arcsec / u.pix) == pytest.approx(0.04, rel=1e-5)
    assert with_axes([[-0.04, 0], [0, 0.0402]]).pixel_scale.to_value(u.arcsec / u.pix) == pytest.approx(0.0401, rel=1e-3)
    oblong, skewed = with_axes([[-0.02, 0], [0, 0.08]]), with_axes([[-0.04, 0.004], [0, 0.04]])
    for images in (oblong, skewed):
        with pytest.raises(ValueError, match="pixels must be square.*reproject"):
            images.pixel_scale
        with pytest.raises(ValueError, match="pixels must be square"):
            images.to_array(RATE, instrument=M83)
        assert "pixels that are not square" in repr(images)
        assert images.cutouts([(20, 15)], (4, 4), unit=None).shape == (1, 1, 4, 4)
    with pytest.raises(ValueError, match="0.02 by 0.08 arcsec"):
        oblong.pixel_scale


def test_positions_of_every_kind(hst_file):
    images = MultiBandImage({"F438W": hst_file})
    expected = [[20.0, 15.0], [3.25, 8.5]]
    sky = images.wcs.pixel_to_world(*np.transpose(expected))
    kinds = (
        expected,
        np.array(expected),
        expected * u.pix,
        sky,
        sky.galactic,
        QTable({"x_centroid": [20, 3.25], "y_centroid": [15, 8.5]}),
        QTable({"xcentroid": [20, 3.25] * u.pix, "ycentroid": [15, 8.5] * u.pix}),
    )
    for positions in kinds:
        np.testing.assert_allclose(images.pixel_positions(positions), expected, atol=1e-6)
    np.testing.assert_allclose(images.pixel_positions(sky[0]), expected[:1], atol=1e-6)
    np.testing.assert_allclose(images.pixel_positions((20, 15)), expected[:1])
    for table in (QTable, Table):
        table = table({"x_centroid": [20, 3.25], "y_centroid": [15, 8.5]}, masked=table is Table)
        np.testing.assert_allclose(images.pixel_positions(table[1]), expected[1:])
    rows = QTable({"x_centroid": [20, 3.25] * u.pix, "y_centroid": Masked([15, 8.5]) * u.pix})
    np.testing.assert_allclose(images.pixel_positions(rows[1]), expected[1:])
    assert images.pixel_positions([]).shape == (0, 2)
    assert images.cutouts(np.zeros((0, 2)), (4, 4)).shape == (0, 1, 4, 4)


@pytest.mark.parametrize(
    ("positions", "message"),
    [
        ([(1, 2, 3)], r"shape \(n, 2\)"),
        ([(1, np.nan)], "position 0 is not"),
        (QTable({"x": [1], "y": [2]}), "x_centroid and y_centroid"),
        (SkyCoord(1 * u.deg, 2 * u.deg), "no WCS"),
        (([1, 2, 3], [4, 5, 6]), r"shape \(n, 2\)"),
        (MASKED, "not masked; position 1 is not"),
        (QTable(MASKED), "not masked; position 1 is not"),
        (MASKED[1], "not masked; position 0 is not"),
        (QTable({"x_centroid": [1, 2], "y_centroid": Masked([3, 4], mask=[True, False]) * u.pix}), "not masked; position 0"),
        (np.ma.array([[1.0, 2], [3, 4]], mask=[[0, 0], [0, 1]]), "not masked; position 1"),
        (Masked([[1.0, 2], [3, 4]], mask=[[0, 0], [1, 0]]) * u.pix, "not masked; position 1"),
    ],
)
def test_bad_positions(positions, message):
    with pytest.raises(ValueError, match=message):
        pixel_positions(positions)


def test_masked_sky_positions():
    degrees = Masked([204.25, 204.25], mask=[False, True]) * u.deg
    with pytest.raises(ValueError, match="not masked; position 1"):
        pixel_positions(SkyCoord(degrees, degrees - 234 * u.deg), make_wcs())
    plain = Table({"ra": [204.25, 204.25], "dec": [-29.87, -29.87]}, units={"ra": "deg", "dec": "deg"}, masked=True)
    plain["ra"].mask[1] = True
    with pytest.raises(ValueError, match="not masked; position 1"):
        pixel_positions(plain, make_wcs())


def test_places_beyond_the_projection():
    """A gnomonic image ends 90 degrees from its centre: the coordinate is finite, its pixel is not."""
    with pytest.raises(ValueError, match="position 1 on the sky, 24.25 60, is too far from the images to lie in their projection"):
        pixel_positions(SkyCoord([204.25, 24.25] * u.deg, [-29.87, 60] * u.deg), make_wcs())


@pytest.mark.parametrize(
    "positions", [{"x_centroid": [1], "y_centroid": [2]}, [(1, 2), (3,)], [SkyCoord(1 * u.deg, 2 * u.deg)], "here"]
)
def test_positions_of_no_kind(positions):
    with pytest.raises(TypeError, match=r"positions must be numbers of shape \(n, 2\).*a SkyCoord, or a table with x_centroid"):
        pixel_positions(positions)


def test_mask_and_nan(data):
    data += 1  # a pixel that is 0 counts as masked, too
    data[15, 20] = np.nan
    data[10, 20] = np.inf
    mask = np.zeros(SHAPE, dtype=bool)
    mask[16, 21] = True
    images = MultiBandImage({"F438W": CCDData(data, unit=RATE, mask=mask)})
    with pytest.raises(ValueError, match=r'F438W has 1 pixels .* \(x, y\) = \(20, 15\).*nan="mask"'):
        images.cutouts([(20, 16)], (4, 4))
    with pytest.raises(ValueError, match=r"\(20, 10\)"):
        images.to_array()
    stamp = images.cutouts([(20, 16)], (5, 5), nan="mask")[0, 0].value
    assert np.argwhere(np.isnan(stamp)).tolist() == [[1, 2], [2, 3]]
    assert np.isnan(images.to_array(nan="mask")).sum() == 3
    # what is masked never raises
    covered = MultiBandImage({"F438W": CCDData(data, unit=RATE, mask=mask | ~np.isfinite(data))})
    assert np.isnan(covered.to_array()).sum() == 3
    with pytest.raises(ValueError, match="'raise' or 'mask'"):
        images.to_array(nan="ignore")


def test_data_quality_integers_serve_as_mask(data):
    quality = np.zeros(SHAPE, dtype=np.int16)
    quality[3, 4] = 64
    images = MultiBandImage({"a": NDData(data, unit=RATE, mask=quality)})
    assert np.argwhere(np.isnan(images.to_array()[0])).tolist() == [[3, 4]]


@pytest.mark.parametrize(
    ("unit", "rate"),
    [
        (RATE, 1.0),
        (60 * u.electron / u.min, 1.0),
        (u.electron, 1 / 1880),
        (u.adu, 1.5 / 1880),
        (u.adu / u.s, 1.5),
        (u.DN, 1.5 / 1880),
        (u.DN / u.s, 1.5),
    ],
)
def test_units_of_detectors(unit, rate):
    images = MultiBandImage({"F438W": np.full(SHAPE, 3.0)}, unit=u.Unit(unit))
    assert images.to_array(RATE, instrument=M83)[0, 0, 0] == pytest.approx(3 * rate, rel=1e-6)


@pytest.mark.parametrize("unit", ["electron", "adu", "Jy", "nJy", "MJy/sr", "erg/(s cm2 Angstrom)", "W/(m2 Hz arcsec2)"])
@settings(max_examples=15)
@given(value=st.floats(1e-3, 1e5))
def test_unit_round_trips(unit, value):
    pixels = {band: np.full((2, 2), value, dtype=np.float32) for band in M83.bands}
    there = MultiBandImage(pixels, unit=RATE).cutouts([(0.5, 0.5)], (2, 2), unit=unit, instrument=M83)
    assert there.unit == u.Unit(unit)
    back = MultiBandImage({band: there[0, i] for i, band in enumerate(M83.bands)}).to_array(RATE, instrument=M83)
    np.testing.assert_allclose(back, value, rtol=1e-6)


def test_calibrated_flux_is_the_zero_point():
    # a source of Vega magnitude 0 gives 10^(0.4 zp) electron/s; Vega's AB magnitude in F438W is -0.165
    flux = (-0.165 * u.ABmag).to(u.Jy)
    images = MultiBandImage({"F438W": np.full((1, 1), flux.value) * u.Jy})
    rate = images.to_array(RATE, instrument=M83).item()
    assert -2.5 * np.log10(rate) + M83.zero_point("F438W").value == pytest.approx(0, abs=0.01)
    # surface brightness takes the pixel's area from the coordinates before the instrument
    brightness = np.ones((3, 3)) * u.MJy / u.sr
    coarse = MultiBandImage({"F438W": brightness}, wcs=make_wcs(scale=0.08)).to_array(RATE, instrument=M83)
    np.testing.assert_allclose(coarse, 4 * MultiBandImage({"F438W": brightness}).to_array(RATE, instrument=M83), rtol=1e-5)


def test_unit_errors():
    counts = MultiBandImage({"F438W": np.ones(SHAPE)}, unit="adu")
    with pytest.raises(ValueError, match="instrument="):
        counts.cutouts([(1, 1)], (4, 4))
    with pytest.raises(ValueError, match="no band 'F555W'"):
        MultiBandImage({"F555W": np.ones(SHAPE)}, unit="adu").to_array(RATE, instrument=M83)
    with pytest.raises(u.UnitsError, match="cannot be turned"):
        MultiBandImage({"F438W": np.ones(SHAPE)}, unit="m").to_array(RATE, instrument=M83)


@pytest.mark.parametrize(
    ("text", "unit"),
    [("ELECTRONS/S", RATE), ("ELECTRONS", u.electron), ("ADU", u.adu), ("dn/s", u.DN / u.s), ("MJy/sr", u.MJy / u.sr)],
)
def test_spellings_of_units(data, text, unit):
    hdu = fits.PrimaryHDU(data)
    hdu.header["BUNIT"] = text
    assert MultiBandImage({"a": hdu}).unit == unit


def test_unit_in_the_primary_header(data, tmp_path):
    hdus = fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(data, name="SCI")])
    hdus[0].header["BUNIT"] = "ELECTRONS"
    hdus.writeto(tmp_path / "a.fits")
    assert MultiBandImage({"a": tmp_path / "a.fits"}).unit == u.electron
    hdus[1].header["BUNIT"] = "ELECTRONS/S"
    assert MultiBandImage({"a": hdus}).unit == RATE


@pytest.mark.filterwarnings("ignore:File may have been truncated", "ignore:Error validating header")
@pytest.mark.parametrize("kind", ["image", "compressed", "written"])
@pytest.mark.parametrize("keep", [0, 100, 2880, 0.6])
def test_truncated_files(tmp_path, kind, keep):
    path = tmp_path / "broken.fits"
    noise = np.random.default_rng(1).normal(size=(200, 300)).astype(np.float32)
    if kind == "written":
        MultiBandImage({"F438W": noise * RATE}).write(path)
    else:
        hdu = (fits.ImageHDU if kind == "image" else fits.CompImageHDU)(noise)
        fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size) if keep < 1 else keep])
    with pytest.raises(ValueError, match="broken.fits"):
        MultiBandImage.read(path if kind == "written" else {"F438W": path}, unit=RATE)
    if kind == "image" and keep == 0.6:
        with fits.open(path) as hdus, pytest.raises(ValueError, match="broken.fits is cut short"):
            MultiBandImage({"F438W": hdus}, unit=RATE)


def test_clear_errors(data, tmp_path):
    wcs = make_wcs()
    with pytest.raises(TypeError, match="dict of band"):
        MultiBandImage([data])
    with pytest.raises(ValueError, match="image of F438W has no unit; pass unit="):
        MultiBandImage({"F438W": data})
    with pytest.raises(ValueError, match=r"a has the shape \(40, 50\) and b \(39, 50\).*reproject"):
        MultiBandImage({"a": data, "b": data[1:]}, unit=RATE)
    with pytest.raises(ValueError, match="0.5 pixels apart.*reproject"):
        MultiBandImage({"a": (data, wcs), "b": (data, make_wcs(x=20.5))}, unit=RATE)
    with pytest.raises(ValueError, match="reproject"):
        MultiBandImage({"a": (data, wcs), "b": (data, make_wcs(scale=0.05))}, unit=RATE)
    with pytest.raises(ValueError, match="share one unit"):
        MultiBandImage({"a": data * RATE, "b": data * u.Jy})
    with pytest.raises(ValueError, match="2D"):
        MultiBandImage({"a": np.ones((3, 4, 5))}, unit=RATE)
    with pytest.raises(ValueError, match="real numbers"):
        MultiBandImage({"a": data.astype(complex)}, unit=RATE)
    with pytest.raises(ValueError, match="no WCS"):
        MultiBandImage({"a": data}, unit=RATE).cutouts(SkyCoord(1 * u.deg, 2 * u.deg), (4, 4))
    with pytest.raises(ValueError, match=r"shape must be two whole numbers of pixels"):
        MultiBandImage({"a": data}, unit=RATE).cutouts([(1, 1)], 4)
    with pytest.raises(FileNotFoundError):
        MultiBandImage.read({"a": tmp_path / "nothing.fits"})
    hdu = fits.PrimaryHDU(data)
    hdu.header["BUNIT"] = "bananas"
    with pytest.raises(ValueError, match="BUNIT = 'bananas'"):
        MultiBandImage({"a": hdu})
    two = fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(data, name="ONE"), fits.ImageHDU(data, name="TWO")])
    with pytest.raises(ValueError, match="which image is meant.*ONE.*TWO"):
        MultiBandImage({"a": two}, unit=RATE)
    with pytest.raises(ValueError, match="none"):
        MultiBandImage({"a": fits.HDUList([fits.PrimaryHDU()])}, unit=RATE)


def test_bands_without_coordinates_take_those_of_the_others(data):
    images = MultiBandImage({"a": data * RATE, "b": (data * RATE, make_wcs())})
    assert images.wcs is images["b"].wcs
    np.testing.assert_allclose(images.pixel_positions(SkyCoord(204.25 * u.deg, -29.87 * u.deg)), [[20, 15]], atol=1e-6)


@pytest.mark.parametrize("kind", [StdDevUncertainty, VarianceUncertainty, InverseVariance])
def test_written_files_come_back_whole(data, hst_file, tmp_path, kind):
    dask_array = pytest.importorskip("dask.array")
    images = MultiBandImage(
        {
            "F336W": CCDData(data, unit=RATE, wcs=make_wcs(), mask=data > 1900, uncertainty=kind(data + 1)),
            "F438W": hst_file,
            "F814W": dask_array.from_array(2 * data, chunks=16) * 1.0,
        },
        unit=RATE,
    )
    path = tmp_path / "images.fits"
    images.write(path)
    back = MultiBandImage.read(path)
    assert back.bands == images.bands and back.unit == images.unit and back.shape == images.shape
    np.testing.assert_array_equal(back.to_array(), images.to_array())
    np.testing.assert_array_equal(back["F336W"].mask, data > 1900)
    assert back["F438W"].mask is None and back["F438W"].uncertainty is None
    assert isinstance(back["F336W"].uncertainty, kind)
    np.testing.assert_array_equal(back["F336W"].uncertainty.array, data + 1)
    assert back["F438W"].meta["EXPTIME"] == 1880
    for band in back:
        x, y = back[band].wcs.world_to_pixel(images.wcs.pixel_to_world(3, 30))
        assert (x, y) == pytest.approx((3, 30), abs=1e-6)
    # and once more, over the file it came from
    MultiBandImage.read(path).write(path, overwrite=True)
    np.testing.assert_array_equal(MultiBandImage.read(path).to_array(), images.to_array())


def test_writing_is_atomic(data, tmp_path, monkeypatch):
    images = MultiBandImage({"a": data * RATE})
    path = tmp_path / "images.fits"
    images.write(path)
    with pytest.raises(OSError, match="overwrite=True"):
        images.write(path)

    def fail(self, *args, **kwargs):
        raise RuntimeError("disk full")

    monkeypatch.setattr(fits.HDUList, "writeto", fail)
    with pytest.raises(RuntimeError, match="disk full"):
        images.write(path, overwrite=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["images.fits"]
    np.testing.assert_array_equal(MultiBandImage.read(path).to_array()[0], data)


def test_other_fits_files_are_pointed_to_the_dict_form(hst_file):
    with pytest.raises(ValueError, match="name its band"):
        MultiBandImage.read(hst_file)


def test_distortions_survive(data, tmp_path):
    wcs = make_wcs()
    wcs.wcs.ctype = ["RA---TAN-SIP", "DEC--TAN-SIP"]
    header = wcs.to_header(relax=True)
    header.update(
        {"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP", "A_ORDER": 2, "B_ORDER": 2, "A_2_0": 1e-4, "B_0_2": 2e-4}
    )
    hdu = fits.PrimaryHDU(data, header)
    images = MultiBandImage({"a": hdu}, unit=RATE)
    images.write(tmp_path / "a.fits")
    back = MultiBandImage.read(tmp_path / "a.fits")
    corner = images.wcs.pixel_to_world(49, 39)
    assert back.wcs.world_to_pixel(corner) == pytest.approx((49, 39), abs=1e-6)
    assert np.hypot(*(np.array(make_wcs().world_to_pixel(corner)) - (49, 39))) > 0.05


def test_what_was_not_exposed_counts_as_masked(tmp_path):
    """With nan="mask": 0 in all bands that know the pixel. Whole numbers may be 0."""
    first, second = np.ones((2, 8, 9))
    first[2, 3:6] = second[2, 4:7] = 0
    second[2, 3] = np.nan
    images = MultiBandImage({"F438W": first * RATE, "F814W": second * RATE})
    expected = np.zeros((8, 9), dtype=bool)
    expected[2, 3:6] = True
    for pixels in (images.to_array(nan="mask"), images.cutouts((4, 3.5), (8, 9), nan="mask")[0].value):
        np.testing.assert_array_equal(np.isnan(pixels).all(axis=0), expected)
        assert pixels[1, 2, 6] == 0
    # and a cutout of a band in which there is nothing but zeros
    second[:4] = 0
    above, below = MultiBandImage({"F438W": first * RATE, "F814W": second * RATE}).cutouts([[4, 1.5], [4, 5.5]], (4, 9), nan="mask").value
    assert np.isnan(above[1]).all() and not np.isnan(above[0]).all() and not np.isnan(below).any()
    counts = MultiBandImage({"F438W": np.zeros((8, 9), dtype="u2")}, unit=u.adu)
    assert (counts.to_array(nan="mask") == 0).all()
    assert (MultiBandImage({"F438W": np.zeros((8, 9)) * RATE}).to_array() == 0).all()


def test_hash_of_pixels(tmp_path, monkeypatch):
    """The same for the same pixels from any source, in any blocks; another for another pixel, mask, unit or band."""
    pixels = np.random.default_rng(4).normal(size=(30, 20)).astype(np.float32)
    plain = MultiBandImage({"F438W": pixels * RATE})
    fits.writeto(tmp_path / "f.fits", pixels.astype(">f4"), fits.Header({"BUNIT": "electron/s"}))
    same = MultiBandImage({"F438W": tmp_path / "f.fits"}).sha256()
    monkeypatch.setattr("clustercnn.images._BLOCK", 140)
    assert plain.sha256() == same
    mask = np.zeros(pixels.shape, dtype=bool)
    mask[29, 19] = True
    other = pixels.copy()
    other[17, 3] += 1
    others = [MultiBandImage({"F438W": other * RATE}), MultiBandImage({"F438W": pixels * u.adu}), MultiBandImage({"F814W": pixels * RATE}),
              MultiBandImage({"F438W": CCDData(pixels, unit=RATE, mask=mask)})]
    assert len({same, *(image.sha256() for image in others)}) == 5


def test_a_piece_of_all_bands(tmp_path):
    wcs = make_wcs()
    mask = np.zeros((30, 40), dtype=bool)
    mask[12, 21] = True
    images = MultiBandImage({band: CCDData(np.arange(1200.0).reshape(30, 40), unit="electron/s", mask=mask, wcs=wcs) for band in ("B", "I")})
    piece = images[10:20, 15:40]
    assert piece.shape == (10, 25) and piece.bands == ("B", "I")
    assert piece["B"].mask[2, 6] and piece["I"].data[0, 0] == 415
    sky = wcs.pixel_to_world([20], [14])
    np.testing.assert_allclose(piece.pixel_positions(sky), [[5, 4]], atol=1e-6)
    path = tmp_path / "images.fits"
    images.write(path)
    again = MultiBandImage({"I": path})  # by the name of a band in the file
    np.testing.assert_array_equal(again["I"].data, images["I"].data)
    assert again["I"].mask.sum() == 1
    with pytest.raises(ValueError, match=r"images.fits has no band 'V'; it has B, I"):
        MultiBandImage({"V": path})


@pytest.mark.parametrize("text", ["ct", "count/s", "COUNTS/S", "e-/s", "electron / (s pix)", "Jy / pix"])
def test_spellings_have_the_factor_of_the_plain_unit(text):
    hdu = fits.PrimaryHDU(np.ones((8, 8), np.float32))
    hdu.header["BUNIT"] = text
    plain = {"ct": u.adu, "count/s": u.adu / u.s, "COUNTS/S": u.adu / u.s, "Jy / pix": u.Jy}.get(text, u.electron / u.s)
    instrument = Instrument.from_name("HST/WFC3/UVIS/M83")
    one, two = (MultiBandImage({"F438W": image}) for image in (hdu, np.ones((8, 8)) * plain))
    assert one.conversion("F438W", u.electron / u.s, instrument) == two.conversion("F438W", u.electron / u.s, instrument)


@pytest.mark.parametrize("stated", [5000.0, "5000"])
def test_counts_of_another_exposure_bring_a_warning(stated):
    instrument = Instrument.from_name("HST/WFC3/UVIS/M83")
    images = MultiBandImage({"F438W": CCDData(np.ones((8, 8)), unit="electron", meta=fits.Header({"EXPTIME": stated}))})
    with pytest.warns(AstropyUserWarning, match="EXPTIME of F438W is 5000 s, but its counts are divided by .* 1880 s"):
        images.to_array(u.electron / u.s, instrument=instrument)


def test_positions_in_tables_of_every_kind():
    wcs = make_wcs()
    images = MultiBandImage({"B": CCDData(np.zeros((30, 40)), unit="electron/s", wcs=wcs)})
    expected = np.array([[20.0, 14.0], [3.5, 7.25]])
    sky = wcs.pixel_to_world(*expected.T)
    tables = [Table({f"x{name}": expected[:, 0], f"y{name}": expected[:, 1]}) for name in ("_center", "_peak", "_init", "_fit", "centroid")]
    tables += [QTable({"id": [1, 2], "skycoord": sky}), QTable({"ra": sky.ra, "dec": sky.dec})]
    for table in tables:
        np.testing.assert_allclose(images.pixel_positions(table), expected, atol=1e-6)
        np.testing.assert_allclose(images.pixel_positions(table[1]), expected[1:], atol=1e-6)
    with pytest.raises(ValueError, match="ra and dec with units such as deg, or one column of sky coordinates; it has"):
        images.pixel_positions(Table({"ra": [1.0], "dec": [2.0]}))  # of which unit?


def test_a_table_of_another_image_is_refused():
    wcs = make_wcs()
    images = MultiBandImage({"B": CCDData(np.zeros((30, 40)), unit="electron/s", wcs=wcs)})
    table = QTable({"x_centroid": [20.0, 12], "y_centroid": [14.0, 15], "sky_centroid": wcs.pixel_to_world([20, 12], [14, 15])})
    np.testing.assert_allclose(images.pixel_positions(table), [[20, 14], [12, 15]])
    piece = images[5:, 3:]
    with pytest.raises(ValueError, match=r'5.831 pixels from its sky_centroid.*pass table\["sky_centroid"\]'):
        piece.pixel_positions(table)
    np.testing.assert_allclose(piece.pixel_positions(table["sky_centroid"]), [[17, 9], [9, 10]])


def test_sections_keep_the_sky(data):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix = ["RA---TAN", "DEC--TAN"], [204.25, -29.87], [20, 15]
    wcs.wcs.cd = np.diag([-0.04 / 3600, 0.04 / 3600])
    images = MultiBandImage({"F438W": CCDData(data, unit="adu", wcs=wcs)})
    part = images[-20:-10, 5:]
    assert part.shape == (10, SHAPE[1] - 5)
    assert part.wcs.pixel_to_world(3, 4).separation(images.wcs.pixel_to_world(8, SHAPE[0] - 16)) < 1e-6 * u.arcsec
    np.testing.assert_array_equal(part["F438W"].data, data[-20:-10, 5:])
    for item, error in (((slice(None, None, 2), slice(None)), ValueError), ((slice(5, 5), slice(None)), ValueError), ((5, 6), TypeError),
                        (slice(5, 6), TypeError), ((slice(1), slice(1), slice(1)), TypeError)):
        with pytest.raises(error, match=r"a section must .*such as images\[40:60, 50:70\]"):
            images[item]


def test_pixels_that_cannot_be(data):
    data[3, 7] = -3.4e38  # what software writes where it knows nothing
    images = MultiBandImage({"F438W": data * RATE})
    with pytest.raises(ValueError, match=r"beyond 1e\+15 and not masked, the first at \(x, y\) = \(7, 3\)"):
        images.to_array()
    assert np.argwhere(np.isnan(images.to_array(nan="mask")[0])[1:]).tolist() == [[2, 7]]


@pytest.mark.parametrize("bands", [("a", "a"), ("a", "b", "c"), "ab"])
def test_as_many_bands_as_planes(bands):
    with pytest.raises(ValueError, match="bands must be as many different names as there are planes of pixels, 2"):
        MultiBandImage.from_arrays(bands, np.zeros((2, 5, 5)), RATE)
    with pytest.raises(ValueError, match="bands must have different names"):
        MultiBandImage({336: np.zeros((5, 5)) * RATE, "336": np.zeros((5, 5)) * RATE})


def test_units_of_plain_columns():
    images = MultiBandImage({"F438W": np.zeros(SHAPE) * RATE})
    plain = Table({"x_centroid": Column([4.25], unit="deg"), "y_centroid": Column([9.86], unit="deg")})
    for table in (plain, plain[0], QTable(plain)):
        with pytest.raises(u.UnitsError, match="column x_centroid of the positions must be in pixels, not in 'deg'; give places on the sky"):
            images.pixel_positions(table)
    for name in ("x_centroid", "y_centroid"):
        plain[name].unit = "pix"
    for table in (plain, plain[0], QTable(plain)):
        np.testing.assert_array_equal(images.pixel_positions(table), [[4.25, 9.86]])
