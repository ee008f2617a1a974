# Drover: the supervisor and its command line, with the scripts of guests and the program that Nix starts for
# each connection.
{
  lib,
  buildNpmPackage,
  callPackage,
  importNpmLock,
  installShellFiles,
  makeWrapper,
  nodejs,
  stdenv,
  vz-helper ? null,
}:
let
  root = ../.;
  npmDeps = callPackage ./npm-deps.nix { inherit nodejs; };
in
buildNpmPackage {
  pname = "drover";
  inherit (lib.importJSON (root + "/package.json")) version;
  src = lib.fileset.toSource {
    inherit root;
    fileset = lib.fileset.unions [
      ../package.json
      ../package-lock.json
      ../tsconfig.json
      ../tsconfig.build.json
      ../LICENSE
      ../README.md
      ../scripts/build.sh
      ../src
      ../connect
      ../namespace
      ../guest-config
    ];
  };

  inherit nodejs;
  inherit (importNpmLock) npmConfigHook;
  npmDeps = npmDeps {
    inherit root;
    devDependencies = [
      "@types/node"
      "@types/ssh2"
      "typescript"
    ];
  };
  postPatch = ''
    patchShebangs --build scripts
  '';

  nativeBuildInputs = [
    makeWrapper
    installShellFiles
  ];
  postInstall = ''
    makeWrapper ${lib.getExe nodejs} $out/bin/drover --add-flags $out/lib/node_modules/drover/dist/main.js ${
      # Where the vz driver looks for it.
      lib.optionalString (vz-helper != null) "--set-default DROVER_VZ_HELPER ${vz-helper}/bin/vz-helper"
    }
  ''
  + lib.optionalString (stdenv.buildPlatform.canExecute stdenv.hostPlatform) ''
    installShellCompletion --cmd drover \
      --bash <($out/bin/drover completion bash) \
      --zsh <($out/bin/drover completion zsh) \
      --fish <($out/bin/drover completion fish)
    $out/bin/drover man > drover.1
    installManPage drover.1
  '';

  # Compiled for this machine, not stripped by buildNpmPackage's default.
  doInstallCheck = stdenv.buildPlatform.canExecute stdenv.hostPlatform;
  installCheckPhase = ''
    runHook preInstallCheck
    $out/bin/drover --version
    runHook postInstallCheck
  '';

  meta = {
    description = "Throw-away Linux builders for Nix: guests that boot when a build needs one and are gone when it is done";
    license = lib.licenses.mit;
    mainProgram = "drover";
    platforms = [
      "aarch64-darwin"
      "aarch64-linux"
      "x86_64-linux"
    ];
  };
}
