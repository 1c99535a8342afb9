// The theme that the user chose, else the system's, and the button that changes it; loaded before the page is painted.

{
  const KEY = "vqwave.theme";
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let storage = {};
  try {
    storage = localStorage;
  } catch {
    // Without local storage the choice is forgotten with the page.
  }
  const show = () => {
    const theme = JSON.parse(storage[KEY] ?? null) ?? (dark.matches ? "dark" : "light");
    document.documentElement.dataset.theme = theme;
    for (const button of document.querySelectorAll("#theme")) button.textContent = theme === "dark" ? "Light" : "Dark";
    document.dispatchEvent(new Event("theme"));
  };
  show();
  dark.addEventListener("change", show);
  document.addEventListener("DOMContentLoaded", show);
  document.addEventListener("click", ({ target }) => {
    if (target.id !== "theme") return;
    storage[KEY] = JSON.stringify(target.textContent.toLowerCase());
    show();
  });
}
