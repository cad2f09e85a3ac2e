"""Learned video tokenizer, causal in time, around one FSQ (MAGVIT-v2, arXiv:2310.05737; Cosmos, arXiv:2501.03575).

B clips, T frames, k frames of a group, t groups, h w grid, D latent dimensions, C channels. Clips are float32 in
[-1, 1]. The first frame is a group of its own (as if it had stood still for k frames), then come groups of k, so
t = 1 + ceil((T - 1) / k) and a picture is a clip of one frame. A group is folded, time and 4x4 squares alike, into
channels (arXiv:2410.10733): no convolution runs at full resolution or frame rate. Blocks look around in space within a
group, then back in time over groups. Groups take turns with `turns` kinds of codes, so that what stands still is told
in parts, by one group after the other, instead of once again by each. As in image.py two linear maps run beside the
networks. Nothing normalizes across space or time, so any size and length works, and streams give the ids of whole
clips, bit for bit.
"""

import math
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .image import STEM, ImageTokenizerConfig, zeroed
from .linear_code import least_squares, principal_axes, unit_projection
from .pretrained import Pretrained
from .protocol import check_clip_ids, check_clips, check_size, crop, fingerprint_of
from .scalar_quantizer import ScalarQuantizer
from .streaming import BlockStream, Cache, CausalConv, name_layers

FORMAT_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class VideoTokenizerConfig(ImageTokenizerConfig):
    """Of pictures, and of time. With the usual stride of 8, groups of 4 give 4x8x8 and groups of 8 give 8x8x8."""

    group: int = 4  # frames of a code, after the first frame
    window: int = 3  # groups that a block looks at: its own and those before
    turns: int = 2  # kinds of codes that groups take turns with
    widths: tuple[int, ...] = (96, 160)
    encoder_blocks: tuple[int, ...] = (1, 2)
    decoder_blocks: tuple[int, ...] = (2, 2)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.group < 2 or self.window < 1 or self.turns < 1:
            raise ValueError(
                "a group needs at least 2 frames, a window 1 group, and codes 1 turn, "
                f"got {self.group}, {self.window} and {self.turns}"
            )


class Block(nn.Module):
    """x + time(silu(space(silu(x)))) for x (B, t, h, w, C); time starts at zero, so a fresh block is the identity."""

    def __init__(self, width: int, window: int):
        super().__init__()
        self.space = nn.Conv2d(width, width, 3, padding=1)
        self.time = CausalConv(width, width, window)
        zeroed(self.time.linear)

    def forward(self, x: Tensor, cache: Cache) -> Tensor:
        y = self.space(rearrange(F.silu(x), "B t h w C -> (B t) C h w"))
        return x + self.time(F.silu(rearrange(y, "(B t) C h w -> B t h w C", B=len(x))), cache)


class Level(nn.Module):
    """Blocks at one scale, one after the other."""

    def __init__(self, width: int, count: int, window: int):
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, window) for _ in range(count))

    def forward(self, x: Tensor, cache: Cache) -> Tensor:
        for block in self.blocks:
            x = block(x, cache)
        return x


def fold(clips: Tensor, group: int, side: int) -> Tensor:
    """Clips (B, C, t k, h p, w p) -> vectors (B, t, h, w, C k p^2): time and squares of `side` pixels as channels."""
    return rearrange(clips, "B C (t k) (h p) (w q) -> B t h w (C k p q)", k=group, p=side, q=side)


def unfold(vectors: Tensor, group: int, side: int) -> Tensor:
    """What `fold` folded: (B, t, h, w, C k p^2) -> (B, C, t k, h p, w p)."""
    return rearrange(vectors, "B t h w (C k p q) -> B C (t k) (h p) (w q)", k=group, p=side, q=side)


def turns_of(num_groups: int, num_turns: int, cache: Cache) -> Tensor:
    """Float (t, turns): 1 where it is a group's turn, 0 elsewhere. The cache keeps whose turn is next."""
    first = int(cache["turn"]) if "turn" in cache else 0
    turns = torch.arange(first, first + num_groups + 1) % num_turns
    cache["turn"] = turns[-1]
    return F.one_hot(turns[:-1], num_turns).float()


