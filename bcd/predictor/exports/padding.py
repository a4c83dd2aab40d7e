"""TensorFlow's "same" padding as constants: torch could not follow it in a graph of any size.

A layer of that padding asks for the size of what it is given, and pads as much as the stride leaves over. In a graph whose
size is a symbol, each of some fifty layers makes the expression longer, and torch takes minutes over them. Where the images' sides
are multiples of 32 px, what every layer is given divides by its stride, and the amounts are constants.
"""

from timm.layers import Conv2dSame
from torch import Tensor, nn
from torch.nn.functional import pad


class _Padded(nn.Module):
    """A convolution behind a constant padding: right and bottom get the odd pixel, as TensorFlow has it."""

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        amounts = [_amount(*sizes) for sizes in zip(layer.kernel_size, layer.stride, layer.dilation, strict=True)]
        (top, bottom), (left, right) = ((total // 2, total - total // 2) for total in amounts)
        self.sides = [left, right, top, bottom]
        self.layer = nn.Conv2d(
            layer.in_channels,
            layer.out_channels,
            (layer.kernel_size[0], layer.kernel_size[1]),
            (layer.stride[0], layer.stride[1]),
            0,
            (layer.dilation[0], layer.dilation[1]),
            layer.groups,
            bias=layer.bias is not None,
        )
        self.layer.load_state_dict(layer.state_dict())

    def forward(self, values: Tensor) -> Tensor:
        return self.layer(pad(values, self.sides))


def with_constant_padding(network: nn.Module) -> nn.Module:
    """Return a network for images whose sides are multiples of 32 px, in place: the same digits, and no size is asked for.

    Args:
        network: in evaluation mode; its strides multiply to 32 at most.
    """
    for parent in list(network.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, Conv2dSame):
                setattr(parent, name, _Padded(layer).eval())
    return network


def _amount(kernel: int, stride: int, dilation: int) -> int:
    """Return the pixels that are added along a side which divides by the stride."""
    return max((kernel - 1) * dilation + 1 - stride, 0)
