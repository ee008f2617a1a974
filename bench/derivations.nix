# The benchmark's derivations. Each prints FIRST when it starts and LAST when its output is complete.
{
  system,
  # a store path with bin/busybox
  busybox,
  # makes each derivation new
  nonce,
  # a store path
  input ? "",
  outputMegabytes ? "0",
  leaves ? 100,
}:
let
  run =
    name: script: attributes:
    derivation (
      {
        inherit system nonce;
        name = "drover-bench-${name}";
        builder = "${builtins.storePath busybox}/bin/busybox";
        args = [
          "sh"
          "-c"
          "echo FIRST ${nonce}; ${script}; echo LAST ${nonce}"
        ];
        PATH = "${builtins.storePath busybox}/bin";
      }
      // attributes
    );

  leaf = number: run "leaf" "echo ${number} > $out" { inherit number; };
in
{
  # reads one file of its input
  trivial = run "trivial" "busybox cat $input/stamp > $out" { input = builtins.storePath input; };
  hello = run "hello" "echo hello > $out" { };
  output =
    run "output" "busybox dd if=/dev/zero of=$out bs=1000000 count=${outputMegabytes} 2> /dev/null"
      { };
  graph = run "graph" "echo $leaves > $out" {
    leaves = builtins.genList (number: leaf (toString number)) leaves;
  };
  # what a busy hour is made of, in order
  soak =
    let
      small = number: run "small" "echo small > $out" { inherit number; };
      talks =
        number:
        run "talks" "busybox seq 1 2000; echo talks > $out" { inherit number; };
    in
    builtins.concatLists [
      (builtins.genList (number: small (toString number)) 12)
      (builtins.genList (number: talks (toString number)) 3)
      [
        # a long log, and a line of a megabyte
        (run "loud" ''
          busybox seq 1 10000
          busybox head -c 1000000 /dev/zero | busybox tr '\0' x; echo
          echo loud > $out'' { })
        (run "large" "busybox dd if=/dev/zero of=$out bs=1000000 count=5 2> /dev/null" { })
        (run "joins" "echo $leaves > $out" { leaves = builtins.genList (number: leaf (toString number)) 3; })
        (run "fails" "echo this one fails; exit 1" { })
        # its client leaves
        (run "hangs" "busybox sleep 600" { })
      ]
    ];
}
