"""Feature alignment: the student's patch tokens should point where a good encoder's point, up to a margin.

Source: Depth Anything V1 (arXiv 2401.10891) section 3.3. The sources contradict each other about the margin: the
published text compares the cosine with 0.85, the first version on arXiv names 0.15, and the first author explains the
latter as a margin on the distance 1 - cosine (Depth-Anything issue 80). Both readings leave out tokens whose cosine
exceeds 0.85; taken literally, the first version would leave out those above 0.15.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

MarginOn = Literal["cosine", "distance"]
MeanOver = Literal["kept", "all"]


def feature_alignment_of_each(
    student: Tensor,
    reference: Tensor,
    *,
    margin: float = 0.85,
    margin_on: MarginOn = "cosine",
    mean_over: MeanOver = "kept",
) -> Tensor:
    """(B,) 1 - mean cosine over each image's tokens that are not within the margin; 0 when all of them are.

    student, reference: (B, N, C) patch tokens of the same picture; no gradient flows into reference. margin_on: cosine
    leaves out tokens whose cosine exceeds margin, distance those whose 1 - cosine is below it (so 0.85 there is 0.15
    here). mean_over: kept divides by the number of tokens left, all by N, which lets the loss fade as tokens come
    within the margin. Values lie in 0..2.
    """
    cosine = F.cosine_similarity(student, reference.detach(), dim=-1)  # (B, N)
    limit = margin if margin_on == "cosine" else 1 - margin
    kept = cosine.detach() <= limit
    distance = ((1 - cosine) * kept).sum(1)  # (B,)
    return torch.as_tensor(distance / (kept.sum(1).clamp(min=1) if mean_over == "kept" else kept.shape[1]))


def feature_alignment_loss(
    student: Tensor,
    reference: Tensor,
    *,
    margin: float = 0.85,
    margin_on: MarginOn = "cosine",
    mean_over: MeanOver = "kept",
) -> Tensor:
    """feature_alignment_of_each averaged over images: each by itself, so a batch in parts adds up to the batch."""
    each = feature_alignment_of_each(student, reference, margin=margin, margin_on=margin_on, mean_over=mean_over)
    return each.mean()
