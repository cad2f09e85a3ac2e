"""Self-attention with rotary positions and QK-norm, and the cache of keys and values that lets it go on.

B sequences, L new tokens, P tokens already in the cache, D width, heads x head_dim = D. The attention itself is torch's
`scaled_dot_product_attention`. Values are mixed with those of the first layer (value residual, arXiv:2410.17897).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from .rotary import rotate

EPSILON = 1e-6  # added to the mean square in every norm


@dataclass
class KVCache:
    """Keys and values of every layer, for sequences whose first tokens are already computed.

    `keys[n]` and `values[n]` are (B, heads, length, head_dim); `mask` (B, length) is true where a token is real and
    false where a shorter prompt was padded; `start` int64 (B,) is the position of what comes after the prompt, and
    `places` int64 (length,) numbers the slots of each frame of a clip from 0, BEGIN first; it is -1 for text.
    """

    keys: list[Tensor]
    values: list[Tensor]
    mask: Tensor
    start: Tensor
    places: Tensor

    def repeat(self, count: int) -> "KVCache":
        """The cache of every sequence `count` times: the whole batch, then the whole batch again."""
        keys = [k.repeat(count, 1, 1, 1) for k in self.keys]
        values = [v.repeat(count, 1, 1, 1) for v in self.values]
        return KVCache(keys, values, self.mask.repeat(count, 1), self.start.repeat(count), self.places)

    def extend(self, new: "KVCache") -> "KVCache":
        """The cache with the tokens of `new` after those that it holds; what comes next starts where it did."""
        keys = [torch.cat(pair, dim=2) for pair in zip(self.keys, new.keys, strict=True)]
        values = [torch.cat(pair, dim=2) for pair in zip(self.values, new.values, strict=True)]
        mask, places = torch.cat([self.mask, new.mask], dim=1), torch.cat([self.places, new.places])
        return KVCache(keys, values, mask, self.start, places)

    def select(self, rows: Tensor) -> "KVCache":
        """The cache of the given sequences: int64 rows (N,)."""
        keys, values = [k[rows] for k in self.keys], [v[rows] for v in self.values]
        return KVCache(keys, values, self.mask[rows], self.start[rows], self.places)


class RMSNorm(nn.Module):
    """x / rms(x), times a learned weight per channel (arXiv:1910.07467)."""

    def __init__(self, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):  # which would make it float32; inside, the mean is anyway
            return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), eps=EPSILON)  # fused only in one type


@contextmanager
def plain_products() -> Iterator[None]:
    """Attention as products and a softmax, in the type of its inputs, instead of torch's fused kernel.

    For training. On a CPU, with some hundred tokens, forward and backward take a third of the time of the fused kernel,
    whose backward pass was made for long sequences (bfloat16, 65 queries on 129 keys). On CUDA the fused kernel that
    takes masks gave gradients of NaN now and then, when it was compiled with 129 keys (torch 2.11): it wants the rows
    of a mask in multiples of 8, and reads what lies behind them.
    """
    backends = torch.backends.cuda  # where torch keeps the switch, for the CPU too
    before = backends.fp16_bf16_reduction_math_sdp_allowed()
    backends.allow_fp16_bf16_reduction_math_sdp(True)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        backends.allow_fp16_bf16_reduction_math_sdp(before)


class Attention(nn.Module):
    """Queries, keys and values from one product; see the file's head for what is added."""

    def __init__(self, width: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.query_norm = RMSNorm(width // num_heads)
        self.key_norm = RMSNorm(width // num_heads)
        self.first_value_share = nn.Parameter(torch.tensor(0.5))
        self.out = nn.Linear(width, width, bias=False)
        nn.init.zeros_(self.out.weight)

    def project(self, x: Tensor, rotary: Tensor, first_value: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens (B, L, D) -> queries, keys, values, each (B, heads, L, head_dim)."""
        q, k, v = rearrange(self.qkv(x), "B L (three n d) -> three B n L d", three=3, n=self.num_heads)
        q, k = rotate(self.query_norm(q), rotary), rotate(self.key_norm(k), rotary)
        return q, k, v if first_value is None else torch.lerp(v, first_value, self.first_value_share)

    def forward(
        self,
        x: Tensor,
        rotary: Tensor,
        mask: Tensor | None,
        first_value: Tensor | None,
        past: tuple[Tensor, Tensor] | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens (B, L, D) -> tokens (B, L, D), and the keys and values of these tokens alone.

        `mask` is boolean, broadcastable to (B, heads, L, P + L), true where a query may look; None: everywhere.
        `past` holds keys and values (B, heads, P, head_dim) of the tokens before.
        """
        q, k, v = self.project(x, rotary, first_value)
        keys, values = (torch.cat([past[0], k], dim=2), torch.cat([past[1], v], dim=2)) if past else (k, v)
        y = F.scaled_dot_product_attention(q, keys, values, attn_mask=mask)
        return self.out(rearrange(y, "B n L d -> B L (n d)")), k, v
