"""Fine-tuning: which layers stay as they were pretrained, for how long, and how fast each block learns."""

import contextlib
import logging
import math
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from bcd.config.errors import nearest
from bcd.config.ranges import Part

log = logging.getLogger(__name__)

ENCODER = "encoder"


class FineTuning:
    """Freezes layers, for the whole training or a part of it, and slows the blocks of an encoder down.

    What is frozen gets no gradient, and its batch norms keep their statistics. Rates that fall from block to block are BEiT's
    (Bao et al., ICLR 2022, arXiv:2106.08254), blocks that begin to learn one after another are ULMFiT's (Howard and Ruder,
    ACL 2018, arXiv:1801.06146).

    Args:
        frozen: `encoder`, or names of modules as the checkpoint has them, such as `model.network.decoder`; `*` matches anything.
        until: share of the training until which they are frozen; 1 freezes them for good.
        gradual: the frozen blocks begin to learn one after another, the one next to the head first and the last one at `until`.
        layer_decay: a block's rate is this times that of the next one towards the head.

    Raises:
        ValueError: where nothing is frozen that could begin to learn.
    """

    def __init__(self, frozen: Sequence[str], until: Part, gradual: bool, layer_decay: Part) -> None:
        if (gradual or until < 1) and not frozen:
            raise ValueError(f"finetune: until={until} and gradual={gradual} need something in finetune.frozen, such as [encoder].")
        if gradual and until == 1:
            raise ValueError("finetune.gradual=true needs finetune.until below 1: when has the last block begun to learn?")
        self.frozen = list(frozen)
        self.until = until
        self.gradual = gradual
        self.layer_decay = layer_decay
        self._begins: dict[str, float] = {}
        self._rates: dict[str, float] = {}
        self._still: set[str] | None = None

    @property
    def freezes(self) -> bool:
        """Return whether anything is frozen, for the whole training or a part of it."""
        return bool(self._begins)

    @property
    def thaws(self) -> bool:
        """Return whether anything that is frozen will learn later."""
        return any(share < math.inf for share in self._begins.values())

    def begin(self, network: nn.Module) -> None:
        """Look the layers up in a network, and freeze those that never learn.

        Raises:
            ValueError: for a name that it does not have, for blocks where it has no encoder, or when nothing is left to learn.
        """
        names = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
        frozen = [name for pattern in self.frozen for name in self._named(pattern, network, names)]
        away = distances(network) if self.gradual or self.layer_decay < 1 else {}
        if away and not any(away.values()):
            raise ValueError("finetune: this network has no encoder whose blocks could learn one by one; use finetune=none.")
        self._begins = self._shares(frozen, away)
        self._rates = {name: self.layer_decay**distance for name, distance in away.items()}
        if len(self._begins) == len(names) and not self.thaws:
            raise ValueError(f"finetune.frozen={self.frozen} leaves nothing that could learn.")
        for name, parameter in network.named_parameters():
            if self._begins.get(name) == math.inf:
                parameter.requires_grad_(False)
        if frozen:
            self._log(network)

    def rate(self, name: str) -> float:
        """Return the factor of a parameter's learning rate, in (0, 1]."""
        return self._rates.get(name, 1.0)

    def update(self, network: nn.Module, progress: float) -> None:
        """Freeze what does not learn at this progress of the training, in [0, 1], and let the rest learn."""
        still = {name for name, share in self._begins.items() if progress < share}
        if still == self._still:
            return
        self._still = still
        for name, parameter in network.named_parameters():
            if name in self._begins:
                parameter.requires_grad_(name not in still)
        for prefix, module in network.named_modules():
            if isinstance(module, _NormBase) and f"{prefix}.weight" in self._begins:
                module.train(f"{prefix}.weight" not in still)

    def _named(self, pattern: str, network: nn.Module, names: Sequence[str]) -> list[str]:
        if pattern == ENCODER:
            matching = [name for name in encoder_parameters(network) if name in names]
        else:
            matching = [name for name in names if fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")]
        if not matching:
            parents = {".".join(name.split(".")[:depth]) for name in names for depth in range(1, min(name.count("."), 3) + 1)}
            what = "encoder or backbone of a library" if pattern == ENCODER else repr(pattern)
            raise ValueError(f"finetune.frozen: this network has no {what}. {nearest(pattern, parents)}")
        return matching

    def _shares(self, frozen: Sequence[str], away: dict[str, int]) -> dict[str, float]:
        """Return at which share of the training each frozen parameter begins to learn; infinity for never."""
        if not self.gradual:
            return dict.fromkeys(frozen, self.until if self.until < 1 else math.inf)
        order = sorted({away[name] for name in frozen})
        return {name: self.until * (order.index(away[name]) + 1) / len(order) for name in frozen}

    def _log(self, network: nn.Module) -> None:
        sizes = {name: parameter.numel() for name, parameter in network.named_parameters()}
        log.info(
            "Fine-tuning: %.1f of %.1f M parameters are frozen, %s.",
            sum(sizes[name] for name in self._begins) / 1e6,
            sum(sizes.values()) / 1e6,
            f"the last of them for the first {self.until:.0%} of the training" if self.thaws else "for good",
        )


def encoders(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield name and module of each encoder inside a network: of segmentation_models_pytorch, or a timm network."""
    prefixes: list[str] = []
    for name, module in network.named_modules():
        if any(name.startswith(outer) for outer in prefixes):
            continue
        if _is_smp_encoder(module) or _is_timm_network(module):
            prefixes.append(f"{name}." if name else "")
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
    away = {name: 0 for name, _ in network.named_parameters()}
    for prefix, encoder in encoders(network):
        blocks = _blocks_of_smp(prefix, encoder) if _is_smp_encoder(encoder) else _blocks_of_timm(encoder)
        numbers = sorted(set(blocks.values()))
        away |= {_join(prefix, name): len(numbers) - numbers.index(number) for name, number in blocks.items()}
    return away


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
    from bcd.models.libraries import timm  # takes seconds, and a wrong config is answered without it

    groups = timm.models.group_parameters(network, network.group_matcher(coarse=False), reverse=True)  # type: ignore[operator]
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
    raise ValueError(f"{prefix}: its blocks are unknown, since it refuses images of 64 and of {made_for} px.")


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name
