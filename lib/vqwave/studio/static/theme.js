// The theme that the user chose, else the system's, and the button that changes it; loaded before the page is painted.

{
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let chosen = null;
  try { chosen = JSON.parse(localStorage["vqwave.theme"] ?? null); } catch {} // without local storage the choice is forgotten with the page
  const show = () => {
    const theme = chosen ?? (dark.matches ? "dark" : "light");
    document.documentElement.dataset.theme = theme;
    for (const button of document.querySelectorAll("#theme")) button.textContent = theme === "dark" ? "Light" : "Dark";
    document.dispatchEvent(new Event("theme"));
  };
  show();
  dark.addEventListener("change", show);
  document.addEventListener("DOMContentLoaded", show);
  document.addEventListener("click", ({ target }) => {
    if (target.id !== "theme") return;
    chosen = target.textContent.toLowerCase();
    try { localStorage["vqwave.theme"] = JSON.stringify(chosen); } catch {}
    show();
  });
}
