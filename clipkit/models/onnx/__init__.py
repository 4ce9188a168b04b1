"""Models in ONNX Runtime: export, int8, sessions."""
