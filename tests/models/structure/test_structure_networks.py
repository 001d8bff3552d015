"""The three networks around tiny backbones: shapes, what is frozen, what starts as nothing, what is kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from structure_models import small_settings
from transformers import AltCLIPConfig, AltCLIPModel, AutoModel

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.models.structure.features import FeatureCache
from t2i_eval_kedro.models.structure.model import (
    Calibration,
    StructureConfig,
    StructureModel,
    load_structure,
    load_tokenizer,
    save_structure,
    tokenize,
)
from t2i_eval_kedro.models.structure.networks import Network, Rahf, backbones, build_network, instance_masks
from t2i_eval_kedro.models.structure.settings import ARCHITECTURES, Architecture

PIXELS = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def build(architecture: Architecture, backbones: Path, **changes: object) -> tuple[Network, dict[str, torch.Tensor]]:
    settings = small_settings(backbones, backbones, **{architecture: changes}).network(architecture)
    torch.manual_seed(0)
    network = build_network(architecture, settings)
    tokens = tokenize(load_tokenizer(settings), ["a red circle", "two blue squares ."], "") if network.text else {}
    return network, tokens


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_network_predicts_a_heat_map_and_a_score_and_learns_all_but_what_is_frozen(
    architecture: Architecture, backbones: Path
) -> None:
    network, tokens = build(architecture, backbones, **({"frozen_share": 0.0} if architecture == "rahf" else {}))
    heat = torch.zeros(2, network.heat_size, network.heat_size)
    heat[0, :8, :8] = 1
    network.train()
    out = network(PIXELS, **tokens, heat=heat, score=torch.tensor([0.2, 0.9]))
    assert out["heat"].shape == heat.shape
    assert out["score"].shape == (2,)
    out["loss"].backward()
    untouched = [name for name, p in network.named_parameters() if p.requires_grad and p.grad is None]
    frozen = [name for name, p in network.named_parameters() if not p.requires_grad]
    # CLIP's projections join picture and text for its own loss alone.
    allowed = (
        "encoder.visual_projection",
        "encoder.text_projection",
        "encoder.logit_scale",
        "encoder.vision_model.post_layernorm",
    )
    assert [name for name in untouched if not name.startswith(allowed)] == []
    assert all(name.startswith(network.frozen) for name in frozen) if network.frozen else not frozen
    if architecture == "hybrid":
        assert {name.split(".")[0] for name in frozen} == {"vit", "cnn"}
        assert not network.vit.training
        assert not network.cnn.training


def test_the_mask_decoder_of_hybrid_begins_as_the_cnn_and_is_trained_apart_from_it(backbones: Path) -> None:
    network, _ = build("hybrid", backbones)
    network.train()
    before = {name: value.clone() for name, value in network.cnn.state_dict().items()}
    for name, value in network.decoder.cnn.state_dict().items():
        torch.testing.assert_close(value, before[name])
    heat = torch.zeros(2, network.heat_size, network.heat_size)
    heat[:, :8, :8] = 1
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1)
    network(PIXELS, heat=heat, score=torch.tensor([0.2, 0.9]))["loss"].backward()
    optimizer.step()
    for name, value in network.cnn.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    assert not [name for name, p in network.decoder.cnn.named_parameters() if torch.equal(p, before[name])]


def test_before_training_the_injection_changes_nothing(backbones: Path) -> None:
    network, _ = build("hybrid", backbones)
    network.eval()
    plain = AutoModel.from_pretrained(backbones / "vit", dtype=torch.float32)(
        pixel_values=(PIXELS - network.mean) / network.std
    )
    seen = {}
    network.vit.register_forward_hook(lambda module, args, out: seen.update(hidden=out.last_hidden_state))
    network(PIXELS)
    torch.testing.assert_close(seen["hidden"], plain.last_hidden_state)
    with torch.no_grad():
        for inject in network.inject:
            inject.scale.fill_(0.5)
    network(PIXELS)
    assert (seen["hidden"] - plain.last_hidden_state).abs().max() > 1e-3


def test_features_that_were_kept_give_what_computing_them_gives(backbones: Path, tmp_path: Path) -> None:
    network, _ = build("hybrid", backbones)
    network.eval()
    with torch.no_grad():
        for inject in network.inject:  # at 0, as it begins, nothing of the features would be seen
            inject.scale.fill_(0.5)
    pixels = (PIXELS[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    unit = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    cache = FeatureCache(tmp_path, "this network")
    assert cache.read(pixels) is None
    cache.write(pixels, {name: value[0] for name, value in network.frozen_features(unit).items()})
    assert FeatureCache(tmp_path, "another network").read(pixels) is None
    assert cache.read(pixels[:, ::-1].copy()) is None
    kept = {name: value[None].float() for name, value in cache.read(pixels).items()}
    a, b = network(unit), network(unit, features=kept)
    torch.testing.assert_close(a["heat"], b["heat"], atol=2e-2, rtol=0)
    assert not torch.equal(b["heat"], network(unit, features={name: value + 1 for name, value in kept.items()})["heat"])
    path = cache.path(pixels)
    path.write_bytes(path.read_bytes()[:40])
    assert cache.read(pixels) is None


def test_rahf_reads_the_prompt_and_unfreezes_its_encoders_on_time(backbones: Path) -> None:
    network, tokens = build("rahf", backbones, frozen_share=0.5)
    network.eval()
    other = tokenize(load_tokenizer(small_settings(backbones, backbones).rahf), ["a green star", "a ring"], "")
    assert not torch.allclose(network(PIXELS, **tokens)["score"], network(PIXELS, **other)["score"])
    for share, trained in ((0.0, False), (0.49, False), (0.5, True), (1.0, True)):
        network.set_training_share(share)
        assert {p.requires_grad for p in network.encoder.parameters()} == {trained}


def test_padding_of_the_prompts_does_not_change_a_score(backbones: Path) -> None:
    network, tokens = build("rahf", backbones)
    network.eval()
    alone = {name: value[:1, : int(tokens["attention_mask"][0].sum())] for name, value in tokens.items()}
    torch.testing.assert_close(
        network(PIXELS[:1], **alone)["score"], network(PIXELS, **tokens)["score"][:1], atol=1e-4, rtol=0
    )


def test_rahf_takes_an_altclip(backbones: Path) -> None:
    config = AltCLIPConfig(
        text_config={"vocab_size": 50, "hidden_size": 16, "project_dim": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16},
        vision_config={"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "image_size": 64, "patch_size": 16},
    )  # fmt: skip
    network = Rahf(small_settings(backbones, backbones).rahf, AltCLIPModel(config)).eval()
    tokens = {"input_ids": torch.tensor([[2, 3, 4]] * 2), "attention_mask": torch.ones(2, 3, dtype=torch.long)}
    assert network(PIXELS, **tokens)["heat"].shape == (2, 16, 16)


def test_instances_are_the_connected_regions_of_the_target() -> None:
    heat = torch.zeros(10, 10)
    heat[0:2, 0:2], heat[2, 2], heat[6:8, 6:8], heat[9, 0] = 1, 0.5, 0.3, 0.1
    masks = instance_masks(heat)
    assert sorted(int(mask.sum()) for mask in masks) == [
        4,
        5,
    ]  # a corner joins; less than one annotator of three is none
    assert instance_masks(torch.zeros(4, 4)).shape == (0, 4, 4)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_is_saved_predicts_the_same_and_frozen_weights_are_not_saved_again(
    architecture: Architecture, backbones: Path, tmp_path: Path
) -> None:
    settings = small_settings(backbones, backbones).network(architecture)
    network, _ = build(architecture, backbones)
    from t2i_eval_kedro.models.loading import fingerprint
    from t2i_eval_kedro.models.structure.model import VERSION

    config = StructureConfig(
        version=VERSION,
        architecture=architecture,
        settings=settings.model_dump(mode="json"),
        fingerprints={field: fingerprint(name) for field, name in _named(settings).items()},
        dimension="structure",
        scale_min=1,
        scale_max=5,
        calibration=Calibration(threshold=0.04, slope=1.0, offset=0.5),
    )
    model = StructureModel(network, config, load_tokenizer(settings) if network.text else None)
    save_structure(model, tmp_path)
    images = [Image.fromarray((PIXELS[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)).resize((100, 80))]
    before, after = model.predict(images, ["a circle"])[0], load_structure(tmp_path).predict(images, ["a circle"])[0]
    assert before.score == pytest.approx(after.score, abs=1e-5)
    assert before.mask.shape == after.heat.shape == (80, 100)
    np.testing.assert_allclose(before.heat, after.heat, atol=1e-5)
    assert 1 <= after.score <= 5
    assert (after.mask == (after.heat >= 0.04)).all()
    if architecture == "hybrid":
        saved = load_file(tmp_path / "model.safetensors")
        assert not [name for name in saved if name.startswith(("vit.", "cnn."))]
        moved = settings.model_copy(update={"vit": str(backbones / "clip")})
        changed = config.model_copy(update={"fingerprints": config.fingerprints | {"vit": "0" * 64}})
        (tmp_path / "structure_config.json").write_text(changed.model_dump_json())
        with pytest.raises(T2IEvalError, match="is not the one that"):
            load_structure(tmp_path)
        assert moved.vit != settings.vit


def _named(settings: object) -> dict[str, str]:
    return backbones(settings)


def test_a_model_without_what_it_needs_is_named(backbones: Path, tmp_path: Path) -> None:
    with pytest.raises(T2IEvalError, match="is not a model of structure"):
        load_structure(tmp_path)
    with pytest.raises(T2IEvalError, match="has no encoders of image and text"):
        build("rahf", backbones, text_image=str(backbones / "vit"))
    with pytest.raises(T2IEvalError, match="does not exist"):
        build("hybrid", backbones, vit=str(backbones / "none"))
    with pytest.raises(T2IEvalError, match="no power of 2"):
        build("rahf", backbones, heat_size=48)
