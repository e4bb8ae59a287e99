"""The recommender and its mathematics: torch and numpy, no orchestration or server."""
