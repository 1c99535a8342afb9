// The radio's page: its stations, each with a player and its addresses.

import { alertIn, announce, button, byId, copy, element } from "./dom.js";
import { answer, inWords } from "./wire.js";

const KINDS = { ogg: ["Ogg", "audio/ogg"], mp3: ["MP3", "audio/mpeg"] };
const REFRESH = 1000; // milliseconds

const stations = () => answer(fetch("stations"));
const audience = ({ listeners }) => (listeners === 1 ? "1 listener" : `${listeners} listeners`);

function address(name, stream) {
  const [label] = KINDS[stream.split(".").pop()];
  const input = element("input", { type: "text", readonly: true, value: new URL(stream, location.href).href, "aria-label": `Address of ${name} as ${label}`, onfocus: () => input.select() });
  return element("div", { class: "address" }, element("span", {}, label), input, button("Copy", (event) => copy(input.value, event.target), { class: "small", "aria-label": `Copy the ${label} address of ${name}` }));
}

function article(station) {
  const { number, name, about, streams } = station;
  const sources = streams.map((stream) => element("source", { src: stream, type: KINDS[stream.split(".").pop()][1] }));
  const state = element("span", { role: "status" });
  const say = (words) => () => (state.textContent = words);
  const begin = () => {
    for (const other of document.querySelectorAll("audio")) if (other !== audio) other.pause();
    turn.textContent = "■";
    turn.setAttribute("aria-label", `Stop ${name}`);
    say(" · starting …")();
    announce(name, "VQWave radio", { play: () => audio.play(), pause: () => audio.pause() });
  };
  const end = () => {
    audio.load(); // leaves the station, so that Play does not begin with what is old
    turn.textContent = "▶";
    turn.setAttribute("aria-label", `Play ${name}`);
    say("")();
  };
  const audio = element("audio", { preload: "none", onplay: begin, onwaiting: say(" · waiting for sound …"), onplaying: say(" · on air"), onpause: end }, ...sources);
  sources.at(-1).addEventListener("error", say(" · the radio cannot be reached"));
  const turn = button("▶", () => (audio.paused ? audio.play().catch(() => {}) : audio.pause()), { class: "round main", "aria-label": `Play ${name}` });
  const volume = element("input", { type: "range", min: 0, max: 1, step: 0.01, value: 1, "aria-label": `Volume of ${name}`, oninput: () => (audio.volume = volume.value) });
  return element("article", { class: "station" },
    element("div", { class: "row" }, turn, element("h2", {}, name), volume), audio,
    element("p", { class: "faint" }, `${about} · `, element("span", { id: `listeners-${number}` }, audience(station)), state),
    element("details", {}, element("summary", {}, "Addresses for other players"), ...streams.map((stream) => address(name, stream))));
}

async function refresh() {
  if (!document.hidden) for (const station of await stations().catch(() => [])) byId(`listeners-${station.number}`).textContent = audience(station); // the players say that the radio is gone
}

try {
  byId("stations").append(...(await stations()).map(article));
  setInterval(refresh, REFRESH);
} catch (error) { alertIn(byId("alert"), inWords(error)); }
