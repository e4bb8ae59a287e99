"""The recommender and its mathematics: torch and numpy, no orchestration, feature store or server."""
