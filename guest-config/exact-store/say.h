// Messages on standard error, which is the guest's console.
#pragma once
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
