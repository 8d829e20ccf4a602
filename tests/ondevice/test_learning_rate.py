"""Learning rates against PyTorch's schedulers."""

import warnings
from collections.abc import Callable

import pytest
import torch
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    LinearLR,
    LRScheduler,
    SequentialLR,
    StepLR,
)

from fieldtune.errors import UserError
from ondevice.learning_rate import Schedule

UPDATES = 40
SHAPES: dict[str, Callable[[torch.optim.Optimizer, int], LRScheduler]] = {
    "constant": lambda optimizer, left: ConstantLR(optimizer, 1.0),
    "linear": lambda optimizer, left: LinearLR(optimizer, 1.0, 0.0, left),
    "cosine": lambda optimizer, left: CosineAnnealingLR(optimizer, left),
    "step:7:0.5": lambda optimizer, left: StepLR(optimizer, 7, 0.5),
}


def rates_of_torch(text: str, warmup: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    with warnings.catch_warnings(action="ignore"):  # that no step was taken; SequentialLR's own
        scheduler = SHAPES[text](optimizer, UPDATES - warmup)
        if warmup:
            rising = LinearLR(optimizer, 1 / warmup, 1.0, max(warmup - 1, 1))
            scheduler = SequentialLR(optimizer, [rising, scheduler], [warmup])
        rates = []
        for _ in range(UPDATES):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
    return rates


@pytest.mark.parametrize("warmup", [0, 1, 5])
@pytest.mark.parametrize("text", SHAPES)
def test_rates_are_those_of_pytorch(text: str, warmup: int) -> None:
    schedule = Schedule.parse(text, warmup)
    found = [schedule.scale(update, UPDATES) for update in range(UPDATES)]
    assert found == pytest.approx(rates_of_torch(text, warmup), abs=1e-12)


@pytest.mark.parametrize("text", SHAPES)
def test_a_schedule_is_written_as_it_is_read(text: str) -> None:
    assert str(Schedule.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "cosinus",
        "step",
        "step:10",
        "step:0:0.5",
        "step:-1:0.5",
        "step:10:0",
        "step:10:1.5",
        "step:10:nan",
        "step:a:b",
        "linear:3",
    ],
)
def test_what_is_no_schedule_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"--schedule is .*constant, linear, cosine, or step:EVERY:FACTOR"):
        Schedule.parse(text)
