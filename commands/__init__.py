"""The commands of `reprise`, a file for each or for a few of a kind: `add_to(add)` says their arguments.

Whatever needs torch is imported inside the command that needs it, so that listing and showing start at once.
"""
