# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""ClusterNet at its edges: files, units, bands, scales, holes; its draws depend on source and seed alone."""

import time

import numpy as np
import pytest
import torch
from astropy import units as u
from astropy.modeling.models import Moffat2D
from astropy.nddata import CCDData
from astropy.utils.exceptions import AstropyUserWarning
from astropy.utils.masked import Masked
from astropy.wcs import WCS
from fake_stream import FakeStream

from clustercnn import MultiBandImage
from clustercnn.estimate import FLAGS
from clustercnn.instruments import Instrument
from clustercnn.network import ClusterNet
from clustercnn.network.modelfile import read_file, write_file
from clustercnn.psf import as_psf, hst_psf
from clustercnn.psf_powers import radial_transfer
from clustercnn.simulation import BackgroundFields, MockStream

RATE = u.electron / u.s
BANDS = ("F336W", "F438W", "F814W")
STREAM = FakeStream()


@pytest.fixture(scope="module", name="nets")
def fixture_nets():
    """One barely trained network of each kind."""
    nets = {}
    for head in ("flow", "grid"):
        for scaling in ("fixed", "renormalized"):
            net = ClusterNet(head=head, scaling=scaling, shape=(24, 24), conditions=False)
            net.fit(STREAM, samples=320, batch_size=32, validation_samples=32, progress=False, device="cpu")
            nets[head, scaling] = net
    return nets


@pytest.fixture(name="net")
def fixture_net(nets):
    return nets["flow", "fixed"]


@pytest.fixture(scope="module", name="stamps")
def fixture_stamps():
    return STREAM.batch(5000, 10)["pixels"].numpy() * RATE


