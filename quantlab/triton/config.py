"""The configuration of the model that computes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quantlab.errors import ConfigError
from quantlab.triton.network import Network
from quantlab.triton.options import Scheduling, TritonOptions
from quantlab.triton.tensors import Shape
from quantlab.triton.text import Word, entries

LABELS = "labels.txt"
TABLE = "calibration.flatbuffers"
"""What a calibration table is called beside the model."""


def network_config(
    name: str,
    network: Network,
    options: TritonOptions,
    samples: Mapping[str, Shape] | None,
    labelled: str | None,
    folder: str,
) -> dict[str, Any]:
    """Configure the model that computes.

    Args:
        name: Of the model.
        network: What it is.
        options: How it is served.
        samples: Input -> dimensions of a request that is made up; None if they are not known.
        labelled: The output that has labels.
        folder: Of the model's version, as the server sees it.

    Returns:
        The configuration.

    Raises:
        ConfigError: The options do not fit the network.
    """
    config: dict[str, Any] = {
        "name": name,
        "backend": network.backend,
        "default_model_filename": network.file,
        "max_batch_size": network.batch,
        "input": [tensor.to_config() for tensor in network.inputs],
        "output": [
            tensor.to_config() | ({"label_filename": LABELS} if tensor.name == labelled else {})
            for tensor in network.outputs
        ],
        "version_policy": options.scheduling.version_policy(),
        "instance_group": [_instances(network, options.scheduling)],
    }
    if batching := _dynamic_batching(network, options.scheduling):
        config |= batching
    if accelerator := _accelerator(network, options, folder):
        config["optimization"] = {"execution_accelerators": {"gpu_execution_accelerator": [accelerator]}}
    if samples is not None and options.warmup != "none":
        config["model_warmup"] = _warmup(network, samples, options.warmup or "zero")
    return config


def _instances(network: Network, scheduling: Scheduling) -> dict[str, Any]:
    kind = scheduling.kind
    if network.backend == "tensorrt":
        if kind == "cpu":
            raise ConfigError("an engine does not run on the CPU", hint="--kind gpu, or serve the ONNX model")
        kind = "gpu"
    group: dict[str, Any] = {"count": scheduling.instances, "kind": Word(f"KIND_{kind.upper()}")}
    if scheduling.gpus:
        group["gpus"] = list(scheduling.gpus)
    if network.profiles > 1:  # without it Triton takes the first only
        group["profile"] = [str(number) for number in range(network.profiles)]
    return group


def _dynamic_batching(network: Network, scheduling: Scheduling) -> dict[str, Any]:
    if network.batch <= 1:
        if scheduling.preferred or scheduling.max_queue_delay_us:
            raise ConfigError(
                f"a preferred batch size or a queue delay, but the largest batch is {network.batch}",
                hint="leave them out: no requests are put together",
            )
        return {}
    if not scheduling.dynamic:
        return {}
    if large := [size for size in scheduling.preferred if size > network.batch]:
        raise ConfigError(
            f"preferred batch size {large[0]} is more than the largest, {network.batch}", hint="prefer a smaller one"
        )
    if small := [size for size in scheduling.preferred if size < network.least]:
        raise ConfigError(
            f"preferred batch size {small[0]} is less than the engine takes, {network.least}",
            hint="prefer a larger one",
        )
    settings: dict[str, Any] = {"preferred_batch_size": sorted(set(scheduling.preferred or network.preferred))}
    if scheduling.max_queue_delay_us:
        settings["max_queue_delay_microseconds"] = scheduling.max_queue_delay_us
    return {"dynamic_batching": settings}


def _accelerator(network: Network, options: TritonOptions, folder: str) -> dict[str, Any] | None:
    """TensorRT under ONNX Runtime. Scales of Q/DQ nodes and a table exclude each other: no session is made then."""
    has_table = options.table is not None
    scales = network.has_scales or has_table
    if network.backend == "tensorrt":
        if options.accelerator or options.fp16:
            raise ConfigError("an accelerator is for ONNX models, this is an engine", hint="leave it out")
        return None
    on_cpu = options.scheduling.kind == "cpu"
    wanted = options.accelerator or ("tensorrt" if (scales or options.fp16) and not on_cpu else "none")
    if wanted == "none":
        if has_table or options.fp16:
            raise ConfigError("a table or FP16 without the accelerator does nothing", hint="--accelerator tensorrt")
        return None
    if on_cpu:
        raise ConfigError("TensorRT does not run on the CPU", hint="leave out --kind cpu, or --accelerator none")
    if options.fp16 and scales:
        raise ConfigError(
            "the accelerator takes one precision, and this model is INT8", hint="leave out --fp16 (or build an engine)"
        )
    parameters = {"precision_mode": "INT8" if scales else ("FP16" if options.fp16 else "FP32")}
    if has_table:
        parameters |= {
            "int8_calibration_table_name": TABLE,
            "int8_use_native_calibration_table": "0",
            "trt_engine_cache_path": folder,  # where the provider looks for the table
        }
    return {"name": "tensorrt", "parameters": entries(parameters)}


def _warmup(network: Network, samples: Mapping[str, Shape], data: str) -> list[dict[str, Any]]:
    """Requests of the smallest and the largest batch: what is made for a range of shapes is made before the first."""
    inputs = entries(
        {
            tensor.name: {
                "data_type": Word(tensor.kind),
                "dims": list(samples[tensor.name]),
                f"{data}_data": True,
            }
            for tensor in network.inputs
        }
    )
    sizes = sorted({network.least, network.batch}) if network.batch else [1]
    return [{"name": f"batch_{size}", "batch_size": size, "inputs": inputs} for size in sizes]
