import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from zoo.task import LOSSES, InputSpec, OutputSpec, Task

torch = pytest.importorskip("torch", reason="torch is not installed; pip install 'fieldtune[torch]'")
from zoo.training.losses import loss, task_losses  # noqa: E402


@pytest.fixture(scope="module")
def references() -> ModuleType:
    """What the boards' losses and gradients are held against, one sample at a time."""
    path = Path(__file__).parents[1] / "firmware_gen" / "references.py"
    spec = importlib.util.spec_from_file_location("board_references", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _samples(kind: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Predictions, labels and masks of five samples; of the third nothing is known."""
    random = torch.Generator().manual_seed(5)
    prediction = torch.randn(5, 4, 5, 6, generator=random).double()
    labels = torch.rand(5, 1 if kind == "cross_entropy" else 4, 5, 6, generator=random).double() * 4
    masks = torch.rand(labels.shape, generator=random) < 0.7
    masks[2] = False
    return prediction, labels.floor() if kind == "cross_entropy" else labels, masks


@pytest.mark.parametrize("kind", LOSSES)
def test_loss_and_gradient_are_the_means_of_the_boards_sample_by_sample(
    kind: str, references: ModuleType
) -> None:
    prediction, labels, masks = _samples(kind)
    ours, theirs = (prediction.clone().requires_grad_() for _ in range(2))
    samples = zip(theirs.split(1), labels.split(1), masks.split(1), strict=True)
    expected = torch.stack([references.LOSSES[kind](p, t, m) for p, t, m in samples]).mean()
    found = loss(kind, ours, labels, masks)
    torch.testing.assert_close(found, expected)
    found.backward()
    expected.backward()
    assert theirs.grad[0].abs().max() > 1e-4
    torch.testing.assert_close(ours.grad, theirs.grad)
    assert not ours.grad[2].any()


@pytest.mark.parametrize("kind", LOSSES)
def test_without_any_label_there_is_no_loss_and_no_gradient(kind: str) -> None:
    prediction, labels, masks = _samples(kind)
    prediction.requires_grad_()
    found = loss(kind, prediction, labels, torch.zeros_like(masks))
    found.backward()
    assert found.item() == 0
    assert not prediction.grad.any()


def test_what_is_no_class_of_the_prediction_counts_as_masked() -> None:
    prediction, labels, masks = _samples("cross_entropy")
    foreign = torch.where(masks, labels, 255.0)
    everywhere = torch.ones_like(masks)
    expected = loss("cross_entropy", prediction, labels, masks)
    torch.testing.assert_close(loss("cross_entropy", prediction, foreign, everywhere), expected)


def test_outputs_of_the_whole_frame_and_maps_have_their_own_losses() -> None:
    task = Task(
        (InputSpec("image", 1 / 255),),
        (
            OutputSpec("depth", "depth", "l1", "truth", max_depth=5.0),
            OutputSpec("kind", "class", "cross_entropy", "truth"),
        ),
    )
    outputs = {"depth": torch.full((2, 1, 2, 2), 3.0), "kind": torch.tensor([[0.0, 50.0], [0.0, 50.0]])}
    labels = {"depth": torch.full((2, 1, 2, 2), 1.0), "kind": torch.tensor([1, 0]).reshape(2, 1, 1, 1)}
    masks = {name: torch.ones_like(label) for name, label in labels.items()}
    found = task_losses(task, outputs, labels, masks)
    assert found["depth"].item() == 2
    assert found["kind"].item() == pytest.approx(25)
