"""Where metrics go beside the manifests: MLflow, TensorBoard. After publication, and never a reason to fail a day.
Imports config and runs; a tracker's library is imported when the first result is there."""
