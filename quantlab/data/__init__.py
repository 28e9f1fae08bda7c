"""Batches: re-iterable streams of `{input name: array}` from images, arrays, iterables and torch DataLoaders."""

from quantlab.data.arrays import ArrayBatches, read_arrays
from quantlab.data.batches import Batch, Batches, IterableBatches, LabeledBatches, LoaderBatches
from quantlab.data.images import ImageBatches, image_folder
from quantlab.data.preprocess import Preprocess
from quantlab.data.presets import PRESETS
from quantlab.data.script import ScriptBatches, script_batches
from quantlab.data.source import open_data

__all__ = [
    "PRESETS",
    "ArrayBatches",
    "Batch",
    "Batches",
    "ImageBatches",
    "IterableBatches",
    "LabeledBatches",
    "LoaderBatches",
    "Preprocess",
    "ScriptBatches",
    "image_folder",
    "open_data",
    "read_arrays",
    "script_batches",
]
