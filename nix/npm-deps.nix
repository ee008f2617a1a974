# npm's package.json and package-lock.json, with every package replaced by its tarball in the store, as
# importNpmLock's hook expects. Our lock file names no registry, so importNpmLock itself, and every other tool
# that knows packages by their addresses, has nothing to fetch. npm knows where packages are: it fetches each,
# and the lock file's hash verifies it.
{
  lib,
  cacert,
  nodejs,
  runCommand,
  stdenvNoCC,
}:
{
  # The directory of both files.
  root,
  # Names of devDependencies to include, with their dependencies. null: all.
  devDependencies ? null,
}:
let
  package = lib.importJSON (root + "/package.json");
  lock = lib.importJSON (root + "/package-lock.json");

  wantedDevDependencies =
    if devDependencies == null then
      package.devDependencies
    else
      lib.genAttrs devDependencies (name: package.devDependencies.${name});

  # Location where node finds `name` for a package at `location`: below it, or below one of its parents.
  resolve =
    location: name:
    let
      here = "${location}${lib.optionalString (location != "") "/"}node_modules/${name}";
      parents = lib.splitString "/node_modules/" "/${location}";
      parent = lib.removePrefix "/" (lib.concatStringsSep "/node_modules/" (lib.init parents));
    in
    if lock.packages ? ${here} then
      here
    else if location == "" then
      null
    else
      resolve parent name;

  needed = lib.genericClosure {
    startSet = map (name: { key = resolve "" name; }) (
      lib.attrNames (package.dependencies or { } // wantedDevDependencies)
    );
    operator =
      { key }:
      let
        entry = lock.packages.${key};
        names = lib.attrNames (
          entry.dependencies or { } // entry.optionalDependencies or { } // entry.peerDependencies or { }
        );
      in
      map (key: { inherit key; }) (lib.filter (key: key != null) (map (resolve key) names));
  };
  neededPackages = lib.genAttrs (map ({ key }: key) needed) (key: lock.packages.${key});

  tarball =
    location:
    { version, integrity, ... }@entry:
    let
      # An alias has the name of the package that it stands for.
      name = entry.name or (lib.last (lib.splitString "node_modules/" location));
    in
    stdenvNoCC.mkDerivation {
      name = "${baseNameOf name}-${version}.tgz";
      outputHash = integrity;
      outputHashAlgo = null;
      outputHashMode = "flat";
      nativeBuildInputs = [
        cacert
        nodejs
      ];
      impureEnvVars = lib.fetchers.proxyImpureEnvVars ++ [ "NPM_CONFIG_REGISTRY" ];
      preferLocalBuild = true;
      buildCommand = ''
        export HOME=$TMPDIR
        npm pack --silent --ignore-scripts ${lib.escapeShellArg "${name}@${version}"}
        mv ./*.tgz $out
      '';
    };

  stored = lib.mapAttrs (
    location: entry: removeAttrs entry [ "funding" ] // { resolved = "file:${tarball location entry}"; }
  ) neededPackages;

  # npm asks a registry for every package that is in package.json and not here.
  asStored = lib.mapAttrs (name: _: stored.${resolve "" name}.resolved);
  storedPackage = removeAttrs package [ "overrides" ] // {
    dependencies = asStored (package.dependencies or { });
    devDependencies = asStored wantedDevDependencies;
  };
  storedLock = lock // {
    packages = stored // {
      "" = lock.packages."" // {
        inherit (storedPackage) dependencies devDependencies;
      };
    };
  };
in
runCommand "${package.name}-npm-deps"
  {
    package = builtins.toJSON storedPackage;
    packageLock = builtins.toJSON storedLock;
    passAsFile = [
      "package"
      "packageLock"
    ];
    passthru = { inherit storedPackage storedLock; };
  }
  ''
    mkdir $out
    cp $packagePath $out/package.json
    cp $packageLockPath $out/package-lock.json
  ''
