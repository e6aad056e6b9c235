# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Every head is a density: it integrates to one, its samples follow it, and knowing nothing it is the prior."""

import numpy as np
import pytest
import torch

from clustercnn.network.heads import ClassHead, FlowHead, GridHead, VisibilityGrid, VisibilityHead, to_probit
from clustercnn.parameters import ParameterSpace

SPACE = ParameterSpace.paper()
BOUNDS = torch.tensor(SPACE.bounds, dtype=torch.float32)
PRIOR_NLL = np.log(3.55 * 3 * 2 * 1)


@pytest.fixture(autouse=True)
def generator():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        yield torch.Generator().manual_seed(2)


def uniform(n, generator):
    return BOUNDS[:, 0] + torch.rand(n, 4, generator=generator) * (BOUNDS[:, 1] - BOUNDS[:, 0])


def make(kind, lively=True):
    head = FlowHead(8, BOUNDS, hidden=(32, 32)) if kind == "flow" else GridHead(8, BOUNDS, SPACE.bins)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.mul_(3.0 if lively else 0.0)
    return head


@pytest.mark.parametrize("kind", ["flow", "grid"])
def test_ignorance_is_the_flat_prior(kind, generator):
    head = make(kind, lively=False)
    nll = -head.log_prob(torch.randn(100, 8, generator=generator), uniform(100, generator))
    assert PRIOR_NLL == pytest.approx(3.06, abs=0.01)
    assert nll.detach().numpy() == pytest.approx(PRIOR_NLL, abs=1e-3)
    draws = head.sample(torch.zeros(50, 8), 200, generator)
    unit = head.to_unit(draws).flatten(0, 1).detach()
    assert unit.mean(0).numpy() == pytest.approx(0.5, abs=0.02)
    assert unit.std(0).numpy() == pytest.approx(12**-0.5, abs=0.01)


@pytest.mark.parametrize("kind", ["flow", "grid"])
def test_density_integrates_to_one(kind, generator):
    head = make(kind)
    features = torch.randn(1, 8, generator=generator)
    coordinates = uniform(20_000, generator)
    with torch.inference_mode():
        density = head.log_prob(features.expand(len(coordinates), -1), coordinates).exp() * np.exp(PRIOR_NLL)
    assert float(density.mean()) == pytest.approx(1.0, abs=5 * float(density.std()) / len(density) ** 0.5)


@pytest.mark.parametrize("kind", ["flow", "grid"])
def test_samples_follow_the_density(kind, generator):
    head = make(kind)
    features = torch.randn(1, 8, generator=generator)
    with torch.inference_mode():
        unit = head.to_unit(head.sample(features, 10_000, generator)[0])
        assert ((unit >= 0) & (unit <= 1)).all()
        coordinates = uniform(40_000, generator)
        weight = head.log_prob(features.expand(len(coordinates), -1), coordinates).exp()
        weight = weight / weight.sum()
    everywhere = head.to_unit(coordinates)
    expected = (everywhere * weight[:, None]).sum(0)
    assert unit.mean(0).numpy() == pytest.approx(expected.numpy(), abs=0.025)
    product = (everywhere[:, 0] * everywhere[:, 1] * weight).sum()
    assert float((unit[:, 0] * unit[:, 1]).mean()) == pytest.approx(float(product), abs=0.025)


def test_flow_transport_is_the_inverse_of_its_layers(generator):
    head = make("flow")
    features, normals = torch.randn(3, 8, generator=generator), torch.randn(3, 50, 4, generator=generator)
    with torch.inference_mode():
        plain = normals
        for layer in reversed(head.layers):
            plain = layer(features[:, None]).inv(plain)
        back = to_probit(head.to_unit(head.transport(features, normals)))
    assert torch.allclose(back, plain.clamp(-4.753, 4.753), atol=2e-2)


@pytest.mark.parametrize("kind", ["flow", "grid"])
def test_bounds_have_finite_density_and_gradient(kind):
    head = make(kind)
    features = torch.ones(2, 8, requires_grad=True)
    log_prob = head.log_prob(features, BOUNDS.T)
    log_prob.sum().backward()
    assert torch.isfinite(log_prob).all() and torch.isfinite(features.grad).all()


