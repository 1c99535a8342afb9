// The service worker: the site works without a network after the first load. `export-web` writes {version, code, models} as SITE above.

const MODELS = `vqwave ${registration.scope}`; // the cache that worker.js fills: a model's name changes with its content
const CODE = `${MODELS} ${SITE.version}`; // an open page of an earlier version reads its own

addEventListener("install", (event) => event.waitUntil((async () => {
  await (await caches.open(CODE)).addAll(SITE.code.map((path) => new Request(path, { cache: "reload" })));
  const models = await caches.open(MODELS);
  // On the first visit, the page itself loads the models.
  for (const path of registration.active ? SITE.models : []) if (!(await models.match(path))) await models.add(path);
})()));

/** Now no page of an earlier version is open: delete what only such pages read. */
addEventListener("activate", (event) => event.waitUntil((async () => {
  const models = await caches.open(MODELS);
  const known = new Set(SITE.models.map((path) => new URL(path, registration.scope).href));
  for (const request of await models.keys()) if (!known.has(request.url)) await models.delete(request);
  for (const name of await caches.keys()) if (name.startsWith(`${MODELS} `) && name !== CODE) await caches.delete(name);
})()));

addEventListener("fetch", (event) => {
  event.respondWith(caches.match(event.request, { ignoreSearch: true, cacheName: CODE }).then((kept) => kept ?? fetch(event.request)));
});
