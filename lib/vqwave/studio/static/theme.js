// The theme that the user chose, else the system's; loaded before the page is painted.

{
  const dark = matchMedia("(prefers-color-scheme: dark)");
  window.showTheme = () => {
    let chosen = null;
    try {
      chosen = JSON.parse(localStorage.getItem("vqwave.theme"));
    } catch {
      // Without local storage the system decides.
    }
    document.documentElement.dataset.theme = chosen ?? (dark.matches ? "dark" : "light");
    document.dispatchEvent(new Event("theme"));
  };
  window.showTheme();
  dark.addEventListener("change", window.showTheme);
}
