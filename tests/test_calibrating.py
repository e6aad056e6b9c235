# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Temperatures are found and mend, the report says what it measured, and all of it goes into the model file and comes back."""

import copy
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from astropy import units as u
from fake_stream import FakeStream

from clustercnn.calibration import auc
from clustercnn.estimate import FLAGS
from clustercnn.network import ClusterNet, calibrating, calibration_text, look
from clustercnn.network.calibrating import fit_temperature
from clustercnn.network.modelfile import read_file, write_file
from clustercnn.parameters import ParameterSpace

RATE = u.electron / u.s
STREAM = FakeStream(seed=1)


@pytest.fixture(autouse=True, scope="module")
def fixture_few_draws():
    """Which cost most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibrating, "DRAWS", 100)
        yield


def small(**keywords):
    """A little trained network."""
    net = ClusterNet(shape=(24, 24), **keywords)
    net.fit(FakeStream(), samples=640, batch_size=32, validation_samples=0, progress=False, device="cpu")
    return net


@pytest.fixture(scope="module", name="net")
def fixture_net():
    """A calibrated one."""
    net = small()
    net.calibrate(STREAM, 2000, first=0, device="cpu", progress=False)
    return net


@pytest.mark.parametrize("head", ["flow", "grid"])
@pytest.mark.parametrize("temperature", [0.7, 1.0, 1.5])
def test_a_posterior_of_any_temperature_is_a_density(head, temperature):
    """It integrates to one, and its draws follow it: the mean of an indicator over draws is its integral."""
    space = ParameterSpace.paper()
    posterior = ClusterNet(head=head, space=space).module.posterior
    posterior.temperature = temperature
    generator = torch.Generator().manual_seed(1)
    features = 3 * torch.randn(1, 129, generator=generator)
    width = torch.from_numpy(np.diff(space.bounds, axis=1)[:, 0]).float()
    n = 10_000
    with torch.inference_mode():
        uniform = posterior.lower + width * torch.rand(n, 4, generator=generator)
        density = posterior.log_prob(features.expand(n, -1), uniform).double().exp() * width.prod()
        draws = posterior.sample(features, n, generator)[0]
    assert density.mean() == pytest.approx(1, abs=4 * float(density.std()) / n**0.5)
    middle = posterior.lower + 0.5 * width
    for i in range(4):
        inside = (uniform[:, i] > middle[i]).double() * density
        drawn = (draws[:, i] > middle[i]).double()
        error = float((inside.var() + drawn.var()) / n) ** 0.5
        assert float(drawn.mean() - inside.mean()) == pytest.approx(0, abs=4 * error)


def test_fit_temperature():
    """The analytic solution for normal deviates, its error, and 1 where nothing is to be mended."""
    deviates = np.random.default_rng(3).standard_normal(20_000)
    for factor in (0.8, 1.0, 1.3):
        square = factor**2 * np.mean(deviates**2)
        temperature, error = fit_temperature(lambda t, square=square: np.log(t) + 0.5 * square / t**2, len(deviates))
        assert temperature == (1.0 if factor == 1 else pytest.approx(square**0.5, rel=1e-3))
        assert error == pytest.approx(square**0.5 / (2 * len(deviates)) ** 0.5, rel=0.03)


def test_an_overconfident_class_is_mended():
    """Log odds that are three times too large get three times the temperature, and the probabilities of before."""
    net = small(conditions=False)
    net.calibrate(STREAM, 1200, first=0, device="cpu", progress=False)
    stamps = STREAM.batch(0, 300)["pixels"].numpy() * RATE
    before, honest = net.calibration["temperatures"]["class"], net.predict(stamps, draws=2).p_cluster
    module = net.module
    offset = float(module.cluster.counts.add(1).log().diff())
    last = module.cluster.layers[-1]
    with torch.no_grad():  # tripled about the odds of the training's mix
        last.weight *= 3
        last.bias.copy_(3 * (last.bias - offset) + offset)
    net.calibrate(STREAM, 1200, first=0, device="cpu", progress=False)
    after = net.calibration["temperatures"]["class"]
    if before["temperature"] == 1:
        assert after["temperature"] == pytest.approx(3, abs=4 * after["error"])
    else:
        assert after["temperature"] == pytest.approx(3 * before["temperature"], rel=0.02)
    assert after["gain"] > 0
    assert np.abs(net.predict(stamps, draws=2).p_cluster - honest).max() < 0.1


class Scattered(FakeStream):
    """Clusters whose parameters are not quite what they look like."""

    def batch(self, start, size):
        batch = super().batch(start, size)
        lower, upper = torch.tensor(self.space.bounds, dtype=torch.float32).T
        noise = 0.25 * (upper - lower) * torch.randn(batch["parameters"].shape, generator=torch.Generator().manual_seed(start % 2**31))
        return batch | {"parameters": (batch["parameters"] + noise).clamp(lower, upper)}


def as_saved(tensor):
    """Matrices in half precision."""
    return tensor.half().float() if tensor.ndim > 1 else tensor


def test_the_last_lesson():
    """Two heads learn from the mocks that fit and from no other, as the file will hold them; where one gets worse it stays as it was."""
    net = small()
    before = {name: as_saved(tensor).clone() for name, tensor in net.module.state_dict().items()}
    net.calibrate(Scattered(seed=1), 1200, first=0, device="cpu", progress=False)
    lesson, after = net.calibration["last_lesson"], net.module.state_dict()
    assert lesson["stays"] and lesson["gain"] > 0.05 and 200 < lesson["clusters"] < 340
    changed = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    assert {name.split(".")[0] for name in changed} == {"posterior", "visibility"}
    assert net.calibration["visibility_lesson"]["stays"] and net.calibration["visibility_lesson"]["clusters"] == lesson["clusters"]
    assert all(torch.equal(after[name], as_saved(after[name])) for name in changed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibrating, "LEARNING_RATE", 1.0)
        net.calibrate(STREAM, 400, first=0, device="cpu", progress=False)
    for name in ("last_lesson", "visibility_lesson"):
        assert net.calibration[name]["gain"] == 0 and not net.calibration[name]["stays"]
    assert all(torch.equal(tensor, after[name]) for name, tensor in net.module.state_dict().items())
    assert calibration_text(net.calibration).count("no gain, undone") == 2


def test_visibilities_are_taught():
    """A head that thinks them a third too faint and twice as uncertain as they are learns better, and says so in the report."""
    net = small()
    components = net.module.visibility.out.out_features // 3
    with torch.no_grad():
        net.module.visibility.out.bias[components : 2 * components] -= 0.4
        net.module.visibility.out.bias[2 * components :] += 1.0
    truth = STREAM.batch(5000, 256)
    known = truth["is_cluster"] > 0.5
    stamps, true = truth["pixels"][known].numpy() * RATE, truth["visibility"][known].numpy()
    before = np.log(net.predict(stamps, draws=100).visibility.value / true)
    net.calibrate(STREAM, 2000, first=0, device="cpu", progress=False)
    after = np.log(net.predict(stamps, draws=100).visibility.value / true)
    error = 1.25 * after.std() / len(after) ** 0.5  # of a median
    assert np.median(before) < -3 * error and abs(np.median(after)) < 3 * error
    assert net.calibration["visibility_lesson"]["gain"] > 0.05
    told = [row["deviation"] for row in net.calibration["coverage"] if row["parameter"] == "visibility"]
    assert len(told) == 2 and np.abs(told).max() < 5


def test_most_of_many_mocks_teach(monkeypatch):
    """They come first and alone; the report is of the others, as if there had been no more of them and the head had learned what it has."""
    monkeypatch.setattr(calibrating, "MEASURED", 400)
    monkeypatch.setattr(calibrating, "BEYOND", np.inf)  # no temperatures: they are fitted on fewer mocks where some of them taught
    net = small()
    net.calibrate(STREAM, 1000, first=0, device="cpu", progress=False)
    report = net.calibration
    assert {name: report["mocks"][name] for name in ("taught", "fitted", "checked")} == {"taught": 600, "fitted": 200, "checked": 200}
    batches = [STREAM.batch(start, n)["is_cluster"] for start, n in ((0, 256), (256, 256), (512, 88), (600, 256), (856, 144))]
    clusters = torch.cat(batches).cumsum(0)
    assert report["last_lesson"]["clusters"] == clusters[599] and report["clusters"] == clusters[999] - clusters[799]
    few = small()
    few.calibrate(STREAM, 401, first=0, device="cpu", progress=False)
    assert few.calibration["mocks"]["taught"] == 0 and few.calibration["last_lesson"]["clusters"] > 50
    monkeypatch.setattr(calibrating, "LEARNING_RATE", 0.0)
    net.calibrate(STREAM, 400, first=600, device="cpu", progress=False)
    assert {name: net.calibration[name] for name in ("domain", "class", "clusters", "coverage")} == {
        name: report[name] for name in ("domain", "class", "clusters", "coverage")
    }


def test_labels_with_more_scatter_widen_the_posterior(monkeypatch):
    """Where the truth scatters by more than was learned and there is no last lesson, the temperature rises and the loss falls."""
    monkeypatch.setattr(calibrating, "LEARNING_RATE", 0.0)
    net = small(conditions=False)
    net.calibrate(Scattered(seed=1), 1000, first=0, device="cpu", progress=False)
    found = net.calibration["temperatures"]["posterior"]
    assert found["temperature"] > 1 + 2 * found["error"] and found["gain"] > 0
    assert net.module.posterior.temperature == found["temperature"]


def test_report(net):
    report = net.calibration
    assert json.loads(json.dumps(report)) == report
    assert report["clusters"] + report["negatives"] == report["mocks"]["checked"] == 1000
    assert {row["parameter"] for row in report["coverage"]} == {*net.space.names, "visibility"} and len(report["coverage"]) == 10
    assert len(report["joint_coverage"]) == 9 and 0.5 < report["class"]["auc"] <= 1
    alarms = {row["mocks"]: row for row in report["domain"]}
    assert len(alarms) == 10
    for name in ("clusters", "others", "turned, with a sky that may be off", "with uncertain zero points", "with unknown pixels or bands"):
        assert alarms[name]["false_alarms"] < 0.01 + 5 * alarms[name]["error"]
    text = calibration_text(report)
    for words in ("temperature", "half_light_radius", "TARP", "area under the curve", "false alarms", "with unknown pixels or bands"):
        assert words in text
    assert "none" in calibration_text({})


def test_file(net, tmp_path):
    """The same answers from the file; files of before have no calibration."""
    net.save(tmp_path / "net.safetensors")
    again = ClusterNet.load(tmp_path / "net.safetensors")
    assert again.calibration == net.calibration
    assert again.module.cluster.temperature == net.module.cluster.temperature
    stamps = STREAM.batch(7000, 20)["pixels"].numpy() * RATE
    stamps[3, 0] = np.nan
    one, two = (each.predict(stamps, draws=5, nan="mask") for each in (net, again))
    np.testing.assert_allclose(one.typicality, two.typicality, rtol=1e-6)
    np.testing.assert_allclose(one.draws, two.draws, atol=1e-5)
    tensors, header = read_file(tmp_path / "net.safetensors")
    old = {name: tensor for name, tensor in tensors.items() if not name.startswith("domain.")}
    write_file(tmp_path / "old.safetensors", old, {name: header[name] for name in ("network", "contract", "training")}, half=True)
    before = ClusterNet.load(tmp_path / "old.safetensors")
    assert before.calibration == {} and before.predict(stamps, draws=5, nan="mask").typicality is None
    tensors.pop("domain.complete.texture.mean")
    write_file(tmp_path / "broken.safetensors", tensors, header)
    with pytest.raises(ValueError, match="broken.safetensors does not hold"):
        ClusterNet.load(tmp_path / "broken.safetensors")


def test_typicality(net):
    """Flagged are about one mock in a hundred, and stamps that are like none; of what is not known there is none."""
    stamps = STREAM.batch(9000, 500)["pixels"].numpy() * RATE
    estimate = net.predict(stamps, draws=2)
    flagged = estimate.flags & FLAGS["out of domain"] > 0
    assert np.array_equal(flagged, estimate.typicality <= 0.01)
    assert flagged.sum() <= 5 + 4 * 5**0.5
    assert abs(estimate.typicality.mean() - 0.5) < 0.1
    strange = net.predict(1000 * stamps, draws=2)
    assert (strange.flags & FLAGS["out of domain"] > 0).all() and strange.typicality.max() <= 4 / 500  # each view has a strangest mock
    stamps[:] = np.nan
    lost = net.predict(stamps[:3], draws=2, nan="mask")
    assert np.isnan(lost.typicality).all() and not (lost.flags & FLAGS["out of domain"]).any()


@pytest.mark.parametrize("error", [0.0, 0.2])
def test_imperfect_stamps_are_no_strangers(net, error):
    """Zero points that are as uncertain as is told, and a sky that is off by what the training had."""
    pixels, rng = STREAM.batch(9000, 500)["pixels"].numpy(), np.random.default_rng(4)
    sky = 0.25 * rng.standard_normal((500, 3, 1, 1)) * net.module.scales.numpy()[:, None, None]
    pixels = pixels * 10 ** (-0.4 * error * rng.standard_normal((500, 3, 1, 1))) + sky
    estimate = net.predict(pixels.astype(np.float32) * RATE, draws=2, zero_point_error=error * u.mag)
    assert np.isfinite(estimate.typicality).all() and np.mean(estimate.typicality <= 0.01) <= 0.03


def doubts(net, pixels):
    """The doubt in stamps of which nothing is told."""
    with torch.inference_mode():
        return net.domain.doubt.view(look(net.module, pixels, net.module(pixels)))[:, 0]


def told_apart(right, wrong):
    return auc(np.concatenate([wrong, right]), np.repeat([True, False], [len(wrong), len(right)]))


def test_doubt_in_zero_points(net):
    """The noise of these mocks is always the same, so that a wrong zero point shows; a network without calibration cannot care."""
    pixels = STREAM.batch(9000, 500)["pixels"]
    wrong = pixels * torch.tensor([1.0, 2.5, 1.0])[:, None, None]
    assert told_apart(doubts(net, pixels), doubts(net, wrong)) > 0.9
    renormalized = small(scaling="renormalized")
    renormalized.calibrate(STREAM, 200, first=0, device="cpu", progress=False)
    assert renormalized.domain.doubt is None


def test_predict_says_what_it_is_told(net, monkeypatch):
    """The domain hears of uncertain zero points and of exposures."""
    heard = []

    def spy(module, pixels, features, *told):
        heard.append(told)
        return look(module, pixels, features, *told)

    monkeypatch.setattr("clustercnn.network.net.look", spy)
    net.predict(STREAM.batch(9000, 4)["pixels"].numpy() * RATE, draws=2, zero_point_error=0.1 * u.mag)
    depth, error, powers = heard[0]
    assert depth.shape == (4, 3) and error.tolist() == [pytest.approx(0.1)] * 4 and powers.shape == (4, 3, 3)


class WidePSFs(FakeStream):
    """One whose PSFs can vary: every other stamp of a batch is blurred a little, and told to be."""

    scatter = 0.0

    def with_psf_scatter(self, scatter):
        stream = type(self)(self.seed)
        stream.scatter = scatter
        return stream

    def batch(self, start, size):
        batch = super().batch(start, size)
        wide = self.scatter * (torch.arange(size) % 2)
        blurred = 0.7 * batch["pixels"] + 0.3 * torch.nn.functional.avg_pool2d(batch["pixels"], 3, 1, 1, count_include_pad=False)
        pixels = torch.where(wide[:, None, None, None] > 0, blurred, batch["pixels"])
        return batch | {"pixels": pixels, "psf": wide[:, None, None].expand(-1, 3, 3).float()}


def test_doubt_in_psfs():
    """Of a network that knows one PSF only, too: mocks through others are made for it."""
    net = small(scaling="renormalized")
    stream = WidePSFs(seed=1)
    net.calibrate(stream, 1200, first=0, device="cpu", progress=False)
    right, wrong = (other.batch(9000, 500)["pixels"][1::2] for other in (stream, stream.with_psf_scatter(1.0)))
    assert told_apart(doubts(net, right), doubts(net, wrong)) > 0.7


def test_psfs_that_cannot_vary(net):
    """A stream that refuses is one that has one PSF."""

    class Stubborn(FakeStream):
        def with_psf_scatter(self, scatter):
            raise ValueError("not before these fields")

    again = copy.deepcopy(net)
    again.calibrate(Stubborn(seed=1), 2000, first=0, device="cpu", progress=False)
    assert again.calibration["domain"] == net.calibration["domain"]


def test_a_new_training_forgets(net, tmp_path):
    net.save(tmp_path / "net.safetensors")
    again = ClusterNet.load(tmp_path / "net.safetensors")
    again.fit(FakeStream(), samples=32, batch_size=32, validation_samples=0, progress=False, device="cpu", start=net)
    assert again.calibration == {} and again.domain is None and again.module.cluster.temperature == 1


def test_errors(net):
    with pytest.raises(ValueError, match="the stream has bands"):
        ClusterNet(bands=("F438W", "F814W"), shape=(24, 24)).calibrate(STREAM)
    with pytest.raises(ValueError, match="at least 10 clusters and 10 other stamps"):
        ClusterNet(shape=(24, 24)).calibrate(FakeStream(only_clusters=True), 64, progress=False, device="cpu")


def test_the_tool_that_teaches_visibilities(net, tmp_path, monkeypatch):
    """Nothing but the visibilities changes, and the report has their intervals; what it cannot teach it says before it starts."""
    path = Path(__file__).resolve().parents[1] / "tools" / "teach_visibility.py"
    if not path.exists():
        pytest.skip("the tools are not here")
    spec = importlib.util.spec_from_file_location("teach_visibility", path)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    for name, value in (("TEST", 300), ("CHECK", 300), ("fresh_mocks", lambda net, samples, seed: FakeStream(seed=seed))):
        monkeypatch.setattr(tool, name, value)

    def teach(model, samples):
        words = ["--model", str(model), "--samples", str(samples), "--seed", "6", "--out", str(tmp_path / "taught.safetensors")]
        monkeypatch.setattr("sys.argv", ["teach_visibility.py", *words])
        tool.main()

    net = copy.deepcopy(net)
    with torch.no_grad():
        net.module.visibility.out.bias += 0.5
    net.save(tmp_path / "off.safetensors")
    teach(tmp_path / "off.safetensors", 2000)
    before, after = (ClusterNet.load(tmp_path / f"{name}.safetensors") for name in ("off", "taught"))
    changed = {name for name, tensor in after.module.state_dict().items() if not torch.equal(tensor, before.module.state_dict()[name])}
    assert changed and all(name.startswith("visibility") for name in changed)
    assert after.calibration["visibility_lesson"]["stays"] and "on other mocks (seed 6" in calibration_text(after.calibration)
    rows = {name: [row for row in each.calibration["coverage"] if row["parameter"] != "visibility"] for name, each in (("b", before), ("a", after))}
    assert rows["a"] == rows["b"] and len(after.calibration["coverage"]) == len(rows["a"]) + 2
    small().save(tmp_path / "young.safetensors")
    for model, samples in (("young", 2000), ("off", 900)):
        with pytest.raises(SystemExit):
            teach(tmp_path / f"{model}.safetensors", samples)
