"""Source to artifact.

files        which files belong to a page
contents     what is in them: held if it is little, read in pieces if it is much
fingerprint  what can change a result, as one digest
store        artifacts by digest: published whole or not at all
runner       one build command: bounded in time, its output kept, killed with its children
pipeline     a page in, an artifact out: one build at a time per page, bounded in all
page_file    page.yaml, strictly
registry     which languages there are, and which one a directory is written in
runtimes/    one file per language
"""
