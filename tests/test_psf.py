# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
PSFs: the transfer function, the kernels that users bring, and the built-in model against the official curves.
"""

import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.modeling.models import Const2D, Gaussian2D
from astropy.nddata import CCDData, NDData
from astropy.table import QTable, Table
from astropy.utils.exceptions import AstropyUserWarning
from photutils.aperture import CircularAperture
from photutils.psf import CircularGaussianPRF, EPSFBuilder, GaussianPSF, GriddedPSFModel, ImagePSF, extract_stars

import clustercnn.psf
from clustercnn.instruments import Instrument
from clustercnn.psf import PSF, as_psf, builtin_psf, hst_psf
from clustercnn.psf_powers import radial_transfer
from clustercnn.simulation.render import band_psfs
from clustercnn.stamps import log_psf_powers

M83 = Instrument.from_name("HST/WFC3/UVIS/M83")


def gaussian_kernel(sigma, n=65, oversampling=4):
    """A Gaussian of sigma native pixels."""
    x = (np.arange(n) - (n - 1) / 2) / oversampling
    wave = np.exp(-0.5 * (x / sigma) ** 2)
    return np.outer(wave, wave)


def star(psf, x, y, n=96, finer=2):
    """A star of flux 1 rendered through the transfer function: on a finer grid, then every ``finer``-th pixel."""
    f = np.fft.fftfreq(finer * n, 1 / finer)
    fy, fx = f[:, None], f[None, :]
    fine = np.fft.ifft2(psf.otf(fy, fx) * np.exp(-2j * np.pi * (fx * x + fy * y))).real * finer**2
    return fine[::finer, ::finer]


@pytest.mark.parametrize("n", [64, 65])
def test_otf_of_a_gaussian_with_the_pixel_once(n):
    f = np.array([0, 0.1, 0.25, 0.4])
    expected = np.exp(-2 * (np.pi * 1.3 * f) ** 2)
    optical = as_psf(gaussian_kernel(1.3, n))
    np.testing.assert_allclose(optical.otf(0, f), expected * np.sinc(f), atol=1e-6)
    effective = as_psf(gaussian_kernel(1.3, n), pixel_integrated=True)
    np.testing.assert_allclose(effective.otf(f, 0), expected, atol=1e-6)


def test_otf_broadcasts_and_ends_at_the_nyquist_frequency():
    psf = as_psf(np.random.default_rng(0).random((9, 12)), oversampling=2, center=(5, 4))
    fy, fx = np.linspace(-1.5, 1.5, 7), np.linspace(-1.5, 1.5, 10)
    grid = psf.otf(fy[:, None], fx[None, :])
    np.testing.assert_allclose(grid, psf.otf(*np.meshgrid(fy, fx, indexing="ij")), atol=1e-13)
    assert psf.otf(fy[2], fx[3]) == pytest.approx(grid[2, 3])
    assert np.all(grid[np.abs(fy) > 1] == 0) and np.all(grid[:, np.abs(fx) > 1] == 0)
    assert psf.otf(0, 0) == pytest.approx(1)
    np.testing.assert_allclose(psf.otf(-fy, -fx[:7]), psf.otf(fy, fx[:7]).conj(), atol=1e-13)


@pytest.mark.parametrize("shape", [(33, 33), (32, 32), (33, 40)])
def test_center_of_the_array_is_the_source(shape):
    y, x = np.indices(shape)
    kernel = np.exp(-0.5 * (np.hypot(x - (shape[1] - 1) / 2, y - (shape[0] - 1) / 2) / 4) ** 2)
    psf = as_psf(kernel)
    f = 1e-4
    shift = [-np.angle(psf.otf(*pair)) / (2 * np.pi * f) for pair in ((0, f), (f, 0))]
    assert np.abs(shift).max() < 1e-9


def test_off_center_kernels_warn_and_can_be_told():
    kernel = np.zeros((32, 32))
    kernel[1:, 1:] = gaussian_kernel(1, 31)
    with pytest.warns(AstropyUserWarning, match=r"center=\(16, 16\)"):
        as_psf(kernel)
    psf = as_psf(kernel, center=(16, 16))
    image = star(psf, 40.3, 50.8)
    y, x = np.indices(image.shape)
    assert (x * image).sum() == pytest.approx(40.3, abs=1e-3)
    assert (y * image).sum() == pytest.approx(50.8, abs=1e-3)
    with pytest.raises(ValueError, match="center"):
        as_psf(kernel, center=(40, 16))


def test_kernels_are_normalised_and_native(tmp_path):
    kernel = gaussian_kernel(1.0).astype(">f4") * 7
    expected = as_psf(kernel)
    assert expected.data.sum() == pytest.approx(1) and expected.data.dtype == np.float64
    fits.writeto(tmp_path / "psf.fits", kernel)
    hdu = fits.ImageHDU(kernel)
    for source in (tmp_path / "psf.fits", str(tmp_path / "psf.fits"), hdu, fits.HDUList([fits.PrimaryHDU(), hdu])):
        np.testing.assert_array_equal(as_psf(source).data, expected.data)
    for source in (CCDData(kernel, unit="adu"), kernel * u.adu, kernel.tolist()):
        np.testing.assert_allclose(as_psf(source).data, expected.data)
    assert as_psf(expected) is expected
    with pytest.raises(ValueError, match="read-only"):
        expected.data[0, 0] = 1
    copy = pickle.loads(pickle.dumps(expected))
    np.testing.assert_array_equal(copy.otf(0, [0.1]), expected.otf(0, [0.1]))


def test_photutils_models_are_effective_psfs_of_their_own_oversampling():
    kernel = gaussian_kernel(1.2, 41, 3)
    psf = as_psf(ImagePSF(kernel * 9, oversampling=3, x_0=5, y_0=7))
    assert psf.oversampling == 3 and psf.pixel_integrated
    np.testing.assert_allclose(psf.data, kernel / kernel.sum(), atol=1e-9)
    with pytest.raises(ValueError, match="oversampling"):
        as_psf(ImagePSF(kernel, oversampling=3), oversampling=4)


POSITIONS = [(47.0, 48.0), (47.31, 48.84), (46.5, 48.5), (48.77, 47.02)]


def assert_same_star(psf, reference, x, y, deviation, finer=2):
    """Flux to 1e-3, centroid to 0.01 px, pixels to a share of the peak."""
    image, reference = star(psf, x, y, finer=finer), reference / reference.sum()
    rows, columns = np.indices(image.shape)
    assert image.sum() == pytest.approx(1, abs=1e-3)
    near = np.hypot(columns - x, rows - y) < 8
    assert image[near].sum() == pytest.approx(reference[near].sum(), abs=1e-3)
    for axis in (columns, rows):
        mine, theirs = ((axis * one)[near].sum() / one[near].sum() for one in (image, reference))
        assert mine == pytest.approx(theirs, abs=0.01)
    assert np.abs(image - reference).max() < deviation * reference.max()


@pytest.mark.parametrize(("x", "y"), POSITIONS)
@pytest.mark.parametrize("n", [80, 81])
def test_image_psf_renders_as_photutils_does(n, x, y):
    model = ImagePSF(gaussian_kernel(1.2, n) * 16, oversampling=4, x_0=x, y_0=y)
    rows, columns = np.indices((96, 96)) + 0.0
    assert_same_star(as_psf(model), model(columns, rows), x, y, 2e-3)


def test_image_psf_with_its_own_origin():
    kernel = np.zeros((60, 70))
    kernel[5:46, 12:53] = gaussian_kernel(1.2, 41)
    model = ImagePSF(kernel, oversampling=4, x_0=47.3, y_0=48.8, origin=(32, 25))
    rows, columns = np.indices((96, 96)) + 0.0
    assert as_psf(model).center == (32, 25)
    assert_same_star(as_psf(model), model(columns, rows), 47.3, 48.8, 2e-3)


@pytest.mark.parametrize(("x", "y"), POSITIONS)
def test_gridded_psf_renders_as_photutils_does(reference_data, x, y):
    path = reference_data / "psf" / "STDPSF_WFC3UV_F814W.fits"
    grid = GriddedPSFModel.read(path, format="stdpsf", detector_id=2)
    at = np.array([1500.0, 900.0]) + (x, y)
    grid.x_0, grid.y_0 = at
    rows, columns = np.indices((96, 96)) + np.array([900.0, 1500.0])[:, None, None]
    assert_same_star(as_psf(grid, position=at), grid(columns, rows), x, y, 0.01)


def test_gridded_psf_is_taken_at_a_position(reference_data):
    path = reference_data / "psf" / "STDPSF_WFC3UV_F814W.fits"
    grid = GriddedPSFModel.read(path, format="stdpsf", detector_id=2)
    node = tuple(grid.grid_xypos[len(grid.grid_xypos) // 2])
    psf = as_psf(grid, position=node)
    expected = grid.data[len(grid.grid_xypos) // 2]
    np.testing.assert_allclose(psf.data, expected / expected.sum(), atol=1e-8)
    assert np.abs(as_psf(grid, position=(node[0] + 200, node[1])).data - psf.data).max() > 1e-6
    assert as_psf(grid).oversampling == 4
    edge = as_psf(grid, position=grid.grid_xypos.max(axis=0))
    with pytest.warns(AstropyUserWarning, match="position .* lies outside the grid of PSFs, .* to .*: its edge is used"):
        np.testing.assert_allclose(as_psf(grid, position=(7000.0, 6000.0)).data, edge.data, atol=1e-12)
    with pytest.raises(ValueError, match="GriddedPSFModel"):
        as_psf(path)


@pytest.mark.parametrize("detector", [1, 2])
def test_invalid_rows_of_stdpsf_are_dark(reference_data, detector):
    path = reference_data / "psf" / "STDPSF_WFC3UV_F814W.fits"
    grid = GriddedPSFModel.read(path, format="stdpsf", detector_id=detector)
    assert np.isclose(grid.data, -0.1).sum() >= 1000  # at the edges of the chip
    for position in grid.grid_xypos:
        psf = as_psf(grid, position=position)
        assert psf.data.min() > -1e-3 * psf.data.max()


def test_built_psf_of_photutils():
    """Stars of a known Gaussian, with the pixel's response, through photutils' builder."""
    truth = CircularGaussianPRF(fwhm=2.2)
    rng = np.random.default_rng(1)
    image, places = np.zeros((300, 300)), []
    rows, columns = np.indices((300, 300))
    for y in range(25, 290, 25):
        for x in range(25, 290, 25):
            places.append((x + rng.uniform(-0.5, 0.5), y + rng.uniform(-0.5, 0.5)))
            cut = np.s_[y - 12 : y + 13, x - 12 : x + 13]
            truth.x_0, truth.y_0, truth.flux = *places[-1], 1000
            image[cut] += truth(columns[cut], rows[cut])
    stars = extract_stars(NDData(image), QTable({"x": [p[0] for p in places], "y": [p[1] for p in places]}), size=21)
    result = EPSFBuilder(oversampling=4, maxiters=5, progress_bar=False)(stars)
    psf = as_psf(result)
    assert psf.oversampling == 4 and psf.pixel_integrated
    np.testing.assert_array_equal(psf.data, as_psf(result.epsf).data)
    truth.x_0, truth.y_0, truth.flux = 47.3, 48.8, 1
    rows, columns = np.indices((96, 96))
    assert_same_star(psf, truth(columns, rows), 47.3, 48.8, 0.03)


@pytest.mark.parametrize(("x", "y"), POSITIONS)
def test_arrays_render_as_galsim_does(x, y):
    galsim = pytest.importorskip("galsim")
    profile = galsim.Moffat(beta=3.5, fwhm=2.5, trunc=12).shear(g1=0.1, g2=0.05)
    expected = profile.drawImage(nx=96, ny=96, scale=1, offset=(x - 47.5, y - 47.5)).array.astype(float)
    optical = profile.drawImage(nx=121, ny=121, scale=0.25, method="no_pixel").array
    assert_same_star(as_psf(optical, oversampling=4, pixel_integrated=False), expected, x, y, 3e-3)
    effective = galsim.Convolve(profile, galsim.Pixel(1)).drawImage(nx=128, ny=128, scale=0.25, method="no_pixel").array
    assert_same_star(as_psf(effective, oversampling=4, pixel_integrated=True), expected, x, y, 3e-3)


@pytest.mark.parametrize("band", ["F275W", "F336W", "F438W", "F555W", "F814W"])
def test_tiny_tim_renders_as_galsim_does(reference_data, band):
    """Subsampled four times, even sides, the source at n / 2, no pixel in it."""
    galsim = pytest.importorskip("galsim")
    path = reference_data / "psf" / f"{band.lower()}_sub4.fits"
    kernel = fits.getdata(path).astype(float)
    middle = kernel.shape[0] // 2
    model = galsim.InterpolatedImage(
        galsim.Image(kernel), scale=0.25, x_interpolant="lanczos15", offset=(0.5, 0.5), normalization="flux"
    )
    optics = galsim.Convolve(model, galsim.Pixel(1))
    psf = as_psf(path, oversampling=4, pixel_integrated=False, center=(middle, middle))
    for x, y in POSITIONS:
        offset = (x - 47.5, y - 47.5)
        expected = optics.drawImage(nx=96, ny=96, scale=1, offset=offset, method="no_pixel").array.astype(float)
        # Without the detector's charge diffusion the ultraviolet has waves of up to 1.7 cycles per pixel.
        assert_same_star(psf, expected, x, y, 5e-3, finer=4)


def test_tiny_tim_kernels(reference_data):
    native = as_psf(reference_data / "psf" / "f336w_native.fits", oversampling=1, pixel_integrated=True)
    assert native.otf(0, 0) == pytest.approx(1)
    with pytest.warns(AstropyUserWarning, match="179, 179"):
        as_psf(reference_data / "psf" / "f336w_sub4.fits")


def test_fits_headers_may_state_the_oversampling():
    hdu = fits.PrimaryHDU(gaussian_kernel(1.2, 41, 3), fits.Header({"OVERSAMP": 3}))
    assert as_psf(hdu).oversampling == 3
    assert as_psf(fits.HDUList([hdu])).oversampling == 3
    assert as_psf(hdu, oversampling=2).oversampling == 2


@pytest.mark.parametrize(("keyword", "oversampling"), [("PIXELSCL", None), ("PIXSCALE", 4)])
def test_steps_that_a_header_tells_are_held_against_the_pixels(keyword, oversampling):
    """A PSF made for the pixels of the detector, 0.031 arcsec, and images drizzled to 0.02."""
    hdu = fits.PrimaryHDU(gaussian_kernel(1.2), fits.Header({"OVERSAMP" if oversampling is None else "SPHERICL": 4, keyword: 0.031 / 4}))
    native, mosaic = (
        Instrument.from_name("JWST/NIRCam/SW", bands=("F200W",), exposure=1000 * u.s, pixel_scale=scale * u.arcsec / u.pix)
        for scale in (0.0311, 0.02)
    )
    psf = {"F200W": as_psf(hdu, oversampling=oversampling)}
    assert band_psfs(psf, native) == psf
    with pytest.raises(ValueError, match="PSF of F200W has 4 values per pixel of 0.031 .*images are 0.02 .*give as_psf oversampling=2.581"):
        band_psfs(psf, mosaic)
    band_psfs({"F200W": as_psf(hdu, oversampling=2.581)}, mosaic)
    contract = {"bands": ["F200W"], "pixel_scale": 0.02, "psf_transfer": {"F200W": radial_transfer(psf["F200W"])}}
    with pytest.raises(ValueError, match="PSF of F200W has 4 values"):
        log_psf_powers(psf, contract)
    hdu.header[keyword] = "unknown"
    assert as_psf(hdu).pixel_scale is None


def test_astropy_models_are_sampled():
    f = np.array([0, 0.1, 0.3])
    expected = np.exp(-2 * (np.pi * 1.5 * f) ** 2)
    psf = as_psf(Gaussian2D(amplitude=3, x_mean=4, y_mean=5, x_stddev=1.5, y_stddev=1.5), radius=10)
    np.testing.assert_allclose(psf.otf(0, f), expected * np.sinc(f), atol=1e-6)
    prf = as_psf(CircularGaussianPRF(fwhm=1.5 * 2.3548), radius=10)
    assert prf.pixel_integrated
    np.testing.assert_allclose(prf.otf(f, 0), expected * np.sinc(f), atol=1e-4)
    with pytest.raises(ValueError, match="position"):
        as_psf(Const2D())
    with pytest.raises(ValueError, match="center"):
        as_psf(Gaussian2D(), center=(0, 0))


@pytest.mark.parametrize(
    ("kernel", "error", "message"),
    [
        (np.full((5, 5), np.nan), ValueError, "NaN"),
        (np.ma.masked_greater(np.diag([1.0, 2, 1]), 1.5), ValueError, "holds 1 NaN, infinite or masked values"),
        (NDData(np.ones((3, 3)), mask=np.eye(3, dtype=bool)), ValueError, "holds 3 NaN, infinite or masked values"),
        (ImagePSF(np.ones((5, 5)), oversampling=(4, 2)), ValueError, "the same along x and y, not .4 2."),
        (np.zeros((5, 5)), ValueError, "positive sum"),
        (-np.ones((5, 5)), ValueError, "positive sum"),
        (np.diag([1, 1, 1, -0.5]), ValueError, "negative"),
        (np.ones(5), ValueError, "2D"),
        (np.ones((2, 5, 5)), ValueError, "2D"),
        (object(), TypeError, "photutils"),
        ({}, TypeError, "one band"),
        (fits.HDUList([fits.PrimaryHDU()]), ValueError, "no image"),
    ],
)
def test_broken_kernels(kernel, error, message):
    with pytest.raises(error, match=message):
        as_psf(kernel)


def test_broken_files(tmp_path):
    path = tmp_path / "psf.fits"
    fits.writeto(path, gaussian_kernel(1.0))
    whole = path.read_bytes()
    for broken in (whole[: len(whole) // 2], whole[:1000], b"", b"no FITS"):
        path.write_bytes(broken)
        with warnings.catch_warnings(), pytest.raises(ValueError, match="psf.fits cannot be read as the FITS image of a PSF"):
            warnings.simplefilter("ignore", AstropyUserWarning)  # astropy's own of truncated files
            as_psf(path)
    with pytest.raises(FileNotFoundError):
        as_psf(tmp_path / "nowhere.fits")


def test_slightly_negative_wings_are_noise_and_stay():
    kernel = gaussian_kernel(1)
    kernel[0, 0] = -0.001
    assert as_psf(kernel).data.min() < 0


@pytest.mark.parametrize("oversampling", [0, -1, np.nan, (4, 2)])
def test_bad_oversampling(oversampling):
    with pytest.raises(ValueError, match="oversampling"):
        as_psf(np.ones((3, 3)), oversampling=oversampling)


@pytest.mark.parametrize("changes", [{"oversampling": 0}, {"radius": -1 * u.arcsec}, {"pixel_scale": 0 * u.arcsec / u.pix}])
def test_the_builtin_psf_names_what_is_wrong(changes):
    with pytest.raises(ValueError, match=f"{next(iter(changes))} must be .*positive"):
        hst_psf("F438W", **changes)


# Radius [arcsec] and official encircled energy, WFC3/UVIS1, STScI
OFFICIAL = {
    "F275W": ((0.08, 0.16, 0.24, 0.4), (0.4896, 0.7514, 0.8195, 0.8651)),
    "F336W": ((0.08, 0.16, 0.24, 0.4), (0.4764, 0.7655, 0.8451, 0.8898)),
    "F438W": ((0.08, 0.16, 0.24, 0.4), (0.5886, 0.8063, 0.8612, 0.9059)),
    "F555W": ((0.08, 0.16, 0.4), (0.5753, 0.8120, 0.9109)),
    "F814W": ((0.08, 0.16, 0.24, 0.4), (0.5270, 0.7918, 0.8542, 0.9022)),
}


@pytest.mark.parametrize("band", OFFICIAL)
def test_rendered_stars_have_the_official_encircled_energy(band):
    psf = hst_psf(band)
    radius, energy = OFFICIAL[band]
    measured = []
    for x, y in np.random.default_rng(0).uniform(47.5, 48.5, (6, 2)):
        image = star(psf, x, y)
        assert image.sum() == pytest.approx(1, abs=1e-9)
        measured.append([CircularAperture((x, y), r / 0.04).do_photometry(image)[0][0] for r in radius])
    np.testing.assert_allclose(np.mean(measured, axis=0), energy, atol=0.008)
    if band == "F336W":
        assert np.mean(measured, axis=0)[1] == pytest.approx(0.765, abs=0.004)


def test_rendered_stars_sit_where_they_should():
    psf = hst_psf("F438W")
    y, x = np.indices((96, 96))
    for x0, y0 in ((48, 48), (47.6, 48.3), (48.5, 47.9)):
        image = star(psf, x0, y0)
        assert (x * image).sum() == pytest.approx(x0, abs=1e-3)
        assert (y * image).sum() == pytest.approx(y0, abs=1e-3)


def test_builtin_psf_of_the_preset():
    psf = builtin_psf(M83)
    assert tuple(psf) == M83.bands
    assert all(isinstance(kernel, PSF) and not kernel.pixel_integrated for kernel in psf.values())
    assert psf["F438W"].data.min() >= 0
    assert builtin_psf(M83)["F438W"] is psf["F438W"]


def test_hst_psf_by_wavelength_lies_between_its_neighbours():
    at = {name: hst_psf(name).data.max() for name in ("F438W", "F475W")}
    between = hst_psf(4500 * u.AA).data.max()
    assert min(at.values()) <= between <= max(at.values())
    np.testing.assert_allclose(hst_psf(0.43262 * u.um).data, hst_psf("F438W").data, atol=1e-6)
    np.testing.assert_array_equal(hst_psf("WFC3_UVIS_F438W").data, hst_psf("F438W").data)
    with pytest.raises(ValueError, match="reaches from"):
        hst_psf(2 * u.um)
    with pytest.raises(ValueError, match="as_psf"):
        hst_psf("ACS_WFC_F814W")
    with pytest.raises(TypeError, match="pixel_scale"):
        hst_psf("F438W", 0.04)


def test_hst_psf_keeps_its_angular_size_at_another_pixel_scale():
    f = np.array([0.02, 0.05])
    fine, coarse = hst_psf("F814W", 0.025 * u.arcsec / u.pix), hst_psf("F814W", 0.05 * u.arcsec / u.pix)
    without_pixel = [psf.otf(0, f * scale) / np.sinc(f * scale) for psf, scale in ((fine, 0.5), (coarse, 1.0))]
    np.testing.assert_allclose(*without_pixel, atol=2e-3)


def test_shipped_table_is_what_the_tool_makes(reference_data, tmp_path):
    root = Path(__file__).resolve().parents[1]
    out = tmp_path / "hst_psf.ecsv"
    command = [sys.executable, str(root / "tools" / "fit_hst_psf.py"), "--data", str(reference_data), "--out", str(out)]
    subprocess.run(command, check=True, capture_output=True)
    new = QTable.read(out)
    shipped = QTable.read(Path(clustercnn.psf.__file__).parent / "data" / "hst_psf.ecsv")
    assert list(new["passband"]) == list(shipped["passband"])
    np.testing.assert_allclose(np.array(new["flux"].tolist()), np.array(shipped["flux"].tolist()), atol=1e-4)


@pytest.fixture(name="official")
def fixture_official(reference_data):
    """Band -> radii in arcsec and encircled energies of WFC3/UVIS1, STScI."""
    table = Table.read(reference_data / "psf" / "wfc3uvis1_EE_aper_007_syn.csv")
    columns = [name for name in table.colnames if name.startswith("APER#")]
    radius = np.array([float(name[5:]) for name in columns])
    return {row["FILTER"]: (radius, np.array([row[name] for name in columns])) for row in table}


UVIS = [band for band in Instrument.from_name("HST/WFC3/UVIS", exposure=1 * u.s).bands if band != "F225W"]


def test_every_band_follows_its_official_curve(official):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))
    try:
        from fit_hst_psf import encircled
    finally:
        sys.path.pop(0)
    flux, _, sigma = clustercnn.psf._hst_table()
    for band, (radius, energy) in official.items():
        if band in ("FFFFF", "F218W", "F225W", "F475X"):
            assert f"WFC3_UVIS_{band}" not in flux
            continue
        residual = encircled(radius, sigma) @ flux[f"WFC3_UVIS_{band}"] - energy
        assert np.abs(residual[radius >= 0.08]).max() < 0.01, band


@pytest.mark.parametrize("band", UVIS)
def test_the_rendered_kernel_follows_within_half_an_arcsecond(official, band):
    radius, energy = official[band]
    kept = (radius >= 0.08) & (radius <= 0.5)
    measured = []
    for x, y in np.random.default_rng(0).uniform(47.5, 48.5, (6, 2)):
        image = star(hst_psf(band), x, y)
        measured.append([CircularAperture((x, y), r / 0.04).do_photometry(image)[0][0] for r in radius[kept]])
    np.testing.assert_allclose(np.mean(measured, axis=0), energy[kept], atol=0.01)


@pytest.mark.parametrize("band", ["F225W", "F475X"])
def test_bands_without_a_possible_curve_have_no_model(official, band):
    radius, energy = official[band]
    if band == "F225W":  # 60 % within one pixel of what two pixels' responses alone smear out
        assert energy[0] > 2 * official["F275W"][1][0]
    else:
        assert np.any(np.diff(energy) < 0)
    with pytest.raises(ValueError, match="no built-in PSF .*as_psf"):
        hst_psf(band)


def test_the_kernel_ends_smoothly():
    """No step at the edge, and hardly a change to what a sharp edge at 1.25 arcsec gave."""
    step = np.hypot(*(np.mgrid[-125:126, -125:126] * 0.01))
    flux, _, sigmas = clustercnn.psf._hst_table()
    for band in UVIS:
        kernel = hst_psf(band).data
        profile = kernel[125, 125:]
        assert kernel.shape == (251, 251) and kernel.sum() == pytest.approx(1)
        assert np.all(np.diff(profile) <= 0) and profile[-2] < 0.01 * profile[100]
        sharp = sum(
            w * np.exp(-0.5 * (step / s) ** 2) * 1e-4 / (2 * np.pi * s**2)
            for w, s in zip(flux[f"WFC3_UVIS_{band}"], sigmas, strict=True)
        ) * (step <= 1.25)
        halo = np.exp(-0.5 * (step / sigmas[-1]) ** 2) * (step <= 1.25)
        sharp += halo * (1 - sharp.sum()) / halo.sum()
        for radius in (0.05, 0.16, 0.3, 0.5):
            assert abs((kernel - sharp)[step <= radius].sum()) < 0.002


def test_a_wide_kernel_follows_the_model_to_its_edge():
    flux, _, sigmas = clustercnn.psf._hst_table()
    kernel = hst_psf("F814W", radius=6 * u.arcsec).data
    distance = np.hypot(*(np.mgrid[-600:601, -600:601] * 0.01))
    for radius in (0.3, 0.5, 1, 2, 4):
        energy = flux["WFC3_UVIS_F814W"] @ (1 - np.exp(-0.5 * (radius / sigmas) ** 2))
        assert kernel[distance <= radius].sum() == pytest.approx(energy, abs=1e-3)


def test_cameras_without_a_builtin_psf():
    roman = Instrument.from_name("Roman/WFI", exposure=1 * u.s)
    with pytest.raises(ValueError, match="no built-in PSF for R062, .* of Roman/WFI.*psf={band: as_psf"):
        builtin_psf(roman)
    some = Instrument.from_name("HST/WFC3/UVIS", bands=("F225W", "F814W"), exposure=1 * u.s)
    with pytest.raises(ValueError, match="no built-in PSF for F225W of"):
        builtin_psf(some)


def test_enclosed_light_of_a_gaussian():
    """1 - exp(-r^2 / 2 sigma^2), in pixels whatever the oversampling, around a centre that need not be the middle."""
    y, x = np.mgrid[:161, :181]
    psf = as_psf(np.exp(-((x - 85) ** 2 + (y - 80) ** 2) / (2 * 10**2)), oversampling=8, center=(85, 80))
    for radius in (0.5, 1, 2, 4):
        assert psf.enclosed(radius) == pytest.approx(1 - np.exp(-0.5 * (radius / 1.25) ** 2), abs=0.01)
    assert psf.enclosed(0) < 0.01 and psf.enclosed(100) == pytest.approx(1)


def test_a_psf_states_what_it_is():
    psf = hst_psf("F438W")
    assert as_psf(psf, psf.oversampling, psf.pixel_integrated, center=psf.center) is psf
    for name, value in (("oversampling", 2), ("pixel_integrated", not psf.pixel_integrated), ("center", (0, 0))):
        with pytest.raises(ValueError, match=f"{name} must be what the PSF states"):
            as_psf(psf, **{name: value})


def moments(psf):
    """Of a kernel, about its centre: xx, yy, xy in native pixels squared."""
    y, x = ((np.arange(n) - middle) / psf.oversampling for n, middle in zip(psf.data.shape, psf.center[::-1], strict=True))
    return [float(np.sum(psf.data * product)) for product in (x * x, (y * y)[:, None], y[:, None] * x)]


@pytest.mark.parametrize("model", [
    Gaussian2D(x_stddev=1, y_stddev=2, theta=np.pi / 6), Gaussian2D(x_stddev=1, y_stddev=2, theta=30 * u.deg),
    GaussianPSF(x_fwhm=2.35482, y_fwhm=4.70964, theta=30), GaussianPSF(x_fwhm=2.35482 * u.pix, y_fwhm=4.70964 * u.pix, theta=np.pi / 6 * u.rad),
])
def test_models_keep_the_units_of_their_parameters(model):
    assert moments(as_psf(model, radius=12)) == pytest.approx([1.75, 3.25, -0.75 * 3**0.5], abs=0.01)


def test_models_in_other_units_than_pixels_are_refused():
    width = 0.04 * u.arcsec
    with pytest.raises(u.UnitsError, match="x_mean of the model must be in native pixels, .*not in 'arcsec'"):
        as_psf(Gaussian2D(x_stddev=width, y_stddev=width, x_mean=0 * width, y_mean=0 * width))


def test_coarse_nodes_are_refused():
    with pytest.raises(ValueError, match="oversampling = 4 is too coarse for a pixel_scale of 0.25 .*oversampling=8"):
        hst_psf("F438W", 0.25 * u.arcsec / u.pix)
    fine, finer = (hst_psf("F438W", 0.25 * u.arcsec / u.pix, oversampling=n) for n in (8, 32))
    frequency = np.linspace(0, 0.5, 11)
    np.testing.assert_allclose(fine.otf(0, frequency), finer.otf(0, frequency), atol=2e-3)


def test_the_name_of_an_instrument_has_no_psf():
    with pytest.raises(TypeError, match="instrument must be an Instrument"):
        builtin_psf("HST/WFC3/UVIS/M83")
