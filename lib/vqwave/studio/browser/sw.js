// The service worker: the site works without a network after the first load. `export-web` writes FILES above.

const CACHE = `vqwave ${registration.scope}`; // the name that worker.js uses

/** Load what changes with every version. worker.js caches the models, whose names change with their content. */
addEventListener("install", (event) => {
  skipWaiting();
  const requests = FILES.filter((path) => !path.startsWith("models/")).map((path) => new Request(path, { cache: "reload" }));
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(requests)));
});

/** Delete the models of earlier versions. */
addEventListener("activate", (event) => event.waitUntil(caches.open(CACHE).then(async (cache) => {
  const known = new Set(FILES.map((path) => new URL(path, registration.scope).href));
  for (const request of await cache.keys()) if (!known.has(request.url)) await cache.delete(request);
})));

addEventListener("fetch", (event) => {
  event.respondWith(caches.match(event.request, { ignoreSearch: true }).then((kept) => kept ?? fetch(event.request)));
});
