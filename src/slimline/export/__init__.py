"""A network as files: ONNX, the packed file, and the check that they compute what was trained."""
