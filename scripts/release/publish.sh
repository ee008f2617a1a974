#!/bin/sh
# publish.sh TAG DIRECTORY: a draft of a release on GitHub with the files of DIRECTORY, for a person to look at.
# Afterwards scripts/release/pin.sh makes the next commit name it.
set -eu
gh release create "$1" --draft --verify-tag --title "Drover $1" --generate-notes "$2"/*
