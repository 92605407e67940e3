// Drives what rules runs: queues, schedules with windows, and the options of a trigger; prints what it saw as JSON.
// The tasks are `greet`, with a queue of its own, and `alone`, in the declared queue `narrow` with a limit of one.
import { configure, idempotencyKeys, queues, runs, schedules, tasks } from "@trigger.dev/sdk";

const url = process.env.TRIGGER_API_URL;
const key = process.env.TRIGGER_SECRET_KEY;
configure({ baseURL: url, accessToken: key, requestOptions: { retry: { maxAttempts: 1 } } });
const seen = {};
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const ended = (id) => runs.poll(id, { pollIntervalMs: 100 });

async function status(call) {
  try {
    await call();
    return 200;
  } catch (error) {
    return error.status;
  }
}

async function direct(method, path, body) {
  const headers = { authorization: `Bearer ${key}`, "content-type": "application/json" };
  const answer = await fetch(`${url}${path}`, { method, headers, body: body && JSON.stringify(body) });
  return { status: answer.status, ...(await answer.json()) };
}

// Queues: listed page by page, found by id, by task and by name.
seen.queues = [];
for await (const each of queues.list({ perPage: 2 })) seen.queues.push(`${each.type}/${each.name}`);
seen.queues.sort();
const narrow = { type: "custom", name: "narrow" };
const own = await queues.retrieve({ type: "task", name: "greet" });
const found = [await queues.retrieve("narrow"), await queues.retrieve(narrow), own, await queues.retrieve(own.id)];
seen.found = found.map((queue) => queue.name);

// Paused, nothing starts; resumed, it does.
const off = await queues.pause(narrow);
const held = await tasks.trigger("alone", "held");
await pause(700);
const waiting = await queues.retrieve(narrow);
const heldAs = (await runs.retrieve(held.id)).status;
const on = await queues.resume(narrow);
seen.paused = {
  state: [off.paused, waiting.paused, on.paused],
  held: heldAs,
  counted: [waiting.running, waiting.queued],
  then: (await ended(held.id)).status,
};

// The limit: overridden and reset.
const told = (queue) => {
  const { current, base, override, overriddenBy, overriddenAt } = queue.concurrency;
  return { current, base, override, by: overriddenBy, at: overriddenAt instanceof Date };
};
const before = await queues.retrieve(narrow);
const over = await queues.overrideConcurrencyLimit(narrow, 7);
const after = await queues.retrieve("narrow");
const reset = await queues.resetConcurrencyLimit(narrow);
seen.overridden = {
  limits: [before, over, after, reset].map((queue) => queue.concurrencyLimit),
  concurrency: told(after),
  reset: told(reset),
  unknown: [
    await status(() => queues.overrideConcurrencyLimit({ type: "custom", name: "none" }, 1)),
    await status(() => queues.resetConcurrencyLimit("none")),
    await status(() => queues.pause({ type: "task", name: "none" })),
  ],
  below: await status(() => queues.overrideConcurrencyLimit(narrow, -1)),
};

// Priority: seconds of head start.
await queues.pause(narrow);
const order = {};
for (const [name, priority] of [["first", 0], ["second", 100], ["third", 10]]) {
  order[name] = (await tasks.trigger("alone", name, { priority })).id;
}
await queues.resume(narrow);
const started = [];
for (const name of Object.keys(order)) started.push([name, (await ended(order[name])).startedAt]);
seen.priority = started.sort((a, b) => a[1] - b[1]).map(([name]) => name);

// Delay: a duration and a moment.
const moment = new Date(Date.now() + 7200_000);
const later = [await tasks.trigger("greet", 1, { delay: "1h" }), await tasks.trigger("greet", 2, { delay: moment })];
const put = await Promise.all(later.map(({ id }) => runs.retrieve(id)));
seen.delay = {
  states: put.map((run) => run.status),
  hour: Math.abs(put[0].delayedUntil - Date.now() - 3600_000) < 60_000,
  exact: put[1].delayedUntil.getTime() === moment.getTime(),
};

