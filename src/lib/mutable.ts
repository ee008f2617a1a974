/**
 * An object that is still being made. Objects of which there can be thousands are made so, and not by a spread: V8
 * gives the result of a spread a hidden class of its own, which takes three times the memory.
 */
export type Mutable<T> = { -readonly [key in keyof T]: T[key] };
