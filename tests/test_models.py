import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import pad

from bcd.models.attention_unet import AttentionUNet
from bcd.models.backbones import create_backbone, mapping
from bcd.models.batch_norm import spare_single_values
from bcd.models.classification import Classifier
from bcd.models.encoders import FITTING, FITTING_FROM_QUARTER
from bcd.models.guides import boxes_of, is_empty
from bcd.models.multitask import MultitaskNetwork
from bcd.models.names import encoder_name
from bcd.models.pretrained import IMAGENET_MEAN, IMAGENET_STD, load_weights
from bcd.models.roi import RoiChannel, RoiCrop, RoiPool
from bcd.models.segmentation import (
    FPN,
    DeepLabV3Plus,
    EncoderDecoder,
    LinkNet,
    MANet,
    PSPNet,
    SegFormer,
    UNet,
    UNetPlusPlus,
    UNetScSE,
)
from bcd.models.sizes import Padding, Resampling

DEVIANT = 1e-4
SMALL = "test_resnet"  # timm's own networks for tests have half a million parameters

# Every architecture with a small decoder, waiting for its encoder.
ARCHITECTURES: dict[str, Callable[[str], EncoderDecoder]] = {
    "unet": lambda encoder: UNet(encoder, [16, 16, 8, 8, 8], False),
    "unet_scse": lambda encoder: UNetScSE(encoder, [16, 16, 16, 16, 16], False),
    "unetpp": lambda encoder: UNetPlusPlus(encoder, [16, 16, 8, 8, 8], False),
    "manet": lambda encoder: MANet(encoder, [16, 16, 8, 8, 8], 8, False),
    "linknet": lambda encoder: LinkNet(encoder, False),
    "fpn": lambda encoder: FPN(encoder, 16, 32, 0.2, False),
    "pspnet": lambda encoder: PSPNet(encoder, 16, 0.2, False),
    "deeplabv3plus": lambda encoder: DeepLabV3Plus(encoder, 16, [12, 24, 36], 0.5, False),
    "segformer": lambda encoder: SegFormer(encoder, 16, False),
}
FROM_HALF = ("unetpp", "manet", "linknet")


@functools.cache
def _network(architecture: str) -> nn.Module:
    torch.manual_seed(0)
    return AttentionUNet([4, 8, 16]) if architecture == "attention_unet" else ARCHITECTURES[architecture](SMALL)


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = timm.create_model("resnet10t", num_classes=0)
    network.train()(torch.randn(4, 3, 64, 64))  # batch norms that are not the identity
    path = tmp_path_factory.mktemp("weights") / "resnet10t.safetensors"
    save_file(network.state_dict(), path)
    return path


@pytest.mark.parametrize("architecture", [*ARCHITECTURES, "attention_unet"])
def test_segmentation_networks_take_any_size(architecture: str) -> None:
    network = _network(architecture).eval()
    with torch.no_grad():
        for size in ((16, 16), (33, 33), (97, 61)):
            assert network(torch.randn(2, 1, *size)).shape == (2, 1, *size)


@pytest.mark.parametrize("architecture", [*ARCHITECTURES, "attention_unet"])
def test_padding_leaves_no_trace_in_the_scores(architecture: str) -> None:
    network = _network(architecture).eval()
    assert isinstance(network.fit, Padding)
    image = torch.randn(1, 1, 65, 97)
    continued = pad(image, (0, -97 % network.fit.multiple, 0, -65 % network.fit.multiple), mode="replicate")
    assert torch.equal(network.fit.image(continued), continued)
    with torch.no_grad():
        assert torch.equal(network(image), network(continued)[..., :65, :97])


@pytest.mark.parametrize("architecture", [*ARCHITECTURES, "attention_unet"])
def test_segmentation_networks_learn_from_a_single_tiny_image(architecture: str) -> None:
    network = _network(architecture).train()
    network.zero_grad()
    network(torch.randn(1, 1, 16, 16)).square().sum().backward()
    learning = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
    # What gets no gradient is told beforehand: several processes would wait for it.
    assert [name for name, parameter in learning.items() if parameter.grad is None] == []
    assert any(parameter.grad is not None and parameter.grad.any() for parameter in learning.values())
    assert all(torch.isfinite(value).all() for value in network.state_dict().values())


