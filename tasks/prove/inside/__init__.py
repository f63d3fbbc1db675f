"""The model of ``doctor --prove``: it attacks the seal that it runs in, and says how far it got.

It is shipped as the input of a run, so it imports nothing but the standard library and itself. Where nothing seals it
(backend ``process``), it does no harm: what it opens for writing it does not write to, and what it makes it removes.
"""
