import { isUtf8 } from 'node:buffer';
import { malformed } from './protocol-error.js';

/*
 * Nix strings are arbitrary bytes, JavaScript's are UTF-16. Text that is valid UTF-8 becomes just that text. A byte
 * that is not part of valid UTF-8 becomes the lone surrogate U+DC00 + byte, which no valid text contains (as in
 * Python's PEP 383). Every byte sequence therefore has exactly one string, and that string has exactly those bytes.
 */

const MULTI_BYTE_OR_STRAY =
  /[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]|[\xe1-\xec\xee\xef][\x80-\xbf]{2}|\xed[\x80-\x9f][\x80-\xbf]|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2}|[\x80-\xff]/g;

const LONE_SURROGATE = /[\ud800-\udfff]/u;

/** The string for these bytes. Never fails; `encodeNixString` gives the same bytes back. */
export function decodeNixString(bytes: Uint8Array): string {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (isUtf8(buffer)) return buffer.toString('utf8');
  return buffer
    .toString('latin1')
    .replace(MULTI_BYTE_OR_STRAY, (match) =>
      match.length === 1
        ? String.fromCharCode(0xdc00 + match.charCodeAt(0))
        : Buffer.from(match, 'latin1').toString('utf8'),
    );
}

/** Number of bytes of this string. */
export function nixStringLength(text: string): number {
  return LONE_SURROGATE.test(text) ? encodeNixString(text).length : Buffer.byteLength(text);
}

/**
 * The bytes of this string.
 * @throws ProtocolError `PROTOCOL_MALFORMED` for a lone surrogate that does not stand for a byte.
 */
export function encodeNixString(text: string): Buffer {
  if (!LONE_SURROGATE.test(text)) return Buffer.from(text, 'utf8');
  const parts: Buffer[] = [];
  let plainFrom = 0;
  for (let at = 0; at < text.length;) {
    const point = text.codePointAt(at) ?? 0;
    const width = point > 0xffff ? 2 : 1;
    if (point >= 0xd800 && point <= 0xdfff) {
      if (point < 0xdc80 || point > 0xdcff)
        throw malformed('A string has a lone surrogate, which has no bytes');
      parts.push(Buffer.from(text.slice(plainFrom, at), 'utf8'), Buffer.of(point - 0xdc00));
      plainFrom = at + 1;
    }
    at += width;
  }
  parts.push(Buffer.from(text.slice(plainFrom), 'utf8'));
  return Buffer.concat(parts);
}