def test_a_batch_norm_of_single_values_takes_its_running_statistics() -> None:
    norm = nn.BatchNorm2d(1)
    spare_single_values(norm)
    norm.running_mean, norm.running_var, norm.eps = torch.tensor([2.0]), torch.tensor([4.0]), 1e-12
    single = norm.train()(torch.full((1, 1, 1, 1), 8.0))
    assert single.item() == pytest.approx(3)  # (8 - 2) / 2
    assert norm.training
    assert norm.running_mean.item() == 2
    pair = norm(torch.tensor([6.0, 10.0]).view(2, 1, 1, 1))
    assert pair.flatten().tolist() == pytest.approx([-1, 1])  # by the batch itself: mean 8, deviation 2
    assert norm.running_mean.item() == pytest.approx(2 + 0.1 * (8 - 2))


@pytest.mark.parametrize(
    ("architecture", "encoder"),
    [
        ("unet", "mobilenet_v2"),
        ("unet", "efficientnet-b0"),
        ("unet", "timm-tf_efficientnet_lite0"),
        ("unet", "test_convnext"),
        ("unet", "test_mambaout"),
        ("unet_scse", "test_byobnet"),
        ("unetpp", "test_efficientnet"),
        ("manet", "mobilenet_v2"),
        ("linknet", "test_nfnet"),
        ("fpn", "test_convnext2"),
        ("fpn", "mit_b0"),
        ("pspnet", "mit_b0"),
        ("pspnet", "efficientnet-b0"),
        ("deeplabv3plus", "test_efficientnet_gn"),
        ("deeplabv3plus", "tu-resnet18"),
        ("segformer", "test_resnet"),
    ],
)
def test_encoders_of_both_libraries_fit(architecture: str, encoder: str) -> None:
    network = ARCHITECTURES[architecture](encoder).train()
    image = torch.randn(2, 1, 40, 33)
    logits = network(image)
    assert logits.shape == image.shape
    logits.sum().backward()
    first = next(parameter for parameter in network.network.encoder.parameters())
    assert first.grad is not None


@pytest.mark.parametrize(
    ("architecture", "encoder", "words"),
    [
        ("unet", "vit_tiny_patch16_224", "strides 16, 16, 16"),
        ("unet", "levit_128", "strides 16, 32, 64"),
        ("unet", "nest_tiny", "5 levels need one at 32"),
        ("unet", "hiera_tiny_224", "cannot take images of any size"),
        ("linknet", "mit_b0", "needs one at 2"),
        ("unetpp", "test_convnext", "needs one at 2"),
        ("manet", "swin_tiny_patch4_window7_224", "needs one at 2"),
        ("deeplabv3plus", "densenet121", "dilated"),
        ("deeplabv3plus", "test_mambaout", "dilated"),
        ("fpn", "tu-legacy_xception", "feature maps|size"),
        ("unet", "resnet18.no_such_weights", "no_such_weights"),
    ],
)
def test_an_encoder_that_does_not_fit_is_refused_with_those_that_do(architecture: str, encoder: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as refused:
        ARCHITECTURES[architecture](encoder)
    assert "Encoders that fit: resnet18" in str(refused.value)


def test_encoders_of_both_libraries_go_by_their_names() -> None:
    assert encoder_name("resnet18") == "resnet18"
    assert encoder_name("resnet10t") == "tu-resnet10t"
    assert encoder_name("tu-resnet18") == "tu-resnet18"
    for misspelt in ("resnet18x", "tu-resnet18x", "timm-resnet18x"):
        with pytest.raises(ValueError, match="'resnet18'"):
            encoder_name(misspelt)


def test_a_shallow_network_leaves_out_what_it_does_not_use() -> None:
    network = UNet("resnet18", [32, 16, 8], False)
    still = [name for name, parameter in network.named_parameters() if not parameter.requires_grad]
    assert still
    assert all(name.startswith(("network.encoder.layer3", "network.encoder.layer4")) for name in still)
    assert network.fit == Padding(8, 8)


def test_grey_input_gives_the_features_that_the_grey_picture_in_colour_gave(weights_file: Path) -> None:
    grey = torch.rand(2, 1, 64, 64)
    mean, std = torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), torch.tensor(IMAGENET_STD).view(1, 3, 1, 1)
    colour = timm.create_model("resnet10t", num_classes=0)
    colour.load_state_dict(load_weights("resnet10t", str(weights_file)).state)
    network, origin = create_backbone("resnet10t", pretrained=str(weights_file), num_classes=0)
    stem = [module.eval()[0] for module in (colour.conv1, network.conv1)]
    with torch.no_grad():
        expected = colour.conv1[1](stem[0]((grey - mean) / std))
        found = network.conv1[1](stem[1]((grey - 0.5) / 0.5))
    # Inside: at the edge, padding with zero means another grey in each of the two.
    assert torch.allclose(found[..., 2:-2, 2:-2], expected[..., 2:-2, 2:-2], atol=DEVIANT)
    assert "local file resnet10t.safetensors" in origin


