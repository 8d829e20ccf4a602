from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fieldtune.errors import UserError
from zoo.frames import UNKNOWN_CLASS, Frame, Frames
from zoo.prepare import label
from zoo.scenes import STEERING, render
from zoo.scenes.steering import MIRRORED
from zoo.task import Task

torch = pytest.importorskip("torch", reason="torch is not installed; pip install 'fieldtune[torch]'")
from zoo.export import multitask_task  # noqa: E402
from zoo.networks.multitask import CHANNELS, MultiTaskNet  # noqa: E402
from zoo.pretrain import WEIGHTS, balance, main, steering_views  # noqa: E402
from zoo.training import flat  # noqa: E402
from zoo.training.augment import Views, mirrored, recolour  # noqa: E402
from zoo.training.balance import Balance, FixedWeights, Uncertainty  # noqa: E402
from zoo.training.loop import Schedule, backward, train  # noqa: E402
from zoo.training.losses import task_losses  # noqa: E402
from zoo.training.pool import Batch, Pool, pool  # noqa: E402

TASK = multitask_task(tuple(CHANNELS))
SIDE = 48
VIEWS = steering_views(TASK)


@pytest.fixture(scope="module")
def frames() -> Pool:
    """Eight frames of a room with all labels."""
    torch.set_num_threads(1)
    return pool(render("room", 7, 56)[::7], TASK, SIDE)


def _network(heads: tuple[str, ...] = tuple(CHANNELS)) -> MultiTaskNet:
    torch.manual_seed(0)
    return MultiTaskNet(heads, 0.5)


def _alike(task: Task) -> FixedWeights:
    return FixedWeights({spec.name: 1.0 for spec in task.outputs})


def _batch(frames: Pool) -> Batch:
    return frames.batch(np.arange(len(frames)))


def test_a_pool_has_the_labels_that_boards_would_get(frames: Pool) -> None:
    rendered = render("room", 7, 56)[::7]
    for spec, channels in zip(TASK.outputs, CHANNELS.values(), strict=True):
        side = 1 if spec.name == "steer" else SIDE
        for number in (0, 5):
            truth = replace(spec, labels="truth")
            expected = label(rendered[number], truth, (side, side, channels), rendered.geometry)
            assert expected is not None
            np.testing.assert_allclose(
                frames.labels[spec.name][number].transpose(1, 2, 0), expected[0], rtol=1e-6
            )
            np.testing.assert_array_equal(frames.masks[spec.name][number].transpose(1, 2, 0), expected[1])


def test_what_a_frame_does_not_tell_is_masked() -> None:
    rgb = np.zeros((SIDE, SIDE, 3), np.uint8)
    frame = Frame(
        rgb,
        np.zeros((SIDE, SIDE), np.float32),
        np.full((SIDE, SIDE), UNKNOWN_CLASS, np.uint8),
        target=np.array([np.nan], np.float32),
    )
    masked = pool(Frames.of([frame]), TASK, SIDE)
    assert not any(mask.any() for mask in masked.masks.values())


def test_mirrored_frames_have_mirrored_labels(frames: Pool) -> None:
    batch = _batch(frames)
    batch.masks["disparity"][:, :, :, :5] = 0
    which = torch.arange(len(frames)).reshape(-1, 1, 1, 1) % 2 == 1
    turned = mirrored(batch, TASK, which, {"steer": MIRRORED})
    for name in ("disparity", "segments"):
        assert torch.equal(turned.labels[name][1], batch.labels[name][1].flip(2))
        assert torch.equal(turned.labels[name][0], batch.labels[name][0])
    assert torch.equal(turned.inputs["image"][1], batch.inputs["image"][1].flip(2))
    assert turned.masks["disparity"][0].sum() == turned.masks["disparity"][1].sum() == SIDE * (SIDE - 5)
    assert not turned.masks["disparity"][1, :, :, -5:].any()
    names = [[STEERING[int(k)] for k in each.labels["steer"].flatten()] for each in (batch, turned)]
    assert set(names[0][1::2]) & {"left", "right"}
    swap = {"left": "right", "right": "left"}
    assert names[1][1::2] == [swap.get(name, name) for name in names[0][1::2]]
    assert names[1][::2] == names[0][::2]


def test_a_class_whose_mirrored_meaning_is_not_known_is_masked(frames: Pool) -> None:
    which = torch.arange(len(frames)).reshape(-1, 1, 1, 1) % 2 == 1
    turned = mirrored(_batch(frames), TASK, which, {})
    assert turned.masks["steer"][::2].all()
    assert not turned.masks["steer"][1::2].any()
    assert turned.masks["segments"][1::2].any()