// A ttl: a run that nobody takes in time expires.
await queues.pause(narrow);
const late = await ended((await tasks.trigger("alone", "late", { ttl: "1s" })).id);
seen.ttl = { status: late.status, ttl: late.expiredAt instanceof Date };
await queues.resume(narrow);

// A concurrency key.
const keyed = await tasks.trigger("greet", "keyed", { concurrencyKey: "tenant-1" });
const keyedEnd = await ended(keyed.id);
const keyedKey = (await direct("GET", `/api/v3/runs/${keyed.id}`)).concurrencyKey;
seen.concurrencyKey = { key: keyedKey, status: keyedEnd.status };

// Idempotency: keys made with a scope, from several parts, with a time of their own, reset, and for another payload.
const keep = async (payload, options) => (await tasks.trigger("greet", payload, options)).id;
const once = { idempotencyKey: await idempotencyKeys.create("order-1", { scope: "global" }) };
const parts = { idempotencyKey: await idempotencyKeys.create(["order", "2"], { scope: "global" }) };
const brief = { idempotencyKey: "brief", idempotencyKeyTTL: "1s" };
const [a, b, c, d, e] = [await keep(1, once), await keep(1, once), await keep(2, parts), await keep(2, parts), await keep(3, brief)];
await pause(1300);
const f = await keep(3, brief);
await idempotencyKeys.reset("greet", once.idempotencyKey);
const g = await keep(1, once);
let other;
try {
  await keep("another payload", once);
} catch (error) {
  other = [error.status, error.constructor.name];
}
seen.idempotency = {
  global: a === b,
  array: c === d && c !== a,
  expired: e !== f,
  reset: g !== a,
  nothingToReset: await status(() => idempotencyKeys.reset("greet", "never-used", { scope: "global" })),
  otherPayload: other,
};

// Debounce: triggers with one key, while its run waits, are one run; "trailing" takes the last payload.
const bounced = (payload, mode) => tasks.trigger("greet", payload, { debounce: { key: `bounce-${mode}`, delay: "1s", mode } });
const bounces = {};
for (const mode of ["leading", "trailing"]) {
  const [one, two] = [await bounced("one", mode), await bounced("two", mode)];
  bounces[mode] = [one.id === two.id, (await ended(one.id)).output];
}
seen.debounce = bounces;

// Schedules with a window, which delays each tick by a stable amount; one with an interval is listed too.
const made = [];
for (const [name, window] of [["share", "30%"], ["hours", "2h"], ["capped", "30m"], ["plain", undefined]]) {
  const cron = name === "capped" ? "*/5 * * * *" : "0 * * * *";
  made.push(await schedules.create({ task: "greet", cron, window, deduplicationKey: name }));
}
const widths = [0.3 * 3600, 3600, 300, 0];
await direct("POST", "/api/v1/schedules", { task: "greet", every: "10m", deduplicationKey: "interval" });
const wrong = (window) => direct("POST", "/api/v1/schedules", { task: "greet", cron: "0 * * * *", window });
seen.windows = {
  kept: made.map((each) => each.window ?? null),
  within: made.map((each, n) => {
    const by = (each.nextRunEffectiveAt - each.nextRun) / 1000;
    return by >= 0 && by <= widths[n];
  }),
  listed: (await schedules.list()).data.length,
  wrong: [(await wrong("120%")).status, (await wrong("90s")).status],
};

// The runs of one schedule.
const hour = 3600_000;
const begin = new Date(Math.floor(Date.now() / hour) * hour - hour);
const end = new Date(begin.getTime() + hour);
await direct("POST", `/api/v1/schedules/${made[3].id}/backfill`, { from: begin.toISOString(), to: end.toISOString() });
seen.bySchedule = {
  runs: (await runs.list({ schedule: made[3].id })).data.length,
  others: (await runs.list({ schedule: made[0].id })).data.length,
};

console.log(JSON.stringify(seen));
process.exit(0);
