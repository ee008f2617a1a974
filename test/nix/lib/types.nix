# Types of options. As in nixpkgs' lib a type has `check`, for one value, and `merge`, for the place of an option and
# all of its definitions ({ file, value }).
{
  functions,
  definitions,
  evalModules,
}:
let
  inherit (builtins)
    all
    any
    concatMap
    elem
    filter
    head
    isAttrs
    isBool
    isFloat
    isFunction
    isInt
    isList
    isString
    length
    listToAttrs
    map
    match
    toJSON
    toString
    ;
  inherit (functions)
    concatStringsSep
    hasPrefix
    isPath
    isStringLike
    last
    unique
    ;
  inherit (definitions)
    attributes
    define
    effective
    fail
    ;

  mkOptionType =
    {
      name,
      description ? name,
      check ? _: true,
      merge ? mergeEqual,
    }:
    {
      _type = "option-type";
      inherit
        name
        description
        check
        merge
        ;
    };
  isType = x: isAttrs x && (x._type or null) == "option-type";
  # A type that is made of another one. What else it is given would fail in some distant place.
  typeAround =
    type:
    { name, ... }@made:
    if isType type then
      mkOptionType made
    else
      throw "types.${name} takes a type, and was given a ${builtins.typeOf type}";

  # All definitions must say the same.
  mergeEqual =
    loc: defs:
    let
      values = unique (map (d: d.value) defs);
    in
    if length values == 1 then head values else fail loc "has conflicting definition values" defs;
  mergeOne =
    loc: defs:
    if length defs == 1 then
      (head defs).value
    else
      fail loc "is defined several times, which its type does not allow" defs;

  # Checks, and then merges, definitions that count.
  mergeChecked =
    loc: type: defs:
    let
      wrong = filter (d: !(type.check d.value)) defs;
    in
    if wrong == [ ] then type.merge loc defs else fail loc "is not of type `${type.description}'" wrong;
  # The values at one place inside of an option: [ ] where no condition holds.
  mergeInner =
    loc: type: defs:
    let
      counted = (effective (map (d: define d.file d.value) defs)).definitions;
    in
    if counted == [ ] then [ ] else [ (mergeChecked loc type counted) ];

  attributesOf =
    { lazy }:
    type:
    typeAround type {
      name = "attrsOf";
      description = "attribute set of ${type.description}";
      check = isAttrs;
      merge =
        loc: defs:
        let
          sets = attributes (map (d: define d.file d.value) defs);
          inner = name: mergeInner (loc ++ [ name ]) type (sets.of name);
          value = name: {
            inherit name;
            value = head (inner name);
          };
        in
        listToAttrs (map value (if lazy then sets.names else filter (name: inner name != [ ]) sets.names));
    };
  simple =
    description: check:
    mkOptionType {
      name = description;
      inherit description check;
    };
  joined =
    separator: description:
    simple description isString
    // {
      merge = _: defs: concatStringsSep separator (map (d: d.value) defs);
    };
  between =
    low: high:
    simple "integer between ${toString low} and ${toString high} (both inclusive)" (
      x: isInt x && x >= low && x <= high
    );
