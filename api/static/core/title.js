// What the browser's tab says.

import { useEffect } from "/static/preact.js";

/** Name the view that is open. */
export function useTitle(text) {
  useEffect(() => { document.title = text ? `${text} · AutoScorer` : "AutoScorer"; }, [text]);
}
