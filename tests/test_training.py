# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""The loop learns, and neither workers nor an interruption change what it learns."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from astropy import units as u
from astropy.table import QTable
from astropy.utils.exceptions import AstropyUserWarning
from fake_stream import FakeStream

from clustercnn.network import ClusterNet, TrainingHistory
from clustercnn.network.training import one_cycle

SHORT = {"batch_size": 16, "validation_samples": 32, "validate_every": 64, "progress": False, "device": "cpu"}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """More threads, or fewer beside workers, add the same numbers in another order, and AdamW magnifies the last digit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make(**keywords):
    return ClusterNet(shape=(24, 24), **keywords)


def weights(net):
    return torch.cat([p.detach().flatten() for p in net.module.parameters()])


@pytest.fixture(scope="module")
def reference():
    """An uninterrupted training."""
    net = make()
    return net, net.fit(FakeStream(), samples=160, **SHORT)


def test_history(reference):
    _, history = reference
    assert isinstance(history, TrainingHistory)
    assert history["samples"].tolist() == [64, 128, 160]
    assert history["time"].unit == u.s and history["rate"].unit == 1 / u.s
    assert history["learning_rate"][-1] < 2e-4
    assert np.all(np.isfinite(history["nll"])) and np.all((history["auc"] >= 0) & (history["auc"] <= 1))


@pytest.mark.parametrize("head", ["flow", "grid"])
def test_learns(head):
    net = make(head=head, conditions=False)
    history = net.fit(
        FakeStream(), samples=3200, **SHORT | {"batch_size": 32, "validate_every": 800, "validation_samples": 256}
    )
    assert history["nll"][-1] < (2.3 if head == "flow" else 2.9)  # the flat prior has 3.06
    assert history["auc"][-1] > 0.8
    assert net.training["validation"]["nll"] == history["nll"][-1]


def test_same_seed_same_weights_and_workers_do_not_matter(reference):
    net = make()
    net.fit(FakeStream(), samples=160, workers=1, **SHORT)
    assert torch.equal(weights(net), weights(reference[0]))


class Interrupting(FakeStream):
    """A stream that sends its own process a signal at one of its batches."""

    def __init__(self, number):
        super().__init__()
        self.number = number

    def batch(self, start, size):
        if start == 80:
            os.kill(os.getpid(), self.number)
        return super().batch(start, size)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interruption_and_resume(reference, tmp_path, number):
    path = tmp_path / "state"
    before, stopped = signal.getsignal(number), make()
    with pytest.raises(KeyboardInterrupt, match="after 96 samples"):
        stopped.fit(Interrupting(number), samples=160, checkpoint=path, **SHORT)
    assert signal.getsignal(number) is before
    assert not stopped.module.training  # it may be asked as it is
    net = make(rng=5)  # the checkpoint's weights count, not the new ones
    history = net.fit(FakeStream(), samples=160, checkpoint=path, **SHORT)
    assert torch.equal(weights(net), weights(reference[0]))
    assert history["samples"].tolist() == [64, 128, 160]
    for name in ("nll", "train_nll", "class_loss", "visibility_loss", "auc", "learning_rate"):
        assert history[name].tolist() == pytest.approx(reference[1][name].tolist())
    assert not path.exists()
    assert history.meta["augmented"]  # by numbers that depend on the step alone


def test_checkpoint_of_another_training(tmp_path):
    path = tmp_path / "state"
    with pytest.raises(KeyboardInterrupt):
        make().fit(Interrupting(signal.SIGINT), samples=160, checkpoint=path, **SHORT)
    with pytest.raises(ValueError, match="another training .different: learning_rate"):
        make().fit(FakeStream(), samples=160, checkpoint=path, learning_rate=1e-3, **SHORT)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        make().fit(FakeStream(), samples=160, checkpoint=path, **SHORT)


def test_checkpoints_by_time(tmp_path):
    path = tmp_path / "state"
    seen = []

    class Watching(FakeStream):
        def batch(self, start, size):
            seen.append(path.exists())
            return super().batch(start, size)

    make().fit(Watching(), samples=64, checkpoint=path, checkpoint_minutes=0, **SHORT | {"validation_samples": 0})
    assert seen == [False, False, True, True, True]  # the first one tells the noise of the mocks


def test_loss_that_is_not_finite():
    class Broken(FakeStream):
        def batch(self, start, size):
            batch = super().batch(start, size)
            if start == 32 and size == 16:
                batch["pixels"][3, 1, 5, 5] = np.nan
            return batch

    with pytest.raises(FloatingPointError, match="samples 32 to 47 .* 1 of these stamps"):
        make(conditions=False).fit(Broken(), samples=160, **SHORT)


def test_separate_validation_stream_and_one_class():
    history = make().fit(FakeStream(), samples=32, validation=FakeStream(seed=3, only_clusters=True), **SHORT)
    assert np.isnan(history["auc"][-1])


@pytest.mark.parametrize(
    ("keywords", "match"),
    [
        ({"samples": 0}, "samples must be"),
        ({"batch_size": 1}, "batch_size must be"),
        ({"patience": 0}, "patience must be at least 1"),
        ({"patience": 2, "validation_samples": 0}, "patience must be at least 1, and goes with validation_samples, not 2 and 0"),
    ],
)
def test_bad_arguments(keywords, match):
    with pytest.raises(ValueError, match=match):
        make().fit(FakeStream(), **{"samples": 32} | SHORT | keywords)


def test_folder_of_the_checkpoint(tmp_path):
    """Not found out after the first five minutes."""
    with pytest.raises(FileNotFoundError, match="nowhere/state cannot be written: there is no such folder"):
        make().fit(FakeStream(), samples=32, checkpoint=tmp_path / "nowhere" / "state", **SHORT)


def test_training_again():
    """A network goes on from its weights; its class knows the odds of the new mocks alone, and its provenance both trainings."""
    net = make()
    net.fit(FakeStream(), samples=64, **SHORT)
    before = weights(net)
    with pytest.raises(ValueError, match="samples must be"):
        net.fit(FakeStream(), samples=0, **SHORT)
    assert net.module.cluster.counts.sum() == 64  # as it was
    calibration, contract = net.calibration, net.contract
    with pytest.raises(ValueError, match="patience must be"):
        net.fit(FakeStream(only_clusters=True), samples=32, start=make(rng=5), patience=0, **SHORT)
    assert net.calibration == calibration and net.contract == contract and torch.equal(weights(net), before)
    net.calibration = calibration = {"date": "of before"}
    broken = FakeStream()
    broken.batch = lambda start, size: 1 / 0
    with pytest.raises(ZeroDivisionError):
        net.fit(broken, samples=32, **SHORT)
    assert net.calibration == calibration
    net.calibration = {}
    net.fit(FakeStream(only_clusters=True), samples=32, learning_rate=1e-6, **SHORT)
    assert (weights(net) - before).abs().max() < 1e-3
    assert net.module.cluster.counts.tolist() == [0, 32]
    assert net.training["samples"] == 32 and net.training["start"]["samples"] == 64
    assert repr(net).endswith("trained on 96 mocks>")


def test_stream_must_fit_the_network():
    with pytest.raises(ValueError, match="the stream has bands"):
        make().fit(FakeStream(bands=("F336W", "F814W", "F438W")), samples=32, **SHORT)
    with pytest.raises(ValueError, match="stamps of shape"):
        make().fit(FakeStream(shape=(32, 32)), samples=32, **SHORT)


def test_one_cycle():
    rates = [one_cycle(f) for f in np.linspace(0, 1, 101)]
    assert max(rates) == 1 and rates[0] == pytest.approx(0.04) and rates[-1] == pytest.approx(0, abs=1e-12)
    assert np.all(np.diff(rates[:11]) > 0) and np.all(np.diff(rates[10:]) < 0)


def test_patience_and_the_best_weights():
    """A training that gets worse stops, and ends with the weights of its best look."""
    net = make(conditions=False)
    looks = []

    class Worse(FakeStream):
        """After the first 64 mocks labels are wrong."""

        def batch(self, start, size):
            batch = super().batch(start, size)
            if 64 <= start < 2**40:
                batch["parameters"] = batch["parameters"].flip(0)
                batch["is_cluster"], batch["visibility"] = batch["is_cluster"].flip(0), batch["visibility"].flip(0)
            looks.append(start)
            return batch

    history = net.fit(Worse(), samples=6400, patience=3, learning_rate=2e-2, **SHORT | {"validation_samples": 256})
    total = history["nll"] + history["class_loss"] + 0.3 * history["visibility_loss"]
    best = int(np.argmin(total))
    assert history.meta["best_row"] == best and len(history) == best + 4 and history.meta["seen"] < 6400
    assert net.training["samples"] == history.meta["seen"] and net.training["validation"]["nll"] == history["nll"][best]
    from clustercnn.network.training import validate

    batches = [FakeStream().batch(2**40 + i, 16) for i in range(0, 256, 16)]
    assert validate(net.module, batches, torch.device("cpu"))["nll"] == pytest.approx(history["nll"][best], abs=1e-4)


def test_the_first_process_alone_loses_patience():
    """The others have not looked, so that after a resumption their best look would stay where it was."""
    from clustercnn.network.training import _Trainer

    for rank in (0, 1):
        trainer = _Trainer(make().module, 10, 16, 1e-3, 0.02, None, rank, 1, torch.device("cpu"))
        trainer.rows, trainer.best_row = [{}] * 5, 1
        assert trainer.looks_without_gain(3) == (rank == 0)


def test_half_precision_changes_little(monkeypatch):
    """And is given back to the device's own choice."""
    has_it = {"architecture": "x86_64", "avx512_bf16": True, "amx_bf16": False}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has_it, raising=False)
    nets = [make(conditions=False) for _ in range(2)]
    plain, half = (
        net.fit(FakeStream(), samples=640, precision=precision, **SHORT) for net, precision in zip(nets, ("float32", "bfloat16"))
    )
    assert 0 < abs(plain["nll"][-1] - half["nll"][-1]) < 0.2
    assert all(net.module.half_precision is None for net in nets)
    with pytest.raises(ValueError, match="precision must be one of .*'bfloat16'.*, not 'float16'"):
        make().fit(FakeStream(), samples=32, precision="float16", **SHORT)


