from __future__ import annotations

import copy

import pytest
import torch

from t2i_eval_kedro.models.packed_vision import PACKED, packed_attention, speed_up_vision


def tower(name: str) -> torch.nn.Module:
    """A vision tower of random weights in the true architecture."""
    torch.manual_seed(0)
    if name == "qwen2_5_vl":
        from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLVisionConfig
        from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VisionTransformerPretrainedModel

        return Qwen2_5_VisionTransformerPretrainedModel._from_config(
            Qwen2_5_VLVisionConfig(
                depth=2,
                hidden_size=32,
                intermediate_size=64,
                num_heads=4,
                out_hidden_size=32,
                fullatt_block_indexes=[1],
            )
        ).eval()
    if name == "qwen2_vl":
        from transformers.models.qwen2_vl.configuration_qwen2_vl import Qwen2VLVisionConfig
        from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VisionTransformerPretrainedModel

        return Qwen2VisionTransformerPretrainedModel._from_config(
            Qwen2VLVisionConfig(depth=2, embed_dim=32, hidden_size=32, num_heads=4)
        ).eval()
    from transformers.models.qwen3_vl.configuration_qwen3_vl import Qwen3VLVisionConfig
    from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLVisionModel

    return Qwen3VLVisionModel._from_config(
        Qwen3VLVisionConfig(
            depth=2, hidden_size=32, intermediate_size=64, num_heads=4, out_hidden_size=32, deepstack_visual_indexes=[1]
        )
    ).eval()


@pytest.mark.parametrize("name", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
@pytest.mark.parametrize("grid", [[[1, 16, 16]], [[1, 8, 8], [1, 20, 12], [1, 4, 10]]], ids=["one size", "three sizes"])
def test_a_tower_gives_the_same_features_and_gradients(name: str, grid: list[list[int]]) -> None:
    plain, fast = tower(name), tower(name)
    assert speed_up_vision(fast) == 2
    assert {m.config._attn_implementation for m in fast.modules() if hasattr(m, "qkv")} == {PACKED}
    sizes = torch.tensor(grid)
    patch = next(p for n, p in plain.named_parameters() if n.startswith("patch_embed")).numel()
    width = patch // 32
    pixels = torch.randn(int(sizes.prod(1).sum()), width)
    outputs = []
    for model in (plain, fast):
        features = model(pixels, grid_thw=sizes).pooler_output
        features.square().sum().backward()
        outputs.append((features, [p.grad for p in model.parameters()]))
    torch.testing.assert_close(outputs[0][0], outputs[1][0], rtol=1e-4, atol=1e-5)
    for one, other in zip(outputs[0][1], outputs[1][1], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_the_weights_keep_their_names() -> None:
    model = tower("qwen2_5_vl")
    before = copy.deepcopy(model.state_dict())
    speed_up_vision(model)
    assert {name: value.shape for name, value in before.items()} == {n: v.shape for n, v in model.state_dict().items()}


def test_segments_do_not_see_each_other() -> None:
    query, key, value = torch.randn(3, 1, 2, 10, 4).unbind(0)
    bounds = torch.tensor([0, 3, 3, 7, 10])
    attended, _ = packed_attention(torch.nn.Identity(), query, key, value, cu_seq_lens_q=bounds)
    for start, end in ((0, 3), (3, 7), (7, 10)):
        alone = torch.nn.functional.scaled_dot_product_attention(
            query[:, :, start:end], key[:, :, start:end], value[:, :, start:end]
        )
        torch.testing.assert_close(attended[:, start:end], alone.transpose(1, 2))


def test_a_model_without_a_packed_tower_is_left_alone() -> None:
    assert speed_up_vision(torch.nn.Sequential(torch.nn.Linear(2, 2))) == 0
