#!/bin/sh
# picture.sh: draws what the demo has printed as an SVG of a terminal, for the README:
#
#   npm run demo | tee demo.log; sh demo/picture.sh < demo.log > docs/demo.svg
#
# Every line shown is a line of that run. Repetitive lines are left out; a count marks where.
set -eu
LC_ALL=C.UTF-8 awk -v columns=106 -v size=13 '
  function escape(text) {
    gsub(/&/, "\\&amp;", text); gsub(/</, "\\&lt;", text); gsub(/>/, "\\&gt;", text)
    return text
  }
  function span(class, text) { return "<tspan class=\"" class "\">" escape(text) "</tspan>" }
  function add(markup) { line[lines++] = markup }
  function left_out() {
    if (skipped) add(span("dim", sprintf("             ⋮ %d line%s", skipped, skipped == 1 ? "" : "s")))
    skipped = 0
  }
  # Which lines are shown: all that are not of a kind that has been seen often enough.
  function kind(text) {
    if (text ~ /input paths shared/) return "shared"
    if (text ~ /: building /) return "building"
    if (text ~ /: built /) return "built"
    if (text ~ /^\[[^]]*\] running /) return "running"
    return ""
  }
  BEGIN { limit["shared"] = 3; limit["building"] = 4; limit["built"] = 5; limit["running"] = 3 }
  /^> / || /^$/ { next }
  {
    text = $0
    gsub(/\033\[[0-9;]*m/, "", text)
    of = kind(text)
    if (of != "" && ++seen[of] > limit[of]) { skipped++; next }
    left_out()
    # Not where a byte may be half of a character.
    if (length(text) > columns && text !~ /[^ -~]/) text = substr(text, 1, columns - 1) "…"
    if (!match(text, /^\[[^]]*\] /)) { add(escape(text)); next }
    markup = span("dim", substr(text, 1, RLENGTH))
    text = substr(text, RLENGTH + 1)
    if (match(text, /^g[0-9]+: /)) {
      markup = markup span(substr(text, 1, RLENGTH - 2) ~ /[13579]$/ ? "odd" : "even", substr(text, 1, RLENGTH))
      text = substr(text, RLENGTH + 1)
    }
    if (text ~ /^(booted|gone)|^guests:|^drover serve is up|builds in [0-9]+ guests/) markup = markup span("mark", text)
    else markup = markup escape(text)
    add(markup)
  }
  END {
    left_out()
    height = size * 1.45; width = columns * size * 0.602 + 40
    printf "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\" xml:space=\"preserve\" role=\"img\">\n", width, lines * height + 66
    print "<title>A run of npm run demo: 16 real packages are built in guests that boot for it, and are gone afterwards</title>"
    print "<style>text { font: " size "px ui-monospace, SFMono-Regular, Menlo, Consolas, \"DejaVu Sans Mono\", monospace; fill: #d7dae0; white-space: pre }"
    print ".dim { fill: #7d8590 } .odd { fill: #6cb6ff } .even { fill: #f69d50 } .mark { fill: #8ddb8c; font-weight: bold } .prompt { fill: #8ddb8c }</style>"
    print "<rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"#1c2128\"/>"
    split("#f47067 #dba642 #57ab5a", colour, " ")
    for (i = 1; i <= 3; i++) printf "<circle cx=\"%d\" cy=\"18\" r=\"5\" fill=\"%s\"/>\n", i * 17, colour[i]
    y = 48
    printf "<text x=\"20\" y=\"%.1f\"><tspan class=\"prompt\"># </tspan>npm run demo</text>\n", y
    for (i = 0; i < lines; i++) printf "<text x=\"20\" y=\"%.1f\">%s</text>\n", y += height, line[i]
    print "</svg>"
  }
'
