"Trainings of PyTorch: what a library has too gives what it gives there."
import pytest
import torch
from timm.utils.model_ema import ModelEmaV3
from torch import nn
from torchvision.transforms.v2 import MixUp
from torchvision.transforms.v2.functional import erase

from fer_research.models.recipe import mixup, random_erasing
from fer_research.training_torch import AveragedWeights, Run


@pytest.mark.parametrize("decay", [0.5, 0.95, 0.999])
def test_averaged_weights_are_those_of_timm_to_the_bit(decay):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 3))
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
    ours, theirs = AveragedWeights(network, decay), ModelEmaV3(network, decay, use_warmup=True, warmup_power=1.0)
    for step in range(1, 60):
        optimiser.zero_grad()
        network(torch.randn(8, 1, 8, 8)).square().mean().backward()
        optimiser.step()
        ours.on_batch_end(Run(network, optimiser, 60, ()))
        theirs.update(network, step)
    weights = theirs.module.state_dict()
    assert all(torch.equal(value, weights[name])
               for name, value in ours.model.state_dict().items() if value.is_floating_point())
    assert not torch.equal(ours.model[0].weight, network[0].weight)


def test_mixup_is_that_of_torchvision():
    images, targets = torch.rand(2, 1, 8, 8), torch.eye(2)
    swapped = next(seed for seed in range(100) if not torch.equal(mix(seed, images, targets, 0.4)[1], targets))
    torch.manual_seed(swapped)
    theirs = MixUp(alpha=0.4)(images, targets)  # with share and partner the other way round
    for own, other in zip(mix(swapped, images, targets, 0.4), theirs, strict=True):
        assert torch.allclose(own, other.flip(0), atol=1e-6)


def mix(seed: int, *arguments) -> tuple[torch.Tensor, torch.Tensor]:
    "Mixed from a seed on."
    torch.manual_seed(seed)
    return mixup(*arguments)


def test_what_is_erased_is_what_torchvision_erases():
    images, square, places = torch.rand(200, 3, 12, 12), 5, set()
    torch.manual_seed(1)
    for image, own in zip(images, random_erasing(images, square), strict=True):
        rows, columns = ((own != image).any(dim=0).any(dim=side).nonzero()[:, 0].tolist() for side in (1, 0))
        assert torch.equal(own, erase(image, rows[0], columns[0], len(rows), len(columns), images.mean()))
        places |= {("row", rows[0], rows[-1]), ("column", columns[0], columns[-1])}
    cut = [(0, 2), (0, 3), *((first, first + 4) for first in range(8)), (8, 11), (9, 11)]  # at most half of a side
    assert places == {(kind, *place) for kind in ("row", "column") for place in cut}
