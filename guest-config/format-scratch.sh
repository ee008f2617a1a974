#!/bin/sh
# format-scratch.sh DEVICE: makes an ext4 file system that is ready at once and is not meant to outlive its machine: no
# journal, no checksums, no reserve, nothing discarded beforehand, and inode tables that are not written until they are
# used.
set -eu
mke2fs -q -F -t ext4 -m 0 -O '^has_journal,^metadata_csum,^resize_inode,uninit_bg' -E 'nodiscard,lazy_itable_init=1' "$1"
