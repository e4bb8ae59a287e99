"""One file a pipeline step: typed inputs and outputs, calls into the rooms."""
