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
}
