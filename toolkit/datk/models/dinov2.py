"""DINOv2 vision transformer without registers, with the official key names.

Source: Oquab et al. 2023 (arXiv 2304.07193) and the reading of it in Depth Anything V2
(depth_anything_v2/dinov2.py): pre-norm blocks with LayerScale, LayerNorm eps 1e-6, exact GELU or
SwiGLU, position embeddings resized bicubically with a grid offset of 0.1. Written for export: no
5-D tensor, no shape arithmetic beyond Python integers.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from datk.models.attention import attend
from datk.models.presets import PATCH, POSITION_GRID, Preset

GRID_OFFSET = 0.1


class PatchEmbed(nn.Module):
    """14x14 patches to tokens: (B, 3, H, W) -> (B, h*w, dim), h = H/14, w = W/14."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, PATCH, stride=PATCH)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.proj(x)).flatten(2).transpose(1, 2)  # (B, h*w, dim)


class Attention(nn.Module):
    """Multi-head self-attention over (B, N, dim); rows of `qkv` are q, k, v in that order."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def split_heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, N, dim) -> q, k, v, each (B, heads, N, dim/heads), without a 5-D tensor."""
        b, n, dim = x.shape
        shape = (b, n, self.heads, dim // self.heads)
        qkv = self.qkv(x)  # (B, N, 3*dim)
        q = qkv[:, :, :dim].reshape(shape).transpose(1, 2)
        k = qkv[:, :, dim : 2 * dim].reshape(shape).transpose(1, 2)
        v = qkv[:, :, 2 * dim :].reshape(shape).transpose(1, 2)
        return q, k, v

    def merge_heads(self, x: Tensor) -> Tensor:
        """(B, heads, N, dim/heads) -> (B, N, dim), then the output projection."""
        b, heads, n, head_dim = x.shape
        return cast(Tensor, self.proj(x.transpose(1, 2).reshape(b, n, heads * head_dim)))

    def forward(self, x: Tensor) -> Tensor:
        return self.merge_heads(attend(*self.split_heads(x)))


class Mlp(nn.Module):
    """fc1, exact (erf) GELU, fc2."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.fc2(self.act(self.fc1(x))))


class SwiGlu(nn.Module):
    """w3(silu(first half of w12 x) * second half). Shazeer 2020 (arXiv 2002.05202)."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.w12 = nn.Linear(dim, 2 * hidden)
        self.w3 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        both = self.w12(x)  # (B, N, 2*hidden)
        return cast(Tensor, self.w3(F.silu(both[..., : self.hidden]) * both[..., self.hidden :]))


class LayerScale(nn.Module):
    """Learned gain per channel on a residual branch (Touvron et al. 2021); starts at 1."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Block(nn.Module):
    """Pre-norm transformer block, (B, N, dim) -> (B, N, dim)."""

    def __init__(self, preset: Preset) -> None:
        super().__init__()
        dim, hidden = preset.dim, preset.ffn_hidden
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn: nn.Module = Attention(dim, preset.heads)
        self.ls1: nn.Module = LayerScale(dim)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp: nn.Module = SwiGlu(dim, hidden) if preset.ffn == "swiglu" else Mlp(dim, hidden)
        self.ls2: nn.Module = LayerScale(dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.ls1(self.attn(self.norm1(x)))
        return cast(Tensor, x + self.ls2(self.mlp(self.norm2(x))))


class DinoV2(nn.Module):
    """The encoder. Tapped block outputs all pass the final LayerNorm; the class token is dropped."""

    fixed_position: Tensor | None

    def __init__(self, preset: Preset) -> None:
        super().__init__()
        self.preset = preset
        self.watch: list[Tensor] | None = None
        """While a list: what leaves each block, (B, 1 + h*w, dim), is appended to it."""
        self.gradient_checkpointing = False
        """Recompute each block in the backward pass: less memory, about a third more time."""
        dim = preset.dim
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, POSITION_GRID**2 + 1, dim))
        self.mask_token = nn.Parameter(torch.zeros(1, dim), requires_grad=False)  # in every file, never used
        self.patch_embed = PatchEmbed(dim)
        self.blocks = nn.ModuleList(Block(preset) for _ in range(preset.depth))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.register_buffer("fixed_position", None, persistent=False)
        self._init_weights()

    def _init_weights(self) -> None:
        """As DINOv2: truncated normals of 0.02, zero biases, LayerScale 1."""
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.normal_(self.cls_token, std=1e-6)
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def position_embedding(self, grid: tuple[int, int]) -> Tensor:
        """Position embedding of the class token and of grid = (h, w) patches: (1, 1 + h*w, dim).

        The stored 37x37 grid is used as it is at 518x518 only; any other size is resized bicubically,
        without antialiasing, with scale factors (h + 0.1)/37 and (w + 0.1)/37.
        """
        if self.fixed_position is not None:
            return self.fixed_position
        if grid == (POSITION_GRID, POSITION_GRID):
            return self.pos_embed
        stored = self.pos_embed[:, 1:].float().reshape(1, POSITION_GRID, POSITION_GRID, -1).permute(0, 3, 1, 2)
        scale = ((grid[0] + GRID_OFFSET) / POSITION_GRID, (grid[1] + GRID_OFFSET) / POSITION_GRID)
        resized = F.interpolate(stored, scale_factor=scale, mode="bicubic", antialias=False)  # (1, dim, h, w)
        assert resized.shape[-2:] == grid
        patches = resized.flatten(2).transpose(1, 2).to(self.pos_embed.dtype)
        return torch.cat((self.pos_embed[:, :1], patches), dim=1)

    def fix_position(self, grid: tuple[int, int]) -> None:
        """Freeze the position embedding of one grid as a buffer and drop the stored one: for export."""
        fixed = self.position_embedding(grid).detach().clone()
        del self.pos_embed
        self.fixed_position = fixed

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """x: (B, 3, H, W) normalised. Returns the four tapped patch-token maps, each (B, h*w, dim).

        The last one is the encoder's final output: DINOv2's normalised patch tokens.
        """
        b, _, height, width = x.shape
        tokens = self.patch_embed(x)  # (B, h*w, dim)
        tokens = torch.cat((self.cls_token.expand(b, -1, -1), tokens), dim=1)
        tokens = tokens + self.position_embedding((height // PATCH, width // PATCH))
        tapped: list[Tensor] = []
        for index, block in enumerate(self.blocks):
            if self.gradient_checkpointing and torch.is_grad_enabled():
                tokens = cast(Tensor, checkpoint(block, tokens, use_reentrant=False))
            else:
                tokens = block(tokens)
            if self.watch is not None:
                self.watch.append(tokens)
            if index in self.preset.taps:
                tapped.append(self.norm(tokens)[:, 1:])
        first, second, third, last = tapped
        return first, second, third, last