def test_weights_are_found_in_the_folder_of_the_environment(weights_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BCD_WEIGHTS", str(weights_file.parent))
    assert Classifier("resnet10t", 3, True, 0.0).origin.startswith("local file")
    assert UNet("resnet10t", [16, 16, 8, 8, 8], True).origin.startswith("encoder: local file resnet10t")


def test_pretrained_without_a_network_fails_with_the_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BCD_WEIGHTS", raising=False)
    monkeypatch.setattr("bcd.models.pretrained._hub_answers", lambda: False)
    with pytest.raises(FileNotFoundError, match="BCD_WEIGHTS"):
        Classifier("resnet18", 3, True, 0.0)


@pytest.mark.parametrize("encoder", ["test_resnet", "test_convnext", "test_efficientnet", "test_nfnet", "test_mambaout"])
def test_an_encoder_finds_all_its_weights_in_a_file_of_the_whole_network(encoder: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    whole = timm.create_model(encoder, num_classes=0)
    save_file(whole.state_dict(), tmp_path / f"{encoder}.safetensors")
    inside = UNet(encoder, [16, 16, 8, 8, 8], str(tmp_path / f"{encoder}.safetensors")).network.encoder.model
    theirs = timm.create_model(encoder, features_only=True, in_chans=1)
    expected = timm.create_model(encoder, features_only=True)
    # What timm's own feature maps of the same weights hold, but for the layer that sees the image, and the norm behind it.
    expected.load_state_dict(_renamed(whole.state_dict(), theirs))
    changed = [
        name
        for name, value in expected.state_dict().items()
        if value.shape != inside.state_dict()[name].shape or not torch.equal(value, inside.state_dict()[name])
    ]
    assert 1 <= len(changed) <= 2
    first = next(name for name in expected.state_dict() if name.endswith("weight"))
    assert first in changed


def _renamed(state: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Return a state with timm's names for feature maps, found by shape and order alone."""
    own = network.state_dict()
    kept = [name for name in state if name in own or name.replace(".", "_", 1) in own]
    assert len(kept) == len(own)
    return dict(zip(own, (state[name] for name in kept), strict=True))


def test_encoders_of_smp_take_the_weights_of_smp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(2)
    theirs = smp.encoders.get_encoder("mobilenet_v2", weights=None)
    save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    settings = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "input_range": [0, 1], "input_space": "RGB"}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    monkeypatch.delenv("BCD_WEIGHTS", raising=False)
    monkeypatch.setattr("bcd.models.pretrained._hub_answers", lambda: True)
    monkeypatch.setattr("segmentation_models_pytorch.encoders.hf_hub_download", lambda *_, filename, **__: str(tmp_path / filename))
    network = UNet("mobilenet_v2", [16, 16, 8, 8, 8], True)
    assert network.origin == "encoder: smp mobilenet_v2 (smp-hub/mobilenet_v2.imagenet); decoder: random weights"
    found, expected = network.network.encoder.state_dict(), theirs.state_dict()
    assert torch.equal(found["features.5.conv.0.0.weight"], expected["features.5.conv.0.0.weight"])
    # Grey in [-1, 1] is 0.5 + 0.5 x; on the encoder's own scale (0.5 + 0.5 x - 0.5) / 0.25 = 2 x in each colour.
    assert torch.allclose(found["features.0.0.weight"], 2 * expected["features.0.0.weight"].sum(1, keepdim=True), atol=1e-6)


def test_both_layers_that_see_the_image_become_grey(tmp_path: Path) -> None:
    colour = timm.create_model("crossvit_tiny_240", num_classes=0, depth=[[1, 1, 0]])
    save_file(colour.state_dict(), tmp_path / "crossvit.safetensors")
    path = str(tmp_path / "crossvit.safetensors")
    network, _ = create_backbone("crossvit_tiny_240", pretrained=path, num_classes=0, depth=[[1, 1, 0]])
    std = torch.tensor(IMAGENET_STD).view(1, 3, 1, 1)
    for own, theirs in zip(network.patch_embed, colour.patch_embed, strict=True):
        assert torch.allclose(own.proj.weight, (theirs.proj.weight * 0.5 / std).sum(1, keepdim=True), atol=1e-6)


def test_a_grey_network_keeps_its_first_layer_beside_an_outline(tmp_path: Path) -> None:
    grey = timm.create_model(SMALL, num_classes=0, in_chans=1)
    save_file(grey.state_dict(), tmp_path / "grey.safetensors")
    network = RoiChannel(SMALL, 2, str(tmp_path / "grey.safetensors"), 0.0).network
    first = next(module for module in network.modules() if isinstance(module, nn.Conv2d)).weight
    assert torch.equal(first[:, :1], next(module for module in grey.modules() if isinstance(module, nn.Conv2d)).weight)
    assert not first[:, 1].any()


def test_weights_of_another_network_are_refused(weights_file: Path) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        Classifier("resnet18", 3, str(weights_file), 0.0)


def test_a_file_that_is_no_weights_is_refused(tmp_path: Path) -> None:
    broken = tmp_path / "resnet18.safetensors"
    broken.write_bytes(b"no weights")
    with pytest.raises(ValueError, match="cannot be read as weights"):
        Classifier("resnet18", 3, str(broken), 0.0)
    with pytest.raises(FileNotFoundError, match="no such file"):
        Classifier("resnet18", 3, str(tmp_path / "absent.pth"), 0.0)


@pytest.mark.parametrize("backbone", ["mobilenetv2_100", "resnet10t"])
def test_a_classifier_begins_undecided(backbone: str) -> None:
    network = Classifier(backbone, 3, False, 0.0)
    network.train()
    with torch.no_grad():
        probability = network(torch.randn(8, 1, 64, 64)).softmax(1)
    assert probability.max() < 0.6


def _guide() -> torch.Tensor:
    guide = torch.zeros(2, 1, 100, 120)
    guide[0, 0, 20:40, 50:90] = 1  # 20 high, 40 wide; the second is empty
    return guide


def test_the_box_is_square_has_its_margin_and_falls_back_to_the_whole_image() -> None:
    boxes = boxes_of(_guide(), margin=0.25)
    assert boxes[0].tolist() == [40.0, 0.0, 100.0, 60.0]  # centre (70, 30), side 40 * 1.5
    assert boxes[1].tolist() == [0.0, -10.0, 120.0, 110.0]  # the whole image, made square
    assert is_empty(_guide()).tolist() == [False, True]


def test_the_crop_shows_what_is_inside_the_box() -> None:
    network = RoiCrop("resnet10t", 2, False, 0.0, margin=0.0, crop_size=32)
    crop = network.crop(_guide(), _guide())
    assert crop.shape == (2, 1, 32, 32)
    assert crop[0, 0, 10:22, 1:-1].min() == pytest.approx(1)  # the middle half of the rows is outline, but for the very edge
    assert crop[0, 0, :7].max() == 0
    assert crop[1].max() == 0


@pytest.mark.parametrize("network", [RoiChannel, RoiPool])
@pytest.mark.parametrize("backbone", ["resnet10t", "test_vit", "test_convnext"])
def test_roi_networks_listen_to_the_guide_and_take_an_empty_one(network: type[RoiChannel], backbone: str) -> None:
    torch.manual_seed(0)
    model = network(backbone, 3, False, 0.0).eval()
    image, guide = torch.randn(1, 1, 70, 64), torch.zeros(1, 1, 70, 64)
    guide[..., 10:30, 10:30] = 1
    whole, empty = torch.ones_like(guide), torch.zeros_like(guide)
    with torch.no_grad():
        assert not torch.allclose(model(image, guide), model(image, empty))
        assert torch.equal(model(image, whole), model(image, empty))


# One of each layout and way of fitting an image: maps, tokens, maps with the channels last, tokens of one size only.
BACKBONES: dict[str, dict[str, Any]] = {
    "test_resnet": {},
    "test_convnext": {},
    "test_vit": {},
    "test_vit_relpos": {},
    "densenet121": {"block_config": [1, 1, 1, 1]},
    "vgg11": {"mlp_ratio": 0.01},
    "swin_tiny_patch4_window7_224": {"depths": [1, 1, 1, 1], "embed_dim": 24},
    "eva02_tiny_patch14_224": {"depth": 1},
}


@pytest.mark.parametrize("backbone", BACKBONES)
def test_classifiers_take_any_size_and_learn_from_a_single_image(backbone: str) -> None:
    network = Classifier(backbone, 3, False, 0.0, BACKBONES[backbone])
    for size in ((16, 16), (33, 47), (97, 61)):
        assert network.eval()(torch.randn(2, 1, *size)).shape == (2, 3)
    network.train()(torch.randn(1, 1, 16, 16)).square().sum().backward()
    missing = [name for name, parameter in network.named_parameters() if parameter.requires_grad and parameter.grad is None]
    assert missing == []


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_way_of_giving_an_outline_works_with_every_kind_of_backbone(backbone: str) -> None:
    image, guide = torch.randn(2, 1, 48, 64), torch.zeros(2, 1, 48, 64)
    guide[0, :, 10:20, 30:50] = 1
    for network in (
        RoiCrop(backbone, 2, False, 0.0, 0.25, 40, BACKBONES[backbone]),
        RoiChannel(backbone, 2, False, 0.0, BACKBONES[backbone]),
        RoiPool(backbone, 2, False, 0.0, BACKBONES[backbone]),
    ):
        logits = network(image, guide)
        assert logits.shape == (2, 2)
        logits.sum().backward()


def test_roi_pool_finds_the_place_of_the_outline_among_tokens_and_maps() -> None:
    for backbone in ("test_vit", "swin_tiny_patch4_window7_224", "test_resnet"):
        model = RoiPool(backbone, 2, False, 0.0, BACKBONES[backbone]).eval()
        cells: list[Tensor] = []
        model._look = lambda image, cells=cells: cells[0]  # type: ignore[misc]
        cells.append(torch.arange(12.0).view(1, 1, 3, 4).expand(1, model.head[1].in_features // 2, 3, 4))
        outline = torch.zeros(1, 1, 48, 64)
        outline[..., 16:32, 48:64] = 1  # second row, fourth column: cell 7; the mean of all cells is 5.5
        model.head = nn.Identity()
        inside, everywhere = model(torch.zeros(1, 1, 48, 64), outline).chunk(2, dim=1)
        assert inside.unique().tolist() == [7]
        assert everywhere.unique().tolist() == [5.5]


def test_tokens_lie_where_the_image_had_them() -> None:
    torch.manual_seed(0)
    look = mapping("vit_tiny_patch16_224", pretrained=False, kwargs={"depth": 0, "pos_embed": "none", "final_norm": False}).look
    image = torch.zeros(1, 1, 48, 64)
    image[..., 16:32, 48:64] = 1
    grid = look(image)
    assert grid.shape == (1, 192, 3, 4)
    different = (grid - grid[..., :1, :1]).abs().sum(1)[0] > 1e-6
    assert different.nonzero().tolist() == [[1, 3]]


def test_a_network_that_pools_by_itself_is_asked_for_its_features() -> None:
    made = mapping("vgg11", pretrained=False, kwargs={"mlp_ratio": 0.01})
    assert made.look(torch.zeros(1, 1, 64, 96)).shape == (1, 512, 2, 3)


def test_a_network_of_one_size_gets_its_images_resampled() -> None:
    network = Classifier("test_vit_relpos", 2, False, 0.0)
    assert network.fit == Resampling(160, 160)
    assert Classifier("test_vit_relpos", 2, False, 0.0, {"img_size": 64}).fit == Resampling(64, 64)
    assert network.fit.image(torch.ones(1, 1, 20, 30)).unique().tolist() == [1]
    assert network.fit.outline(torch.zeros(1, 1, 200, 10)).shape == (1, 1, 160, 160)


def test_padding_goes_on_with_the_edge_and_the_outline_with_nothing() -> None:
    fit = Padding(4, 8)
    image = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).view(1, 1, 2, 2)
    assert fit.image(image)[0, 0, :, -1].tolist() == [2, 4, 4, 4, 4, 4, 4, 4]
    assert fit.outline(image).sum() == image.sum()
    assert fit.image(torch.zeros(1, 1, 9, 12)).shape == (1, 1, 12, 12)


@pytest.mark.parametrize(
    ("backbone", "kwargs", "words"),
    [
        ("resnet18x", {}, "'resnet18'"),
        ("resnet18", {"no_such": 1}, "no_such"),
        ("test_vit", {"global_pool": ""}, "instead of logits"),
    ],
)
def test_a_backbone_that_cannot_classify_is_refused(backbone: str, kwargs: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Classifier(backbone, 2, False, 0.0, kwargs)


def test_a_multitask_network_outlines_and_classifies_with_one_encoder() -> None:
    network = MultitaskNetwork(UNet(SMALL, [16, 16, 8, 8, 8], False), 3, 0.0)
    outline, classes = network(torch.randn(2, 1, 33, 50))
    assert outline.shape == (2, 1, 33, 50)
    assert classes.shape == (2, 3)
    image = torch.randn(1, 1, 40, 40)
    with torch.no_grad():
        assert torch.equal(network.eval()(image)[0], network.network(image))  # type: ignore[operator]
    with pytest.raises(TypeError, match="segmentation network"):
        MultitaskNetwork(Classifier(SMALL, 2, False, 0.0), 3, 0.0)  # type: ignore[arg-type]


def _built_or_refused(build: Callable[[], nn.Module], words: str) -> nn.Module | None:
    try:
        return build()
    except ValueError as error:
        if words not in str(error):
            raise
        return None


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_encoders_that_errors_offer_fit_everywhere(architecture: str) -> None:
    from_quarter = () if architecture in (*FROM_HALF, "deeplabv3plus") else FITTING_FROM_QUARTER
    for encoder in (*FITTING, *from_quarter):
        network = ARCHITECTURES[architecture](encoder)
        assert network(torch.randn(2, 1, 64, 64)).shape == (2, 1, 64, 64)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "encoder"), list(enumerate(smp.encoders.encoders)))
def test_every_encoder_of_smp_fits_or_is_refused_in_words(number: int, encoder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # smp makes the first layer anew by a constructor that heeds no device.
    monkeypatch.setattr("segmentation_models_pytorch.encoders._utils.patch_first_conv", _with_channels)
    _try_architectures(number, encoder)


def _with_channels(model: nn.Module, new_in_channels: int, pretrained: bool) -> None:
    first = next(module for module in model.modules() if isinstance(module, nn.Conv2d) and module.in_channels == 3)
    first.in_channels = new_in_channels
    first.weight = nn.Parameter(torch.empty(first.out_channels, new_in_channels, *first.kernel_size))


def _one_of_each_family() -> list[str]:
    families = [timm.list_models(module=family) for family in timm.list_modules()]
    return [names[len(names) // 2] for names in families if names]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "encoder"), list(enumerate(_one_of_each_family())))
def test_every_family_of_timm_fits_as_an_encoder_or_is_refused_in_words(number: int, encoder: str) -> None:
    _try_architectures(number, f"tu-{encoder}")


def _try_architectures(number: int, encoder: str) -> None:
    """Build and step a U-Net and one more in turn, of shapes alone: the largest encoders have a billion parameters."""
    others = [name for name in ARCHITECTURES if name != "unet"]
    for build in (ARCHITECTURES["unet"], ARCHITECTURES[others[number % len(others)]]):
        with torch.device("meta"):
            network = _built_or_refused(lambda build=build: build(encoder), f"cannot use the encoder {encoder}")
            if network is None:
                continue
            image = torch.zeros(2, 1, 40, 70)
            logits = network(image)
            logits.sum().backward()
            assert logits.shape == image.shape


@pytest.mark.slow
@pytest.mark.parametrize("backbone", _one_of_each_family())
def test_every_family_of_timm_classifies_or_is_refused_in_words(backbone: str) -> None:
    image, guide = torch.zeros(2, 1, 40, 70, device="meta"), torch.zeros(2, 1, 40, 70, device="meta")
    for build in (Classifier, RoiPool):
        with torch.device("meta"):
            network = _built_or_refused(lambda build=build: build(backbone, 3, False, 0.0), backbone)
            if network is None:
                continue
            logits = network(image) if build is Classifier else network(image, guide)
            logits.sum().backward()
            assert logits.shape == (2, 3)


@pytest.mark.realdata
def test_the_local_mobilenet_loads_whole_and_says_what_it_is() -> None:
    network = Classifier("mobilenetv2_100", 3, True, 0.0)
    assert network.origin.startswith("de-quantised int8 ImageNet weights")
