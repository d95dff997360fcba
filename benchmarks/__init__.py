"""Measurements beside another trainer; not part of the package. Results lie in results/.

Modules whose name begins with trl_ run in TRL's own environment and import nothing of thumbs.
"""
