"use strict";
// What every page has: the theme button, buttons that copy their data-copy, and a word said aloud (say).
function say(text) {
  const said = document.getElementById("said");
  said.textContent = text;
  said.classList.add("on");
  setTimeout(() => said.classList.remove("on"), 1400);
}
(() => {
  async function copy(text) {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const area = document.createElement("textarea");
      area.textContent = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    say("copied");
  }
  document.addEventListener("click", (event) => {
    const text = event.target.closest("button")?.dataset.copy;
    if (text !== undefined) copy(text);
  });

  const themes = ["system", "light", "dark"], button = document.getElementById("theme");
  function showTheme() { button.firstElementChild.textContent = document.documentElement.dataset.theme ?? "system"; }
  button.addEventListener("click", () => {
    const next = themes[(themes.indexOf(document.documentElement.dataset.theme ?? "system") + 1) % 3];
    if (next === "system") delete document.documentElement.dataset.theme; else document.documentElement.dataset.theme = next;
    try { localStorage.setItem("parity-theme", next); } catch { /* not remembered */ }
    showTheme();
  });
  showTheme();
})();
