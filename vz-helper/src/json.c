#include "json.h"

#include <stdbool.h>
#include <string.h>

struct text {
  const char *at, *end;
  int levels; // that are left
  bool tooDeep;
};

static bool value(struct text *t);

static bool is_next(const struct text *t, const char *choices) {
  return t->at < t->end && *t->at != '\0' && strchr(choices, *t->at) != NULL;
}

static bool take(struct text *t, const char *choices) {
  if (!is_next(t, choices)) return false;
  t->at++;
  return true;
}

static void skip_space(struct text *t) {
  while (take(t, " \t\r\n")) continue;
}

static bool word(struct text *t, const char *letters) {
  size_t length = strlen(letters);
  if ((size_t)(t->end - t->at) < length || memcmp(t->at, letters, length) != 0) return false;
  t->at += length;
  return true;
}

static bool digits(struct text *t) {
  const char *first = t->at;
  while (take(t, "0123456789")) continue;
  return t->at > first;
}

static bool number(struct text *t) {
  take(t, "-");
  if (!take(t, "0") && !digits(t)) return false;
  if (take(t, ".") && !digits(t)) return false;
  if (!take(t, "eE")) return true;
  take(t, "+-");
  return digits(t);
}

static bool escape(struct text *t) {
  if (take(t, "\"\\/bfnrt")) return true;
  if (!take(t, "u")) return false;
  for (int digit = 0; digit < 4; digit++)
    if (!take(t, "0123456789abcdefABCDEF")) return false;
  return true;
}

static bool string(struct text *t) {
  if (!take(t, "\"")) return false;
  while (t->at < t->end) {
    unsigned char c = (unsigned char)*t->at++;
    if (c == '"') return true;
    if (c < 0x20 || (c == '\\' && !escape(t))) return false;
  }
  return false;
}

static bool member(struct text *t) {
  skip_space(t);
  if (!string(t)) return false;
  skip_space(t);
  return take(t, ":") && value(t);
}

/// What stands between brackets, and the closing one.
static bool list(struct text *t, bool (*element)(struct text *), const char *close) {
  if (t->levels == 0) {
    t->tooDeep = true;
    return false;
  }
  t->levels--;
  skip_space(t);
  if (!is_next(t, close)) {
    do {
      if (!element(t)) return false;
    } while (take(t, ","));
  }
  t->levels++;
  return take(t, close);
}

static bool value(struct text *t) {
  skip_space(t);
  bool good = take(t, "{")        ? list(t, member, "}")
              : take(t, "[")      ? list(t, value, "]")
              : is_next(t, "\"")  ? string(t)
              : is_next(t, "tfn") ? word(t, "true") || word(t, "false") || word(t, "null")
                                  : number(t);
  skip_space(t);
  return good;
}

enum json_verdict json_check(const char *bytes, size_t length, int maxDepth) {
  struct text t = {.at = bytes, .end = bytes + length, .levels = maxDepth};
  if (value(&t) && t.at == t.end) return JsonGood;
  return t.tooDeep ? JsonTooDeep : JsonBad;
}
