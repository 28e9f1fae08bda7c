"""TensorRT, imported in this folder only. Importing this package needs TensorRT; nothing else of quantlab does.

Nothing here asks at import time for what TensorRT 11 lacks: `quantlab.trt.calibrators` alone does, with an error that
names the way out.
"""
