"""Tiny random-weight models of the very classes, saved as their makers save them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers

CARD = "---\nlicense: apache-2.0\ntags:\n- depth\n---\n# A model\n"


def _saved(net: Any, folder: Path, processor: dict[str, Any] | None, seed: int = 0) -> Path:
    """Weights of order one from a seed, so that maps have relief; config, weights, processor and card."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in net.named_parameters():
            if p.ndim > 1:
                p.copy_(torch.randn(p.shape, generator=generator) / p[0].numel() ** 0.5)
            elif "norm" not in name:
                p.copy_(0.3 * torch.rand(p.shape, generator=generator))
    net.save_pretrained(folder)
    if processor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    (folder / "README.md").write_text(CARD)
    return folder


DPT_PROCESSOR = {
    "image_processor_type": "DPTImageProcessor",
    "do_resize": True,
    "size": {"height": 28, "width": 28},
    "keep_aspect_ratio": True,
    "ensure_multiple_of": 14,
    "resample": 3,
    "do_rescale": True,
    "do_normalize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}


def depth_anything(folder: Path, *, metric: bool = False, processor: dict[str, Any] | None = DPT_PROCESSOR) -> Path:
    backbone = transformers.Dinov2Config(
        image_size=28,
        patch_size=14,
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        out_indices=[1, 2, 3, 4],
        apply_layernorm=True,
        reshape_hidden_states=False,
    )
    config = transformers.DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=16,
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        head_hidden_size=8,
        depth_estimation_type="metric" if metric else "relative",
        max_depth=20 if metric else 1,
    )
    return _saved(transformers.DepthAnythingForDepthEstimation(config), folder, processor)


def dpt(folder: Path) -> Path:
    config = transformers.DPTConfig(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=32,
        patch_size=16,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        is_hybrid=False,
    )
    processor = DPT_PROCESSOR | {
        "size": {"height": 32, "width": 32},
        "keep_aspect_ratio": False,
        "ensure_multiple_of": 1,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }
    return _saved(transformers.DPTForDepthEstimation(config), folder, processor)


def zoedepth(folder: Path) -> Path:
    backbone = transformers.BeitConfig(
        image_size=32,
        patch_size=16,
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=32,
        out_indices=[1, 2, 3, 4],
        reshape_hidden_states=False,
        use_relative_position_bias=True,
    )
    config = transformers.ZoeDepthConfig(
        backbone_config=backbone,
        backbone_hidden_size=16,
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        bottleneck_features=8,
        num_relative_features=8,
        num_attractors=[2, 2, 2, 2],
        bin_embedding_dim=8,
        bin_configurations=[{"n_bins": 8, "min_depth": 0.1, "max_depth": 10.0, "name": "nyu"}],
    )
    processor = {
        "image_processor_type": "ZoeDepthImageProcessor",
        "do_pad": True,
        "size": {"height": 64, "width": 64},
        "keep_aspect_ratio": True,
        "ensure_multiple_of": 32,
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
    }
    return _saved(transformers.ZoeDepthForDepthEstimation(config), folder, processor)


def glpn(folder: Path) -> Path:
    config = transformers.GLPNConfig(
        num_encoder_blocks=4,
        depths=[1, 1, 1, 1],
        hidden_sizes=[8, 8, 16, 16],
        num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=8,
        max_depth=10,
    )
    processor = {"image_processor_type": "GLPNImageProcessor", "do_resize": True, "size_divisor": 32}
    return _saved(transformers.GLPNForDepthEstimation(config), folder, processor | {"do_rescale": True})


def depth_pro(folder: Path, *, view: bool = True, side: int = 64) -> Path:
    vit = transformers.Dinov2Config(
        image_size=16, patch_size=8, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, use_mask_token=False
    )
    config = transformers.DepthProConfig(
        patch_size=16,
        fusion_hidden_size=8,
        intermediate_hook_ids=[1, 0],
        intermediate_feature_dims=[8, 8],
        scaled_images_feature_dims=[16, 8, 8],
        merge_padding_value=1,
        image_model_config=vit.to_dict(),
        patch_model_config=vit.to_dict(),
        fov_model_config=vit.to_dict(),
        use_fov_model=view,
        num_fov_head_layers=0,
    )
    net = transformers.DepthProForDepthEstimation(config)
    saved = _saved(net, folder, {"size": {"height": side, "width": side}})
    with torch.no_grad():  # an inverse depth of about 1 and a view of about 60 degrees
        net.head.layers[4].bias.fill_(1)
        if view:
            net.fov_model.head.layers[-1].bias.fill_(60)
    net.save_pretrained(folder)
    return saved


def marigold(folder: Path, *, prediction: str = "depth", scheduler: str = "ddim") -> Path:
    import diffusers

    torch.manual_seed(0)
    vocabulary = folder.parent / "vocabulary"
    vocabulary.mkdir(parents=True, exist_ok=True)
    words = {"<|startoftext|>": 0, "<|endoftext|>": 1, "a</w>": 2, "a": 3}
    (vocabulary / "vocab.json").write_text(json.dumps(words))
    (vocabulary / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = transformers.CLIPTokenizer(
        str(vocabulary / "vocab.json"), str(vocabulary / "merges.txt"), model_max_length=8
    )
    text = transformers.CLIPTextConfig(
        vocab_size=4,
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=8,
        bos_token_id=0,
        eos_token_id=1,
    )
    make = diffusers.DDIMScheduler if scheduler == "ddim" else diffusers.LCMScheduler
    pipeline = diffusers.MarigoldDepthPipeline(
        unet=diffusers.UNet2DConditionModel(
            sample_size=8,
            in_channels=8,
            out_channels=4,
            block_out_channels=(8, 8),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=8,
            norm_num_groups=4,
            attention_head_dim=2,
        ),
        vae=diffusers.AutoencoderKL(
            block_out_channels=(8, 8),
            down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"),
            up_block_types=("UpDecoderBlock2D", "UpDecoderBlock2D"),
            latent_channels=4,
            norm_num_groups=4,
        ),
        scheduler=make(prediction_type="v_prediction"),
        text_encoder=transformers.CLIPTextModel(text),
        tokenizer=tokenizer,
        prediction_type=prediction,
        default_denoising_steps=2,
        default_processing_resolution=32,
    )
    pipeline.save_pretrained(folder)
    (folder / "README.md").write_text(CARD)
    return folder
