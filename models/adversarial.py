"""An adversarial term for reconstructions: a patch discriminator with hinge losses (VQGAN, arXiv:2012.09841).

Both players are trained by one backward pass: the discriminator sees reconstructions without their graph, and the
tokenizer sees a discriminator whose weights count as constants. So the one training loop needs no second kind of step.
"""

import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call


class PatchDiscriminator(nn.Module):
    """Pictures (B, 3, H, W) -> one logit per patch (B, 1, H/8, W/8): positive where it looks real. No normalization."""

    def __init__(self, width: int = 32):
        super().__init__()
        layers: list[nn.Module] = []
        for fan_in, fan_out in ((3, width), (width, 2 * width), (2 * width, 4 * width)):
            layers += [nn.Conv2d(fan_in, fan_out, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(4 * width, 1, 3, padding=1))

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


def adversarial_losses(discriminator: nn.Module, fakes: Tensor, reals: Tensor) -> tuple[Tensor, Tensor]:
    """Losses of the tokenizer, -mean D(fake), and of the discriminator, by hinge; pictures (B, 3, H, W) both.

    The first has a gradient for `fakes` alone, the second for the discriminator's weights alone.
    """
    constants = {name: parameter.detach() for name, parameter in discriminator.named_parameters()}
    tokenizer_loss = -functional_call(discriminator, constants, (fakes,)).mean()
    fake_logits, real_logits = discriminator(fakes.detach()), discriminator(reals)
    return tokenizer_loss, (F.relu(1 + fake_logits).mean() + F.relu(1 - real_logits).mean()) / 2
