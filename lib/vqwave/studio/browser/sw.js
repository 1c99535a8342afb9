// The service worker: the site works without a network after the first load. `export-web` writes VERSION and FILES above.

const CACHE = `vqwave-${VERSION}`;

addEventListener("install", (event) => {
  skipWaiting();
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(FILES.small.map((path) => new Request(path, { cache: "reload" })))));
});

/** Move the models that did not change from the cache of another version, and delete that cache. */
async function inherit() {
  for (const name of await caches.keys()) {
    if (name === CACHE || !name.startsWith("vqwave-")) continue;
    const [old, cache] = [await caches.open(name), await caches.open(CACHE)];
    for (const path of FILES.large) {
      const kept = await old.match(path);
      if (kept && !(await cache.match(path))) await cache.put(path, kept);
    }
    await caches.delete(name);
  }
}

addEventListener("activate", (event) => event.waitUntil(inherit().then(() => clients.claim())));

addEventListener("fetch", (event) => {
  if (event.request.method !== "GET" || new URL(event.request.url).origin !== location.origin) return;
  event.respondWith(caches.open(CACHE).then((cache) => cache.match(event.request, { ignoreSearch: true })).then((kept) => kept ?? fetch(event.request)));
});
