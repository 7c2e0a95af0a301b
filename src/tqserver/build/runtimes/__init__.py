"""The languages. Adding one is a file here.

base        what a runtime is
python      forked from a zygote; the artifact is a copy
go          compiled by ``go build``
go_sources  what a Go page depends on
"""
