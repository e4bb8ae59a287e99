"""Training a SequentialRecommender."""