def test_inputs_of_another_scale_are_recoloured_as_the_same_pictures(frames: Pool) -> None:
    batch = _batch(frames)
    scaled = replace(TASK, inputs=(replace(TASK.inputs[0], scale=2 / 255, bias=-1.0),))
    shown = Batch({"image": batch.inputs["image"] * 2 - 1}, batch.labels, batch.masks)
    found = Views(scaled, swaps=VIEWS.swaps)(shown, np.random.default_rng(1)).inputs["image"]
    expected = VIEWS(batch, np.random.default_rng(1)).inputs["image"]
    torch.testing.assert_close(found, expected * 2 - 1, rtol=0, atol=1e-5)


def test_recoloured_images_stay_in_range_and_differ(frames: Pool) -> None:
    image = _batch(frames).inputs["image"]
    changed = recolour(image, np.random.default_rng(0))
    assert 0 <= changed.min() <= changed.max() <= 1
    assert ((changed - image).abs().mean((1, 2, 3)) > 0.01).all()


def _gradients(task: Task, batch: Batch, balance: Balance, rho: float = 0.0) -> dict[str, torch.Tensor]:
    network = _network().train()
    for head in tuple(network.heads):
        if head not in {spec.name for spec in task.outputs}:
            del network.heads[head]
    backward(network, task, batch, balance, rho)
    return {name: p.grad for name, p in network.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("rho", [0.0, 1.0])
@pytest.mark.parametrize("kind", ["fixed", "uncertainty"])
def test_a_task_without_labels_adds_nothing(frames: Pool, kind: str, rho: float) -> None:
    batch = _batch(frames)
    masks = {**batch.masks, "segments": torch.zeros_like(batch.masks["segments"])}
    balance = Uncertainty(TASK) if kind == "uncertainty" else _alike(TASK)
    without = multitask_task(("disparity", "steer"))
    found = _gradients(TASK, Batch(batch.inputs, batch.labels, masks), balance, rho)
    expected = _gradients(
        without, batch, Uncertainty(without) if kind == "uncertainty" else _alike(without), rho
    )
    assert expected["encoder0.0.conv.weight"].any()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-7)
    assert not any(gradient.any() for name, gradient in found.items() if "segments" in name)
    if isinstance(balance, Uncertainty):
        assert balance.log_variances["segments"].grad == 0
        assert balance.log_variances["steer"].grad != 0


def test_uncertainty_weighs_a_task_by_the_inverse_of_its_loss() -> None:
    """At the log-variances that are best for given losses, every task's weight times its loss is a half."""
    balance = Uncertainty(TASK)
    losses = {"disparity": torch.tensor(0.05), "segments": torch.tensor(0.8), "steer": torch.tensor(2.0)}
    start = {name: balance(name, loss, torch.tensor(1.0)).item() for name, loss in losses.items()}
    assert start == pytest.approx(
        {"disparity": 0.025, "segments": 0.8, "steer": 2.0}
    )  # regressions count half
    optimizer = torch.optim.Adam(balance.parameters(), 0.05)
    for _ in range(400):
        optimizer.zero_grad()
        sum(balance(name, loss, torch.tensor(1.0)) for name, loss in losses.items()).backward()
        optimizer.step()
    for name, loss in losses.items():
        s = balance.log_variances[name].detach()
        assert (balance(name, loss, torch.tensor(1.0)) - s / 2).item() == pytest.approx(0.5, rel=0.02)


def test_fixed_weights_are_the_recipes_where_none_is_given() -> None:
    weighed = balance(TASK, weights={"steer": 3.0})
    one = torch.tensor(1.0)
    found = {name: weighed(name, one, one).item() for name in CHANNELS}
    assert found == {**WEIGHTS, "steer": 3.0}


def test_gradients_in_flat_regions_are_taken_at_each_tasks_own_perturbed_weights() -> None:
    network = torch.nn.Linear(3, 2, bias=False).double()
    x = torch.tensor([1.0, -2.0, 0.5]).double()
    factors = {"one": 2.0, "two": 0.5}

    def losses() -> Mapping[str, torch.Tensor]:
        y = network(x)
        return {"one": y[0] ** 2 + y[1] ** 4, "two": (y[0] * y[1]).exp()}

    start = network.weight.detach().clone()
    expected = torch.zeros_like(start)
    for name, factor in factors.items():
        (g,) = torch.autograd.grad(losses()[name], network.weight)
        eps = 0.3 * start**2 * g / torch.linalg.norm(start.abs() * g)
        with torch.no_grad():
            network.weight.add_(eps)
        (there,) = torch.autograd.grad(losses()[name], network.weight)
        expected += factor * there
        with torch.no_grad():
            network.weight.copy_(start)
    before = losses()
    plain = sum(factor * before[name] for name, factor in factors.items())
    (there,) = torch.autograd.grad(plain, network.weight)
    assert not torch.allclose(expected, there, rtol=0.05)
    found = flat.backward(network, losses, lambda name, loss: factors[name] * loss, 0.3)
    torch.testing.assert_close(network.weight.grad, expected)
    assert torch.equal(network.weight, start)
    assert {name: loss.item() for name, loss in found.items()} == {
        n: loss.item() for n, loss in before.items()
    }


