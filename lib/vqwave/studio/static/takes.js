// The list of takes made in this browser: play, name, star, finish, download, delete.

import { alertIn, button, byId, copy, element, keep, recall, saveAs } from "./dom.js";
import { Pair } from "./pair.js";
import { Outline, drawBars, ink } from "./pictures.js";
import { address, answer, ask, cutter, frames, inWords } from "./wire.js";

const KEY = "vqwave.takes";
const FOUR = 12; // seconds of each of four pieces when the form gives no length

export class Takes {
  constructor(form) {
    Object.assign(this, { form, removed: null, kept: {}, pair: new Pair(form.rate) });
    this.load();
  }

  get list() { return recall(KEY, []); }

  set list(takes) {
    const starredFirst = [...takes].sort((a, b) => Boolean(b.star) - Boolean(a.star));
    keep(KEY, starredFirst.slice(0, 50).sort((a, b) => b.when - a.when));
  }

  /** Remember a take; its name and star stay. before: the ids of the takes that it was before its edits. */
  add(record, before = []) {
    const same = ({ id, link }) => id === record.id || link === record.link || before.includes(id);
    this.list = [{ ...this.list.find(same), ...record, pending: false, when: Date.now() }, ...this.list.filter((take) => !same(take))];
    this.kept[record.id] = record;
    this.show();
  }

  /** Remember a take whose record the page will not receive any more. */
  expect(about) { this.list = [{ ...about, pending: true, when: Date.now() }, ...this.list]; }

  change(id, values) {
    this.list = this.list.map((take) => (take.id === id ? { ...take, ...values } : take));
    this.show();
  }

  remove(take) {
    this.removed = take;
    this.list = this.list.filter(({ id }) => id !== take.id);
    this.show();
    byId("undo").focus();
  }

  /** Ask the studio which takes it still has, and show them. */
  async load() {
    const ids = this.list.map(({ id }) => id);
    // Without the studio no take plays; the settings can still be read.
    if (ids.length) Object.assign(this.kept, await answer(fetch(`studio/takes?ids=${ids.join(",")}`)).catch(() => ({})));
    this.list = this.list.filter(({ id, pending }) => !pending || id in this.kept).map((take) => (take.pending ? { ...take, ...this.kept[take.id], pending: false } : take));
    this.show();
  }

  show() {
    const takes = this.list;
    const open = [...byId("takes").querySelectorAll("details[open]")].map((one) => one.closest("li").dataset.take);
    const day = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric", hour: "numeric", minute: "numeric" });
    byId("takes").replaceChildren(
      ...(this.removed ? [element("p", { role: "status" }, `Deleted “${this.removed.name || this.removed.title}”. `, button("Undo", () => {
        this.list = [this.removed, ...this.list].sort((a, b) => b.when - a.when);
        this.removed = null;
        this.show();
      }, { id: "undo", class: "small" }))] : []),
      ...(takes.length ? [element("ol", {}, ...takes.map((take) => this.row(take, day)))] : [element("p", { class: "faint" }, "What you stop or finish is kept here: to play, name, finish and download. The list stays in this browser.")]),
    );
    for (const id of open) byId("takes").querySelector(`li[data-take="${id}"] details`)?.setAttribute("open", "");
    const colour = ink()("wave");
    for (const canvas of byId("takes").querySelectorAll("canvas")) drawBars(canvas, this.list.find(({ id }) => id === canvas.dataset.take)?.outline ?? [0], colour);
  }

