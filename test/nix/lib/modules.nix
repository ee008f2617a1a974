# evalModules, for tests of Drover's modules without nixpkgs. Unlike nixpkgs' own, an option is declared only
# once; types are not merged.
{
  lib,
  functions,
  definitions,
}:
let
  inherit (builtins)
    attrValues
    concatMap
    elem
    filter
    foldl'
    functionArgs
    hasAttr
    isAttrs
    isFunction
    isString
    listToAttrs
    map
    mapAttrs
    removeAttrs
    ;
  inherit (functions) isPath optional;
  inherit (definitions)
    attributes
    define
    effective
    fail
    optionDefaultPriority
    ;
  inherit (lib) types;

  isOption = x: isAttrs x && (x._type or null) == "option";
  show = builtins.concatStringsSep ".";

  # Applies a module that is a function to those arguments that it names.
  apply =
    arguments: module:
    if !isFunction module then
      module
    else
      let
        named = functionArgs module;
      in
      module (if named == { } then arguments.all else mapAttrs (name: _: arguments.get name) named);

  moduleKeys = [
    "imports"
    "options"
    "config"
    "freeformType"
    "disabledModules"
    "meta"
    "key"
    "_file"
    "_class"
  ];

  # A module as { key, file, options, config, freeformType, imports }.
  read =
    arguments: parentFile: module:
    let
      isFile = isPath module || isString module;
      content = apply arguments (if isFile then import module else module);
      file = if isFile then toString module else content._file or parentFile;
      isLong = content ? config || content ? options;
      strangers = builtins.attrNames (removeAttrs content moduleKeys);
    in
    if isLong && strangers != [ ] then
      throw "Module `${file}' has `config' or `options', and so everything else belongs in `config': ${show strangers}"
    else
      {
        inherit file;
        key = if isFile then file else content.key or null;
        options = content.options or { };
        config = if isLong then content.config or { } else removeAttrs content moduleKeys;
        freeformType = content.freeformType or null;
        imports = map (read arguments file) (content.imports or [ ]);
      };

  breadthFirst =
    level: if level == [ ] then [ ] else level ++ breadthFirst (concatMap (m: m.imports) level);

  # A file that is imported twice counts once.
  distinct = (
    foldl'
      (
        { seen, modules }:
        module:
        if module.key != null && elem module.key seen then
          { inherit seen modules; }
        else
          {
            seen = seen ++ optional (module.key != null) module.key;
            modules = modules ++ [ module ];
          }
      )
      {
        seen = [ ];
        modules = [ ];
      }
  );

  declare =
    loc: a: b:
    if isOption a || isOption b then
      throw "The option `${show loc}' is declared twice"
    else
      a
      // mapAttrs (
        name: value: if hasAttr name a then declare (loc ++ [ name ]) a.${name} value else value
      ) b;

  evalOption =
    loc: option: defs:
    let
      default = optional (option ? default) (
        define "its default" (lib.mkOverride optionDefaultPriority option.default)
      );
      set = effective defs;
      given = set.definitions;
      # A default that is overridden is not looked at: it may be an error.
      counted =
        if given != [ ] && set.highest < optionDefaultPriority then set else effective (defs ++ default);
      type = option.type or types.undeclared;
      value =
        if option.readOnly or false && builtins.length given > 1 then
          fail loc "is read-only, but is set several times" given
        else if counted.definitions == [ ] then
          throw "The option `${show loc}' was accessed but has no value defined. Try setting the option."
        else
          types.mergeChecked loc type counted.definitions;
    in
    option
    // {
      inherit loc;
      isDefined = counted.definitions != [ ];
      highestPrio = counted.highest;
      definitions = map (d: d.value) given;
      files = map (d: d.file) given;
      value = (option.apply or (x: x)) value;
    };

  evalModules =
    {
      modules,
      specialArgs ? { },
      prefix ? [ ],
      class ? null,
    }:
    let
      extra = config._module.args;
      base = {
        inherit lib config options;
      }
      // specialArgs;
      arguments = {
        all = extra // base;
        get =
          name:
          base.${name}
            or (extra.${name} or (throw "A module takes the argument `${name}', which is not defined"));
      };
      internal = {
        options._module.args = lib.mkOption {
          type = types.lazyAttrsOf types.raw;
          default = { };
        };
      };
      # The last module first: the order in which nixpkgs merges definitions.
      collected = lib.reverseList (
        (distinct (breadthFirst (map (read arguments "<unknown file>") ([ internal ] ++ modules)))).modules
      );
      declared = foldl' (a: m: declare prefix a m.options) { } collected;
      freeform = foldl' (a: m: if m.freeformType == null then a else m.freeformType) null collected;

      # Definitions where no option is declared, as the free-form type merges them: [ ] or [ value ].
      others =
        loc: defs:
        let
          held = (effective defs).definitions;
          place = lib.drop (builtins.length prefix) loc;
          whole = map (d: d // { value = lib.setAttrByPath place d.value; }) held;
        in
        optional (held != [ ]) (lib.getAttrFromPath place (types.mergeChecked prefix freeform whole));

      walk =
        loc: tree: defs:
        let
          sets = attributes defs;
          strays = filter (d: !isAttrs d.value) sets.all;
          known = mapAttrs (
            name: node:
            let
              place = loc ++ [ name ];
            in
            if isOption node then
              let
                evaluated = evalOption place node (sets.of name);
              in
              {
                options = evaluated;
                config = evaluated.value;
                unmatched = [ ];
              }
            else
              walk place node (sets.of name)
          ) tree;
          unknown = filter (name: !hasAttr name tree) sets.names;
          rest = concatMap (
            name: map (value: { inherit name value; }) (others (loc ++ [ name ]) (sets.of name))
          ) unknown;
        in
        {
          # Known without looking at any definition: definitions may depend on which options there are.
          options = mapAttrs (_: node: node.options) known;
          config =
            if strays != [ ] then
              fail loc "is a set of options, and was given something else" strays
            else
              mapAttrs (_: node: node.config) known // lib.optionalAttrs (freeform != null) (listToAttrs rest);
          unmatched =
            lib.optionals (freeform == null) (
              map (name: {
                loc = loc ++ [ name ];
                files = map (d: d.file) (sets.of name);
              }) unknown
            )
            ++ concatMap (node: node.unmatched) (attrValues known);
        };
      result = walk prefix declared (map (m: define m.file m.config) collected);
      inherit (result) config options unmatched;
    in
    {
      config =
        if unmatched != [ ] then
          throw (
            lib.concatMapStringsSep "\n" (
              u:
              "The option `${show u.loc}' does not exist${
                lib.concatMapStrings (f: ". Defined in `${f}'") u.files
              }"
            ) unmatched
          )
        else
          removeAttrs config [ "_module" ];
      options = removeAttrs options [ "_module" ];
      _module.args = config._module.args;
    };
in
evalModules
