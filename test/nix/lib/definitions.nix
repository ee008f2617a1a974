# From definitions, as modules give them, to those that count.
#
# A definition is { file, value }, and while its properties are being taken off also { cond, prio, order }. `cond` stays
# lazy: whether an attribute is defined may depend on the configuration, which attributes there are may not.
let
  inherit (builtins)
    all
    concatLists
    concatMap
    filter
    foldl'
    isAttrs
    map
    sort
    ;
  typeOf = value: if isAttrs value then value._type or null else null;
in
rec {
  defaultPriority = 100;
  optionDefaultPriority = 1500;

  define = file: value: {
    inherit file value;
    cond = true;
    prio = null;
    order = 1000;
  };

  # Moves mkIf, mkMerge, mkOverride and mkOrder from around a value into its definition. Of two priorities around each
  # other the outer one counts. Conditions are moved too, or, where it is time to know, looked at: what is not to be is
  # then not evaluated.
  unwrapWith =
    { isTime }:
    let
      unwrap = unwrapWith { inherit isTime; };
    in
    definition:
    let
      inherit (definition) value;
      kind = typeOf value;
    in
    if kind == "if" && isTime then
      if value.condition then unwrap (definition // { value = value.content; }) else [ ]
    else if kind == "if" then
      unwrap (
        definition
        // {
          cond = definition.cond && value.condition;
          value = value.content;
        }
      )
    else if kind == "merge" then
      concatMap (content: unwrap (definition // { value = content; })) value.contents
    else if kind == "override" then
      unwrap (
        definition
        // {
          prio = if definition.prio == null then value.priority else definition.prio;
          value = value.content;
        }
      )
    else if kind == "order" then
      unwrap (
        definition
        // {
          order = value.priority;
          value = value.content;
        }
      )
    else
      [ definition ];

  priorityOf = { prio, ... }: if prio == null then defaultPriority else prio;

  # Definitions whose condition holds and that no other one overrides, in order.
  effective =
    definitions:
    let
      held = concatMap (unwrapWith { isTime = true; }) (filter ({ cond, ... }: cond) definitions);
      highest = foldl' (best: d: if priorityOf d < best then priorityOf d else best) 9999 held;
      best = filter (d: priorityOf d == highest) held;
    in
    {
      inherit highest;
      definitions =
        if all ({ order, ... }: order == 1000) best then best else sort (a: b: a.order < b.order) best;
    };

  # A set of definitions → the definitions of each of its attributes, as functions of the name.
  attributes =
    definitions:
    let
      unwrapped = concatMap (unwrapWith { isTime = false; }) definitions;
      names = concatMap (d: if isAttrs d.value then builtins.attrNames d.value else [ ]) unwrapped;
    in
    {
      all = unwrapped;
      names = builtins.attrNames (
        builtins.listToAttrs (
          map (name: {
            inherit name;
            value = null;
          }) names
        )
      );
      of =
        name:
        concatLists (
          map (
            d:
            if isAttrs d.value && builtins.hasAttr name d.value then
              [ (d // { value = d.value.${name}; }) ]
            else
              [ ]
          ) unwrapped
        );
    };

  show =
    value:
    let
      kind = builtins.typeOf value;
      text = builtins.toJSON value;
    in
    if kind == "set" && value ? outPath then
      "the package ${value.name or "?"}"
    else if kind == "set" || kind == "list" || kind == "lambda" then
      "a ${kind}"
    else if builtins.stringLength text > 80 then
      "${builtins.substring 0 80 text}…"
    else
      text;
  fail =
    loc: message: definitions:
    let
      from = builtins.concatStringsSep "" (
        map (d: "\n- In `${d.file}': ${show d.value}") (filter (d: d ? file) definitions)
      );
      values = if from == "" then "" else " Definition values:${from}";
    in
    throw "The option `${builtins.concatStringsSep "." loc}' ${message}.${values}";
}