  row(take, day) {
    const kept = take.id in this.kept;
    const called = take.name || take.title;
    const link = address(take);
    // Kept as text: a seed in the changes can be larger than a JavaScript number holds.
    const saveChanges = () => {
      const settings = new URLSearchParams(take.link);
      saveAs(take.changes_file, new Blob([`{"seed": ${settings.get("seed")}, "changes": ${settings.get("changes")}}\n`], { type: "application/json" }));
    };
    const changed = `You changed it ${take.changes === 1 ? "once" : `${take.changes} times`} while it played`;
    const boxes = [["loud", "Loudness for streaming"], ["fade", "Fade in and out"], ["loop", "Loop without a seam"]].map(([key, label]) => [key, element("input", { type: "checkbox", "data-finish": key, onchange: () => exclude(key) }), label]);
    const exclude = (key) => boxes.forEach(([other, box]) => (box.checked &&= { fade: "loop", loop: "fade" }[key] !== other)); // a loop has no end to fade
    const fetchAs = (kind) => {
      const ticked = Object.fromEntries(boxes.map(([key, box]) => [key, box.checked]));
      const query = new URLSearchParams({ ...(ticked.loud && { loud: 1 }), ...(ticked.fade && { fade: Math.min(2, take.seconds / 4) }), ...(ticked.loop && { loop: 1 }) });
      element("a", { href: `studio/takes/${take.id}.${kind}?${query}`, download: true }).click();
    };
    return element("li", { "data-take": take.id },
      button("▶", () => window.vqwave.player.playAgain(take.id), { class: "round", "aria-label": `Play ${called}`, disabled: !kept, title: kept ? "" : "The studio no longer has this take. Open ⋯ and choose “Make again in the form”." }),
      element("div", { class: "what" },
        element("input", { type: "text", class: "name", value: called, "aria-label": "Name of the take", onchange: (event) => this.change(take.id, { name: event.target.value.trim() }) }),
        element("canvas", { class: "bars", "data-take": take.id, "aria-hidden": "true" }),
        element("span", { class: "faint" }, `${take.seconds.toFixed(1)} s, seed ${take.seed}, ${take.level}x, ${day.format(take.when)}`)),
      button("A/B", () => {
        this.pair.choice(take.id, this.list);
        this.show();
      }, { class: "small", "aria-pressed": String(this.pair.ids.includes(take.id)), "aria-label": `A/B: compare ${called}`, title: "Choose two takes, and switch between them while they play", disabled: !kept }),
      button("★", () => this.change(take.id, { star: !take.star }), { class: "star", "aria-pressed": String(Boolean(take.star)), "aria-label": `Star ${called}` }),
      element("details", {}, element("summary", { "aria-label": `Finish, download or share ${called}` }, "⋯"),
        element("div", {},
          ...(kept ? [element("div", { class: "checks" }, ...boxes.map(([, box, label]) => element("label", {}, box, ` ${label}`))),
            element("div", { class: "buttons" }, ...this.form.about.downloads.map((kind) => button(`Download ${kind}`, () => fetchAs(kind), { class: "small", "data-kind": kind })))] : []),
          element("div", { class: "buttons" },
            element("a", { class: "button small", href: `?${take.link}` }, "Make again in the form"),
            button("Share", (event) => copy(link, event.target), { class: "small", title: "Copy a link that plays this performance again" }),
            take.command ? button("Copy command", (event) => copy(take.command, event.target), { class: "small" }) : null,
            take.changes ? button("Download changes", saveChanges, { class: "small", "data-kind": "json" }) : null,
            button("Delete", () => this.remove(take), { class: "small" })),
          take.changes ? element("p", { class: "faint" }, `${changed}. To make it again on the command line, download the changes and run this beside them:`) : null,
          take.command ? element("code", { class: "command" }, take.command) : element("p", { class: "faint" }, `${changed}. Its link makes it again, the same.`))),
    );
  }

  /** Make four pieces of the same settings and other seeds; one is kept. */
  async four() {
    byId("make-four").disabled = true;
    const settings = await this.form.whole({ changes: "" });
    if (settings.seconds === "endless") settings.seconds = FOUR;
    const place = byId("four");
    const status = element("p", { class: "faint", role: "status" });
    const list = element("ol", { class: "four" });
    const bar = element("progress", { max: 4, value: 0, "aria-label": "How much of the four pieces is made" });
    place.replaceChildren(status, bar, list);
    try {
      for (let i = 1; i <= 4; i++) {
        status.textContent = `Making ${i} of 4 …`;
        const piece = await this.makeOne({ ...settings, seed: settings.seed && i === 1 ? settings.seed : "" }, (share) => (bar.value = i - 1 + share));
        this.kept[piece.id] = piece;
        if (i === 1 && !window.vqwave.player.sound?.playing) window.vqwave.player.playAgain(piece.id);
        const canvas = element("canvas", { class: "bars", "aria-hidden": "true" });
        list.append(element("li", {}, button("▶", () => window.vqwave.player.playAgain(piece.id), { class: "round", "aria-label": `Play piece ${i}` }), canvas,
          button("Keep", () => {
            place.replaceChildren();
            this.add(piece);
          }, { class: "small", "aria-label": `Keep piece ${i}` })));
        drawBars(canvas, piece.outline, ink()("wave"));
      }
      status.textContent = "Four pieces: play them, and keep one.";
      bar.remove();
    } catch (error) {
      if (!list.children.length) place.replaceChildren();
      alertIn(byId("alert"), inWords(error));
    }
    byId("make-four").disabled = false;
  }

  async makeOne(settings, report) {
    let [outline, record, rate, made, total] = [null, null, 0, 0, 1];
    for await (const [about, payload] of frames(await ask("studio/takes", settings))) {
      if (about.error) throw new Error(about.error);
      if (about.take) [outline, rate, total] = [new Outline(about.take.column), about.take.rate, about.take.samples];
      else if (about.samples) {
        outline.append(cutter(payload)(Int16Array, about.samples));
        report((made += about.samples) / total);
      }
      else if (about.end) record = about.end;
    }
    return { ...record, outline: outline.bytes(64, record.seconds * rate) };
  }
}
