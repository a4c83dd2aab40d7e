"""Pretrained weights: from timm, or from a local file; the first layer adapted to grey so that the features survive."""

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from bcd.models.libraries import smp, timm

# Input of the pretrained network's own preprocessing: red, green, blue, on a scale of 0 to 1.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)
# What our Preprocess standardises grey with.
GREY_MEAN = 0.5
GREY_STD = 0.5


@dataclass(frozen=True)
class Weights:
    """Weights of a network and what they expect.

    Args:
        state: name -> tensor, classifier left out.
        mean: per colour channel, subtracted from values in [0, 1].
        std: per colour channel, the divisor that follows.
        origin: where they come from, in words that every result repeats.
    """

    state: dict[str, Tensor]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    origin: str


# Files that need more words than their name, by SHA-256.
KNOWN_FILES = {
    "1be49588fa04e3e27527e598be99c1d986589a631f525c6ae8bde10345028646": (
        "de-quantised int8 ImageNet weights (mobilenetv2_100.safetensors, from google-coral/test_data, Apache-2.0)",
        HALF,
        HALF,
    ),
}


def from_timm(name: str) -> Weights:
    """Return timm's weights for one of its networks.

    Raises:
        FileNotFoundError: when they cannot be reached.
        ValueError: when timm has none for the network.
    """
    configured = timm.get_pretrained_cfg(name, allow_unregistered=True)
    if configured is None or not configured.has_weights:
        raise ValueError(f"pretrained=true: timm has no weights for {name}. Use pretrained=false or a file.")
    _require_hub(name)
    try:
        network = timm.create_model(name, pretrained=True, num_classes=0)
    except Exception as error:  # the hub's client has a dozen exceptions of its own
        raise FileNotFoundError(f"pretrained=true: the weights of {name} cannot be downloaded: {error}") from error
    return Weights(network.state_dict(), configured.mean, configured.std, f"timm {name} ({configured.hf_hub_id or configured.url})")


def from_smp(name: str) -> Weights:
    """Return segmentation_models_pytorch's weights for one of its own encoders: ImageNet's, or the first it has.

    Raises:
        FileNotFoundError: when they cannot be reached.
    """
    offered = smp.encoders.encoders[name]["pretrained_settings"]
    variant = "imagenet" if "imagenet" in offered else next(iter(offered))
    _require_hub(name)
    try:
        expected = smp.encoders.get_preprocessing_params(name, variant)
        encoder = smp.encoders.get_encoder(name, weights=variant)
    except Exception as error:  # the hub's client has a dozen exceptions of its own
        raise FileNotFoundError(f"pretrained=true: the weights of {name} cannot be downloaded: {error}") from error
    scale = max(expected["input_range"])  # some encoders of smp expect values from 0 to 255
    mean, std = (tuple(value / scale for value in expected[key]) for key in ("mean", "std"))
    return Weights(encoder.state_dict(), mean, std, f"smp {name} ({offered[variant]['repo_id']})")


def load_weights(name: str, pretrained: bool | str, hub: Callable[[str], Weights] = from_timm) -> Weights:
    """Return pretrained weights for a network.

    Args:
        name: of the network in its library.
        pretrained: a file (.safetensors, or a .pth of tensors alone); or true: `<name>.safetensors` in the folder
            that the environment variable BCD_WEIGHTS names, else the library's download.
        hub: the library's download.

    Raises:
        FileNotFoundError: when the file does not exist, or the library's weights cannot be reached.
        ValueError: when the file cannot be read as weights, or the library has none for the network.
    """
    if isinstance(pretrained, str):
        return _from_file(Path(pretrained), name)
    local = Path(os.environ.get("BCD_WEIGHTS", "")) / f"{name.partition('.')[0]}.safetensors"
    if os.environ.get("BCD_WEIGHTS") and local.is_file():
        return _from_file(local, name)
    return hub(name)


def _from_file(path: Path, name: str) -> Weights:
    if not path.is_file():
        raise FileNotFoundError(f"pretrained={path}: there is no such file. Give a .safetensors or .pth file, true or false.")
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # every reader has its own exceptions
        raise ValueError(f"pretrained={path} cannot be read as weights of {name}: {error}") from error
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    configured = timm.get_pretrained_cfg(name, allow_unregistered=True)
    mean, std = (configured.mean, configured.std) if configured else (IMAGENET_MEAN, IMAGENET_STD)
    origin, mean, std = KNOWN_FILES.get(digest, (f"local file {path.name}", mean, std))
    return Weights(state, mean, std, f"{origin}, sha256 {digest[:12]}")