def test_a_processor_without_half_precision(monkeypatch):
    """It would be slow, and says so."""
    lacks_it = {"architecture": "x86_64", "avx512_bf16": False, "amx_bf16": False}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: lacks_it, raising=False)
    with pytest.warns(AstropyUserWarning, match="no bfloat16 .* slower than precision 'float32'"):
        make(conditions=False).fit(FakeStream(), samples=16, precision="bfloat16", **SHORT)


def test_logs_for_tensorboard(tmp_path):
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        with pytest.raises(ImportError, match="pip install tensorboard"):
            make().fit(FakeStream(), samples=32, tensorboard=tmp_path, **SHORT)
        return
    make().fit(FakeStream(), samples=32, tensorboard=tmp_path, **SHORT)
    assert list(tmp_path.iterdir())


DISTRIBUTED = """
import os
import sys

import torch
from fake_stream import FakeStream
from clustercnn.network import ClusterNet

torch.set_num_threads(1)
net = ClusterNet(shape=(24, 24), rng=0)
history = net.fit(FakeStream(independent=True), samples=640, batch_size=32, validation_samples=64, validate_every=160, progress=False,
                  device="cpu")
if os.environ["RANK"] == "0":
    net.save(sys.argv[1])
    history.write(sys.argv[2])
"""


