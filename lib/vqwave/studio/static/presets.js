// Presets: settings of the form and of the controls, kept in this browser, or in a file.

import { alertIn, button, byId, element, keep, recall, saveAs } from "./dom.js";

const KEY = "vqwave.presets";
const OTHERS = ["seed", "changes", "recording", "name", "mode", "prompt_start", "prompt_seconds"]; // settings of one piece

export class Presets {
  constructor(form, player) {
    Object.assign(this, { form, player });
    this.list = element("select", { "aria-label": "Preset", onchange: () => this.use(this.all[this.list.value]) });
    const file = element("input", { type: "file", accept: ".json", class: "hidden", "aria-label": "Presets from a file", onchange: () => this.read(file.files[0]) });
    byId("presets").append(element("label", { class: "row" }, "Preset ", this.list), element("div", { class: "buttons" },
      button("Save as …", () => this.save(), { class: "small" }), button("Delete", () => this.put({ [this.list.value]: undefined }), { class: "small" }),
      button("Export", () => saveAs("vqwave-presets.json", new Blob([JSON.stringify(this.all, null, 1)], { type: "application/json" })), { class: "small" }),
      element("label", { class: "button small" }, "Import", file)));
    this.show();
  }

  get all() { return recall(KEY, {}); }

  /** Add presets, {name: {form, controls}}; undefined removes one. */
  put(presets) {
    keep(KEY, { ...this.all, ...presets });
    this.show(Object.keys(presets).at(-1));
  }

  show(chosen = "") {
    this.list.replaceChildren(...["", ...Object.keys(this.all)].map((name) => element("option", { value: name }, name || "none")));
    if (chosen in this.all) this.list.value = chosen;
  }

  save() {
    const name = window.prompt("Name of the preset:", this.list.value)?.trim();
    if (!name) return;
    const form = Object.fromEntries(Object.entries(this.form.values()).filter(([key]) => !OTHERS.includes(key)));
    this.put({ [name]: { form, controls: this.player.values } });
  }

  use(preset) {
    if (!preset) return;
    this.form.fill(preset.form);
    this.player.use(preset.controls ?? {});
  }

  async read(file) {
    try {
      const presets = JSON.parse(await file.text());
      if (!Object.values(presets).every(({ form }) => form)) throw new Error();
      this.put(presets);
    } catch { alertIn(byId("alert"), `${file.name} holds no presets: choose a file that “Export” has saved.`); }
  }
}
