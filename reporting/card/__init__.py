"""The model card: what a version is, for whom, how good, where not; as a page and as Markdown.

After Mitchell et al. 2019, "Model Cards for Model Reporting", in the layout of Hugging Face's model
cards. build.py gathers it as one JSON-ready dict, which the page and the Markdown show.
"""
