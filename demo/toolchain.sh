# shellcheck shell=sh disable=SC2154
# Builder of `toolchain`, run by busybox: unpacks $debs into $out/usr and makes the programs there find their
# libraries, and gcc its headers, below the store. Given by toolchain.nix: $builder (busybox), $debs,
# $patchelfDebs, $libc, $out.
set -eu

mkdir bin root patchelf
"$builder" --install -s bin
export PATH="$PWD/bin"

unpack() {
  for deb in $1; do
    echo "unpacking ${deb##*/}"
    dpkg-deb -x "$deb" "$2"
  done
}
unpack "$debs" root
unpack "$patchelfDebs" patchelf

# One tree: Debian 12 still ships some packages with /bin and /lib beside /usr/bin and /usr/lib.
usr=$out/usr
mkdir -p "$out"
mv root/usr "$usr"
for directory in bin sbin lib; do
  [ ! -d "root/$directory" ] || cp -a "root/$directory/." "$usr/$directory/"
done
ln -s usr/bin "$out/bin"
ln -s usr/lib "$out/lib"

# Parts that no C program of the demo needs: link-time optimisation, profilers, sanitizers, manuals.
(cd "$usr" && rm -rf games share/doc share/man share/info share/locale share/lintian share/bug share/bash-completion \
  lib/gcc/*/*/lto1 lib/gcc/*/*/lto-wrapper lib/gcc/*/*/lib?san.a bin/*lto-dump* bin/*gp-* bin/*gprofng* bin/*gold \
  bin/*dwp lib/*/gprofng lib/*/libgprofng*)

cpu=${system%%-*}
multiarch=$cpu-linux-gnu
loader=$(cd "$libc/lib" && echo ld-linux-*.so.*)

# A sysroot is complete with the C library that linker scripts name by absolute paths.
for library in "$libc"/lib/*; do
  ln -sf "$library" "$usr/lib/$multiarch/"
done
mkdir "$out/lib64"
ln -s "$libc/lib/$loader" "$out/lib64/"
ln -sf "$libc/lib/$loader" "$usr/lib/"

# Short names, which come with packages of dependencies and alternatives that are not here.
for program in "$usr/bin/$multiarch"-*; do
  name=${program##*/"$multiarch"-}
  ln -sf "${program##*/}" "$usr/bin/$name"
  ln -sf "${program##*/}" "$usr/bin/${name%-12}"
done
ln -sf gcc "$usr/bin/cc"
ln -sf gawk "$usr/bin/awk"
ln -sf dash "$usr/bin/sh"
ln -sf tclsh8.6 "$usr/bin/tclsh"

# --sysroot twice: for headers, and for the linker, which gcc hands only one from the command line.
cat >"$(echo "$usr"/lib/gcc/*/12)/specs" <<EOF
*self_spec:
+ --sysroot=$out

*link:
+ --sysroot=$out %{!static:%{!shared:-dynamic-linker $libc/lib/$loader} -rpath $libc/lib}

EOF

patchelf() {
  "$libc/lib/$loader" --library-path "$libc/lib:$PWD/patchelf/usr/lib/$multiarch" patchelf/usr/bin/patchelf "$@"
}
find "$usr/bin" "$usr/sbin" "$usr/lib/gcc" -type f -perm -100 | while read -r program; do
  if [ "$(head -c 2 "$program")" = '#!' ]; then
    sed -i -E "1s,^#! ?/bin/(ba)?sh,#!$out/bin/bash," "$program"
  elif patchelf --print-interpreter "$program" >interpreter 2>/dev/null; then
    # RPATH, not RUNPATH, so that it serves the libraries of libraries too
    patchelf --set-interpreter "$libc/lib/$loader" \
      --force-rpath --set-rpath "$libc/lib:$usr/lib/$multiarch" "$program"
  fi
done

# make would run /bin/sh; given like this, the shell is passed on to every make below.
mkdir "$out/libexec"
mv "$usr/bin/make" "$out/libexec/make"
cat >"$usr/bin/make" <<EOF
#!$out/bin/sh
exec $out/libexec/make SHELL=$out/bin/sh "\$@"
EOF
chmod 755 "$usr/bin/make"

"$out/bin/gcc" --version
"$out/bin/make" --version
