"""The peers of the benchmark: what others would run on the same shapes, with random weights, for timing only.

D width, V vocabulary, L tokens. transformers and diffusers are imported when their peer is built; what they
give is Any, as their own annotations do not fit together.
"""

from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from tokenloom.models.transformer import TransformerConfig


def llama(config: TransformerConfig) -> Any:
    """A Llama with our trunk's width, depth, heads and SwiGLU, over our codes. Nothing ends a text early."""
    import transformers

    transformers.logging.set_verbosity_error()  # it would warn that sampling has no token to pad with
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            hidden_size=config.width,
            intermediate_size=config.hidden,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            num_key_value_heads=config.num_heads,
            vocab_size=config.num_codes,
            bos_token_id=None,
            eos_token_id=None,
            pad_token_id=None,
        )
    ).eval()


@torch.no_grad()
def generate(model: Any, prompt: Tensor, count: int, cache: str) -> Tensor:
    """Sample `count` tokens after int64 ids (B, P) from the whole distribution; `cache` is "dynamic" or "static"."""
    ids: Tensor = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        do_sample=True,
        top_k=0,
        max_new_tokens=count,
        cache_implementation=cache,
    )
    assert ids.shape[1] == prompt.shape[1] + count
    return ids


def dit(config: TransformerConfig) -> Any:
    """diffusers' DiT with our trunk's width, depth, heads and tokens, on latents with as many channels as ours."""
    from diffusers import DiTTransformer2DModel

    channels = len(config.image_levels)
    model: Any = DiTTransformer2DModel(
        num_attention_heads=config.num_heads,
        attention_head_dim=config.head_dim,
        in_channels=channels,
        out_channels=channels,
        num_layers=config.num_layers,
        sample_size=config.image_grid[0],
        patch_size=1,
    )
    return model.eval()


@torch.no_grad()
def guided_picture(model: Any, steps: int, guidance_scale: float) -> Tensor:
    """Latents (1, C, h, w) after `steps` Euler steps on guided pairs. A scheduler of diffusers would take longer."""
    size = model.config.sample_size
    x = torch.randn(1, model.config.in_channels, size, size)
    labels = torch.tensor([1, 1000])  # a class, and what stands for none
    for step in range(steps):
        time = torch.full((2,), 999 - step * 1000 // steps)
        conditional, unconditional = model(x.repeat(2, 1, 1, 1), timestep=time, class_labels=labels).sample.chunk(2)
        x = x - torch.lerp(unconditional, conditional, guidance_scale) / steps
    return x


class CausalBlock(nn.Module):
    """A block of GPT-2, without biases as nanoGPT trains it."""

    def __init__(self, width: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.attention_norm = nn.LayerNorm(width, bias=False)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.mlp_norm = nn.LayerNorm(width, bias=False)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width, bias=False), nn.GELU(), nn.Linear(4 * width, width, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = rearrange(
            self.qkv(self.attention_norm(x)), "B L (three n d) -> three B n L d", three=3, n=self.num_heads
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(rearrange(y, "B n L d -> B L (n d)"))
        return x + self.mlp(self.mlp_norm(x))


class NanoGPT(nn.Module):
    """After karpathy/nanoGPT: learned positions, LayerNorm, GELU. Head and embedding are apart, as ours are."""

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.embedding = nn.Embedding(config.num_codes, config.width)
        self.positions = nn.Embedding(config.num_positions, config.width)
        self.blocks = nn.Sequential(*(CausalBlock(config.width, config.num_heads) for _ in range(config.num_layers)))
        self.norm = nn.LayerNorm(config.width, bias=False)
        self.head = nn.Linear(config.width, config.num_codes, bias=False)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)

    def forward(self, ids: Tensor) -> Tensor:
        """Int64 ids (B, L) -> logits (B, L, V) of what comes next."""
        x = self.embedding(ids) + self.positions.weight[: ids.shape[1]]
        return self.head(self.norm(self.blocks(x)))
