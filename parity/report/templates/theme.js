"use strict";
// Before the first paint: the chosen theme, if any. Some browsers forbid localStorage for local files.
try {
  const theme = localStorage.getItem("parity-theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch { /* stay with the system's */ }
