"""What a person reads of a run: the summary, the page and its plots."""