def test_two_processes_learn_as_one(tmp_path):
    """The same loss curve and the same weights, to the digits that the order of sums leaves."""
    script = tmp_path / "train.py"
    script.write_text(DISTRIBUTED)
    folders = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(folders), "OMP_NUM_THREADS": "1"}
    results = []
    with socket.socket() as found:
        found.bind(("localhost", 0))
        port = found.getsockname()[1]
    for processes in (1, 2):
        model, table = tmp_path / f"{processes}.safetensors", tmp_path / f"{processes}.ecsv"
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--master-port", str(port)]
        done = subprocess.run([*command, str(script), str(model), str(table)], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        results.append((ClusterNet.load(model), QTable.read(table)))
    (one, first), (two, second) = results
    assert (first.meta["processes"], second.meta["processes"]) == (1, 2)
    for name in ("train_nll", "nll", "class_loss"):
        np.testing.assert_allclose(first[name], second[name], rtol=1e-4, atol=1e-4)
    assert one.module.cluster.counts.tolist() == two.module.cluster.counts.tolist()


def test_batches_must_be_shared_out(monkeypatch):
    from contextlib import contextmanager

    from clustercnn.network import training

    @contextmanager
    def three(device):
        yield 0, 3, device

    monkeypatch.setattr(training, "distributed", three)
    with pytest.raises(ValueError, match="batch_size must be at least 2, and a multiple of the 3 processes, not 16"):
        make().fit(FakeStream(), samples=32, **SHORT)
