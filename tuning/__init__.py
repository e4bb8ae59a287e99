"""Search over configurations: Optuna on this machine, Katib on a cluster, one space for both."""
