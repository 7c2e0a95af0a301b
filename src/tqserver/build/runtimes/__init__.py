"""The languages. Adding one is a file here and a line in ``build/registry.py``.

base    what a runtime is
python  forked from a zygote; the artifact is a copy
go      compiled by ``go build``
"""
