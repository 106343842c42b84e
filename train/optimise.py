"""The optimiser of a training: its groups, its construction, and its state by parameter name."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from datk.config.train_sections import ScheduleSection
from datk.train.parallel import whole

SPARED = ("pos_embed", "cls_token", "position_embeddings", "register_tokens", "relative_position_bias_table")
"""Ends of names that weight decay spares, whatever their shape."""


def parameter_groups(module: nn.Module, section: ScheduleSection) -> list[dict[str, Any]]:
    """Optimiser groups of the trainable parameters: the encoder (`pretrained.`) and the rest, decayed or not.

    Decay spares vectors (biases, norms, LayerScale), position embedding and tokens. `peak_lr` keeps the peak
    learning rate that learning_rate_factor scales.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        rate = section.encoder_lr if "pretrained." in name else section.decoder_lr
        spared = parameter.ndim < 2 or name.endswith(SPARED)
        groups.setdefault((rate, 0.0 if spared else section.weight_decay), []).append(parameter)
    return [
        {"params": parameters, "lr": rate, "peak_lr": rate, "weight_decay": decay}
        for (rate, decay), parameters in groups.items()
    ]


def optimiser(module: nn.Module, section: ScheduleSection) -> torch.optim.Optimizer:
    """Adam or AdamW over parameter_groups, one fused update."""
    kind = torch.optim.AdamW if section.optimiser == "adamw" else torch.optim.Adam
    return kind(parameter_groups(module, section), betas=(section.beta1, section.beta2), fused=True)


def set_rates(chosen: torch.optim.Optimizer, factor: float) -> None:
    """Scale every group's peak learning rate."""
    for group in chosen.param_groups:
        group["lr"] = group["peak_lr"] * factor


def gradient_norm(module: nn.Module, *, limit: float | None) -> float:
    """L2 norm of all gradients, over all processes' shares; above `limit` they are scaled down to it."""
    parameters = [p for p in module.parameters() if p.grad is not None]
    total = whole(nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]))
    if limit is not None:
        nn.utils.clip_grads_with_norm_(parameters, limit, total)
    return float(total)


def moments(module: nn.Module, chosen: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, float]]:
    """(tensors, numbers) of the optimiser's state, by "parameter:entry"; both empty before the first step."""
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, float] = {}
    for name, parameter in module.named_parameters():
        for entry, value in chosen.state.get(parameter, {}).items():
            if value.ndim == 0:
                numbers[f"{name}:{entry}"] = float(whole(value))
            else:
                tensors[f"{name}:{entry}"] = value
    return tensors, numbers


def make_moments(module: nn.Module, chosen: torch.optim.Optimizer, numbers: dict[str, float]) -> dict[str, Tensor]:
    """Give the optimiser a state as after the step `numbers` come from, its tensors still zero, and return those."""
    tensors: dict[str, Tensor] = {}
    named = dict(module.named_parameters())
    for key, value in numbers.items():
        name, _, entry = key.rpartition(":")
        parameter = named[name]
        state = chosen.state[parameter]
        state[entry] = torch.tensor(value, dtype=torch.float32, device=parameter.device)
        for moment in ("exp_avg", "exp_avg_sq"):
            state[moment] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
            tensors[f"{name}:{moment}"] = state[moment]
    return tensors
