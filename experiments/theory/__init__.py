"""The theorems of arXiv 2402.01306v4, computed with the losses of thumbs.core.losses."""
