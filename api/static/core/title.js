// What the browser's tab says.

import { useLayoutEffect } from "/static/preact.js";

/** Name the view that is open. */
export function useTitle(text) {
  useLayoutEffect(() => { document.title = text ? `${text} · AutoScorer` : "AutoScorer"; }, [text]);
}
