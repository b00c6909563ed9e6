"""Factored norms for the DoRA layers of Hugging Face's peft: the same outputs, gradients and checkpoints."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from sooner.adapter._factored import factored_norm
from sooner.error import SoonerError
from sooner.execute.shards import is_sharded
from sooner.foundation.surgery import swap

try:
    from peft.tuners.lora.dora import DoraLinearLayer
    from peft.utils.integrations import dequantize_module_weight
except ImportError as error:
    raise SoonerError(
        "sooner.adapter.factored_dora changes layers of peft, which is not installed; pip install sooner[peft], or use "
        "sooner.adapter.DoRA, which needs nothing"
    ) from error


class FactoredDoraLinear(DoraLinearLayer):
    """peft's layer for linear bases, with the norm from the factors."""

    def forward(
        self,
        x: Tensor,
        *,
        lora_A: nn.Module,  # noqa: N803  # peft's names
        lora_B: nn.Module,  # noqa: N803
        scaling: float,
        base_layer: nn.Module,
        base_result: Tensor | None = None,
        adapter_name: str = "default",
    ) -> Tensor:
        """Return what is to be added to the base layer's output.

        Raises:
            SoonerError: weights of the adapter that are sharded at this moment.
        """
        a, b = lora_A.weight, lora_B.weight
        if is_sharded(a) or is_sharded(b):  # type: ignore[arg-type]
            raise SoonerError(
                "factored_dora: the adapter's weights are sharded by themselves; call fully_shard on whole blocks, "
                "which gathers them before"
            )
        weight: Any = dequantize_module_weight(base_layer)
        weight = weight.detach()
        weight = weight.T if self.fan_in_fan_out else weight
        norm = factored_norm(weight, a.detach(), b.detach(), scaling)  # type: ignore[operator]
        gain = self.weight / norm.to(self.weight.dtype)
        low = lora_B(lora_A(x))
        if base_result is None:
            base_result = functional.linear(x, weight.to(x.dtype))
        elif base_layer.bias is not None:
            base_result = base_result - base_layer.bias  # type: ignore[operator]
        result: Tensor = (low * (scaling * gain)).addcmul(base_result, gain - 1)
        return result


def factored_dora(model: nn.Module) -> int:
    """Let all DoRA layers of peft in a model take their norms from the factors, in place.

    Parameters, their names and state files stay as they are; adapters may be added, switched, merged and saved as
    before. Layers over embeddings and convolutions, whose products are small, are left alone. Call it again after
    adding an adapter.

    Args:
        model: with ``LoraConfig(use_dora=True)``; plain or to be wrapped by DistributedDataParallel.

    Returns:
        How many layers do so now that did not before.

    Raises:
        SoonerError: the model has no DoRA layer over a linear one; or peft is not installed.
    """
    layers = [module for module in model.modules() if isinstance(module, DoraLinearLayer)]
    if not any(type(module) in (DoraLinearLayer, FactoredDoraLinear) for module in layers):
        raise SoonerError(
            "factored_dora: the model has no DoRA layer over a linear one; make it with "
            "get_peft_model(model, LoraConfig(use_dora=True, …)) first"
        )
    plain = [module for module in layers if type(module) is DoraLinearLayer]
    for module in plain:
        swap(module, FactoredDoraLinear)
    return len(plain)
