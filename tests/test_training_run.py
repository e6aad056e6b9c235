# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Files of runs: what they may say, where they say it wrong, and the template of ``clustercnn init``.
"""

import re
import tomllib

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import QTable
from hst_mosaics import M83, write_mosaic

from clustercnn.instruments import Instrument
from clustercnn.network import ClusterNet
from clustercnn.run_template import run_template
from clustercnn.simulation import BackgroundFields, MosaicBackground
from clustercnn.stellar.photometry import pivot_wavelength
from clustercnn.training_run import Observation, TrainingRun

EMPTY = BackgroundFields([np.zeros((3, 80, 80))])


@pytest.fixture(name="folder")
def fixture_folder(tmp_path):
    """Three small mosaics of noise, PSFs, and a list of known sources."""
    rng = np.random.default_rng(8)
    y, x = np.mgrid[-20:21, -20:21] / 4
    for band, sigma in zip(M83.bands, (0.9, 0.9, 1.1)):
        write_mosaic(tmp_path / f"{band}.fits", band, rng.normal(0.01, 0.005, (100, 110)), exposure=2000.0)
        fits.writeto(tmp_path / f"psf_{band}.fits", np.exp(-(x**2 + y**2) / (2 * sigma**2)))
    QTable({"x_centroid": [50.0], "y_centroid": [40.0]}).write(tmp_path / "known.ecsv")
    return tmp_path


def images(folder):
    return {band: folder / f"{band}.fits" for band in M83.bands}


IMAGES = "[images]\n" + "".join(f'{band} = "{band}.fits"\n' for band in M83.bands)
DISTANCE = '[instrument]\ndistance = "7.2 Mpc"\n'


def observe(folder, text):
    (folder / "run.toml").write_text(text)
    return Observation.read(folder / "run.toml")


def read(folder, text, background=None):
    (folder / "run.toml").write_text(text)
    return TrainingRun.read(folder / "run.toml", background=background)


def test_an_empty_file_is_m83(folder):
    observation = observe(folder, "")
    assert observation.instrument == M83 and observation.distance == 4.5 * u.Mpc
    assert observation.images is None and observation.psf is None


def test_headers_tell_the_instrument(folder, monkeypatch):
    """From any folder: paths are relative to the file."""
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    observation = observe(folder, IMAGES + DISTANCE + 'exposure = {F814W = "20 min"}\npixel_scale = "0.0396 arcsec / pix"')
    instrument = observation.instrument
    assert observation.distance == 7.2 * u.Mpc and observation.images.shape == (100, 110)
    assert [instrument.exposure(band).value for band in M83.bands] == [2000, 2000, 1200]
    assert instrument.pixel_scale == 0.0396 * u.arcsec / u.pix
    for band in M83.bands:
        assert abs(instrument.zero_point(band) - M83.zero_point(band)) < 1e-6 * u.mag
        assert (instrument.gain(band).value, instrument.read_noise(band).value, instrument.n_exposures(band)) == (1.5, 3.1, 3)


def test_presets_and_instruments_of_your_own(folder):
    preset = observe(folder, DISTANCE + 'name = "HST/ACS/WFC"\nbands = ["F555W", "F814W"]\nexposure = "500 s"').instrument
    assert preset == Instrument.from_name("HST/ACS/WFC", ("F555W", "F814W"), exposure=500 * u.s)
    own = observe(folder, DISTANCE + 'name = "my camera"\nbands = ["B", "I"]\npixel_scale = "0.1 arcsec / pix"\nexposure = "1 h"\n'
                  'zero_points = {B = "25 mag", I = "24 mag"}\npassbands = {B = "BESSELL_B", I = "BESSELL_I"}').instrument
    assert own.name == "my camera" and own.bands == ("B", "I")
    assert own.exposure("B") == 3600 * u.s and own.zero_point("I") == 24 * u.mag


def test_psfs(folder):
    paths = "[psf]\noversampling = 4\n" + "".join(f'{band} = "psf_{band}.fits"\n' for band in M83.bands)
    run = read(folder, paths, EMPTY)
    psf = Observation.read(folder / "run.toml").psf
    assert tuple(psf) == M83.bands and psf["F814W"].oversampling == 4 and not psf["F814W"].pixel_integrated
    each = observe(folder, paths.replace("oversampling = 4", "oversampling = {F336W = 4, F438W = 4, F814W = 3}")).psf
    assert [each[band].oversampling for band in M83.bands] == [4, 4, 3]
    # the stream renders with them: the blurred stars of F814W are the wider ones
    builtin = read(folder, "", EMPTY).stream.batch(0, 32)["pixels"]
    assert not np.allclose(run.stream.batch(0, 32)["pixels"], builtin)


def test_mosaic_is_the_background(folder):
    run = read(folder, IMAGES + DISTANCE + '[mocks]\nbackground = "mosaic"\navoid = "known.ecsv"\navoid_radius = "6 pix"')
    background = run.stream.background
    assert isinstance(background, MosaicBackground)
    everywhere = 37 * 47  # places of stamps of 64 x 64 pixels
    # middles of stamps lie at half pixels: those within 6 pixels of (50, 40)
    middles = np.stack(np.meshgrid(np.arange(31.5, 78), np.arange(31.5, 68)))
    near = np.hypot(middles[0] - 50, middles[1] - 40) < 6
    assert background.number_of_places((64, 64)) == everywhere - near.sum()
    contract = run.stream.contract
    assert contract["distance_mpc"] == 7.2 and contract["exposure"]["F336W"] == 2000
    assert run.stream.batch(0, 16)["pixels"].isfinite().all()


def test_start_gives_its_architecture_and_weights(folder):
    from clustercnn.parameters import Parameter, ParameterSpace

    space = ParameterSpace([*ParameterSpace.paper().parameters[:3], Parameter("half_light_radius", 0.02 * u.arcsec, 0.2 * u.arcsec)])
    start = ClusterNet(("F275W", "F438W", "F814W"), photometry=False, space=space, rng=3)
    start.save(folder / "start.safetensors", extra={"samples": 1})
    run = read(folder, '[network]\nstart = "start.safetensors"\n[training]\nlearning_rate = 1', EMPTY)
    assert run.net.bands == M83.bands and not run.net.config["photometry"] and run.net.space == space == run.stream.space
    assert run.training["learning_rate"] == 1 and run.training["start"].bands == start.bands
    pretrained = read(folder, '[network]\nstart = "m83"', EMPTY)
    assert pretrained.training["start"].training["samples"] > 100_000
    assert read(folder, '[network]\nstart = "m83"\nscaling = "renormalized"', EMPTY).net.config["scaling"] == "renormalized"
    run.net._start_from(run.training["start"])
    pretrained.net._start_from(pretrained.training["start"])


@pytest.mark.parametrize(("text", "message"), [
    ('seed = "one"', "seed must be a whole number of 0 or more, not 'one'"),
    ("images = 3", r"images = 3, but \[images\] must be a table"),
    ("[images]\nF438W = 3", r"F438W in \[images\] must be text in quotes, not 3"),
    ('[images]\nF438W = "F438W.fits"', r"\[instrument\] of .*: distance must be given"),
    ('[images]\nF438W = "psf_F438W.fits"', r"\[images\] of .*: the image of F438W has no unit"),
    ("[instrument]\nexposure = 1890", r"exposure in \[instrument\] must be text in quotes or one value per band, not 1890"),
    ('[instrument]\nexposure = "1890"', r"\[instrument\] of .*: exposure of F336W must have a unit that converts to 's'"),
    ('[instrument]\nexposure = "long"', r"\[instrument\] of .*: Cannot parse \"long\""),
    ('[instrument]\nexposure = {F336W = "9 s"}', r"\[instrument\] of .*: exposure must have a value for each of the bands .*: it lacks"),
    ('[instrument]\ndistance = "28 mag"', r"\[instrument\] of .*: distance must have a unit that converts to 'Mpc'"),
    ('[instrument]\nname = "VLT"\ndistance = "1 Mpc"', r"VLT is no preset \(.*M83.*\): give one of these, or"),
    ('[instrument]\nname = "HST/ACS/WFC"', "distance must be given, that of the galaxy"),
    (IMAGES + DISTANCE + 'bands = ["F555W"]', r"bands must be of the images, F336W, F438W, F814W, not \['F555W'\]"),
    ('[psf]\nF438W = "psf_F438W.fits"', r"\[psf\] of .*: there must be a PSF for each of the bands"),
    ("[psf]\n" + "".join(f'{band} = "psf_{band}.fits"\n' for band in M83.bands), "oversampling must be given"),
    ("[psf]\noversampling = true", r"oversampling in \[psf\] must be a number or one value per band, not True"),
    ("[psf]\noversampling = {F438W = 4}\n" + "".join(f'{band} = "psf_{band}.fits"\n' for band in M83.bands),
     r"\[psf\] of .*: oversampling must have a value for each of the bands .*: it lacks \['F336W', 'F814W'\]"),
    ('[mocks]\nbackground = "sky"', r'background must be "disc" or "mosaic", not \'sky\''),
    ('[mocks]\nbackground = "mosaic"', r'background = "mosaic" needs the table \[images\]'),
    ('[mocks]\navoid = "known.ecsv"', 'avoid goes with background = "mosaic"'),
    (IMAGES + DISTANCE + '[mocks]\nbackground = "mosaic"\navoid = "run.toml"', r"\[mocks\] of "),
    (IMAGES + DISTANCE + '[mocks]\nbackground = "mosaic"\ndepth_scatter = 0.3', r"\[mocks\] of .*: neighbour_fraction, depth_scatter"),
    ("[mocks]\nnegatives = {quasar = 1}", r"\[mocks\] of .*: negatives must be of the kinds"),
    ('[network]\nphotometry = "no"', r"photometry in \[network\] must be true or false, not 'no'"),
    ('[network]\nencoder = "vit"', r"\[network\] of .*: encoder must be one of"),
    ('[network]\nstart = "m83"\nhead = "grid"', "head cannot go with start, which has an architecture already"),
    ('[network]\nstart = "m31"', r"\[network\] of .*: name must be one of"),
    ('[network]\nstart = "m83"\n[instrument]\nbands = ["F336W", "F438W"]', "has 3 bands, F336W, F438W, F814W, but the data 2"),
    ("[training]\nsamples = 1e6", r"samples in \[training\] must be a whole number, not 1000000.0"),
])
def test_wrong_entries(folder, text, message):
    with pytest.raises(ValueError, match=message):
        read(folder, text, None if "background" in text or "avoid" in text else EMPTY)


def test_missing_files_are_named(folder):
    with pytest.raises(FileNotFoundError, match="nowhere.fits"):
        observe(folder, '[images]\nF438W = "nowhere.fits"')
    with pytest.raises(FileNotFoundError, match="there is no model file .*mine.safetensors"):
        read(folder, '[network]\nstart = "mine.safetensors"', EMPTY)
    with pytest.raises(FileNotFoundError, match="none.toml"):
        TrainingRun.read(folder / "none.toml")


def uncommented(text):
    """The template with all that it offers switched on."""
    return re.sub(r"^# (?=[\w-]+ = )", "", text, flags=re.MULTILINE)


def assert_same(one, other):
    """Two instruments, to the digits that the template writes."""
    one, other = one.to_dict(), other.to_dict()
    for name in ("exposure", "zero_points", "gain", "read_noise", "n_exposures", "passbands"):
        assert one[name] == pytest.approx(other[name], rel=1e-5)


def test_template_without_images(folder):
    text, complaint = run_template(folder / "run.toml")
    assert complaint is None
    run = read(folder, text, EMPTY)
    assert run.stream.instrument == M83 and run.training == {"samples": 3_000_000, "learning_rate": 2.5e-3}
    everything = tomllib.loads(uncommented(text))
    assert set(everything["instrument"]) > {"exposure", "zero_points", "gain", "read_noise", "n_exposures"}
    # what it offers as an example is what holds without it
    said = observe(folder, uncommented("[instrument]" + text.partition("[instrument]")[2].partition("[psf]")[0])).instrument
    assert_same(said, M83)


def test_template_with_images(folder):
    text, complaint = run_template(folder / "run.toml", images(folder), 7.2 * u.Mpc)
    assert complaint is None and "fill it in" not in text
    run = read(folder, text)
    assert isinstance(run.stream.background, MosaicBackground) and run.stream.distance == 7.2 * u.Mpc
    assert run.training["samples"] == 300_000 and run.training["start"].training["samples"] > 100_000
    without, _, after = text.partition("[instrument]")
    offered = uncommented("[instrument]" + after.partition("[psf]")[0])
    said = observe(folder, without + offered).instrument
    assert_same(said, run.stream.instrument)
    everything = tomllib.loads(uncommented(text))
    assert everything["psf"]["oversampling"] == 4 and everything["mocks"]["avoid"] == "known.ecsv"


def test_template_of_a_camera_without_a_psf(folder):
    """The template says so, and training without one blames the table that lacks it."""
    paths, filters = images(folder), {"F336W": "F435W", "F438W": "F606W", "F814W": "F814W"}
    assert "[psf]  # without entries: the built-in model" in run_template(folder / "run.toml", paths)[0]
    for band, path in paths.items():
        pivot = pivot_wavelength(f"ACS_WFC_{filters[band]}").value
        with fits.open(path, mode="update") as hdus:
            hdus[0].header.update(INSTRUME="ACS", DETECTOR="WFC", FILTER=filters[band], PHOTPLAM=pivot)
    text, complaint = run_template(folder / "run.toml", {filters[band]: path for band, path in paths.items()}, 7.2 * u.Mpc)
    assert complaint is None and "[psf]  # this camera has no built-in model: give one for each band" in text
    with pytest.raises(ValueError, match=r"\[psf\] of .*no built-in PSF for F435W, F606W, F814W"):
        read(folder, text)


def test_template_asks_for_what_it_cannot_know(folder):
    with fits.open(folder / "F438W.fits", mode="update") as hdus:
        del hdus[0].header["PHOTFLAM"]
    text, complaint = run_template(folder / "run.toml", images(folder))
    assert "the header of F438W has no PHOTFLAM" in complaint and complaint in text
    with pytest.raises(ValueError, match="distance must be given"):
        observe(folder, text)
    text = text.replace("# distance", "distance")
    with pytest.raises(ValueError, match="no PHOTFLAM"):
        observe(folder, text)
    told = text.replace("[psf]", 'zero_points = {F438W = "25 mag"}\n[psf]')
    assert observe(folder, told).instrument.zero_point("F438W") == 25 * u.mag


def test_template_of_other_bands_trains_from_scratch(folder):
    """And a name that TOML does not take bare is put in quotes."""
    text, _ = run_template(folder / "run.toml", {"F438W": folder / "F438W.fits", "I band": folder / "F814W.fits"}, 1 * u.Mpc)
    tables = tomllib.loads(text)
    assert tables["images"] == {"F438W": "F438W.fits", "I band": "F814W.fits"}
    assert "start" not in tables["network"] and tables["training"]["samples"] == 3_000_000