def test_flow_couples_every_pair():
    pairs = set()
    for layer in FlowHead(8, BOUNDS).layers:
        assert layer.passes == 2
        rows, columns = np.nonzero(layer.hyper[0].mask.numpy()[:, :4].any(0)[None])
        given = set(columns.tolist())
        pairs |= {(a, b) for a in set(range(4)) - given for b in given}
    assert len(pairs) == 12


def test_flow_needs_two_parameters():
    with pytest.raises(ValueError, match="at least 2"):
        FlowHead(8, BOUNDS[:1])


def test_grid_activation_and_loss(generator):
    head = make("grid")
    features = torch.randn(5, 8, generator=generator)
    cube = head.activation(features)
    assert cube.shape == (5, 20, 10, 14)
    assert cube.sum((1, 2, 3)).detach().numpy() == pytest.approx(1, abs=1e-5)
    # A posterior in the true cell is better than one beside it, and that better than one far away.
    truth = BOUNDS.mean(1)[None] + 1e-3
    losses = []
    for step in (0, 1, 6):
        with torch.no_grad():
            head.joint.weight.zero_()
            head.joint.bias.zero_()
            head.joint.bias.view(20, 10, 14)[10 - step, 5, 7] = 12.0
        losses.append(head.loss(features[:1], truth).item())
    assert losses[0] < losses[1] < losses[2]
    with torch.no_grad():
        head.joint.bias.zero_()
        head.last.weight.zero_()
        head.last.bias.zero_()
    assert head.loss(features[:1], truth).item() == pytest.approx(PRIOR_NLL, abs=1e-3)


def test_visibility_integrates_and_samples(generator):
    head = VisibilityHead(8, 4)
    features, unit = torch.randn(1, 8, generator=generator), torch.rand(1, 4, generator=generator)
    log = torch.linspace(-10, 15, 20_001)
    with torch.inference_mode():
        density = head.log_prob(features.expand(len(log), -1), unit.expand(len(log), -1), log.exp()).exp()
        inside = log > np.log(1e-3)
        step = float(log[1] - log[0])
        assert float(density[inside].sum()) * step == pytest.approx(1, abs=1e-3)
        mean = float((density * log)[inside].sum()) * step
        normals = torch.randn(1, 20_000, 2, generator=generator)
        draws = head.transport(features, unit[:, None].expand(-1, 20_000, -1), normals)
    assert draws.shape == (1, 20_000)
    assert float(draws.log().mean()) == pytest.approx(mean, abs=0.05)


def test_visibility_grid_integrates_and_samples(generator):
    head = VisibilityGrid(8)
    features = torch.randn(1, 8, generator=generator)
    log_visibility = torch.linspace(head.lowest, head.highest, 20_001)[:-1]
    density = head.log_prob(features.expand(20_000, -1), None, log_visibility.exp()).exp().detach()
    assert float(density.mean()) * (head.highest - head.lowest) == pytest.approx(1, abs=2e-3)
    draws = head.transport(features, None, torch.randn(1, 40_000, 2, generator=generator)).log().detach()
    mean = float((density * log_visibility).mean()) * (head.highest - head.lowest)
    assert float(draws.mean()) == pytest.approx(mean, abs=0.05)
    assert draws.min() >= head.lowest - 1e-4 and draws.max() <= head.highest + 1e-4
    assert torch.isfinite(head.log_prob(features.expand(2, -1), None, torch.tensor([1e-9, 1e9]))).all()


@pytest.mark.parametrize("hidden", [64, None])
def test_class_head_takes_off_the_odds_it_saw(hidden):
    head = ClassHead(8, hidden)
    features = torch.zeros(1, 8)
    before = head(features).item()
    head.count(torch.tensor([1.0] * 899 + [0.0] * 99))
    assert head(features).item() == pytest.approx(before - np.log(9), abs=1e-5)