class Encoder(nn.Module):
    """Whole groups of frames (B, 3, t k, H, W) -> unbounded latents z_e (B, t, h, w, D)."""

    def __init__(self, config: VideoTokenizerConfig):
        super().__init__()
        self.config, widths, dims = config, config.widths, len(config.levels)
        self.linear = nn.Linear(3 * config.group * config.stride**2, config.turns * dims)
        self.stem = nn.Linear(3 * config.group * STEM**2, widths[0])
        self.scales = nn.ModuleList(
            Level(width, count, config.window) for width, count in zip(widths, config.encoder_blocks, strict=True)
        )
        self.downs = nn.ModuleList(
            nn.Linear(4 * fine, coarse) for fine, coarse in zip(widths[:-1], widths[1:], strict=True)
        )
        self.head = zeroed(nn.Linear(widths[-1], config.turns * dims))

    def forward(self, frames: Tensor, cache: Cache) -> Tensor:
        x = self.stem(fold(frames, self.config.group, STEM))  # (B, t, H/4, W/4, widths[0])
        for scale, level in enumerate(self.scales):
            if scale:
                x = self.downs[scale - 1](rearrange(x, "B t (h p) (w q) C -> B t h w (C p q)", p=2, q=2))
            x = level(x, cache)
        every = self.linear(fold(frames, self.config.group, self.config.stride)) + self.head(F.silu(x))
        turns = turns_of(x.shape[1], self.config.turns, cache).to(every)
        return torch.einsum("btyxud,tu->btyxd", every.unflatten(-1, (self.config.turns, -1)), turns)


class Decoder(nn.Module):
    """Latents (B, t, h, w, D) in (-1, 1) -> whole groups of frames (B, 3, t k, H, W), not clamped."""

    def __init__(self, config: VideoTokenizerConfig):
        super().__init__()
        self.config, widths, dims = config, config.widths, len(config.levels)
        self.linear = CausalConv(config.turns * dims, 3 * config.group * config.stride**2, config.turns)
        self.stem = nn.Conv2d(config.turns * dims, widths[-1], 3, padding=1)
        self.scales = nn.ModuleList(
            Level(width, count, config.window) for width, count in zip(widths, config.decoder_blocks, strict=True)
        )
        self.ups = nn.ModuleList(
            nn.Linear(coarse, 4 * fine) for fine, coarse in zip(widths[:-1], widths[1:], strict=True)
        )
        self.head = zeroed(nn.Linear(widths[0], 3 * config.group * STEM**2))

    def forward(self, latents: Tensor, cache: Cache) -> Tensor:
        slots = self.slots(latents, cache)
        x = self.stem(rearrange(slots, "B t h w U -> (B t) U h w"))
        x = rearrange(x, "(B t) C h w -> B t h w C", B=len(latents))
        for scale in reversed(range(len(self.scales))):
            x = self.scales[scale](x, cache)
            if scale:
                x = rearrange(self.ups[scale - 1](x), "B t h w (C p q) -> B t (h p) (w q) C", p=2, q=2)
        frames = unfold(self.head(F.silu(x)), self.config.group, STEM)
        return frames + unfold(self.linear(slots, cache), self.config.group, self.config.stride)  # (B, 3, t k, H, W)

    def slots(self, latents: Tensor, cache: Cache) -> Tensor:
        """Latents (B, t, h, w, D), each in the place of its turn and zeros in the others: (B, t, h, w, turns D)."""
        turns = turns_of(latents.shape[1], self.config.turns, cache).to(latents)
        return torch.einsum("btyxd,tu->btyxud", latents, turns).flatten(-2)


