"""The encoders of a network, block by block: what fine-tuning freezes, or lets learn more slowly."""

import contextlib
from collections.abc import Iterator

import torch
from timm.models import group_parameters
from torch import Tensor, nn


def encoders(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield name and module of each encoder inside a network: of segmentation_models_pytorch, or a timm network."""
    found: list[str] = []
    for name, module in network.named_modules():
        if any(name.startswith(outer) for outer in found):
            continue
        if _is_smp_encoder(module) or _is_timm_network(module):
            found.append(f"{name}." if name else "")
            yield name, module


def encoder_parameters(network: nn.Module) -> list[str]:
    """Return the names of the parameters of all encoders; a timm network's classifier is none of them."""
    return [
        _join(prefix, name)
        for prefix, encoder in encoders(network)
        for name in dict(encoder.named_parameters())
        if name not in _classifier(encoder)
    ]


def distances(network: nn.Module) -> dict[str, int]:
    """Return how far each parameter's block stands from head or decoder: 0 for these themselves, 1 for the block next to them.

    A timm network's blocks are those of its own `group_matcher`; of a segmentation encoder, a block is what makes one more of
    its feature maps.

    Raises:
        ValueError: for an encoder that takes neither an image of 64 px nor one of the size it was made for.
    """
    found = {name: 0 for name, _ in network.named_parameters()}
    for prefix, encoder in encoders(network):
        blocks = _blocks_of_smp(prefix, encoder) if _is_smp_encoder(encoder) else _blocks_of_timm(encoder)
        numbers = sorted(set(blocks.values()))
        found |= {_join(prefix, name): len(numbers) - numbers.index(number) for name, number in blocks.items()}
    return found


def _is_smp_encoder(module: nn.Module) -> bool:
    return hasattr(module, "out_channels") and hasattr(module, "output_stride")


def _is_timm_network(module: nn.Module) -> bool:
    return hasattr(module, "group_matcher") and hasattr(module, "get_classifier")


def _classifier(encoder: nn.Module) -> set[str]:
    if _is_smp_encoder(encoder):
        return set()
    head = encoder.get_classifier()  # type: ignore[operator]
    heads = head if isinstance(head, tuple) else (head,)
    owned = {id(parameter) for part in heads if isinstance(part, nn.Module) for parameter in part.parameters()}
    return {name for name, parameter in encoder.named_parameters() if id(parameter) in owned}


def _blocks_of_timm(network: nn.Module) -> dict[str, int]:
    """Return the block of each parameter but the classifier's, counted from the input."""
    groups = group_parameters(network, network.group_matcher(coarse=False), reverse=True)  # type: ignore[operator]
    head = _classifier(network)
    return {name: int(number) for name, number in groups.items() if name not in head}


def _blocks_of_smp(prefix: str, encoder: nn.Module) -> dict[str, int]:
    """Return the number of the first feature map that depends on a parameter; the last one's where none does."""
    parameters = {name: parameter for name, parameter in encoder.named_parameters() if parameter.requires_grad}
    features = _features(prefix, encoder)
    blocks = dict.fromkeys(parameters, len(features))
    for number in reversed(range(len(features))):
        if features[number].requires_grad:
            gradients = torch.autograd.grad(features[number].sum(), list(parameters.values()), retain_graph=True, allow_unused=True)
            blocks |= {name: number for name, gradient in zip(parameters, gradients, strict=True) if gradient is not None}
    return blocks


def _features(prefix: str, encoder: nn.Module) -> list[Tensor]:
    """Return the feature maps of a black image, small where the encoder allows it."""
    kernel = next(parameter for parameter in encoder.parameters() if parameter.ndim == 4)
    made_for = getattr(getattr(encoder, "model", None), "default_cfg", {}).get("input_size", (64,))[-1]
    modes = {module: module.training for module in encoder.modules()}
    encoder.eval()
    try:
        for side in (64, made_for):
            with contextlib.suppress(AssertionError, RuntimeError, ValueError):  # libraries differ in how they refuse a size
                return list(encoder(kernel.new_zeros(1, kernel.shape[1], side, side)))
    finally:
        for module, mode in modes.items():
            module.training = mode
    raise ValueError(f"{prefix}: its blocks cannot be told apart, since it refuses images of 64 and of {made_for} px.")


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name
