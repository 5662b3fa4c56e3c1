"""The files of an export: towers as ONNX and torch programs, item vectors, users. Imports config, data, nn, runs,
serving and the rest of student."""
