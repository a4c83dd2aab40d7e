"""Libraries imported, and networks built, without what only training and compiling need: that takes longer than torch itself."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.nn import init
from torch.overrides import TorchFunctionMode

_COMPILER, _UTILS = "torch._dynamo", "torch._dynamo.utils"
_RANDOM = (Tensor.normal_, Tensor.uniform_, init.normal_, init.uniform_, init.trunc_normal_, init.kaiming_uniform_)


@contextmanager
def without_compiler() -> Iterator[None]:
    """Keep the compiler of torch from being imported by libraries that only mention it.

    timm marks functions that the compiler must ignore: within this context they stay unchanged. torchvision takes a
    function from it, which imports the compiler when it is called. Where the compiler is loaded already, nothing changes;
    after the context it can be imported as ever.
    """
    if _COMPILER in sys.modules:
        yield
        return
    compiler, utils = ModuleType(_COMPILER), ModuleType(_UTILS)
    vars(compiler).update(__path__=[], disable=_as_it_is, utils=utils)
    vars(utils).update(is_compile_supported=_is_compile_supported)
    sys.modules |= {_COMPILER: compiler, _UTILS: utils}
    try:
        yield
    finally:
        del sys.modules[_COMPILER], sys.modules[_UTILS]


class ZerosForRandom(TorchFunctionMode):
    """Context in which networks are built with zeros where they would draw random weights: a file's take their place.

    On the meta device, on which segmentation_models_pytorch looks at an encoder's shapes, drawing would import the compiler.
    """

    def __torch_function__(
        self, function: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Return what a function of torch returns."""
        kwargs = kwargs or {}
        if function not in _RANDOM:
            return function(*args, **kwargs)
        tensor: Tensor = args[0] if args else kwargs["tensor"]
        with torch.no_grad():
            return tensor.zero_()


def _as_it_is(function: Callable[..., Any], *_: Any, **__: Any) -> Callable[..., Any]:
    return function


def _is_compile_supported(device_type: str) -> bool:
    from torch._dynamo.utils import is_compile_supported  # start-up: see the module

    return bool(is_compile_supported(device_type))