class VideoTokenizer(nn.Module, Pretrained):
    """Clips <-> ids and latents, whole or as streams. Any size and length: what is missing to a code is padded."""

    def __init__(self, config: VideoTokenizerConfig):
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quantizer = ScalarQuantizer(config.levels)
        self.quantizer.check_ids()
        name_layers(self)

    @property
    def vocab_size(self) -> int:
        return self.config.vocab_size

    @property
    def fingerprint(self) -> str:
        """sha256 over class, format, config and the weights as they ship; ids are only good under the same one."""
        dtype = getattr(torch, self.config.storage_dtype)
        return fingerprint_of(type(self).__name__, FORMAT_VERSION, asdict(self.config), self.state_dict(), dtype)

    def grid(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """Frames and pixels (T, H, W) -> codes (t, h, w)."""
        frames, *sides = size
        return 1 + math.ceil((frames - 1) / self.config.group), *(math.ceil(s / self.config.stride) for s in sides)

    def _lead_in(self, clips: Tensor) -> Tensor:
        """Clips (B, 3, 1 + n k, H, W) -> (B, 3, (1 + n) k, H, W): the first frame has stood still for a group."""
        return torch.cat([clips[:, :, :1].expand(-1, -1, self.config.group - 1, -1, -1), clips], dim=2)

    def forward(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """Training pass, all groups at once: clips (B, 3, 1 + n k, H, W) -> clips, latents z_q (B, D, t, h, w).

        The stride must divide H and W.
        """
        z_q = self.quantizer(self.encoder(self._lead_in(clips), {}))
        frames = self.decoder(z_q, {})[:, :, self.config.group - 1 :]
        return frames, rearrange(z_q, "B t h w D -> B D t h w")

    def stream(self) -> BlockStream:
        """Frames (B, 3, T, H, W), float32 in [-1, 1], pushed in pieces -> int64 ids (B, t, h, w), group by group."""
        cache: Cache = {}

        @torch.no_grad()
        def run(frames: Tensor) -> Tensor:
            pad_h, pad_w = (-side % self.config.stride for side in frames.shape[3:])
            frames = F.pad(frames, (0, pad_w, 0, pad_h, 0, 0), mode="replicate")
            z_e = self.encoder(self._lead_in(frames) if frames.shape[2] == 1 else frames, cache)
            return self.quantizer.latents_to_ids(self.quantizer.bound(z_e))

        def nothing(frames: Tensor) -> Tensor:
            _, h, w = self.grid(tuple(frames.shape[2:]))
            return torch.empty(len(frames), 0, h, w, dtype=torch.long, device=frames.device)

        return BlockStream(run, nothing, check_clips, first=1, block=self.config.group, time=2, time_out=1)

    def decode_stream(self) -> BlockStream:
        """Int64 ids (B, t, h, w), pushed in pieces -> frames (B, 3, T, H, W): one for the first, then k for each."""
        cache: Cache = {}
        skipped = self.config.group - 1  # frames before the first

        @torch.no_grad()
        def run(ids: Tensor) -> Tensor:
            nonlocal skipped
            frames = self.decoder(self.quantizer.ids_to_latents(ids), cache)[:, :, skipped:].clamp(-1, 1)
            skipped = 0
            return frames

        def nothing(ids: Tensor) -> Tensor:
            height, width = (self.config.stride * side for side in ids.shape[2:])
            return torch.empty(len(ids), 3, 0, height, width, device=ids.device)

        return BlockStream(run, nothing, check_clip_ids, first=1, block=1, time=1, time_out=2)

    def encode(self, clips: Tensor) -> Tensor:
        """Clips (B, 3, T, H, W), float32 in [-1, 1] -> int64 ids (B, t, h, w) in [0, vocab_size).

        Raises:
            ValueError: not a batch of RGB clips in range.
        """
        return self.stream().whole(clips)

    def decode(self, ids: Tensor, size: tuple[int, ...] | None = None) -> Tensor:
        """Int64 ids (B, t, h, w) -> clips (B, 3, T, H, W), float32 in [-1, 1], cropped to `size` = (T, H, W) if given.

        Raises:
            ValueError: ids out of range, or a size whose grid is not that of the ids.
        """
        if size is not None:
            check_size(size, self.grid(size), ids)
        return crop(self.decode_stream().whole(ids), size)

    @torch.no_grad()
    def start_linear(self, clips: Tensor) -> None:
        """Set the linear maps to a good linear code of `clips` (N, 3, 1 + n k, H, W): PCA in, least squares out.

        The codes of each turn take the axes of what those of the turns before it, which are known, leave unsaid.
        """
        turns, dims = self.config.turns, len(self.config.levels)
        groups = fold(self._lead_in(clips), self.config.group, self.config.stride)
        into, back = self.encoder.linear, self.decoder.linear
        latents = torch.zeros(*groups.shape[:-1], dims)

        def known() -> Tensor:
            return back.windows(self.decoder.slots(latents, {}), {})

        for turn in range(min(turns, groups.shape[1])):
            own, context = groups[:, turn::turns].flatten(0, 3), known()[:, turn::turns].flatten(0, 3)
            weight, bias = least_squares(context, own)
            axes = principal_axes(own - context @ weight - bias, dims)
            weight, bias = unit_projection(own, axes)
            latents[:, turn::turns] = self.quantizer(groups[:, turn::turns] @ weight + bias)
            into.weight[turn * dims : (turn + 1) * dims] = weight.T
            into.bias[turn * dims : (turn + 1) * dims] = bias
        weight, bias = least_squares(known().flatten(0, 3), groups.flatten(0, 3))
        back.linear.weight.copy_(weight.T)
        back.linear.bias.copy_(bias)
