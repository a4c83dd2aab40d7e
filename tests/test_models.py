from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from bcd.models.attention_unet import AttentionUNet
from bcd.models.classification import Classifier, create_backbone
from bcd.models.pretrained import IMAGENET_MEAN, IMAGENET_STD, load_weights
from bcd.models.roi import RoiChannel, RoiCrop, RoiPool, boxes_of, is_empty
from bcd.models.segmentation import UNet, encoder_name

DEVIANT = 1e-4


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = timm.create_model("resnet10t", num_classes=0)
    network.train()(torch.randn(4, 3, 64, 64))  # batch norms that are not the identity
    path = tmp_path_factory.mktemp("weights") / "resnet10t.safetensors"
    save_file(network.state_dict(), path)
    return path


@pytest.mark.parametrize("size", [(64, 64), (70, 101), (33, 200)])
def test_segmentation_networks_take_any_size(size: tuple[int, int]) -> None:
    image = torch.randn(2, 1, *size)
    for network in (UNet("resnet18", [32, 16, 16, 8, 8], False), AttentionUNet([4, 8, 16])):
        assert network(image).shape == (2, 1, *size)


def test_encoders_of_both_libraries_go_by_their_names() -> None:
    assert encoder_name("resnet18") == "resnet18"
    assert encoder_name("resnet10t") == "tu-resnet10t"
    with pytest.raises(ValueError, match="resnet18"):
        encoder_name("resnet18x")


def test_a_misspelt_backbone_is_answered_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="mobilenetv2_100"):
        create_backbone("mobilenetv2_10", pretrained=False)


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
    assert "random" in UNet("resnet10t", [16, 16, 8, 8, 8], True).origin


def test_pretrained_without_a_network_fails_with_the_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BCD_WEIGHTS", raising=False)
    monkeypatch.setattr("bcd.models.pretrained._hub_answers", lambda: False)
    with pytest.raises(FileNotFoundError, match="BCD_WEIGHTS"):
        Classifier("resnet18", 3, True, 0.0)


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
def test_roi_networks_listen_to_the_guide_and_take_an_empty_one(network: type[RoiChannel]) -> None:
    torch.manual_seed(0)
    model = network("resnet10t", 3, False, 0.0).eval()
    image, guide = torch.randn(1, 1, 64, 64), torch.zeros(1, 1, 64, 64)
    guide[..., 10:30, 10:30] = 1
    whole, empty = torch.ones_like(guide), torch.zeros_like(guide)
    with torch.no_grad():
        assert not torch.allclose(model(image, guide), model(image, empty))
        assert torch.equal(model(image, whole), model(image, empty))


@pytest.mark.parametrize("backbone", ["mobilenetv2_100", "convnext_atto", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"])
def test_roi_pool_reads_every_layout_of_features(backbone: str) -> None:
    model = RoiPool(backbone, 2, False, 0.0).eval()
    with torch.no_grad():
        assert model(torch.zeros(2, 1, 224, 224), torch.zeros(2, 1, 224, 224)).shape == (2, 2)


@pytest.mark.realdata
def test_the_local_mobilenet_loads_whole_and_says_what_it_is() -> None:
    network = Classifier("mobilenetv2_100", 3, True, 0.0)
    assert network.origin.startswith("de-quantised int8 ImageNet weights")
