# How each package is built: shell run in its source tree, with what package.sh provides. Most run the package's
# own configure and make; those whose tarball comes without a configure script are compiled by a few lines here.
packages: {
  bc = {
    dependencies = [
      packages.ncurses
      packages.readline
    ];
    build = ''
      # upstream's script wants ed
      cat > bc/fix-libmath_h <<EOF
      #!$SHELL
      sed -i -e '1 s/^/{"/' -e 's/\$/",/' -e '2,\$ s/^/"/' -e '\$ d' libmath.h
      sed -i -e '\$ s/\$/0}/' libmath.h
      EOF
      # what flex would make is in the tarball
      sed -i 's/^ *?-y-\*)$/never)/' configure
      configure --with-readline LIBS=-lncurses
      make SUBDIRS='lib bc dc' MAKEINFO=true
      make SUBDIRS='bc dc' install
    '';
  };

  bzip2 = {
    build = ''
      make CC=gcc CFLAGS="$CFLAGS -D_FILE_OFFSET_BITS=64" bzip2 bzip2recover
      make PREFIX=$out install
    '';
  };

  figlet = {
    build = ''
      make CC=gcc LD=gcc CFLAGS="$CFLAGS" prefix=$out DEFAULTFONTDIR=$out/share/figlet all
      make prefix=$out DEFAULTFONTDIR=$out/share/figlet install
    '';
  };

  gdbm = {
    dependencies = [
      packages.ncurses
      packages.readline
    ];
    build = ''
      configure --disable-static --disable-nls --with-readline
      make SUBDIRS='src tools'
      make SUBDIRS='src tools' install
    '';
  };

  hello = {
    build = ''
      configure --disable-nls
      make
      make install
    '';
  };

  jq = {
    dependencies = [ packages.oniguruma ];
    extraCFlags = "-w -D_GNU_SOURCE -DIEEE_8087 -DHAVE_LIBONIG";
    build = ''
      echo '#define JQ_VERSION "1.6"' > src/version.h
      sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e 's/^/"/' -e 's/$/\\n"/' src/builtin.jq > src/builtin.inc
      # the C library has them all, apart from three that went out of use
      for function in $(grep -ohE 'HAVE_[A-Z0-9_]+' -r src | sort -u); do
        case $function in
        HAVE_POW10 | HAVE_TM___TM_GMT_OFF | HAVE__ISATTY) ;;
        *) CPPFLAGS+=" -D$function" ;;
        esac
      done
      rm src/inject_errors.c
      CPPFLAGS+=' -I. -Isrc'
      objects src/*.c
      mkdir -p $out/bin
      gcc -o $out/bin/jq src/*.o $LDFLAGS -lonig -lm -lpthread
    '';
  };

  less = {
    dependencies = [ packages.ncurses ];
    build = ''
      configure
      make
      make install
    '';
  };

  libpng = {
    dependencies = [ packages.zlib ];
    build = ''
      configure --disable-static
      make
      make pngtest
      make install
      sh ./libtool --mode=install install pngtest $out/bin/
      mkdir -p $out/share/libpng
      cp pngtest.png $out/share/libpng/
    '';
  };

  lua = {
    dependencies = [
      packages.ncurses
      packages.readline
    ];
    build = ''
      make linux-readline MYCFLAGS="$CFLAGS $CPPFLAGS" MYLDFLAGS="$LDFLAGS" MYLIBS=-lncurses
      make INSTALL_TOP=$out install
    '';
  };

  ncurses = {
    build = ''
      # terminfo has names that differ only in case: E and e, 2621A and 2621a
      configure --with-shared --without-normal --without-debug --without-ada --without-cxx --without-cxx-binding \
        --without-manpages --without-tests --disable-stripping --enable-overwrite --enable-mixed-case
      make
      make install
    '';
  };

  oniguruma = {
    extraCFlags = "-fPIC";
    build = ''
      cd src
      cat > config.h <<EOF
      #define HAVE_ALLOCA 1
      #define HAVE_ALLOCA_H 1
      #define HAVE_INTTYPES_H 1
      #define HAVE_STDINT_H 1
      #define HAVE_SYS_TIMES_H 1
      #define HAVE_SYS_TIME_H 1
      #define HAVE_SYS_TYPES_H 1
      #define HAVE_UNISTD_H 1
      #define SIZEOF_INT 4
      #define SIZEOF_LONG 8
      #define SIZEOF_LONG_LONG 8
      #define SIZEOF_VOIDP 8
      #define PACKAGE "onig"
      #define VERSION "6.9.8"
      EOF
      CPPFLAGS+=' -DHAVE_CONFIG_H -I.'
      # not: what other files include, or what makes them
      objects $(ls *.c | grep -vE '^(koi8|mktable|unicode_.*data.*)\.c$')
      mkdir -p $out/lib $out/include
      gcc -shared -Wl,-soname,libonig.so.5 -o $out/lib/libonig.so.5 *.o
      ln -s libonig.so.5 $out/lib/libonig.so
      cp oniguruma.h oniggnu.h $out/include/
      mkdir $out/bin
      sed 's/stderr/stdout/' ../sample/simple.c > simple.c
      gcc $CFLAGS -I. simple.c -o $out/bin/onig-simple $LDFLAGS -L$out/lib -lonig
    '';
  };

  readline = {
    dependencies = [ packages.ncurses ];
    build = ''
      configure --disable-static --disable-install-examples --with-curses
      make SHLIB_LIBS=-lncurses
      make SHLIB_LIBS=-lncurses install
      mkdir -p $out/bin
      gcc $CFLAGS -DHAVE_STDLIB_H -I. -I$out/include examples/rlversion.c -o $out/bin/rlversion \
        $LDFLAGS -L$out/lib -lreadline -lncurses
    '';
  };

  sqlite = {
    dependencies = [
      packages.ncurses
      packages.readline
      packages.zlib
    ];
    build = ''
      export TCL_LIBRARY=$toolchain/usr/share/tcltk/tcl8.6
      export TCL8_6_TM_PATH=$TCL_LIBRARY/tcl8
      make -f main.mk TOP=$PWD BCC=gcc TCCX=gcc NAWK=gawk TCLSH=tclsh sqlite3.c shell.c
      CPPFLAGS+=' -DSQLITE_THREADSAFE=0 -DHAVE_READLINE=1 -DSQLITE_HAVE_ZLIB=1 -DHAVE_USLEEP=1'
      objects sqlite3.c shell.c
      mkdir -p $out/bin $out/include
      gcc -o $out/bin/sqlite3 sqlite3.o shell.o $LDFLAGS -lreadline -lncurses -lz -ldl -lm
      cp sqlite3.h $out/include/
    '';
  };

  tree = {
    build = ''
      make CC=gcc CFLAGS="$CFLAGS -DLINUX -D_LARGEFILE64_SOURCE -D_FILE_OFFSET_BITS=64" LDFLAGS="$LDFLAGS"
      make PREFIX=$out install
    '';
  };

  zlib = {
    build = ''
      configure
      make libz.a libz.so.1.2.13 minigzipsh
      make install
      mkdir $out/bin
      cp minigzipsh $out/bin/minigzip
    '';
  };

  zstd = {
    dependencies = [ packages.zlib ];
    build = ''
      make -C programs zstd CFLAGS="$CFLAGS $CPPFLAGS" LDFLAGS="$LDFLAGS" \
        HAVE_THREAD=1 HAVE_ZLIB=1 HAVE_LZMA=0 HAVE_LZ4=0 ZLIBLD=-lz ZLIBCPP=-DZSTD_GZCOMPRESS\ -DZSTD_GZDECOMPRESS
      make -C programs install PREFIX=$out CFLAGS="$CFLAGS $CPPFLAGS" LDFLAGS="$LDFLAGS" \
        HAVE_THREAD=1 HAVE_ZLIB=1 HAVE_LZMA=0 HAVE_LZ4=0 ZLIBLD=-lz ZLIBCPP=-DZSTD_GZCOMPRESS\ -DZSTD_GZDECOMPRESS
    '';
  };
}
