"""Models in ONNX Runtime: export, cached exports, int8, sessions."""
