"""Laws of the adversarial term: who learns from which loss, and that a discriminator learns to tell."""

import torch

from tokenloom.models.adversarial import PatchDiscriminator, adversarial_losses


def test_the_tokenizer_s_loss_moves_only_pictures_and_the_discriminator_s_only_its_weights():
    torch.manual_seed(0)
    discriminator = PatchDiscriminator(width=4)
    fakes, reals = torch.randn(2, 3, 16, 16, requires_grad=True), torch.randn(2, 3, 16, 16)
    deceive, detect = adversarial_losses(discriminator, fakes, reals)
    (to_pictures,) = torch.autograd.grad(deceive, fakes, retain_graph=True)
    assert to_pictures.abs().sum() > 0
    assert all(g is None for g in torch.autograd.grad(deceive, list(discriminator.parameters()), allow_unused=True))
    deceive, detect = adversarial_losses(discriminator, fakes, reals)
    assert torch.autograd.grad(detect, fakes, retain_graph=True, allow_unused=True) == (None,)
    gradients = torch.autograd.grad(detect, list(discriminator.parameters()))
    assert all(g.abs().sum() > 0 for g in gradients[:-1])  # the last bias moves both margins by the same


def test_a_discriminator_learns_to_tell_noise_from_flat_pictures():
    torch.manual_seed(0)
    discriminator = PatchDiscriminator(width=8)
    optimizer = torch.optim.AdamW(discriminator.parameters(), lr=1e-3)
    for _ in range(60):
        flat, noise = torch.rand(8, 3, 1, 1).expand(-1, -1, 16, 16), torch.rand(8, 3, 16, 16)
        _, detect = adversarial_losses(discriminator, noise, flat)
        optimizer.zero_grad()
        detect.backward()
        optimizer.step()
    assert float(detect.detach()) < 0.2  # 1 at the start: both margins missed
