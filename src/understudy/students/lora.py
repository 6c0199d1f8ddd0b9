"""Low-rank adapters around a language model."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers.pytorch_utils import Conv1D

from understudy.errors import SettingsError
from understudy.settings import did_you_mean
from understudy.students.settings import Lora


def with_lora(network: Any, lora: Lora) -> Any:
    """The network with adapters, which alone are trained.

    Raises:
        SettingsError: the network has no layer of a name in ``targets``, or its weights are those of another too.
    """
    from peft import LoraConfig, get_peft_model

    linear = (nn.Linear, Conv1D, nn.Embedding)
    names = {name.rpartition(".")[2] for name, module in network.named_modules() if isinstance(module, linear)}
    ends = network.get_input_embeddings(), network.get_output_embeddings()
    is_tied = None not in ends and ends[0].weight is ends[1].weight
    tied = {name.rpartition(".")[2] for name, module in network.named_modules() if is_tied and module in ends}
    for target in lora.targets or ():
        if target not in names:
            raise SettingsError(
                f"student.lora.targets: the base has no layer {target!r}. {did_you_mean(target, sorted(names))}"
            )
        if target in tied:
            raise SettingsError(
                f"student.lora.targets: {target!r} shares its weights with another layer of the base, "
                "and an adapter merged into one would change both; leave it out"
            )
    config = LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,  # pyright: ignore[reportArgumentType]  # it is only divided by r
        lora_dropout=lora.dropout,
        target_modules=list(lora.targets) if lora.targets else "all-linear",
        fan_in_fan_out=network.config.model_type == "gpt2",  # its layers hold their weights transposed
        task_type="SEQ_2_SEQ_LM" if network.config.is_encoder_decoder else "CAUSAL_LM",
    )
    return get_peft_model(network, config)
