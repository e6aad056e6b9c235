# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
The command line: every verb runs, says what is wrong, and repeats itself for a seed.
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import QTable
from hst_mosaics import write_mosaic

from clustercnn.cli import main
from clustercnn.images import MultiBandImage
from clustercnn.network import ClusterNet
from clustercnn.stellar import band_extinction

VERBS = ("quickstart", "simulate", "init", "train", "predict", "inject", "validate", "calibrate", "info")
BANDS = ("F336W", "F438W", "F814W")


@pytest.fixture(name="model", scope="module")
def fixture_model(tmp_path_factory):
    """A model file of an untrained network that knows its stream's contract."""
    path = tmp_path_factory.mktemp("model") / "untrained.safetensors"
    ClusterNet(BANDS).save(path, extra={"samples": 1})  # said to be trained: what it says does not matter here
    return path


@pytest.fixture(name="field", scope="module")
def fixture_field(tmp_path_factory):
    """A small simulated field on disk."""
    path = tmp_path_factory.mktemp("field")
    assert main(["simulate", "--out", str(path), "--shape", "160", "192", "--clusters", "3", "--seed", "5"]) == 0
    return path


def test_help_of_the_command():
    done = subprocess.run([sys.executable, "-m", "clustercnn.cli", "--help"], capture_output=True, text=True, check=True)
    assert all(verb in done.stdout for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_each_verb_has_an_example(verb, capsys):
    with pytest.raises(SystemExit) as stop:
        main([verb, "--help"])
    assert stop.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert f"example: clustercnn {verb} " in text and "exit status: 0 done" in text
    assert "None" not in text
    # everything random has a seed, every network a device
    assert ("--seed" in text) == (verb not in ("init", "info"))
    assert ("--device" in text) == (verb in ("quickstart", "train", "predict", "validate", "calibrate"))


@pytest.mark.parametrize("words", [[], ["fly"], ["train", "--samples", "100"], ["simulate", "--seed", "-1"], ["train", "--seed", "1.5"]])
def test_wrong_words(words, capsys):
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    assert "usage: clustercnn" in capsys.readouterr().err


def test_simulate(field):
    images = MultiBandImage.read(field / "images.fits")
    truth = QTable.read(field / "truth.ecsv")
    assert images.bands == BANDS and images.shape == (160, 192) and images.unit == u.electron / u.s
    assert images.wcs is not None
    assert len(truth) == 3
    assert truth["age"].unit.is_equivalent(u.yr)
    xy = images.pixel_positions(truth)
    np.testing.assert_allclose(images.pixel_positions(truth["sky_centroid"]), xy, atol=1e-6)
    assert (xy >= 32).all() and (xy <= [160, 128]).all()


def test_simulate_repeats_itself(field, tmp_path):
    main(["simulate", "--out", str(tmp_path), "--shape", "160", "192", "--clusters", "3", "--seed", "5"])
    again, first = (MultiBandImage.read(path / "images.fits").to_array() for path in (tmp_path, field))
    np.testing.assert_array_equal(again, first)
    main(["simulate", "--out", str(tmp_path), "--shape", "160", "192", "--clusters", "3", "--seed", "6"])
    assert not np.allclose(MultiBandImage.read(tmp_path / "images.fits").to_array(), first)


@pytest.mark.parametrize("shape, clusters, message", [
    ((60, 60), 1, "images must be larger than 64 x 64 pixels, not 60 x 60"),
    ((100, 100), 50, "50 clusters do not fit into 100 x 100 pixels"),
    ((100, 100), 0, "--clusters must be at least 1, not 0"),
])
def test_simulate_without_room(shape, clusters, message, tmp_path, capsys):
    words = ["--out", str(tmp_path / "out"), "--shape", *map(str, shape), "--clusters", str(clusters)]
    assert main(["simulate", *words]) == 1
    assert message in capsys.readouterr().err


@pytest.fixture(name="images", scope="module")
def fixture_images(field, tmp_path_factory):
    """The field as a user has it: a FITS file for each band, named on the command line."""
    path = tmp_path_factory.mktemp("images")
    with fits.open(field / "images.fits") as hdus:
        for i, band in enumerate(BANDS, 1):
            fits.PrimaryHDU(hdus["DATA", i].data, hdus["DATA", i].header).writeto(path / f"{band}.fits")
    return [f"{band}={path / band}.fits" for band in BANDS]


def test_predict(images, model, tmp_path, capsys):
    path = tmp_path / "new" / "catalog.ecsv"
    assert main(["predict", *images, "--model", str(model), "--out", str(path), "--draws", "20"]) == 0
    catalog = QTable.read(path)
    assert list(path.parent.iterdir()) == [path]
    assert len(catalog) > 0
    assert {"age", "mass_lo", "p_cluster", "sky_centroid"} <= set(catalog.colnames)
    assert f"{len(catalog)} sources in" in capsys.readouterr().out


def test_predict_at_positions(images, field, model, tmp_path):
    truth = QTable.read(field / "truth.ecsv")
    truth["x_centroid", "y_centroid"].write(tmp_path / "positions.ecsv")
    words = ["--model", str(model), "--positions", str(tmp_path / "positions.ecsv"), "--out", str(tmp_path / "catalog.fits")]
    assert main(["predict", *images, *words]) == 0
    catalog = QTable.read(tmp_path / "catalog.fits")
    np.testing.assert_allclose(catalog["x_centroid"], truth["x_centroid"])


def test_predict_takes_what_simulate_writes(images, field, model, tmp_path):
    """One file of all bands, whole or as the file of each."""
    file = str(field / "images.fits")
    catalogs = []
    for words in (images, [file], [f"{band}={file}" for band in BANDS]):
        assert main(["predict", *words, "--model", str(model), "--out", str(tmp_path / "catalog.ecsv"), "--draws", "20"]) == 0
        catalogs.append(QTable.read(tmp_path / "catalog.ecsv"))
    assert all((catalog["age"] == catalogs[0]["age"]).all() for catalog in catalogs)


def test_doubtful_zero_points_blur_a_catalogue(images, field, tmp_path):
    """With the embedded network; that of the other tests is hardly trained."""
    QTable.read(field / "truth.ecsv")["x_centroid", "y_centroid"].write(tmp_path / "positions.ecsv")
    catalogs = []
    for error in ("0", "0.3"):
        words = ["--positions", str(tmp_path / "positions.ecsv"), "--zero-point-error", error, "--out", str(tmp_path / "catalog.ecsv")]
        assert main(["predict", *images, *words]) == 0
        catalogs.append(QTable.read(tmp_path / "catalog.ecsv"))
    sure, doubtful = ((table["a_v_hi"] - table["a_v_lo"]).to_value("mag") for table in catalogs)
    assert np.median(doubtful / sure) > 1.2


def test_inject(images, tmp_path):
    assert main(["inject", *images, "--clusters", "2", "--out", str(tmp_path / "mock"), "--seed", "3"]) == 0
    before = MultiBandImage.read({word.partition("=")[0]: word.partition("=")[2] for word in images})
    after = MultiBandImage.read(tmp_path / "mock" / "images.fits")
    added = after.to_array() - before.to_array()
    assert len(QTable.read(tmp_path / "mock" / "truth.ecsv")) == 2
    assert (added.sum(axis=(1, 2)) > 0).all()


def test_dust_of_the_file(field, tmp_path):
    """Clusters of inject and validate have the dust of the file's mocks."""
    for band, plane in zip(BANDS, MultiBandImage.read(field / "images.fits").to_array(), strict=True):
        write_mosaic(tmp_path / f"{band}.fits", band, plane)
    text = '[instrument]\ndistance = "4.5 Mpc"\n[images]\n' + "".join(f'{band} = "{band}.fits"\n' for band in BANDS)
    (tmp_path / "plain.toml").write_text(text)
    (tmp_path / "smc.toml").write_text(f'{text}[mocks]\nextinction_law = "G03_SMCBar"\n')
    steps = band_extinction(BANDS, law="G03_SMCBar") - band_extinction(BANDS)
    for verb in ("inject", "validate"):
        truths = []
        for name in ("plain", "smc"):
            words = ["--config", str(tmp_path / f"{name}.toml"), "--clusters", "2", "--out", str(tmp_path / name)]
            assert main([verb, *words, *(["--device", "cpu"] if verb == "validate" else [])]) == 0
            truths.append(QTable.read(tmp_path / name / "truth.ecsv"))
        for band, step in zip(BANDS, steps, strict=True):
            np.testing.assert_allclose((truths[1][band] - truths[0][band]).value, step * truths[0]["a_v"].value, atol=1e-6)


@pytest.mark.parametrize("words, message", [
    (["predict", "f438w.fits"], "images must be given as BAND=FITS, such as F438W=f438w.fits, not 'f438w.fits'"),
    (["predict", "F438W=nowhere.fits"], "nowhere.fits"),
    (["predict"], "images must be given as BAND=FITS, such as F438W=f438w.fits, or with --config"),
    (["predict", "F438W=f.fits", "--config", "run.toml"], "with --config there can be no BAND=FITS"),
    (["predict", "F438W=f.fits", "F438W=g.fits"], "there must be one image for each band, but F438W has f.fits and g.fits"),
    (["predict", "F438W=f.fits", "--out", "catalog.doc"], "--out must end in .ecsv, .fits, .xml or another suffix of a table"),
    (["predict", "F438W=f.fits", "--positions", "list.doc"], "list.doc is no table that astropy knows"),
    (["predict", "F438W=f.fits", "--positions", "list.csv"], "list.csv: "),
    (["predict", "--config", "nowhere.toml"], "nowhere.toml"),
    (["init", "nowhere/run.toml"], "there is no folder nowhere to write run.toml to"),
    (["init", "F336W=u.fits", "F438W=b.fits"], "the first word must be the file to write, such as run.toml, not 'F336W=u.fits'"),
    (["info", "mine.safetensors"], "there is no model file mine.safetensors"),
    (["init", "run.toml", "--distance", "-3"], "--distance must be one positive number"),
    (["info", "m31"], "name must be one of"),
    (["train", "--config", "any.toml", "--device", "tpu"], "device must be 'auto', 'cpu', or one that torch can use here, not 'tpu'"),
    (["calibrate", "--device", "cuda:99"], "or one that torch can use here, not 'cuda:99'"),
])
def test_errors_are_one_line(words, message, capsys, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.doc").write_text("x y")
    (tmp_path / "list.csv").write_text("x_centroid,y_centroid\n1,2,3\n4\n")
    assert main([*words, *(["--model", str(model)] if words[0] == "predict" else [])]) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_info(model, capsys):
    assert main(["info", str(model)]) == 0
    text = capsys.readouterr().out
    assert "Calibration: none" in text
    card = json.loads(text[text.index("{"):])
    assert card["contract"]["bands"] == list(BANDS)


RUN = """
[mocks]
positive_fraction = 0.7
neighbour_fraction = 0.25
[network]
scaling = "renormalized"
[training]
samples = 256
validation_samples = 64
"""


def test_train_and_calibrate(tmp_path, capsys, monkeypatch):
    from clustercnn import simulation, training_run
    from clustercnn.simulation import BackgroundFields, MockStream

    shares = []

    class Stream(MockStream):
        def __init__(self, *arguments, **keywords):
            super().__init__(*arguments, **keywords)
            shares.append((self.positive_fraction, self.neighbour_fraction))

    monkeypatch.setattr(simulation, "MockStream", Stream)
    monkeypatch.setattr(training_run, "MockStream", Stream)
    # a pool of discs takes most of a minute to paint
    laws = []
    monkeypatch.setattr(
        BackgroundFields, "discs", classmethod(lambda cls, *_, extinction_law, **__: laws.append(extinction_law) or cls([np.zeros((3, 80, 80))]))
    )
    out, config = tmp_path / "new" / "tiny.safetensors", tmp_path / "run.toml"
    config.write_text(RUN)
    words = ["--workers", "0", "--seed", "4", "--device", "cpu", "--calibration", "80"]
    assert main(["train", "--config", str(config), "--out", str(out), *words]) == 0
    net = ClusterNet.load(out)
    assert net.calibration["mocks"]["checked"] == 40 and net.domain is not None
    assert net.config["scaling"] == "renormalized" and net.contract["positive_fraction"] == 0.7
    assert net.training["samples"] == 256 and net.contract["seed"] == 4 and net.training["config"] == RUN
    history = QTable.read(out.with_name("tiny.history.ecsv"))
    assert history["samples"][-1] == 256 and history["time"].unit == u.s
    again = tmp_path / "again.safetensors"
    assert main(["calibrate", "--model", str(out), "--samples", "96", "--out", str(again), "--device", "cpu"]) == 0
    assert shares == [(0.7, 0.25), (0.5, 0.25), (0.5, 0.25)]  # equal odds are what the class probability promises
    assert "half_light_radius" in capsys.readouterr().out
    assert ClusterNet.load(again).calibration["mocks"]["checked"] == 48 and ClusterNet.load(out).calibration == net.calibration
    lonely = ClusterNet.load(out)
    lonely.contract["population"]["r_v"] = 2.6
    lonely.save(tmp_path / "lonely.safetensors")
    assert main(["calibrate", "--model", str(tmp_path / "lonely.safetensors"), "--samples", "96", "--device", "cpu"]) == 1
    assert "trained on mocks of another population" in capsys.readouterr().err
    dusty = ClusterNet.load(out)
    dusty.contract["population"]["extinction_law"] = "G03_SMCBar"
    dusty.save(tmp_path / "dusty.safetensors")
    assert main(["calibrate", "--model", str(tmp_path / "dusty.safetensors"), "--samples", "96", "--device", "cpu"]) == 0
    assert laws == [*["F99"] * 4, "G03_SMCBar"]
    dusty.contract["population"]["extinction_law"] = "<G23(Rv=2.5)>"  # of a model, which has no name
    dusty.save(tmp_path / "dusty.safetensors")
    assert main(["calibrate", "--model", str(tmp_path / "dusty.safetensors"), "--samples", "96", "--device", "cpu"]) == 1
    assert "trained with the dust of a model, <G23(Rv=2.5)>; use ClusterNet.calibrate" in capsys.readouterr().err
    assert main(["info", str(again)]) == 0
    text = capsys.readouterr().out
    assert "checked on" in text and "area under the curve" in text and "false alarms" in text


@pytest.mark.parametrize(("text", "message"), [
    ("seed = ", "is not TOML"),
    ("[netwerk]", "has a table or entry 'netwerk'; those that are read are seed, \\[images\\], \\[instrument\\]"),
    ("training = 3", r"has training = 3, but \[training\] must be a table"),
    ("[network]\nheads = 3", r"has heads in \[network\]; its entries are conditions, encoder, head"),
])
def test_broken_configurations(tmp_path, capsys, text, message):
    (tmp_path / "run.toml").write_text(text)
    assert main(["train", "--config", str(tmp_path / "run.toml"), "--out", str(tmp_path / "net.safetensors"), "--device", "cpu"]) == 1
    assert re.search(message, capsys.readouterr().err)


def test_from_mosaics_to_a_catalogue(field, tmp_path, monkeypatch, capsys):
    """The commands of docs/own_galaxy.rst, one after the other."""
    pixels = MultiBandImage.read(field / "images.fits").to_array()
    pixels[:, :, :40] = 0.0  # where nothing was exposed
    for band, plane in zip(BANDS, pixels, strict=True):
        write_mosaic(tmp_path / f"{band}.fits", band, plane, exposure=2400.0)
    monkeypatch.chdir(tmp_path)
    assert main(["init", "run.toml", *(f"{band}={band}.fits" for band in BANDS), "--distance", "7.2"]) == 0
    assert main(["init", "run.toml"]) == 1
    assert "run.toml is there already" in capsys.readouterr().err
    config = Path("run.toml")
    config.write_text(config.read_text().replace("samples = 300_000", "samples = 128\nvalidation_samples = 64"))
    small = ["--workers", "0", "--device", "cpu", "--calibration", "100"]
    assert main(["train", "--config", "run.toml", *small]) == 0
    net = ClusterNet.load("run.safetensors")
    assert net.calibration["mocks"]["checked"] == 50
    assert net.training["samples"] == 128 and net.training["start"]["samples"] > 100_000
    contract = net.contract
    assert contract["background"] == "MosaicBackground" and contract["distance_mpc"] == 7.2 and contract["exposure"]["F438W"] == 2400
    words = ["--config", "run.toml", "--model", "run.safetensors", "--device", "cpu"]
    assert main(["validate", *words, "--clusters", "3", "--out", "validation"]) == 0
    truth, coverage = (QTable.read(f"validation/{name}.ecsv") for name in ("truth", "coverage"))
    assert (truth["x_centroid"] > 71).all()  # a stamp of 64 pixels there is whole
    assert set(coverage["parameter"]) == {"age", "a_v", "mass", "half_light_radius"} and len(coverage) == 8
    assert "3 clusters injected" in capsys.readouterr().out
    assert main(["calibrate", *words, "--samples", "100"]) == 0
    assert main(["predict", *words, "--out", "catalog.ecsv"]) == 0
    assert {"age", "p_cluster"} <= set(QTable.read("catalog.ecsv").colnames)
    assert main(["predict", *words, "--out", "catalog.ecsv", "--positions", "run.toml"]) == 1
    assert "Traceback" not in capsys.readouterr().err


def test_init_says_what_the_headers_lack(tmp_path, capsys, monkeypatch):
    write_mosaic(tmp_path / "b.fits", "F438W", np.ones((20, 20)))
    with fits.open(tmp_path / "b.fits", mode="update") as hdus:
        del hdus[0].header["EXPTIME"]
    monkeypatch.chdir(tmp_path)
    assert main(["init", "run.toml", "F438W=b.fits"]) == 0
    assert "has no EXPTIME above 0; give exposure=" in capsys.readouterr().err
    assert main(["predict", "--config", "run.toml"]) == 1
    assert "distance must be given" in capsys.readouterr().err


def test_configurations_of_the_repository(tmp_path):
    """They are read whole, and make the networks that they are named for; the later parts of a training go on from the first."""
    from clustercnn.simulation import BackgroundFields
    from clustercnn.training_run import TrainingRun

    folder = shutil.copytree(Path(__file__).parents[1] / "configs", tmp_path / "configs")
    ClusterNet(BANDS, conditions=True).save(folder / "m83.safetensors", extra={"samples": 1})
    empty = BackgroundFields([np.zeros((3, 80, 80))])
    runs = {path.stem: TrainingRun.read(path, background=empty) for path in sorted(folder.glob("*.toml"))}
    assert set(runs) == {"m83", "m83-second", "m83-third", "m83-fourth", "m83-fifth", "m83-calibration", "m83-paper", "m83-renormalized"}
    assert "renormalized scaling" in repr(runs["m83-renormalized"].net)
    assert "resnet50 encoder, grid head, fixed scaling" in repr(runs["m83-paper"].net)
    assert runs.pop("m83-calibration").stream.contract["negatives"] == runs["m83-third"].stream.contract["negatives"]
    assert all(run.training["samples"] >= 480_000 for name, run in runs.items() if name != "m83-paper")
    assert runs["m83-paper"].training["samples"] == 250_000  # all that there was time for


@pytest.mark.parametrize("error, status", [
    (FloatingPointError("the loss is not finite at samples 0 to 127"), 1),
    (KeyboardInterrupt("training stopped after 96 samples; the state is in x"), 130),
])
def test_trainings_that_stop(error, status, tmp_path, capsys, monkeypatch):
    """Whatever stops a training is told in one line."""
    from clustercnn.training_run import TrainingRun

    def stop(*_, **__):
        raise error

    monkeypatch.setattr(TrainingRun, "read", stop)
    assert main(["train", "--config", "any.toml", "--out", str(tmp_path / "net.safetensors"), "--device", "cpu"]) == status
    assert capsys.readouterr().err == f"clustercnn train: {error}\n"


def test_train_asks_before_it_goes_on(tmp_path, capsys):
    (tmp_path / "net.safetensors.checkpoint").touch()
    assert main(["train", "--config", "any.toml", "--out", str(tmp_path / "net.safetensors")]) == 1
    assert "go on with --resume" in capsys.readouterr().err
    (tmp_path / "net.safetensors.checkpoint").rename(tmp_path / "net.safetensors")
    assert main(["train", "--config", "any.toml", "--out", str(tmp_path / "net.safetensors"), "--resume"]) == 1
    assert "net.safetensors is trained to its end; where it lacks a calibration, clustercnn calibrate" in capsys.readouterr().err
    assert main(["train", "--config", "any.toml", "--out", str(tmp_path / "other.safetensors"), "--resume"]) == 1
    assert "other.safetensors.checkpoint: the training starts at its beginning" in capsys.readouterr().err


def test_a_calibration_that_stops_leaves_the_trained_network(tmp_path, capsys, monkeypatch):
    from clustercnn.simulation import BackgroundFields

    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("clustercnn.cli._fresh_calibration", stop)
    monkeypatch.setattr(BackgroundFields, "discs", classmethod(lambda cls, *args, **kwargs: cls([np.zeros((3, 80, 80))])))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.toml").write_text(RUN)
    assert main(["train", "--config", "run.toml", "--out", "net.safetensors", "--device", "cpu", "--samples", "64", "--workers", "0"]) == 130
    assert "net.safetensors is trained; clustercnn calibrate --config run.toml --model net.safetensors" in capsys.readouterr().err
    assert (tmp_path / "net.safetensors").exists()


def test_errors_that_name_arguments_tell_what_commands_do(tmp_path, capsys):
    write_mosaic(tmp_path / "b.fits", "F438W", np.ones((20, 20)))
    with fits.open(tmp_path / "b.fits", mode="update") as hdus:
        del hdus[0].header["BUNIT"]
    assert main(["predict", f"F438W={tmp_path / 'b.fits'}", "--out", str(tmp_path / "c.ecsv")]) == 1
    assert "unit=" in (told := capsys.readouterr().err) and "in a file of clustercnn init, with --config" in told


def test_quickstart(model, tmp_path, capsys):
    words = ["--out", str(tmp_path), "--shape", "192", "192", "--clusters", "4", "--model", str(model), "--seed", "2"]
    assert main(["quickstart", *words]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"images.fits", "truth.ecsv", "catalog.ecsv", "quickstart.png"}
    catalog, truth = (QTable.read(tmp_path / name) for name in ("catalog.ecsv", "truth.ecsv"))
    matched = catalog[catalog["truth_id"] >= 0]
    assert set(matched["truth_id"]) <= set(truth["id"])
    assert "4 clusters injected" in capsys.readouterr().out


def test_a_calibration_too_small_is_refused_before_the_training(tmp_path, capsys):
    config = tmp_path / "run.toml"
    config.write_text("[training]\n")
    for number in ("-5", "5"):
        assert main(["train", "--config", str(config), "--calibration", number]) == 1
        assert f"--calibration must be at least 40 mocks, or 0 for none, not {number}" in capsys.readouterr().err


def test_a_network_that_knows_no_instrument_is_not_calibrated_here(tmp_path, capsys):
    ClusterNet(shape=(24, 24)).save(tmp_path / "net.safetensors")
    assert main(["calibrate", "--model", str(tmp_path / "net.safetensors")]) == 1
    assert "use ClusterNet.calibrate with a stream" in capsys.readouterr().err


def test_python_runs_the_package():
    shown = subprocess.run([sys.executable, "-m", "clustercnn", "info"], capture_output=True, text=True, check=True).stdout
    assert shown.startswith("clustercnn ")
