// Small things that every part of the page needs.

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value != null) made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child != null));
  return made;
}

export function time(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const minutes = Math.floor(whole / 60);
  const rest = String(whole % 60).padStart(2, "0");
  return minutes < 60 ? `${minutes}:${rest}` : `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}:${rest}`;
}

export async function copy(text, button) {
  const was = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    // Browsers keep the clipboard from pages that are not on this machine and not encrypted.
    window.prompt("Copy this:", text);
  }
  setTimeout(() => (button.textContent = was), 1500);
}

export const dark = () => document.body.classList.contains("dark");

/** Changes between light and dark. */
const themes = new EventTarget();
new MutationObserver(() => themes.dispatchEvent(new Event("change"))).observe(document.body, { attributeFilter: ["class"] });

/** A part of the page with a style of its own, which Gradio's does not reach. */
export class Part extends HTMLElement {
  connectedCallback() {
    if (this.shadowRoot) return;
    this.attachShadow({ mode: "open" }).append(element("link", { rel: "stylesheet", href: "studio/static/player.css" }));
    this.build((...children) => this.shadowRoot.append(...children));
    themes.addEventListener("change", () => this.recolour());
    new ResizeObserver(() => (this.dirty = true)).observe(this);
    const draw = () => {
      this.draw();
      // A picture that moves as fast as a film: sound comes first.
      setTimeout(() => requestAnimationFrame(draw), 30);
    };
    draw();
  }
}
