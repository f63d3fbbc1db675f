// Loads the page. Where a part of it does not arrive, as when the network changes meanwhile, all of it is loaded once more.

const KEY = "autoscorer-begun";
const MOST = 5;

import("/static/main.js").then(
  () => {
    sessionStorage.removeItem(KEY);
    document.getElementById("loading").remove();
  },
  () => {
    // Not by importing again: some browsers keep in mind for as long as the page is open that a module did not come.
    const tries = Number(sessionStorage.getItem(KEY)) + 1;
    if (tries > MOST) return;
    sessionStorage.setItem(KEY, String(tries));
    setTimeout(() => location.reload(), 1000 * tries);
  },
);
