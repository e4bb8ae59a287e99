"""What is measured, against whom: each figure beside a named peer's of the same run."""
