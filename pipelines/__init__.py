"""The pipeline, its configuration, and the ways to run it: here or on Kubeflow."""
