// A folder as one archive: POST /workspaces takes no loose files. Nothing is read here; the browser reads the files as it sends them.

const BLOCK = 512;
const LONGEST = 99;
const text = new TextEncoder();

const octal = (value, width) => value.toString(8).padStart(width - 1, "0");

function header(name, size, kind) {
  const block = new Uint8Array(BLOCK);
  const put = (at, value) => block.set(text.encode(value), at);
  put(0, name);
  put(100, octal(0o644, 8));
  put(108, octal(0, 8));
  put(116, octal(0, 8));
  // Beyond 8 GiB, which no upload may have, its eleven digits do not reach.
  put(124, octal(size, 12));
  put(136, octal(0, 12));
  put(148, " ".repeat(8));
  put(156, kind);
  put(257, "ustar\x0000");
  put(148, `${octal(block.reduce((sum, byte) => sum + byte, 0), 7)}\0 `);
  return block;
}

const padding = (size) => new Uint8Array((BLOCK - (size % BLOCK)) % BLOCK);

/** A record of the pax format, which begins with its own length. */
function record(key, value) {
  const rest = ` ${key}=${value}\n`;
  const bytes = text.encode(rest).length;
  let length = bytes;
  while (String(length).length + bytes !== length) length = String(length).length + bytes;
  return text.encode(length + rest);
}

/** Files as a tar.
 *
 * @param entries [path, Blob] pairs; a path has slashes between its folders.
 */
export function tarOf(entries) {
  const parts = [];
  for (const [path, file] of entries) {
    const bytes = text.encode(path);
    if (bytes.length > LONGEST || bytes.length !== path.length) {
      const long = record("path", path);
      parts.push(header("pax", long.length, "x"), long, padding(long.length));
    }
    parts.push(header(bytes.length === path.length ? path.slice(0, LONGEST) : "file", file.size, "0"), file, padding(file.size));
  }
  return new Blob([...parts, new Uint8Array(2 * BLOCK)], { type: "application/x-tar" });
}
