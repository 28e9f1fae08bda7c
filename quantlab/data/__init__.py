"""Batches: re-iterable streams of `{input name: array}` from images, arrays, iterables and torch DataLoaders."""

from quantlab.arguments import guard
from quantlab.data.arrays import ArrayBatches, read_arrays
from quantlab.data.batches import Batch, Batches, IterableBatches, LabeledBatches, Labels, LoaderBatches
from quantlab.data.check import check_batch, narrowed
from quantlab.data.facts import DerivedBatches, StreamFacts, stream_facts
from quantlab.data.images import ImageBatches, image_folder
from quantlab.data.integer_inputs import IntegerUse, integer_uses
from quantlab.data.made_up import made_up_batch
from quantlab.data.preprocess import Preprocess
from quantlab.data.presets import PRESETS
from quantlab.data.script import ScriptBatches, script_batches
from quantlab.data.source import DataOptions, open_data
from quantlab.data.whole import BatchSize, WholeBatches, notices_of

__all__ = [
    "PRESETS",
    "ArrayBatches",
    "Batch",
    "BatchSize",
    "Batches",
    "DataOptions",
    "DerivedBatches",
    "ImageBatches",
    "IntegerUse",
    "IterableBatches",
    "LabeledBatches",
    "Labels",
    "LoaderBatches",
    "Preprocess",
    "ScriptBatches",
    "StreamFacts",
    "WholeBatches",
    "check_batch",
    "image_folder",
    "integer_uses",
    "made_up_batch",
    "narrowed",
    "notices_of",
    "open_data",
    "read_arrays",
    "script_batches",
    "stream_facts",
]

guard(globals())
