"""Everything about TensorRT engines that needs no TensorRT: options, records, messages, ranges, measuring, audit.

What does need it is reached through `Runtime` (see `quantlab.engines.runtime`), which `quantlab.trt` implements.
"""