def _require_hub(name: str) -> None:
    if not _hub_answers():
        raise FileNotFoundError(
            f"pretrained=true: the weights of {name} cannot be downloaded (no network). Use pretrained=false, "
            f"pretrained=<file>, or put {name.partition('.')[0]}.safetensors into a folder and set BCD_WEIGHTS to it."
        )


def _hub_answers() -> bool:
    """Ask once, briefly: without a network the hub's own client retries for most of a minute."""
    import socket

    if os.environ.get("HF_HUB_OFFLINE") == "1":
        return True  # the user says that the weights lie in the hub's cache; its client then fails at once
    host = os.environ.get("HF_ENDPOINT", "https://huggingface.co").split("//")[-1].split("/")[0].split(":")[0]
    try:
        with socket.create_connection((host, 443), timeout=3):
            return True
    except OSError:
        return any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy"))


def load_into(network: nn.Module, weights: Weights, extra_channels: int = 0) -> None:
    """Load colour weights into a network of one grey channel (and `extra_channels` more, which start at zero).

    The kernels of the convolutions that see the image are summed over the colours, each scaled so that grey in [-1, 1], as our
    Preprocess makes it, gives what the grey picture in colour gave. The network may be the feature maps of the one that the
    weights are of.

    Raises:
        ValueError: when less than 95 % of the network's tensors find their weights; the names that do not are listed.
    """
    own = network.state_dict()
    state = {key: found for key in own if (found := _find(key, weights.state)) is not None}
    seeing = [name for name, module in network.named_modules() if _sees(module, state.get(f"{name}.weight"), 1 + extra_channels)]
    if not seeing:
        raise ValueError(f"The weights ({weights.origin}) do not fit the network: those of its first layer are not among them.")
    shifts = {}
    for name in seeing:
        state[f"{name}.weight"], shifts[name] = _grey_kernel(state[f"{name}.weight"], weights, extra_channels)
    unfit = sorted(key for key, value in own.items() if key not in state or state[key].shape != value.shape)
    unfit = [key for key in unfit if not key.endswith("num_batches_tracked")]
    missing = [key for key in unfit if not key.startswith(("fc.", "classifier.", "head."))]
    if len(missing) > 0.05 * len(own) or any(f"{name}.weight" in unfit for name in seeing):
        raise ValueError(f"The weights ({weights.origin}) do not fit the network: {', '.join(missing[:5])} and others.")
    network.load_state_dict({key: value for key, value in state.items() if key not in unfit}, strict=False)
    for name, shift in shifts.items():
        _absorb(network, name, shift)


def _find(key: str, state: dict[str, Tensor]) -> Tensor | None:
    """Return the weights of a tensor, also where timm's feature maps have renamed it: `stages_0.x`, `model.stages.0.x`."""
    return next((state[name] for name in _names(key) if name in state), None)


def _names(key: str) -> Iterator[str]:
    yield key
    bare = re.sub(r"^(model|body)\.", "", key)
    yield bare
    first, dot, rest = bare.partition(".")
    for underscore in re.finditer("_", first):
        yield f"{first[: underscore.start()]}.{first[underscore.end() :]}{dot}{rest}"


def _sees(module: nn.Module, kernel: Tensor | None, channels: int) -> bool:
    """Return whether a layer is a convolution on the image: of so many channels, its weights of three colours or of grey."""
    if not isinstance(module, nn.Conv2d) or kernel is None or kernel.ndim != 4 or module.groups > 1:
        return False
    return module.in_channels == channels and kernel.shape[1] in (1, 3) and len(kernel) == module.out_channels


def _grey_kernel(kernel: Tensor, weights: Weights, extra_channels: int) -> tuple[Tensor, Tensor]:
    if kernel.shape[1] == 1:
        grey, shift = kernel, kernel.new_zeros(len(kernel))
    else:
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (weights.mean, weights.std))
        grey = (kernel * (GREY_STD / std)).sum(1, keepdim=True)
        shift = (kernel * ((GREY_MEAN - mean) / std)).sum((1, 2, 3))
    return torch.cat([grey, grey.new_zeros(len(grey), extra_channels, *grey.shape[2:])], dim=1), shift


def _absorb(network: nn.Module, name: str, shift: Tensor) -> None:
    """Add the constant that a different mean leaves behind to the layer's bias, or to the mean of the batch norm that follows."""
    convolution = network.get_submodule(name)
    modules = list(network.modules())
    following = modules[modules.index(convolution) + 1 :]
    norm = next((module for module in following if isinstance(module, nn.BatchNorm2d)), None)
    with torch.no_grad():
        if isinstance(convolution.bias, Tensor):
            convolution.bias += shift
        elif norm is not None and norm.running_mean is not None and len(norm.running_mean) == len(shift):
            norm.running_mean -= shift
