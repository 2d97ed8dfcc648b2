"""Export: a model with what is active in it as one program, which needs neither this library nor transformers to run.

    copy of the model ── LoRAs into its weights ── fusions folded ── torch.export ── .pt2, or ONNX ── compared ── folder

The model itself is never touched: everything is done to a copy that shares its weights.
"""

from graftwork.export.handle import Exporting
from graftwork.export.result import ModelExport

__all__ = ["Exporting", "ModelExport"]
