// What is shown, as a file for a spreadsheet.

// A spreadsheet reads a cell that begins like this as a formula, and a name may have been written by a stranger.
const FORMULA = /^[=+\-@\t\r]/;
const QUOTED = /[",\r\n]/;

function cell(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return String(value);
  const text = FORMULA.test(value) ? `'${value}` : String(value);
  return QUOTED.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** Rows of values as CSV (RFC 4180). */
export const csv = (rows) => rows.map((row) => row.map(cell).join(",") + "\r\n").join("");

/** Let the browser save a text as a file. */
export function save(name, text, type = "text/csv") {
  // With a mark of its encoding: spreadsheets guess another one for Chinese.
  const address = URL.createObjectURL(new Blob(["\ufeff", text], { type: `${type};charset=utf-8` }));
  const link = document.createElement("a");
  Object.assign(link, { href: address, download: name });
  link.click();
  URL.revokeObjectURL(address);
}
