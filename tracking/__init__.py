"""MLflow: runs with what made them, registered versions with aliases, the way back to the data."""