def mosaic(bands=BANDS, pixel_scale=0.04, unit=RATE, factor=1.0, dtype=np.float32):
    """An image of noise, with a WCS."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval, wcs.wcs.crpix = [204.25, -29.87], [40, 30]
    wcs.wcs.cdelt = [-pixel_scale / 3600, pixel_scale / 3600]
    images = {}
    for band in bands:
        rng = np.random.default_rng(BANDS.index(band) if band in BANDS else 9)
        pixels = (factor * rng.normal(0.1, 0.05, (60, 80))).astype(dtype)
        images[band] = CCDData(pixels, unit=unit, wcs=wcs)
    return MultiBandImage(images)


NO_ANSWER = FLAGS["masked pixels"] | FLAGS["no answer"]
NO_BAND = NO_ANSWER | FLAGS["missing bands"]
POSITIONS = np.array([[30.2, 30.4], [40.3, 29.6], [50.1, 35.7]])


def test_repr_and_contract(net):
    text = repr(net)
    assert "flow head" in text and "fixed scaling" in text and "trained on 320 mocks" in text
    assert net.contract["pixel_scale"] == 0.04 and tuple(net.contract["bands"]) == BANDS
    assert set(net.training["versions"]) >= {"torch", "numpy", "zuko", "clustercnn"}
    assert isinstance(net.module, torch.nn.Module) and not isinstance(net, torch.nn.Module)


@pytest.mark.parametrize("kind", [("flow", "fixed"), ("grid", "renormalized")])
def test_save_and_load(nets, kind, stamps, tmp_path):
    net = nets[kind]
    path = tmp_path / "net.safetensors"
    net.save(path, extra={"seed": 1})
    again = ClusterNet.load(path)
    assert again.config == net.config and again.training["seed"] == 1
    assert again.space == net.space and again.bands == net.bands
    one, two = (n.predict(stamps, draws=50) for n in (net, again))
    # Half precision moves the answers by much less than their width.
    assert np.abs(one.draws - two.draws).mean() < 0.02 * one.draws.std()
    assert one.p_cluster == pytest.approx(two.p_cluster, abs=5e-3)
    again.save(path)
    assert np.array_equal(ClusterNet.load(path).predict(stamps, draws=50).draws, two.draws)


def test_failed_save_leaves_the_provenance(net, tmp_path):
    with pytest.raises(TypeError, match="cannot be written as JSON"):
        net.save(tmp_path / "net.safetensors", extra={"when": object()})
    assert "when" not in net.training


def test_resnet50_without_photometry_round_trip(tmp_path):
    stream = FakeStream(shape=(32, 32))
    net = ClusterNet(encoder="resnet50", photometry=False, shape=(32, 32))
    net.fit(stream, samples=16, batch_size=8, validation_samples=0, progress=False, device="cpu")
    net.save(tmp_path / "a.safetensors")
    stamps = stream.batch(0, 3)["pixels"].numpy() * RATE
    one, two = (n.predict(stamps, draws=20) for n in (net, ClusterNet.load(tmp_path / "a.safetensors")))
    assert np.abs(one.draws - two.draws).mean() < 0.02 * one.draws.std()


def test_load_refuses_weights_of_another_network(net, tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    monkeypatch.setitem(net.config, "head", "grid")
    net.save(path)
    with pytest.raises(ValueError, match="does not hold the weights"):
        ClusterNet.load(path)
    monkeypatch.delitem(net.config, "head")
    monkeypatch.setitem(net.config, "heads", "grid")
    net.save(path)
    with pytest.raises(ValueError, match="incomplete header"):
        ClusterNet.load(path)


def test_from_pretrained_lists_what_there_is():
    with pytest.raises(ValueError, match="name must be one of .* not 'm31'"):
        ClusterNet.from_pretrained("m31")


@pytest.mark.parametrize("head", ["flow", "grid"])
def test_draws_do_not_depend_on_the_batch(nets, head, stamps):
    net = nets[head, "fixed"]
    whole = net.predict(stamps, draws=30, rng=3)
    parts = net.predict(stamps, draws=30, rng=3, batch_size=3)
    # A cell of the grid may flip where a rounding error meets its edge.
    close = np.isclose(whole.draws, parts.draws, atol=1e-4)
    assert close.mean() > (0.999 if head == "grid" else 0.99999)
    assert np.array_equal(whole.draws, net.predict(stamps, draws=30, rng=3).draws)
    assert not np.array_equal(whole.draws, net.predict(stamps, draws=30, rng=4).draws)
    assert whole.visibility_draws == pytest.approx(parts.visibility_draws, rel=1e-2)


def test_sampling_is_cheap():
    net = ClusterNet()
    pixels = FakeStream(shape=(64, 64)).batch(0, 100)["pixels"]
    normals = torch.randn(100, 100, 6, generator=torch.Generator().manual_seed(0))
    spent = []
    with torch.inference_mode():
        for task in (lambda: net.module(pixels), lambda: net.module.say(net.module(pixels), normals)):
            task()
            began = time.process_time()
            task()
            spent.append(time.process_time() - began)
    assert spent[1] - spent[0] < 10 * spent[0]


def test_predict_stays_within_the_prior(net, stamps):
    estimate = net.predict(stamps, draws=100)
    lower, upper = net.space.bounds.T
    assert np.all((estimate.draws >= lower - 1e-5) & (estimate.draws <= upper + 1e-5))
    assert np.all(estimate.visibility_draws > 0)
    assert np.all((estimate.p_cluster >= 0) & (estimate.p_cluster <= 1))
    assert estimate.meta["draws"] == 100


def test_no_stamps(net):
    estimate = net.predict(np.zeros((0, 3, 24, 24)) * RATE)
    assert len(estimate) == 0 and len(estimate.to_table()) == 0


def test_units(net, nets, stamps):
    expected = net.predict(stamps, draws=20)
    same = net.predict((stamps * 60).value * u.electron / u.min, draws=20)
    assert np.allclose(expected.draws, same.draws, atol=1e-3)
    with pytest.raises(TypeError, match="Quantity of stamps such as array"):
        net.predict(stamps.value)
    with pytest.raises(u.UnitsError, match="electron / s"):
        net.predict(stamps.value * u.nJy)
    free = nets["flow", "renormalized"]
    one, two = free.predict(stamps, draws=20), free.predict((7 * stamps.value + 3) * u.dimensionless_unscaled, draws=20)
    assert np.allclose(one.draws, two.draws, atol=5e-3)


def test_big_endian(net, stamps):
    swapped = stamps.astype(">f4")
    assert np.array_equal(net.predict(swapped, draws=9).draws, net.predict(stamps, draws=9).draws)


def test_wrong_stamps(net, stamps):
    for bad in (stamps[:, :2], stamps[..., :20], stamps[0]):
        with pytest.raises(ValueError, match=r"must have shape \(n, 3, 24, 24\)"):
            net.predict(bad)
    with pytest.raises(ValueError, match="positions go with a MultiBandImage"):
        net.predict(stamps, POSITIONS)


def test_scale_and_distance(net, stamps):
    net.predict(stamps, pixel_scale=0.0396 * u.arcsec, distance=4.5 * u.Mpc, draws=2)
    net.predict(stamps, pixel_scale=0.04 * u.arcsec / u.pix, draws=2)
    with pytest.raises(ValueError, match="pixel scale is 0.05 arcsec per pixel, but the network was made for 0.04"):
        net.predict(stamps, pixel_scale=0.05 * u.arcsec)
    with pytest.raises(ValueError, match="distance is 10 Mpc, but"):
        net.predict(stamps, distance=10 * u.Mpc)
    with pytest.raises(TypeError, match="pixel_scale must be a Quantity"):
        net.predict(stamps, pixel_scale=0.04)
    with pytest.raises(ValueError, match="pixel scale is 0.05"):
        net.predict(mosaic(pixel_scale=0.05), POSITIONS)


def test_holes(net, stamps):
    broken = stamps.copy()
    broken[2, 1, 3:6, 4] = np.nan
    broken[7, 0] = np.nan
    with pytest.raises(ValueError, match='2 stamp.* number 2, .*nan="mask"'):
        net.predict(broken)
    estimate = net.predict(broken, nan="mask", batch_size=4)
    assert estimate.flags.tolist() == [0, 0, FLAGS["masked pixels"], 0, 0, 0, 0, NO_BAND, 0, 0]
    assert np.isnan(broken[2, 1, 3, 4])  # the caller's array is left alone
    with pytest.raises(ValueError, match="nan must be"):
        net.predict(stamps, nan="ignore")


def test_images_and_order_of_bands(net):
    images = mosaic()
    estimate = net.predict(images, POSITIONS, draws=20)
    stamps = images.cutouts(POSITIONS, (24, 24))
    assert np.array_equal(estimate.draws, net.predict(stamps, draws=20).draws)
    shuffled = mosaic(("F814W", "F555W", "F336W", "F438W"))
    assert np.allclose(net.predict(shuffled, POSITIONS, draws=20).draws, estimate.draws)
    sky = images.wcs.pixel_to_world(*POSITIONS.T)
    assert np.allclose(net.predict(images, sky, draws=20).draws, estimate.draws)
    with pytest.raises(ValueError, match=r"images lack the bands \['F438W'\]"):
        net.predict(mosaic(("F336W", "F814W")), POSITIONS)
    with pytest.raises(ValueError, match="positions must be given"):
        net.predict(images)
    with pytest.raises(ValueError, match='nan="mask"'):
        net.predict(images, [[8.0, 8.0]])
    at_edge = net.predict(images, [[8.0, 8.0], [2.0, 2.0]], nan="mask")
    assert at_edge.flags.tolist() == [FLAGS["masked pixels"], NO_ANSWER]
    for nan in ("raise", "mask"):
        with pytest.raises(ValueError, match=r"positions must lie on the image of 80 x 60 pixels; 1 do not, such as number 1 at \(-5.0, 20.0\)"):
            net.predict(images, [[8.0, 8.0], [-5.0, 20.0]], nan=nan)
    with pytest.raises(u.UnitsError, match="not 'electron': divide stamps by their exposures"):
        net.predict(stamps.value * u.electron)


def test_bands_that_the_network_does_not_need(net):
    """What they hold, and whether an instrument knows them, is of no interest."""
    images = mosaic()
    broken = CCDData(np.full((60, 80), np.nan), unit=RATE)
    more = MultiBandImage({"F275W": broken} | {band: images[band] for band in images.bands})
    expected = net.predict(images, POSITIONS, draws=5).draws
    assert np.array_equal(net.predict(more, POSITIONS, draws=5).draws, expected)


def test_no_answer_is_the_prior(net, stamps):
    broken = np.concatenate([stamps[:1]] * 3)
    broken[1, 2] = np.nan
    broken[2, 1, 12, 14] = np.nan
    estimate = net.predict(broken, draws=1000, nan="mask")
    assert estimate.flags.tolist() == [0, NO_BAND, NO_ANSWER]
    assert estimate.p_cluster[1:].tolist() == [0.5, 0.5] and np.isnan(estimate.visibility[1:]).all()
    unit = net.space.to_unit(estimate.draws[1:]).reshape(-1, 4)
    assert np.all(np.abs(unit.mean(axis=0) - 0.5) < 4 * np.sqrt(1 / 12 / 2000))
    assert np.allclose(estimate.draws[:1], net.predict(stamps[:1], draws=1000).draws, atol=1e-5)
    assert np.isnan(estimate.to_table()["visibility"][1])


def test_masked_stamps(net, stamps):
    masked = Masked(stamps, mask=np.zeros(stamps.shape, bool))
    assert np.array_equal(net.predict(masked, draws=5).draws, net.predict(stamps, draws=5).draws)
    masked.mask[3, :, 10:14, 10:14] = True
    with pytest.raises(ValueError, match="number 3, hold NaN, masked"):
        net.predict(masked)
    assert net.predict(masked, draws=5, nan="mask").flags.tolist() == [0, 0, 0, NO_ANSWER, 0, 0, 0, 0, 0, 0]


@pytest.mark.parametrize(("part", "name", "value"), [("network", "head", "mdn"), ("contract", "parameter_space", "unit")])
def test_header_of_another_network(net, tmp_path, part, name, value):
    """Whatever is wrong with the header, the message names the file."""
    path = tmp_path / "other.safetensors"
    net.save(path)
    tensors, header = read_file(path)
    if value == "unit":
        header["contract"]["parameter_space"]["parameters"][0]["unit"] = "foo"
    else:
        header[part][name] = value
    write_file(path, tensors, header)
    with pytest.raises(ValueError, match="other.safetensors has .* of another network"):
        ClusterNet.load(path)


def test_not_trained(stamps):
    with pytest.warns(AstropyUserWarning, match="not been trained"):
        ClusterNet(shape=(24, 24)).predict(stamps, draws=2)


def test_another_instrument():
    """Passbands, pixel scale and depth of an instrument are compared with those of the training."""
    net = ClusterNet.from_pretrained("m83")
    stamps = np.zeros((1, 3, 64, 64)) * RATE
    m83 = Instrument.from_name("HST/WFC3/UVIS/M83").to_dict()
    net.predict(stamps, draws=2, instrument=Instrument.from_dict(m83))
    deeper = Instrument.from_dict(m83 | {"exposure": m83["exposure"] | {"F438W": 8000}})
    with pytest.warns(AstropyUserWarning, match="F438W is exposed 4.3 times as deep"):
        net.predict(stamps, draws=2, instrument=deeper)
    coarse = Instrument.from_dict(m83 | {"pixel_scale": 0.05})
    with pytest.raises(ValueError, match="pixel scale is 0.05"):
        net.predict(stamps, instrument=coarse)
    other = Instrument.from_dict(m83 | {"passbands": m83["passbands"] | {"F814W": "ACS_WFC_F814W"}})
    with pytest.raises(ValueError, match="band F814W .* ACS_WFC_F814W, but the network was made for WFC3_UVIS_F814W"):
        net.predict(stamps, instrument=other)


def test_m83_takes_the_psf_into_account():
    """Clusters through PSFs of four fifths of the width are taken for less massive ones than they are, unless the network is told."""
    m83 = Instrument.from_name("HST/WFC3/UVIS/M83")
    net, n = ClusterNet.from_pretrained("m83"), 384
    psf = {band: as_psf(hst_psf(band, pixel_scale=0.05 * u.arcsec / u.pix).data) for band in net.bands}
    fields = BackgroundFields.discs(m83, n_fields=3, field_shape=(256, 256), rng=5, distance=4.5 * u.Mpc, psf=psf)
    batch = MockStream(net.space, m83, psf=psf, background=fields, rng=6, distance=4.5 * u.Mpc, positive_fraction=1.0).batch(0, n)
    seen = (batch["visibility"] > 20).numpy()
    truth = batch["parameters"][seen, 2].numpy()
    bias, held = {}, {}
    for name, told in (("untold", None), ("told", psf)):
        mass = net.predict(batch["pixels"].numpy() * RATE, draws=300, psf=told).draws[seen, :, 2]
        low, middle, high = np.percentile(mass, [16, 50, 84], axis=1)
        bias[name], held[name] = np.median(middle - truth), np.mean((low < truth) & (truth < high))
    assert bias["untold"] < -0.05 and abs(bias["told"]) < 0.03
    assert held["untold"] < 0.54 and abs(held["told"] - 0.68) < 4 * np.sqrt(0.68 * 0.32 / seen.sum())


def test_m83_knows_less_without_bands():
    """Where bands are missing the posteriors are wider, and hold the truth as often."""
    m83 = Instrument.from_name("HST/WFC3/UVIS/M83")
    net, n = ClusterNet.from_pretrained("m83"), 512
    fields = BackgroundFields.discs(m83, n_fields=3, field_shape=(256, 256), rng=7, distance=4.5 * u.Mpc)
    batch = MockStream(net.space, m83, background=fields, rng=8, distance=4.5 * u.Mpc, positive_fraction=1.0).batch(0, n)
    truth, widths = batch["parameters"].numpy(), []
    for missing in ([], [0], [1, 2]):
        pixels = batch["pixels"].numpy().copy()
        pixels[:, missing] = np.nan
        low, high = np.percentile(net.predict(pixels * RATE, draws=300, nan="mask").draws, [16, 84], axis=1)
        held = np.mean((low < truth) & (truth < high), axis=0)
        assert np.abs(held - 0.68).max() < 4 * np.sqrt(0.68 * 0.32 / n)
        widths.append(np.log(high - low))
    for growth in np.diff(widths, axis=0):
        assert np.all(growth.mean(axis=0) > 4 * growth.std(axis=0) / np.sqrt(n))


def test_zero_points(net, nets):
    instrument = Instrument.from_name("HST/WFC3/UVIS/M83")
    images = mosaic()
    steps = [instrument.zero_point(band).to_value(u.mag) - 24.0 for band in BANDS]
    stamps = images.cutouts(POSITIONS, (24, 24)) * (10 ** (-0.4 * np.array(steps)))[:, None, None]
    with_instrument = net.predict(images, POSITIONS, draws=20, instrument=instrument)
    assert np.allclose(with_instrument.draws, net.predict(stamps, draws=20).draws, atol=1e-3)
    maps = [nets["grid", "fixed"].activation_map(*where)[0] for where in ((images, POSITIONS), (stamps,))]
    told = nets["grid", "fixed"].activation_map(images, POSITIONS, instrument=instrument)[0]
    assert np.allclose(told, maps[1], rtol=1e-4, atol=0) and not np.allclose(*maps, rtol=1e-4, atol=0)
    with pytest.raises(ValueError, match="pixel scale is 0.08"):
        nets["grid", "fixed"].activation_map(stamps, pixel_scale=0.08 * u.arcsec)
    with pytest.raises(ValueError, match="nan must be 'raise' or 'mask', not 'fill'"):
        nets["grid", "fixed"].activation_map(stamps, nan="fill")


def test_activation_map(nets, stamps):
    cube, edges = nets["grid", "fixed"].activation_map(stamps)
    assert cube.shape == (10, 20, 10, 14)
    assert cube.sum(axis=(1, 2, 3)) == pytest.approx(1, abs=1e-5)
    assert list(edges) == ["age", "a_v", "mass"]
    assert edges["age"].unit.is_equivalent(u.yr) and len(edges["age"]) == 21
    with pytest.raises(ValueError, match="needs a network with head='grid'"):
        nets["flow", "fixed"].activation_map(stamps)
    # The draws follow the cube.
    estimate = nets["grid", "fixed"].predict(stamps, draws=2000)
    _, density = estimate.marginal("age")
    assert density * np.diff(np.log10(edges["age"].value)) == pytest.approx(cube.sum(axis=(2, 3)), abs=0.05)


@pytest.mark.parametrize(
    ("keywords", "match"),
    [
        ({"encoder": "vgg"}, "encoder must be one of"),
        ({"head": "mdn"}, "head must be one of"),
        ({"scaling": "log"}, "scaling must be one of"),
        ({"bands": ("F336W", "F336W")}, "different names"),
        ({"bands": ()}, "different names"),
        ({"scales": {"F999W": 1.0}}, "scales must be given"),
        ({"scales": {"F336W": 0.0}}, "scales must be positive numbers of electron/s per pixel, not 0.0 for F336W"),
        ({"scales": {"F336W": np.nan}}, "scales must be positive"),
        ({"scales": {"F336W": 0.01 * RATE}}, "scales must be positive numbers"),
        ({"shape": 64}, "shape must be two whole numbers of pixels .* not 64"),
        ({"shape": (64,)}, "shape must be two whole numbers"),
    ],
)
def test_bad_constructor(keywords, match):
    with pytest.raises(ValueError, match=match):
        ClusterNet(**keywords)


def test_scales_of_other_bands_come_from_the_stream(tmp_path):
    stream = FakeStream(bands=("F555W", "F814W"))
    net = ClusterNet(bands=stream.bands, shape=(24, 24))
    net.fit(stream, samples=32, batch_size=16, validation_samples=0, progress=False, device="cpu")
    assert net.config["scales"]["F814W"] == 0.05
    assert net.config["scales"]["F555W"] == pytest.approx(0.02, rel=0.2)
    net.save(tmp_path / "a.safetensors")
    assert ClusterNet.load(tmp_path / "a.safetensors").module.scales.tolist() == pytest.approx(
        list(net.config["scales"].values())
    )


def test_constructor_seed():
    one, two, three = (ClusterNet(shape=(24, 24), rng=seed).module.merge[0].weight for seed in (1, 1, 2))
    assert torch.equal(one, two) and not torch.equal(one, three)


class DeeperStream(FakeStream):
    """Blobs whose light is worth what the zero points say, exposed for longer and shorter."""

    def batch(self, start, size):
        batch = super().batch(start, size)
        generator = torch.Generator().manual_seed(start % 2**40 + 5)
        return batch | {"depth": 0.3 * (2 * torch.rand(size, 3, generator=generator) - 1)}


@pytest.fixture(scope="module", name="informed")
def fixture_informed():
    """A network that is told what it looks at, trained enough to see colours."""
    net = ClusterNet(shape=(24, 24))
    net.fit(DeeperStream(), samples=16000, batch_size=64, validation_samples=0, progress=False, device="cpu")
    net.contract |= {"exposure": dict.fromkeys(BANDS, 100.0), "depth_scatter": 0.3}
    return net


def test_what_is_unknown_changes_nothing(informed, stamps):
    """Pixels that are NaN may hold anything; a hole and a missing band are flagged and answered."""
    broken = stamps.copy()
    broken[2, 1, 3:6, 4] = np.nan
    broken[5, 1, 10:14, 10:14] = np.nan
    broken[7, 0] = np.nan
    broken[8] = np.nan
    estimate = informed.predict(broken, draws=50, nan="mask", batch_size=4)
    hole, band = FLAGS["masked pixels"], FLAGS["masked pixels"] | FLAGS["missing bands"]
    assert estimate.flags.tolist() == [0, 0, hole, 0, 0, hole, 0, band, NO_BAND, 0]
    assert np.isnan(broken[2, 1, 3, 4])  # the caller's array is left alone
    masked = Masked(broken.value.copy(), mask=np.isnan(broken.value)) * RATE
    np.testing.assert_array_equal(informed.predict(masked, draws=50, nan="mask", batch_size=4).draws[:8], estimate.draws[:8])
    with pytest.raises(ValueError, match='4 stamp.* number 2, .*nan="mask" to have them as unknown'):
        informed.predict(broken)


def test_images_may_lack_bands(informed):
    images = mosaic()
    less = mosaic(("F336W", "F814W"))
    estimate = informed.predict(less, POSITIONS, draws=20, nan="mask")
    assert set(estimate.flags) == {FLAGS["masked pixels"] | FLAGS["missing bands"]}
    stamps = images.cutouts(POSITIONS, (24, 24))
    stamps[:, 1] = np.nan
    np.testing.assert_array_equal(estimate.draws, informed.predict(stamps, draws=20, nan="mask").draws)
    with pytest.raises(ValueError, match=r"images lack the bands \['F438W'\]"):
        informed.predict(less, POSITIONS, draws=20)
    with pytest.raises(ValueError, match="images lack the bands"):
        informed.predict(mosaic(("F555W",)), POSITIONS, draws=20, nan="mask")


def exposed(seconds, **keywords):
    return Instrument("deep", BANDS, pixel_scale=0.04 * u.arcsec / u.pix, exposure=seconds * u.s, **keywords)


def test_depth(informed, stamps):
    """Exposures are taken into account; those beyond training warn and flag."""
    informed.contract.pop("instrument", None)
    zero_points = informed.contract["zero_points"]
    try:
        informed.contract["zero_points"] = None
        plain = informed.predict(stamps, draws=20)
        same, longer = (informed.predict(stamps, draws=20, instrument=exposed(time)) for time in (100, 180))
        np.testing.assert_array_equal(plain.draws, same.draws)
        assert np.abs(longer.draws - plain.draws).max() > 1e-3 and not longer.flags.any()
        with pytest.warns(AstropyUserWarning, match="is exposed 4 times as deep"):
            far = informed.predict(stamps, draws=20, instrument=exposed(400))
        assert set(far.flags) == {FLAGS["depth unlike training"]}
    finally:
        informed.contract["zero_points"] = zero_points


def moffat(width):
    return as_psf(Moffat2D(gamma=width, alpha=2.5))


def test_the_heads_learn_whether_the_psf_is_that_of_the_contract(informed):
    module = informed.module.eval()
    pixels = torch.randn(3, 3, 24, 24, generator=torch.Generator().manual_seed(1))
    powers = torch.zeros(3, 3, 3)
    powers[1, 2, 0], powers[2] = 0.05, 1e-5  # another one, and the own one with what a fit leaves
    with torch.inference_mode():
        untold, told = module(pixels), module(pixels, psf=powers)
    torch.testing.assert_close(told[[0, 2]], untold[[0, 2]], atol=1e-3, rtol=0)
    assert (untold[:, -1] > 0).all() and (told[:, -1] > 0).tolist() == [True, False, True]


def test_psf(informed, stamps):
    """That of the training changes nothing, another is taken into account if training had several; those beyond warn and flag."""
    own, wider = (dict.fromkeys(BANDS, moffat(width)) for width in (1.5, 1.7))
    informed.contract |= {"psf_scatter": 0.3, "psf_transfer": {band: radial_transfer(psf).tolist() for band, psf in own.items()}}
    try:
        plain, same, wide = (informed.predict(stamps, draws=20, psf=psf) for psf in (None, own, wider))
        np.testing.assert_allclose(same.draws, plain.draws, atol=1e-5)
        assert np.abs(wide.draws - plain.draws).max() > 1e-3 and not wide.flags.any()
        one = informed.predict(stamps, draws=20, psf={"F438W": wider["F438W"]})
        assert np.abs(one.draws - plain.draws).max() > 1e-4 and np.abs(one.draws - wide.draws).max() > 1e-4
        with pytest.warns(AstropyUserWarning, match="the PSF of F336W is 1.6 times as wide"):
            far = informed.predict(stamps, draws=20, psf={"F336W": moffat(3.0)})
        assert set(far.flags) == {FLAGS["PSF unlike training"]}
        informed.contract["psf_scatter"] = 0.0  # a training with one PSF can make nothing of another
        with pytest.warns(AstropyUserWarning, match="the PSF of F336W is 1.1 times as wide"):
            deaf = informed.predict(stamps, draws=20, psf=wider)
        np.testing.assert_array_equal(deaf.draws, plain.draws)
        assert set(deaf.flags) == {FLAGS["PSF unlike training"]}
        del informed.contract["psf_transfer"]
        with pytest.raises(ValueError, match="psf cannot be told to this network, which does not say for which PSF it was made"):
            informed.predict(stamps, draws=20, psf=own)
    finally:
        for name in ("psf_scatter", "psf_transfer"):
            informed.contract.pop(name, None)
    with pytest.raises(TypeError, match="psf must be a dict of band -> PSF"):
        informed.predict(stamps, draws=20, psf=moffat(1.5))


def test_electrons_make_the_depth(informed, stamps):
    """A detector that catches twice the electrons in half the time sees the same: pixels twice as bright, of the same depth."""
    instruments = [exposed(50, zero_points=dict.fromkeys(BANDS, (24 + 2.5 * np.log10(2)) * u.mag)), exposed(100, zero_points=24 * u.mag)]
    informed.contract.pop("instrument", None)
    plain = informed.predict(stamps, draws=20)
    twice, same = (informed.predict(n * stamps, draws=20, instrument=instrument) for n, instrument in zip((2, 1), instruments))
    np.testing.assert_allclose(same.draws, plain.draws, atol=1e-4)
    np.testing.assert_allclose(twice.draws, plain.draws, atol=1e-3)


def test_zero_point_errors(informed, nets, stamps):
    plain, unsure = (informed.predict(stamps, draws=20, zero_point_error=error * u.mag) for error in (0, 0.2))
    assert np.abs(plain.draws - unsure.draws).max() > 1e-3
    for value, error, message in [
        (0.1, TypeError, "zero_point_error must be a Quantity"),
        (0.5 * u.mag, ValueError, "zero_point_error must be one number from 0 to 0.3 mag"),
        (-0.1 * u.mag, ValueError, "zero_point_error must be one number"),
        ([0.1, 0.2] * u.mag, ValueError, "zero_point_error must be one number"),
    ]:
        with pytest.raises(error, match=message):
            informed.predict(stamps, zero_point_error=value)
    with pytest.raises(ValueError, match="zero_point_error goes with a network that has conditions"):
        nets["flow", "fixed"].predict(stamps, zero_point_error=0.1 * u.mag)


def test_informed_networks_come_back(informed, stamps, tmp_path):
    informed.save(tmp_path / "net.safetensors")
    again = ClusterNet.load(tmp_path / "net.safetensors")
    assert again.config == informed.config and again.contract["background_rms"] == informed.contract["background_rms"]
    assert all(0.01 < low < high < 0.05 for low, high in again.contract["background_rms"].values())
    np.testing.assert_allclose(again.predict(stamps, draws=5).draws, informed.predict(stamps, draws=5).draws, atol=0.02)


def test_fine_tuning(informed, nets):
    """A network goes on from another one; the odds of the new mix count."""
    net = ClusterNet(shape=(24, 24), rng=7)
    settings = {"batch_size": 32, "learning_rate": 1e-4, "validation_samples": 256, "progress": False, "device": "cpu"}
    history = net.fit(DeeperStream(seed=4), samples=64, start=informed, **settings)
    lost = ClusterNet(shape=(24, 24), rng=7).fit(DeeperStream(seed=4), samples=64, **settings)
    assert history["nll"][-1] < lost["nll"][-1] - 0.5
    assert net.module.cluster.counts.sum() == 64 and net.training["start"]["samples"] == 16000
    renormalized = ClusterNet(shape=(24, 24), rng=7, scaling="renormalized")
    renormalized.fit(DeeperStream(seed=4), samples=32, start=informed, **settings)
    assert renormalized.config["scaling"] == "renormalized" and renormalized.training["start"]["samples"] == 16000
    with pytest.raises(ValueError, match="start must be a network like this one"):
        ClusterNet(shape=(24, 24)).fit(STREAM, samples=32, start=nets["flow", "fixed"], progress=False, device="cpu")
    with pytest.raises(TypeError, match="start must be a ClusterNet, such as .*, not 'm83'"):
        ClusterNet(shape=(24, 24)).fit(STREAM, samples=32, start="m83", progress=False, device="cpu")


def test_the_papers_network():
    """Four parallel softmax groups read the 1024 features: 2800, 14, 2 and 20 units, and nothing stands in between."""
    module = ClusterNet(encoder="resnet50", head="grid", photometry=False, conditions=False).module
    groups = [module.posterior.joint, module.posterior.last, module.cluster.layers, module.visibility.out]
    assert [(group.in_features, group.out_features) for group in groups] == [(1024, 2800), (1024, 14), (1024, 2), (1024, 20)]
    assert not list(module.merge.parameters())
    linear = sum(p.numel() for group in groups for p in group.parameters())
    encoder = sum(p.numel() for p in module.encoder.parameters())
    assert sum(p.numel() for p in module.parameters()) == linear + encoder


def test_an_instrument_of_the_bands_there_are(informed):
    """Images without a band go with an instrument that lacks it too."""
    known = {band: zero_point * u.mag for band, zero_point in informed.contract["zero_points"].items()}
    both, stamps_of = exposed(60, zero_points=known), mosaic(("F336W", "F814W"))
    fewer = Instrument("deep", ("F336W", "F814W"), pixel_scale=0.04 * u.arcsec / u.pix, exposure=60 * u.s,
                       zero_points={band: known[band] for band in ("F336W", "F814W")})
    one, two = (informed.predict(stamps_of, POSITIONS, draws=20, nan="mask", instrument=instrument) for instrument in (both, fewer))
    np.testing.assert_array_equal(one.draws, two.draws)
    with pytest.raises(ValueError, match="deep has no band 'F438W'"):
        informed.predict(mosaic(), POSITIONS, draws=20, instrument=fewer)


def test_exposures_in_the_headers_are_read(informed):
    images = mosaic()
    for band in BANDS:
        images[band].meta["EXPTIME"] = "120" if band == "F336W" else 500.0
    with pytest.warns(AstropyUserWarning, match="the network .*EXPTIME of F438W is 500 s, not 100 s; .*F814W is 500 s.*instrument="):
        informed.predict(images, POSITIONS, draws=20)


def test_headers_are_held_against_the_instrument():
    net, m83 = ClusterNet.from_pretrained("m83"), Instrument.from_name("HST/WFC3/UVIS/M83")
    images = mosaic()
    for band in BANDS:
        images[band].meta["EXPTIME"] = m83.exposure(band).value
    net.predict(images, POSITIONS, draws=2, nan="mask", instrument=m83)
    images["F814W"].meta["EXPTIME"] = 600.0
    with pytest.warns(AstropyUserWarning, match=r"contradict .* HST/WFC3/UVIS/M83 \(EXPTIME of F814W is 600 s, not 1203 s\): .*from_header"):
        net.predict(images, POSITIONS, draws=2, nan="mask", instrument=m83)
    given = Instrument.from_dict(m83.to_dict() | {"exposure": m83.to_dict()["exposure"] | {"F438W": 1881.0}})
    net.predict(images, POSITIONS, draws=2, nan="mask", instrument=given)  # comes before the headers


def test_bands_of_zeros_are_missing(informed, stamps):
    zeros, lost = stamps[:3].copy(), stamps[:3].copy()
    zeros[:, 1], lost[:, 1] = 0, np.nan
    expected = informed.predict(lost, draws=20, nan="mask")
    found = informed.predict(zeros, draws=20, nan="mask")
    np.testing.assert_array_equal(found.draws, expected.draws)
    np.testing.assert_array_equal(found.flags, expected.flags)
    assert np.all(zeros[:, 1] == 0)  # the caller's array is left alone


def test_zero_points_and_filters_in_the_headers_are_read(informed):
    """The network of these tests has zero points of 24 mag; PHOTFLAM below makes F438W one of 25.0 mag (Vega)."""
    images = mosaic()
    images["F438W"].meta |= {"INSTRUME": "WFC3", "DETECTOR": "UVIS", "FILTER": "F438W", "PHOTFLAM": 6.7475e-19, "PHOTPLAM": 4326.2}
    with pytest.raises(ValueError, match=r"PHOTFLAM of F438W makes a zero point of 2(4\.9|5\.0)\d mag, not 24\.00 mag.*instrument="):
        informed.predict(images, POSITIONS, draws=20)
    images["F438W"].meta["FILTER"] = "F555W"
    with pytest.raises(ValueError, match="the header given for F438W says FILTER = F555W"):
        informed.predict(images, POSITIONS, draws=20)
    images["F438W"].meta |= {"FILTER": "F438W", "PHOTFLAM": 0.0}  # which says nothing
    with pytest.warns(AstropyUserWarning, match="PHOTFLAM = 0 in the header of F438W"):
        informed.predict(images, POSITIONS, draws=20)


def test_pixel_scales_that_contradict_the_images(informed):
    with pytest.raises(ValueError, match="the pixel scale is 0.05 arcsec per pixel, but the network was made for 0.04"):
        informed.predict(mosaic(), POSITIONS, draws=20, pixel_scale=0.05 * u.arcsec)
    with pytest.raises(TypeError, match="pixel_scale must be a Quantity"):
        informed.predict(mosaic(), POSITIONS, draws=20, pixel_scale=0.04)


def test_what_is_no_image_is_told_so(informed):
    with pytest.raises(TypeError, match=r"images must be a MultiBandImage, as MultiBandImage.read\(.* not a dict"):
        informed.predict(dict(mosaic()), POSITIONS)
    with pytest.raises(TypeError, match=r'instrument must be an Instrument, such as Instrument.from_name\(.* not \'HST'):
        informed.predict(mosaic(), POSITIONS, instrument="HST/WFC3/UVIS/M83")


def test_a_refused_calibration_changes_nothing(stamps):
    net = ClusterNet(shape=(24, 24))
    net.fit(STREAM, samples=320, batch_size=32, validation_samples=32, progress=False, device="cpu")
    net.calibrate(STREAM, samples=400, progress=False)
    before = net.predict(stamps, draws=5)
    for samples, message in ((0, "samples must be at least 40"), (41, "10 clusters and 10 other stamps")):
        with pytest.raises(ValueError, match=message):
            net.calibrate(FakeStream(only_clusters=True), samples=samples, progress=False)
    assert net.calibration and net.domain is not None
    after = net.predict(stamps, draws=5)
    np.testing.assert_array_equal(after.draws, before.draws)
    np.testing.assert_array_equal(after.typicality, before.typicality)


def test_pixels_that_cannot_be(net, stamps):
    strange = stamps.copy()
    strange[2, 1, 3, 3] = 1e20 * RATE
    with pytest.raises(ValueError, match="the first of them number 2, .* beyond 1e.15"):
        net.predict(strange)
    estimate = net.predict(strange, draws=5, nan="mask")
    assert estimate.flags[2] & FLAGS["masked pixels"] and np.isfinite(estimate.draws).all()
