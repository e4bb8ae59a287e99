"""The pipeline on Kubeflow Pipelines: compiled, submitted, watched, scheduled."""