def test_flat_training_leaves_weights_and_sees_the_batch_once(frames: Pool) -> None:
    plain, perturbed = _network().train(), _network().train()
    for network, rho in ((plain, 0.0), (perturbed, 1.0)):
        backward(network, TASK, _batch(frames), _alike(TASK), rho)
    for (name, one), other in zip(plain.state_dict().items(), perturbed.state_dict().values(), strict=True):
        if not name.endswith("tracked"):
            torch.testing.assert_close(one, other, msg=name)
    differs = [
        not torch.allclose(p.grad, q.grad, rtol=1e-2)
        for p, q in zip(plain.parameters(), perturbed.parameters(), strict=True)
    ]
    assert sum(differs) > len(differs) / 2


@pytest.mark.parametrize("rho", [0.0, 1.0])
def test_the_same_seed_gives_the_same_weights_and_another_other_ones(frames: Pool, rho: float) -> None:
    def trained(seed: int) -> list[torch.Tensor]:
        network = _network()
        train(network, TASK, frames, Schedule(2, 1e-3, batch=4, flat=rho), Uncertainty(TASK), seed, VIEWS)
        return list(network.state_dict().values())

    first, again, other = trained(1), trained(1), trained(2)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_training_is_adam_on_mirrored_and_recoloured_batches_with_a_cosine(
    frames: Pool,
) -> None:
    network, expected = _network(), _network()
    train(network, TASK, frames, Schedule(2, 1e-3, batch=4), _alike(TASK), 3, VIEWS)
    optimizer = torch.optim.Adam(expected.train().to(memory_format=torch.channels_last).parameters())
    rng = np.random.default_rng(3)
    for step in range(4):
        if step % 2 == 0:
            order = rng.permutation(8)
        batch = frames.batch(order[step % 2 * 4 : step % 2 * 4 + 4])
        which = torch.from_numpy(rng.random((4, 1, 1, 1)) < 0.5)
        batch = mirrored(batch, TASK, which, {"steer": MIRRORED})
        outputs = dict(zip(CHANNELS, expected(recolour(batch.inputs["image"], rng)), strict=True))
        optimizer.param_groups[0]["lr"] = 1e-3 * (0.5 + 0.5 * np.cos(np.pi * step / 4))
        optimizer.zero_grad()
        sum(task_losses(TASK, outputs, batch.labels, batch.masks).values()).backward()
        optimizer.step()
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(network.state_dict()[name], value, msg=name)


def test_training_lowers_every_tasks_loss(frames: Pool) -> None:
    network = _network()
    totals = []
    for _ in range(2):
        totals.append(backward(network.train(), TASK, _batch(frames), _alike(TASK), 0.0))
        train(network, TASK, frames, Schedule(15, 5e-3, batch=4), Uncertainty(TASK), 0, VIEWS)
    assert all(totals[1][name] < 0.97 * totals[0][name] for name in CHANNELS)


def test_a_pool_smaller_than_a_batch_is_refused(frames: Pool) -> None:
    with pytest.raises(UserError, match="8 frames are fewer than a batch of 32"):
        train(_network(), TASK, frames, Schedule(1, 1e-3, batch=32), _alike(TASK), 0, VIEWS)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("multitask", "--heads", "normals"), "no head normals"),
        (("multitask", "--weights", "steer=0"), "'0' is no number above 0"),
        (("multitask", "--balance", "fixed", "--weights", "sky=1"), "--weights names sky"),
        (("multitask", "--rooms", "0"), "'0' is no whole number above 0"),
        (("resnet8", "--heads", "steer"), "unrecognized arguments: --heads"),
    ],
)
def test_the_command_answers_bad_input_with_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], complaint: str
) -> None:
    try:
        code = main([*arguments, "--out", str(tmp_path / "x.pth")])
    except SystemExit as left:  # of argparse
        code = left.code
    assert code == 2
    assert complaint in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.long
def test_the_command_gives_the_same_file_twice(tmp_path: Path) -> None:
    words = ["multitask", "--rooms", "4", "--epochs", "1", "--width", "0.5", "--heads", "disparity,steer"]
    for name in ("one.onnx", "two.onnx", "three.pth"):
        assert main([*words, "--out", str(tmp_path / name)]) == 0
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()
    state = torch.load(tmp_path / "three.pth", weights_only=True)
    assert {name.split(".")[1] for name in state if name.startswith("heads.")} == {"disparity", "steer"}
