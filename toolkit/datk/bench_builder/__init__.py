"""Build a benchmark like DA-2K: plan scenes, propose pairs that experts dissent on, let people decide, export.

The construction of Depth Anything V2, section 6.2 and appendix C.3. Models are handed in as Runners; nothing here
opens one.
"""
