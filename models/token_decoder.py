"""One token after the other through the trunk: the function of `SharedTransformer`, arranged for speed.

R sequences, P tokens of their prompts, N new tokens, D width, n heads of size d, F hidden width, V codes.

A step of one token per sequence is bound by reading the weights and by starting small operations, so there must be few
of them. While a segment is generated, its modulation and the weights of the norms stay the same. A scale s and a shift
b before a product with W, and a gate g after it, are folded into the weights once,

    g W (s x / rms(x) + b)  =  W' x / |x| + b'   with   W' = sqrt(D) g W s   and   b' = g W b,

which are kept transposed, since one row times a matrix is read fastest that way; the largest, for several rows, in the
layout of oneDNN. The dimensions of queries and keys are reordered alike, so that the two numbers which rotary positions
turn lie side by side and a turn is one complex product. Keys, values and workspaces are allocated once.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from .attention import EPSILON, KVCache
from .rotary import rotary_table
from .transformer import Block, SharedTransformer


@dataclass(frozen=True)
class FoldedBlock:
    """The weights of a block under one modulation, float32, matrices as (in, out)."""

    qkv: Tensor  # (D, 3 D)
    qkv_bias: Tensor  # (3 D,)
    query_key_scale: Tensor  # (2 n, d), for queries and keys of length 1
    first_value_share: float  # of the first layer's value, already taken from this layer's own
    out: Tensor  # (D, D)
    mlp_in: Callable[[Tensor], Tensor]  # (R, D) -> (R, 2 F)
    mlp_out: Tensor  # (F, D)


def pairs_together(x: Tensor) -> Tensor:
    """Reorder the last axis (d): the pair that rotary positions turn, i and i + d / 2, comes to 2 i and 2 i + 1."""
    return rearrange(x, "... (two p) -> ... (p two)", two=2)


def product(weight: Tensor, scale: Tensor, bias: Tensor | None, rows: int) -> Callable[[Tensor], Tensor]:
    """x (rows, in) -> W (scale x) + bias, with a `weight` W (out, in).

    With a few rows a plain product lays out the weight anew in each call, which takes longer than the sums; oneDNN does
    so once. The gain is large where the weight is, and none for a row or two.
    """
    if rows > 2 and weight.device.type == "cpu" and torch.backends.mkldnn.is_available():
        packed = torch.ops.mkldnn._reorder_linear_weight(weight.float() * scale, rows)
        return lambda x: cast(Tensor, torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], ""))
    return partial(F.linear, weight=_transposed(weight).mul_(scale.unsqueeze(1)).t(), bias=bias)


def fold(block: Block, modulation: Tensor, rows: int, *, first: bool) -> FoldedBlock:
    """`modulation` (1, 1, 6, D), as `Block.forward` takes it; `first`: its values are the ones that others mix in."""
    attention, (_, width) = block.attention, block.modulation_bias.shape
    a_scale, a_shift, a_gate, m_scale, m_shift, m_gate = (modulation + block.modulation_bias).float().view(6, width)
    share = 0.0 if first else float(attention.first_value_share)

    *turned, values = attention.qkv.weight.float().chunk(3)  # each (n d, D)
    queries, keys = (rearrange(x, "(n two p) D -> (n p two) D", n=attention.num_heads, two=2) for x in turned)
    qkv = torch.cat([queries, keys, (1 - share) * values])
    head_dim = width // attention.num_heads
    # sqrt(d) belongs to both norms; that of the queries cancels with the 1 / sqrt(d) of the scores
    scales = torch.stack([attention.query_norm.weight, math.sqrt(head_dim) * attention.key_norm.weight]).float()
    a_scale = math.sqrt(width) * (1 + a_scale) * block.attention_norm.weight
    m_scale = math.sqrt(width) * (1 + m_scale) * block.mlp_norm.weight
    return FoldedBlock(
        qkv=_transposed(qkv).mul_(a_scale.unsqueeze(1)),
        qkv_bias=qkv @ a_shift,
        query_key_scale=pairs_together(scales).repeat_interleave(attention.num_heads, dim=0),
        first_value_share=share,
        out=_transposed(attention.out.weight).mul_(1 + a_gate),
        mlp_in=product(block.mlp_in.weight, m_scale, block.mlp_in.weight.float() @ m_shift, rows),
        mlp_out=_transposed(block.mlp_out.weight).mul_(1 + m_gate),
    )


def _transposed(weight: Tensor) -> Tensor:
    """A copy, float32."""
    return weight.float().t().contiguous()


class TokenDecoder:
    """Carries on from cached prompts, a token per sequence at each call. Made anew for each generation: weights change.

    `modulation` (1, 1, 6, D) holds for all new tokens; `positions` (R, N, 3) are theirs, BEGIN first. `head` (V, D) is
    what says the next one.
    """

    def __init__(self, model: SharedTransformer, modulation: Tensor, prompt: KVCache, positions: Tensor, head: Tensor):
        config, (rows, past) = model.config, prompt.mask.shape
        heads, head_dim, length = config.num_heads, config.head_dim, past + positions.shape[1]
        self.blocks = [fold(cast(Block, block), modulation, rows, first=n == 0) for n, block in enumerate(model.blocks)]
        scale = math.sqrt(config.width) * model.norm.weight.float()
        # Hidden tokens (R, D), or fewer where pairs were guided -> logits (R, V).
        self.logits = product(head, scale, None, rows)
        new = scale  # of the type and the device of all that follows
        self.floor = new.new_tensor(math.sqrt(config.width * EPSILON))  # |x| of what has rms(x)^2 = EPSILON
        self.head_floor = new.new_tensor(math.sqrt(head_dim * EPSILON))

        turns = torch.view_as_complex(rotary_table(positions, head_dim))  # (R, N, d / 2)
        self.turns = rearrange(turns, "R N p -> N R 1 p").contiguous().unbind(0)
        self.past = self.next = past  # where the first and the next new token go in the cache
        self.keys = [self._allocated(pairs_together(keys), length) for keys in prompt.keys]  # each (R n, P + N, d)
        self.values = [self._allocated(values, length) for values in prompt.values]
        self.hidden_keys = self._hidden_keys(model, prompt, length, heads)

        # Workspaces, and the views of them that a step needs: making a view costs as much as a small operation.
        self.unit = new.new_empty(rows, config.width)
        self.qkv = new.new_empty(rows, 3 * config.width)
        by_head = self.qkv.view(rows, 3 * heads, head_dim)
        self.query_key, self.value = by_head[:, : 2 * heads], by_head[:, 2 * heads :]
        self.unit_query_key = new.new_empty(rows, 2 * heads, head_dim)
        self.unit_query, self.unit_key = _complex(self.unit_query_key).chunk(2, dim=1)
        self.query = new.new_empty(rows * heads, 1, head_dim)
        self.turned_query = _complex(self.query.view(rows, heads, head_dim))
        self.key_slots = [_complex(keys.view(rows, heads, length, head_dim)) for keys in self.keys]
        self.value_slots = [values.view(rows, heads, length, head_dim) for values in self.values]
        self.hidden = new.new_empty(rows, config.hidden)

    @staticmethod
    def _hidden_keys(model: SharedTransformer, prompt: KVCache, length: int, heads: int) -> tuple[Tensor, ...]:
        """What each new token may not see: (R n, 1, P + N) each, -inf there and else 0; none if all see everything."""
        past = prompt.mask.shape[1]
        allowed = model.allowed(prompt, length - past)
        if allowed is None and prompt.mask.all():
            return ()
        unseen = ~prompt.mask if allowed is None else ~(prompt.mask & allowed[:, None])  # (R, P) or (N, R, P)
        room = prompt.keys[0].new_zeros(*unseen.shape[:-1], length, dtype=torch.float32)
        room[..., :past].masked_fill_(unseen, -torch.inf)
        room = room.repeat_interleave(heads, dim=-2).unsqueeze(-2)  # (R n, 1, P + N) or (N, R n, 1, P + N)
        return room.unbind(0) if allowed is not None else (room,) * (length - past)

    @staticmethod
    def _allocated(prompt: Tensor, length: int) -> Tensor:
        """A prompt's keys or values (R, n, P, d), with room for more: (R n, length, d)."""
        room = prompt.new_empty(*prompt.shape[:2], length, prompt.shape[3], dtype=torch.float32)
        room[:, :, : prompt.shape[2]] = prompt
        return room.flatten(0, 1)

    def __call__(self, x: Tensor) -> Tensor:
        """This token, embedded, float32 (R, D) -> the hidden one (R, D) that tells the next; both are reused."""
        for n, block in enumerate(self.blocks):
            torch.addmm(block.qkv_bias, self._unit(x), block.qkv, out=self.qkv)
            self._store(n, block)
            x.addmm_(self._attend(n), block.out)
            gate, value = block.mlp_in(self._unit(x)).chunk(2, dim=1)
            torch.mul(F.silu(gate, inplace=True), value, out=self.hidden)
            x.addmm_(self.hidden, block.mlp_out)
        self.next += 1
        return self._unit(x)

    def _unit(self, x: Tensor) -> Tensor:
        """x (R, D) / |x|."""
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        return torch.div(x, torch.hypot(length, self.floor, out=length), out=self.unit)

    def _store(self, n: int, block: FoldedBlock) -> None:
        """Put this token's key and value into the cache of layer n, and its query into the workspace."""
        length = torch.linalg.vector_norm(self.query_key, dim=-1, keepdim=True)
        torch.div(self.query_key, torch.hypot(length, self.head_floor, out=length), out=self.unit_query_key)
        self.unit_query_key.mul_(block.query_key_scale)
        turn = self.turns[self.next - self.past]
        torch.mul(self.unit_query, turn, out=self.turned_query)
        torch.mul(self.unit_key, turn, out=self.key_slots[n].select(2, self.next))
        slot = self.value_slots[n].select(2, self.next)
        if n == 0:
            slot.copy_(self.value)
        else:
            torch.add(self.value, self.value_slots[0].select(2, self.next), alpha=block.first_value_share, out=slot)

    def _attend(self, n: int) -> Tensor:
        """What the query finds in layer n: (R, D)."""
        end = self.next + 1
        keys = self.keys[n].narrow(1, 0, end).transpose(1, 2)  # (R n, d, P + new)
        if self.hidden_keys:
            scores = torch.baddbmm(self.hidden_keys[self.next - self.past].narrow(2, 0, end), self.query, keys)
        else:
            scores = torch.bmm(self.query, keys)
        found = torch.bmm(scores.softmax(-1), self.values[n].narrow(1, 0, end))  # (R n, 1, d)
        return found.view_as(self.unit)


def _complex(x: Tensor) -> Tensor:
    """(..., d) -> complex (..., d / 2), a view."""
    return torch.view_as_complex(x.unflatten(-1, (-1, 2)))
