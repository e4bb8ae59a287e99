"""Training on several nodes: the train step as a TrainJob of Kubeflow Trainer v2."""
