"""A model version on a cluster: copied to the model store, watched, explained, asked."""
