# shellcheck shell=sh
# For sourcing, by the guest and by the rehearsal: the share at $TRUTH_RUN/share is shown raw and exact.
mkdir -p "$TRUTH_RUN/scratch"
mount -t tmpfs tmpfs "$TRUTH_RUN/scratch"
# overlay VIEW LOWER
overlay() {
  mkdir -p "$TRUTH_RUN/$1" "$TRUTH_RUN/scratch/$1-upper" "$TRUTH_RUN/scratch/$1-work"
  mount -t overlay -o "lowerdir=$2,upperdir=$TRUTH_RUN/scratch/$1-upper,workdir=$TRUTH_RUN/scratch/$1-work" overlay "$TRUTH_RUN/$1"
}
overlay raw "$TRUTH_RUN/share"
mkdir -p "$TRUTH_RUN/view"
exact-store mount "$TRUTH_RUN/share" "$TRUTH_RUN/view" "$TRUTH_RUN/exact.sock"
exact-store list "$TRUTH_RUN"/share/*-truth "$TRUTH_RUN"/share/*-many > "$TRUTH_RUN/scratch/listing"
exact-store show "$TRUTH_RUN/exact.sock" literal < "$TRUTH_RUN/scratch/listing"
overlay exact "$TRUTH_RUN/view"