in
rec {
  inherit mkOptionType isType mergeChecked;
  addCheck = type: check: type // { check = x: type.check x && check x; };

  # Default merge: sets by attribute, lists by concatenation, all other values must be equal. For options of
  # hosts that tests do not declare.
  undeclared = mkOptionType {
    name = "undeclared";
    merge =
      loc: defs:
      let
        values = map (d: d.value) defs;
      in
      if all isAttrs values && !any isStringLike values then
        (attributesOf { lazy = true; } undeclared).merge loc defs
      else if all isList values then
        (listOf undeclared).merge loc defs
      else
        mergeEqual loc defs;
  };
  raw = mkOptionType {
    name = "raw value";
    merge = mergeOne;
  };
  unspecified = undeclared;
  anything = mkOptionType {
    name = "anything";
    merge =
      loc: defs:
      let
        values = map (d: d.value) defs;
      in
      if all isAttrs values && !any isStringLike values then
        (attrsOf anything).merge loc defs
      else
        mergeEqual loc defs;
  };

  bool = simple "boolean" isBool;
  int = simple "signed integer" isInt;
  float = simple "floating point number" isFloat;
  number = simple "signed integer or floating point number" (x: isInt x || isFloat x);
  ints = {
    inherit between;
    positive = simple "positive integer, meaning >0" (x: isInt x && x > 0);
    unsigned = simple "unsigned integer, meaning >=0" (x: isInt x && x >= 0);
    u8 = between 0 255;
    u16 = between 0 65535;
    u32 = between 0 4294967295;
  };
  port = ints.u16;

  str = simple "string" isString;
  singleLineStr = simple "(optionally newline-terminated) single-line string" (
    x: isString x && match "[^\n\r]*\n?" x != null
  );
  strMatching =
    pattern: simple "string matching the pattern ${pattern}" (x: isString x && match pattern x != null);
  lines = joined "\n" "strings concatenated with \"\\n\"";
  commas = joined "," "strings concatenated with \",\"";
  enum = values: simple "one of ${concatStringsSep ", " (map toJSON values)}" (x: elem x values);

  path = simple "absolute path" (x: isStringLike x && hasPrefix "/" (toString x));
  package = simple "package" (
    x: (isAttrs x && x ? outPath) || (isStringLike x && hasPrefix builtins.storeDir (toString x))
  );
  functionTo =
    type:
    typeAround type {
      name = "functionTo";
      description = "function that evaluates to a(n) ${type.description}";
      check = x: isFunction x || (isAttrs x && x ? __functor);
      merge =
        loc: defs: argument:
        mergeChecked (loc ++ [ "<function body>" ]) type (map (d: d // { value = d.value argument; }) defs);
    };

  nullOr =
    type:
    typeAround type {
      name = "nullOr";
      description = "null or ${type.description}";
      check = x: x == null || type.check x;
      merge =
        loc: defs:
        if all (d: d.value == null) defs then
          null
        else if any (d: d.value == null) defs then
          fail loc "is defined both null and not null" defs
        else
          type.merge loc defs;
    };
  either =
    a: b:
    typeAround a {
      name = "either";
      description = "${a.description} or ${b.description}";
      check = x: a.check x || b.check x;
      merge =
        loc: defs:
        if all (d: a.check d.value) defs then
          a.merge loc defs
        else if all (d: b.check d.value) defs then
          b.merge loc defs
        else
          mergeEqual loc defs;
    };
  oneOf = types: builtins.foldl' either (head types) (builtins.tail types);

  listOf =
    type:
    typeAround type {
      name = "listOf";
      description = "list of ${type.description}";
      check = isList;
      merge =
        loc: defs:
        concatMap (
          d:
          concatMap (
            value:
            mergeInner (loc ++ [ "*" ]) type [
              {
                inherit (d) file;
                inherit value;
              }
            ]
          ) d.value
        ) defs;
    };
  nonEmptyListOf =
    type:
    addCheck (listOf type) (list: list != [ ])
    // {
      description = "non-empty list of ${type.description}";
    };
  attrsOf = attributesOf { lazy = false; };
  lazyAttrsOf = attributesOf { lazy = true; };

  deferredModule = mkOptionType {
    name = "deferredModule";
    description = "module";
    check = x: isAttrs x || isFunction x || isPath x;
    merge = _: defs: { imports = map (d: d.value) defs; };
  };
  submodule = modules: submoduleWith { modules = functions.toList modules; };
  submoduleWith =
    {
      modules,
      specialArgs ? { },
      shorthandOnlyDefinesConfig ? true,
    }:
    mkOptionType {
      name = "submodule";
      check = x: isAttrs x || isFunction x || isPath x;
      merge =
        loc: defs:
        (evalModules {
          prefix = loc;
          modules =
            modules
            ++ map (
              d:
              if isAttrs d.value && shorthandOnlyDefinesConfig then
                {
                  _file = d.file;
                  config = d.value;
                }
              else
                {
                  _file = d.file;
                  imports = [ d.value ];
                }
            ) defs;
          specialArgs = {
            name = last loc;
          }
          // specialArgs;
        }).config;
    };
}
