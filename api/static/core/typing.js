// What is done while somebody types: not at each letter, but when the letters pause.

import { useEffect, useRef } from "/static/preact.js";

// Milliseconds after the last letter.
const TYPING = 250;

/** A function that does `work` a moment after it was last called, and one that lets it be. */
export function useTyped(work) {
  const timer = useRef(0);
  const latest = useRef(work);
  latest.current = work;
  const stop = () => clearTimeout(timer.current);
  useEffect(() => stop, []);
  const typed = (...given) => {
    stop();
    timer.current = setTimeout(() => latest.current(...given), TYPING);
  };
  return [typed, stop];
}
