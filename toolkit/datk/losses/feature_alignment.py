"""Feature alignment: the student's patch tokens should point where a good encoder's point, up to a margin.

Source: Depth Anything V1 (arXiv 2401.10891) section 3.3; the margin by its first author's correction
(Depth-Anything issue 80): tokens whose cosine already exceeds 0.85 are left out.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def feature_alignment_loss(student: Tensor, reference: Tensor, *, margin: float = 0.85) -> Tensor:
    """1 - mean cosine over an image's tokens whose cosine is not above the margin, averaged over images.

    student, reference: (B, N, C) patch tokens of the same picture; no gradient flows into reference. Returns a
    scalar in 0..2; an image with every token above the margin counts as 0 (with a graph). Each image by itself, as
    the other losses: so a batch in parts adds up to the batch.
    """
    cosine = F.cosine_similarity(student, reference.detach(), dim=-1)  # (B, N)
    kept = cosine.detach() <= margin
    return torch.as_tensor((((1 - cosine) * kept).sum(1) / kept.sum(1).clamp(min=1)).mean())
